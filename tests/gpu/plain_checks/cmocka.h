/* The few words of cmocka that the tests of GPUs and of cuda_on_host use, for machines without it: what does
 * not hold ends the program. */
#ifndef PLAIN_CHECKS_CMOCKA_H
#define PLAIN_CHECKS_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>

#define print_message(...) printf(__VA_ARGS__)
#define fail_msg(...)                                                                                        \
    do {                                                                                                     \
        fflush(stdout);                                                                                      \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                      \
        fprintf(stderr, __VA_ARGS__);                                                                        \
        fprintf(stderr, "\n");                                                                               \
        exit(1);                                                                                             \
    } while (0)
#define assert_true(condition)                                                                               \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fail_msg("does not hold: %s", #condition);                                                       \
        }                                                                                                    \
    } while (0)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_int_equal(a, b) assert_true((a) == (b))

#endif
