/* Leaves: parts of operations that write nothing but gradients of parameters. No operation reads what they
 * write, so that they run on a stream of their own beside the operations that follow, until one of these
 * writes what a leaf still reads. Many small kernels of deep stages leave multiprocessors idle. */
#ifndef COMPUTE_CUDA_LEAVES_CUH
#define COMPUTE_CUDA_LEAVES_CUH

#include "compute/cuda/cuda_state.h"

#include <initializer_list>

struct memory_range {
    const void *start; /* NULL: nothing */
    size_t bytes;
};

static inline memory_range range_of(const float *x, size_t count)
{
    return memory_range{x, count * sizeof *x};
}

static inline memory_range range_of(const struct compute *c, const activation *x, size_t count)
{
    return memory_range{x, count * c->activation_size};
}

enum { most_leaves = 32, most_touched = 8, leaf_inputs = 6 };

/* One that may still run. */
struct leaf {
    struct memory_range touched[most_touched];
    struct CUevent_st *done;
};

struct leaves {
    struct CUstream_st *stream; /* the one of the two streams that is not cuda_state's now, with its memory */
    void *scratch;
    size_t scratch_bytes;
    struct CUevent_st *begun;
    struct leaf running[most_leaves]; /* in their order, from `first` on, around the end */
    int first, count;
    int within;         /* a leaf is being asked for */
    int declared;       /* the operation at work has said what it writes */
    void *inputs;       /* leaf_inputs arrays of leaf_input, by turns, */
    size_t input_bytes; /* so large each */
    int turn;
};

/* All that is asked for between the two is a leaf. It reads what is written by now, touches these ranges,
 * at most most_touched, and has scratch memory of its own. */
void leaf_begin(struct compute *c);
void leaf_end(struct compute *c, std::initializer_list<memory_range> touched);

/* GPU memory as that of cuda_scratch for an operation of which a leaf reads it: no leaf does any more. */
void *leaf_input(struct compute *c, size_t bytes);

/* As long as it lives, nothing waits for leaves but for those that touch one of these ranges: all that the
 * operation at work writes, beside scratch memory and what its own leaves write. Operations that do not say
 * so wait for all leaves. */
struct written_ranges {
    written_ranges(struct compute *c, std::initializer_list<memory_range> written);
    ~written_ranges();
    written_ranges(const written_ranges &) = delete;

    struct leaves *leaves; /* NULL: there are none, or a leaf is asked for */
    int declared_before;
};

/* ---- leaves.cu, for leaf_stream.cu ---- */

/* What is asked for from now on comes after all leaves that touch one of the ranges. */
void wait_for_leaves_at(struct compute *c, std::initializer_list<memory_range> ranges);

/* ---- leaf_stream.cu ---- */

enum voco_status leaves_open(struct compute *c);
void leaves_close(struct compute *c); /* harmless where they were never opened */

/* The stream of leaves goes on where cuda_state's is, and takes its place; then the reverse, when what was
 * asked for is `leaf`. */
void leaf_stream_begin(struct compute *c);
void leaf_stream_end(struct compute *c, const struct leaf *leaf);
/* The stream waits for the leaf, and so for all before it. */
void leaf_stream_wait(struct compute *c, const struct leaf *leaf);

#endif
