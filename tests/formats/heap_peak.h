/* How much of the heap a piece of a test takes at most: the allocator of the C library, counted.
 *
 *     heap_peak_begin();
 *     ...
 *     size_t bytes = heap_peak_end();
 *
 * All allocations of the process count, those of libraries too, with what the allocator adds to them. Not
 * under AddressSanitizer, which has an allocator of its own, and only with glibc. */
#ifndef TESTS_FORMATS_HEAP_PEAK_H
#define TESTS_FORMATS_HEAP_PEAK_H

#include <stddef.h>

void heap_peak_begin(void);

/* Bytes beyond what there was at the beginning; 0 where the heap is not counted. One thread at a time. */
size_t heap_peak_end(void);

#endif
