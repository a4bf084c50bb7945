/* Compiling a hot function several times, for several generations of x86-64; the loader picks the one for the
 * machine. The loops themselves are plain C that the compiler vectorises. */
#ifndef BASE_VECTOR_CLONES_H
#define BASE_VECTOR_CLONES_H

#include <stdint.h> /* says whether the C library is glibc */

/* clang 14 calls the chosen function by another name than its callers do; ThreadSanitizer is not ready when
 * the loader chooses. */
#if defined(__x86_64__) && defined(__ELF__) && defined(__GLIBC__) && defined(__GNUC__) &&                    \
    !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTOR_CLONES
#endif

#endif
