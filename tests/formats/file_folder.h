/* A folder under /tmp for the files that a program of tests writes, removed with them at the end. */
#ifndef TESTS_FORMATS_FILE_FOLDER_H
#define TESTS_FORMATS_FILE_FOLDER_H

extern char file_folder[];

/* For cmocka_run_group_tests. */
int make_file_folder(void **state);
int remove_file_folder(void **state);

/* The path of `name` in the folder, written to `path`. */
char *in_folder(char path[256], const char *name);

/* How many there are, but for names that begin with a point. */
int files_in_folder(void);

#endif
