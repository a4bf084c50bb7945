/* Sums over rows that each thread made of its own share, added up in the order of the threads: the result
 * depends on how many there are and not on which is done first. */
#ifndef COMPUTE_CPU_KERNELS_THREAD_SUMS_H
#define COMPUTE_CPU_KERNELS_THREAD_SUMS_H

#include <stddef.h>

/* A thread's sums lie `stride` bytes behind the same ones of the thread before. */
struct thread_sums {
    size_t stride;
    int threads;
};

/* Where a thread's are, from those of the first. */
static inline const void *sums_of_thread(const void *first, const struct thread_sums *t, int thread)
{
    return (const unsigned char *)first + thread * t->stride;
}

/* to (count) += all threads' sums, `first` being those of the first. */
static inline void add_thread_sums(float *to, const double *first, const struct thread_sums *t, int count)
{
    for (int k = 0; k < count; k++) {
        double sum = 0;
        for (int thread = 0; thread < t->threads; thread++) {
            sum += *(const double *)sums_of_thread(first + k, t, thread);
        }
        to[k] += (float)sum;
    }
}

#endif
