/* The orders of patch merging (voco.md section 2, item 6), and which weights can go from one to another.
 *
 * Merging gathers g = (x_o(0), ..., x_o(7)), blocks of C channels at the offsets o(j) of the order, and gives
 * W (gamma (g - mean g) / sqrt(var g + eps) + beta). `fixed` and `v2` gather the same 8 neighbours, so going
 * from one to the other is a permutation of the blocks of gamma and beta (8 C) and of W's columns (2 C, 8 C):
 * the same function, up to the order of sums.
 *
 * `legacy` gathers 010 and 001 twice and never 110 and 011, so no permutation leads out of it, and nothing
 * else does where the merging depends on its input at all. For let A = W gamma, and let f be a legacy and h a
 * `fixed` or `v2` merging that is the same function. f does not depend on x_110. In h let x_110 = t v and t
 * grow: mean and deviation grow with t, and h tends to a value that depends on v alone, whatever the other
 * neighbours are. So h, and f with it, is constant. The other way round is the same argument. Constant means
 * that A takes every centred g to 0, which a reader of the weights can check:
 *
 *     all 8 blocks read:   in each row of A all elements are equal
 *     legacy:              in each row of A the elements of 000, 100, 101 and 111 equal c, and those of the
 *                          two blocks of 010, and of 001, have the sum 2 c, channel by channel
 *
 * (Trained weights never do; a network whose reduction or norm was set to zero does.) */
#ifndef MODEL_PATCH_MERGING_ORDER_H
#define MODEL_PATCH_MERGING_ORDER_H

#include "model/parameters.h"

/* 1 where going from one order to the other is a permutation of blocks. */
int patch_merging_orders_permute(enum patch_merging from, enum patch_merging to);

/* 1 for a downsample.norm.weight, downsample.norm.bias or downsample.reduction.weight: values of 8 blocks a
 * row. */
int is_patch_merging_parameter(const struct parameter *parameter);

/* Puts the 8 blocks of each row, `block` elements of `size` bytes (1, 2, 4 or 8) each, into the other order,
 * in place. The orders must permute. */
void patch_merging_permute(void *values, size_t rows, size_t block, size_t size, enum patch_merging from,
                           enum patch_merging to);

enum merging_function {
    MERGING_VARIES,         /* depends on its input */
    MERGING_CONSTANT,       /* W beta whatever the input, in this order only */
    MERGING_CONSTANT_ALWAYS /* in every order */
};

/* Of a merging of `channels` C: reduction (2 C, 8 C), norm_weight (8 C). */
enum merging_function patch_merging_function(const float *reduction, const float *norm_weight, int channels,
                                             enum patch_merging order);

#endif
