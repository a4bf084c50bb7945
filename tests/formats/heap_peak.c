#include "formats/heap_peak.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

static size_t held;
static size_t most;
static size_t at_begin;

void heap_peak_begin(void)
{
    at_begin = held;
    most = held;
}

size_t heap_peak_end(void)
{
    return most - at_begin;
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* These take the place of the C library's own for the whole process (its manual: "Replacing malloc"). Memory
 * that was had in another way, by aligned_alloc say, may be given back here, so `held` may not go below 0. */
#if defined(__GLIBC__) && !defined(SANITIZED)

/* NOLINTBEGIN(bugprone-reserved-identifier) glibc's names for its own */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void __libc_free(void *memory);
/* NOLINTEND(bugprone-reserved-identifier) */

static void *add(void *memory)
{
    held += malloc_usable_size(memory);
    most = held > most ? held : most;
    return memory;
}

static void take_away(void *memory)
{
    const size_t bytes = malloc_usable_size(memory);
    held -= held < bytes ? held : bytes;
}

void *malloc(size_t size)
{
    return add(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return add(__libc_calloc(count, size));
}

/* The old and the new block may be there at the same time. */
void *realloc(void *memory, size_t size)
{
    const size_t before = malloc_usable_size(memory);
    void *grown = __libc_realloc(memory, size);
    if (grown != NULL || size == 0) {
        (void)add(grown);
        held -= held < before ? held : before;
    }
    return grown;
}

void free(void *memory)
{
    take_away(memory);
    __libc_free(memory);
}

#endif
