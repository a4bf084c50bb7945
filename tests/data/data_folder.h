/* A folder under /tmp in which a test writes what DATA may be. */
#ifndef TESTS_DATA_DATA_FOLDER_H
#define TESTS_DATA_DATA_FOLDER_H

extern char data_folder[64];

/* Before a test, and after it with all that is in the folder. */
int make_data_folder(void **state);
int remove_data_folder(void **state);

/* data_folder/name in one of a few buffers that take turns. */
const char *in_folder(const char *name);

/* Makes the folders above data_folder/name. */
void make_above(const char *name);

/* Writes data_folder/name, making the folders above it. */
void put(const char *name, const char *text);

#endif
