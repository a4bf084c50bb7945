#include "compute/operation_arithmetic.h"

static const double flops_per_product = 2;

/* How many pairs of an output and a tap along an axis of n voxels lie inside it. */
static double taps_inside(int n, const struct conv3d_shape *shape)
{
    if (shape->stride > 1) {
        return n; /* outputs n / stride, each with `kernel` = stride taps */
    }
    const int reach = (shape->kernel - 1) / 2;
    double taps = n;
    for (int k = 1; k <= reach; k++) {
        taps += 2.0 * (n > k ? n - k : 0);
    }
    return taps;
}

double conv3d_flops(const struct conv3d_shape *shape)
{
    const double taps =
        taps_inside(shape->d, shape) * taps_inside(shape->h, shape) * taps_inside(shape->w, shape);
    return flops_per_product * shape->n * taps * shape->in_channels * shape->out_channels;
}

double linear_flops(size_t rows, int in_features, int out_features)
{
    return flops_per_product * (double)rows * in_features * out_features;
}

double attention_product_flops(const struct attention_shape *shape)
{
    const double queries = (double)shape->n * shape->d * shape->h * shape->w;
    const double keys = (double)shape->window[0] * shape->window[1] * shape->window[2];
    return flops_per_product * queries * keys * shape->heads * shape->head_dim;
}
