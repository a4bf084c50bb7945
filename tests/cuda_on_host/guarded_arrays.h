/* The memory of the GPU that cuda_on_host.h plays: arrays that only the GPU and copies may touch, between
 * guards. */
#ifndef TESTS_GUARDED_ARRAYS_H
#define TESTS_GUARDED_ARRAYS_H

#include <stddef.h>
#include <stdio.h>

namespace cuda_on_host
{

enum { page = 4096 };
static const unsigned char guard = 0xe5;  /* what lies just outside */
static const unsigned char poison = 0xff; /* what nobody has written yet */

/* Zeroed pages, never given back. Ends the program where there are none. */
void *map(size_t bytes);

/* An array, poisoned. What touches it out of turn, beyond its end or after it was freed is stopped. */
void *new_array(size_t size);
void free_array(void *memory);

/* Ends the program where something was written just outside of an array. */
void check_guards();

/* Says which array an address lies in, if in any; `where` follows that of one which is not freed. */
void describe_address(FILE *out, const unsigned char *address, const char *where);

/* Only while the GPU or a copy is at work may its memory be touched: as long as this lives. */
struct access_to_arrays {
    access_to_arrays();
    ~access_to_arrays();
};

/* Starts the thread that kernels run on, once. */
void start_gpu();

} // namespace cuda_on_host

#endif
