/* Files of tensors that are damaged or hostile, one after the other under one name in /tmp: each is refused
 * in one line that names it, or read, and then what is read lies in the file. None takes more of the heap
 * than its size allows. */
#ifndef TESTS_FORMATS_SUSPECT_FILE_H
#define TESTS_FORMATS_SUSPECT_FILE_H

#include <stddef.h>

/* What has come of those so far. */
struct suspect_files {
    char path[64];
    int files, refused, read;
    double heap; /* the largest part of what was allowed */
};
extern struct suspect_files suspects;

/* For cmocka_run_group_tests. */
int name_suspects(void **state);
int remove_suspects(void **state);

void write_suspect(const unsigned char *bytes, size_t size);

/* The file at the path, of `size` bytes. `bytes`: its content where nothing in it is compressed, else NULL.
 */
void check_suspect(const unsigned char *bytes, size_t size);

/* Both, of bytes that are not compressed. */
void check_bytes(const unsigned char *bytes, size_t size);

/* The last one was refused, `before` having been so many. */
void expect_refused(int before);

/* voco_error_message() is one, and has the path. */
void assert_one_line_names_it(void);

#endif
