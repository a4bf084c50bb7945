/* What the tests that hold one implementation against another compute: each operation, forward and backward,
 * for a shape of its own struct, from inputs that depend on the shape alone (`operation` of agreement.h). */
#ifndef TESTS_COMPUTE_OPERATION_RUNS_H
#define TESTS_COMPUTE_OPERATION_RUNS_H

#include "agreement.h"

struct convolution {
    struct conv3d_shape shape;
    int has_bias, wants_dinp;
};
void convolve(struct compute *c, const void *chosen, struct results *r);

struct normed_convolution {
    struct conv3d_shape shape;
    int normed;
};
void normalise_and_convolve(struct compute *c, const void *chosen, struct results *r);
/* The second one's, a conv3d_shape. */
void convolve_twice_from_one_channel(struct compute *c, const void *chosen, struct results *r);

struct linear {
    size_t rows;
    int in_features, out_features, has_bias, wants_dinp;
};
void multiply(struct compute *c, const void *chosen, struct results *r);
void multiply_and_more(struct compute *c, const void *chosen,
                       struct results *r); /* fused with what is next to it */

struct mlp_of_rows {
    size_t rows;
    int channels, hidden;
};
/* No results where c does not fuse it. */
struct normed_linear_of_rows {
    size_t rows;
    int in_features, out_features;
};

void normalise_and_multiply(struct compute *c, const void *chosen, struct results *r);

void pass_through_mlp(struct compute *c, const void *chosen, struct results *r);

struct layer_norm {
    size_t rows;
    int channels, affine, in_place, has_residual;
};
void normalise_rows(struct compute *c, const void *chosen, struct results *r);

struct instance_norm {
    int n, space, channels;
    real slope;
    int has_residual, in_place;
};
void normalise_channels(struct compute *c, const void *chosen, struct results *r);
void normalise_in_two_steps(struct compute *c, const void *chosen, struct results *r);

struct attention {
    int n, d, h, w, heads, head_dim, odd_block;
};
void attend(struct compute *c, const void *chosen, struct results *r);
void attend_with_large_scores(struct compute *c, const void *chosen,
                              struct results *r); /* an attention_shape */
void attend_with_growing_scores(struct compute *c, const void *chosen, struct results *r); /* likewise */

struct merging {
    int n, d, h, w, channels;
    enum patch_merging order;
};
void merge(struct compute *c, const void *chosen, struct results *r);

struct pool {
    int n, space, channels, scaled;
};
void normalise_and_pool(struct compute *c, const void *chosen, struct results *r);

struct channel_scale {
    int n, channels;
};
void scale_channels(struct compute *c, const void *chosen, struct results *r);

/* All flips, of crops that are turned and that are not, where there are 16 and more. */
struct stored_crops {
    int n, side, voxel_bytes;
};
void transform(struct compute *c, const void *chosen, struct results *r);

/* The shape is a count, a size_t. */
void apply_gelu(struct compute *c, const void *chosen, struct results *r);
void sweep_gelu(struct compute *c, const void *chosen, struct results *r);
void update(struct compute *c, const void *chosen, struct results *r);
void sum_what_is_not_finite(struct compute *c, const void *chosen, struct results *r);
void add(struct compute *c, const void *chosen, struct results *r);

void mask(struct compute *c, const void *chosen, struct results *r);

/* The shape is a contrast_shape. */
void contrast(struct compute *c, const void *chosen, struct results *r);

struct parts {
    int n;
    size_t count;
};
void add_parts(struct compute *c, const void *chosen, struct results *r);

/* No shape: a weight that changes in place, as the optimiser changes it, is seen after parameters_changed. */
void change_parameters(struct compute *c, const void *chosen, struct results *r);

#endif
