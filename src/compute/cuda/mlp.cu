#include "compute/cuda/folded_norm.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/mlp.cuh"
#include "compute/cuda/row_sums.cuh"
#include "compute/cuda/vector.cuh"

extern "C" {
#include "compute/reference/operations.h"
}

int cuda_mlp_fits(struct compute *c, int channels, int hidden)
{
    return c->precision == PRECISION_BF16 && channels == normed_channels && hidden == mlp_hidden &&
           mlp_backward_shared() <= cuda_state(c)->shared_per_block;
}

static int by_warpgroups(const struct compute *c)
{
    return cuda_state(c)->major == 9;
}

static struct normed_linear first_layer_of(const struct mlp *mlp)
{
    const struct normed_linear layer = {mlp->channels,  mlp->hidden,  mlp->norm_weight,
                                        mlp->norm_bias, mlp->weight1, mlp->bias1};
    return layer;
}

/* What is derived of the MLP, in scratch memory; 0 where there is none. */
static int derive_factors(struct compute *c, struct mlp_factors *factors, const struct mlp *mlp)
{
    const struct normed_linear first = first_layer_of(mlp);
    const void *weight2 = cuda_weights(c, mlp->weight2, WEIGHTS_PLAIN, mlp->channels, mlp->hidden, 1);
    unsigned char *memory = (unsigned char *)cuda_scratch(c, folded_bytes(&first));
    if (memory == NULL || weight2 == NULL) {
        return 0;
    }
    bf16 *folded = (bf16 *)memory;
    float *folded_bias = (float *)(memory + folded_weight_bytes(&first));
    fold_norm(c, folded, folded_bias, &first);
    factors->weight1 = folded;
    factors->weight2 = (const bf16 *)weight2;
    factors->bias1 = folded_bias;
    factors->bias2 = mlp->bias2;
    return 1;
}

void cuda_mlp_forward(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                      size_t rows)
{
    struct mlp_factors factors;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (!cuda_mlp_fits(c, mlp->channels, mlp->hidden) || !all_aligned(out, x)) {
        reference_mlp_forward(c, out, x, mlp, rows);
    } else if (derive_factors(c, &factors, mlp)) {
        (by_warpgroups(c) ? mlp_rows_forward_by_warpgroups
                          : mlp_rows_forward)(c, (bf16 *)out, (const bf16 *)x, &factors, rows);
    }
}

/* What blocks have summed lies behind room for the sums of it. */
static void add_sums_as_leaf(struct compute *c, const struct mlp_gradients *gradients, float *sums,
                             size_t blocks, const struct mlp *mlp)
{
    const struct normed_linear first = first_layer_of(mlp);
    const struct normed_linear_gradients first_gradients = {gradients->norm_weight, gradients->norm_bias,
                                                            gradients->weight1, gradients->bias1};
    const float *partial = sums + mlp_sums;
    leaf_begin(c);
    add_folded_gradients(c, &first_gradients, sums, partial, blocks, mlp_sums, &first);
    cuda_add_parts(c, gradients->weight2, mlp_weights, gradients->bias2, normed_channels,
                   partial + mlp_sum_weight2, blocks, mlp_sums);
    leaf_end(c, {range_of(sums, (1 + blocks) * mlp_sums), range_of(gradients->norm_weight, normed_channels),
                 range_of(gradients->norm_bias, normed_channels), range_of(gradients->weight1, mlp_weights),
                 range_of(gradients->bias1, mlp_hidden), range_of(gradients->weight2, mlp_weights),
                 range_of(gradients->bias2, normed_channels)});
}

void cuda_mlp_backward(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                       const activation *dout, const activation *x, const struct mlp *mlp, size_t rows)
{
    struct mlp_factors factors;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (!cuda_mlp_fits(c, mlp->channels, mlp->hidden) || !all_aligned(dx, dout, x)) {
        reference_mlp_backward(c, dx, gradients, dout, x, mlp, rows);
        return;
    }
    const struct written_ranges written(c, {range_of(c, dx, rows * normed_channels)});
    const size_t blocks = mlp_backward_blocks(c, rows);
    float *sums = (float *)leaf_input(c, (1 + blocks) * mlp_sums * sizeof *sums);
    if (sums != NULL && derive_factors(c, &factors, mlp)) {
        (by_warpgroups(c) ? mlp_rows_backward_by_warpgroups : mlp_rows_backward)(
            c, (bf16 *)dx, sums + mlp_sums, (const bf16 *)dout, (const bf16 *)x, &factors, rows);
        add_sums_as_leaf(c, gradients, sums, blocks, mlp);
    }
}
