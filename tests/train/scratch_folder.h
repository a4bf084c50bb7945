/* A folder under /tmp for the tests of a program, removed with its files at the end. */
#ifndef TESTS_SCRATCH_FOLDER_H
#define TESTS_SCRATCH_FOLDER_H

enum { scratch_path_size = 512 };

/* For cmocka_run_group_tests. */
int scratch_folder_make(void **state);
int scratch_folder_remove(void **state);

const char *scratch_folder(void);

/* The path of `name` in the folder, written to `path`. */
char *scratch_path(char path[scratch_path_size], const char *name);

/* How many files the folder holds. */
int scratch_files(void);

/* Removes the files in it. */
void scratch_empty(void);

/* The whole file with a zero behind it; *size may be NULL. Free the result. */
char *scratch_read(const char *path, long *size);
void scratch_write(const char *path, const void *bytes, unsigned long size);

#endif
