/* A thread's walk through windows and heads, forward or backward: it has the window at work cut into pieces,
 * or as a whole where that is not the same, the bias for it, and the next window, whose rows can be fetched
 * meanwhile. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_WALK_H
#define COMPUTE_CPU_KERNELS_ATTENTION_WALK_H

#include "compute/cpu/kernels/attention_pieces.h"
#include "compute/cpu/kernels/attention_sums.h"

/* What all threads read. */
struct attention_inputs {
    const activation *qkv;
    const activation *constant_rows; /* (2, 3 channels): q, k and v of padding, and zeros of absent tokens */
    const float *bias_table;
    const struct attention_shape *shape;
    const struct attention_sizes *sizes;
    const struct window_patterns *patterns;
};

struct attention_walk {
    const struct attention_inputs *in;
    struct attention_sums *sums; /* of backward; else NULL */
    /* At work: */
    struct piece_task task;
    const struct cut_window *cut;
    const struct pattern_bias *bias;
    const struct region_masks *masks; /* NULL: without any */
    struct head_table table;
    /* The next window; the last one again where there is none. */
    struct piece_task next;
    const struct cut_window *ahead;
    size_t at, end; /* tasks of the share: the one behind the window at work, and the end */
    /* Behind these pointers. */
    struct cut_window cuts[2], whole_cut; /* by task */
    struct pattern_bias in_pieces, whole;
    const struct window_pattern *whole_of;
    struct window_pattern whole_pattern;
    struct region_masks whole_masks;
};

/* Finds the patterns and constant rows of `in`, and memory: for each thread *bytes, of which the first
 * `own` are the caller's and what follows the walk's. NULL where there is none left, which c remembers. */
unsigned char *KERNEL(attention_walk_memory)(struct compute *c, struct attention_inputs *in,
                                             const float *qkv_bias, size_t own, size_t *bytes, int threads);

/* Of thread `part` of `parts`. memory: behind the caller's; sums: NULL for forward. */
void KERNEL(begin_walk)(struct attention_walk *walk, const struct attention_inputs *in,
                        struct attention_sums *sums, void *memory, int part, int parts);

/* Goes to the next window with tokens and head. Returns 0 where there is none left; then the sums are
 * complete.
 */
int KERNEL(next_window)(struct attention_walk *walk);

#endif
