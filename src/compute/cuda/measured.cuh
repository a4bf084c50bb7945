/* Which of several ways to do the same was the fastest, measured when sizes are first met and kept for as
 * long as the process lives: what is opened again, or twice, chooses alike and so gives equal bits. */
#ifndef COMPUTE_CUDA_MEASURED_CUH
#define COMPUTE_CUDA_MEASURED_CUH

#include "compute/cuda/kernel.cuh"

enum { measured_key_words = 6 };

struct measured_key {
    size_t words[measured_key_words]; /* whatever tells one question from another */
};

/* -1 where nothing is remembered yet. */
int measured_choice(const struct measured_key *key);
void measured_remember(const struct measured_key *key, int choice);

/* A choice is below this. */
enum { measured_most_choices = 64 };

/* Shows everything that is remembered. */
void measured_for_each(void (*show)(void *context, const struct measured_key *key, int choice),
                       void *context);

/* 0 where the environment says VOCO_CUDA_MEASURE=0: the first way is taken then, by every process alike. */
int measuring_wanted(void);

/* VOCO_CUDA_VERBOSE=1 */
int measuring_is_verbose(void);

/* Milliseconds of one of a few runs on c's stream; negative where run says that it cannot (returns 0) or c
 * fails. */
enum { measured_runs = 3 };

#ifdef __CUDACC__

template <typename Run> static float measured_time(struct compute *c, Run run)
{
    cudaEvent_t begin = NULL, end = NULL;
    float milliseconds = -1;
    if (!cuda_may_do(c, "measuring an operation")) {
        return -1;
    }
    int done = run(); /* loads the kernel, warms the caches */
    cuda_wait_for_leaves(c);
    cuda_check(c, cudaEventCreate(&begin), "creating an event");
    cuda_check(c, cudaEventCreate(&end), "creating an event");
    if (done && c->status == VOCO_OK) {
        cuda_check(c, cudaEventRecord(begin, cuda_state(c)->stream), "recording an event");
        for (int k = 0; k < measured_runs; k++) {
            done = run() && done;
        }
        cuda_wait_for_leaves(c);
        cuda_check(c, cudaEventRecord(end, cuda_state(c)->stream), "recording an event");
        cuda_check(c, cudaEventSynchronize(end), "measuring an operation");
        if (done && c->status == VOCO_OK) {
            cuda_check(c, cudaEventElapsedTime(&milliseconds, begin, end), "measuring an operation");
            milliseconds /= measured_runs;
        }
    }
    (void)cudaEventDestroy(begin);
    (void)cudaEventDestroy(end);
    return c->status == VOCO_OK ? milliseconds : -1;
}

#else

template <typename Run> static float measured_time(struct compute *c, Run run)
{
    return cuda_may_do(c, "measuring an operation") && run() && c->status == VOCO_OK ? 0.0f : -1.0f;
}

#endif

/* Whether a way that takes `time` is to be preferred to the best of those before it; it must be clearly
 * faster. */
static inline int measured_is_faster(float time, float best)
{
    return time >= 0 && (best < 0 || time < 0.97f * best);
}

#endif
