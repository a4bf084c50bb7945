/* What the fuzz targets share: the entry that libFuzzer and fuzz_driver.c call, and a check that ends the
 * process. */
#ifndef TESTS_FUZZ_FUZZ_TARGET_H
#define TESTS_FUZZ_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Reads `size` bytes as a file of the target's format; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Holds what must be true of every input; NDEBUG does not silence it. */
#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
