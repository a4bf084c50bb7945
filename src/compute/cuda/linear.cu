#include "compute/cuda/blas.cuh"
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/measured.cuh"
#include "compute/cuda/products.cuh"
#include "compute/cuda/row_sums.cuh"

#include <stdio.h>

/* One linear layer on so many rows. */
struct linear_sizes {
    size_t rows;
    int in_features, out_features;
};

/* Ways to compute: variants of an own kernel from 0 on, or the library. */
enum { LIBRARY = narrow_variants };

/* The fastest way. own(variant) returns 0 where it cannot; the library always can. `flags` tells apart what
 * sizes do not. All ways write the same, so that it does not matter which ran last. */
template <typename Own, typename Library>
static int fastest_way(struct compute *c, const char *name, const struct linear_sizes *sizes, int flags,
                       Own own, Library library)
{
    const struct measured_key key = {{'l', (size_t)name[0], sizes->rows, (size_t)sizes->in_features,
                                      (size_t)sizes->out_features, (size_t)flags}};
    const int known = measured_choice(&key);
    float times[LIBRARY + 1] = {-1, -1, -1, -1, -1};
    int best = LIBRARY;
    if (known >= 0 && known <= LIBRARY) {
        return known;
    }
    for (int way = 0; way <= LIBRARY; way++) {
        if (best != LIBRARY && !measuring_wanted()) {
            break;
        }
        times[way] = measured_time(c, [&] { return way == LIBRARY ? library() : own(way); });
        if (times[way] >= 0 && (best == LIBRARY || measured_is_faster(times[way], times[best]))) {
            best = way;
        }
    }
    if (c->status == VOCO_OK) {
        measured_remember(&key, best);
    }
    if (measuring_is_verbose()) {
        fprintf(stderr, "linear %s %zu x (%d -> %d): own %.3f %.3f %.3f %.3f, library %.3f ms, takes %d\n",
                name, sizes->rows, sizes->in_features, sizes->out_features, (double)times[0],
                (double)times[1], (double)times[2], (double)times[3], (double)times[LIBRARY], best);
    }
    return best;
}

static int aligned(const void *a, const void *b, const void *c)
{
    return ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % 16 == 0;
}

static void product(struct compute *c, const struct matrix_product *p, void *d, const void *a, const void *b)
{
    if (!blas_product(c, p, d, a, b, NULL)) {
        plain_product(c, p, d, a, b, NULL);
    }
}

/* What is done to a product in a pass of its own. */
static void finish_apart(struct compute *c, enum narrow_finish finish, activation *out, activation *other,
                         size_t count)
{
    if (finish == FINISH_GELU) {
        cuda_gelu_forward(c, other, out, count);
    } else if (finish == FINISH_ADD) {
        cuda_add(c, out, out, other, count);
    } else if (finish == FINISH_GELU_GRADIENT) {
        cuda_gelu_backward(c, out, out, other, count);
    }
}

/* cuBLASLt adds a bias of the output's type only: to bf16 it is added in a pass of its own, in float, and
 * what else is to be added with it. */
static void library_forward(struct compute *c, enum narrow_finish finish, activation *out, activation *other,
                            const activation *inp, const void *weight, const float *bias,
                            const struct linear_sizes *sizes)
{
    const int bf16_too = c->precision == PRECISION_BF16;
    const float *fused = bf16_too || (uintptr_t)bias % 16 != 0 ? NULL : bias;
    struct matrix_product p = {};
    p.rows = sizes->rows;
    p.columns = (size_t)sizes->out_features;
    p.depth = (size_t)sizes->in_features;
    p.b_transposed = 1;
    p.bf16_inputs = p.bf16_output = bf16_too;
    p.tf32 = c->precision == PRECISION_TF32;
    if (!blas_product(c, &p, out, inp, weight, fused)) {
        plain_product(c, &p, out, inp, weight, bias);
    } else if (bias != NULL && fused == NULL) {
        const activation *residual = finish == FINISH_ADD ? other : NULL;
        add_bias(c, out, bias, residual, sizes->rows, sizes->out_features);
        finish = residual != NULL ? FINISH_PLAIN : finish;
    }
    finish_apart(c, finish, out, other, sizes->rows * (size_t)sizes->out_features);
}

static void forward(struct compute *c, enum narrow_finish finish, activation *out, activation *other,
                    const activation *inp, const float *weight, const float *bias,
                    const struct linear_sizes *sizes)
{
    if (c->status != VOCO_OK || sizes->rows == 0) {
        return;
    }
    const void *values = cuda_weights(c, weight, WEIGHTS_PLAIN, sizes->out_features, sizes->in_features, 1);
    if (values == NULL) {
        return;
    }
    const auto own = [&](int variant) {
        return narrow_product(c, variant, finish, out, other, inp, values, bias, sizes->rows,
                              sizes->in_features, sizes->out_features);
    };
    const auto library = [&] {
        library_forward(c, finish, out, other, inp, values, bias, sizes);
        return 1;
    };
    if (c->precision == PRECISION_BF16) {
        const int flags = (bias != NULL) | aligned(out, inp, values) << 1 | aligned(other, NULL, NULL) << 2 |
                          (int)finish << 3;
        const int way = fastest_way(c, "forward", sizes, flags, own, library);
        if (way != LIBRARY && own(way)) {
            return;
        }
    }
    (void)library();
}

void cuda_linear_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, size_t rows, int in_features, int out_features)
{
    const struct linear_sizes sizes = {rows, in_features, out_features};
    forward(c, FINISH_PLAIN, out, NULL, inp, weight, bias, &sizes);
}

void cuda_linear_gelu_forward(struct compute *c, activation *out, activation *activated,
                              const activation *inp, const float *weight, const float *bias, size_t rows,
                              int in_features, int out_features)
{
    const struct linear_sizes sizes = {rows, in_features, out_features};
    forward(c, FINISH_GELU, out, activated, inp, weight, bias, &sizes);
}

void cuda_linear_add_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                             const float *bias, const activation *residual, size_t rows, int in_features,
                             int out_features)
{
    const struct linear_sizes sizes = {rows, in_features, out_features};
    forward(c, FINISH_ADD, out, const_cast<activation *>(residual), inp, weight, bias, &sizes);
}

/* dinp = dout weight; times GELU's derivative at `other` where finish says so. */
static void input_gradient(struct compute *c, enum narrow_finish finish, activation *dinp, activation *other,
                           const activation *dout, const float *weight, const struct linear_sizes *sizes)
{
    const int bf16_too = c->precision == PRECISION_BF16;
    struct matrix_product p = {};
    p.rows = sizes->rows;
    p.columns = (size_t)sizes->in_features;
    p.depth = (size_t)sizes->out_features;
    p.bf16_inputs = p.bf16_output = bf16_too;
    p.tf32 = c->precision == PRECISION_TF32;
    const void *values = cuda_weights(c, weight, WEIGHTS_PLAIN, sizes->out_features, sizes->in_features, 1);
    const void *turned = values;
    if (bf16_too) {
        turned = cuda_weights(c, weight, WEIGHTS_FLIPPED, sizes->out_features, sizes->in_features, 1);
    }
    if (values == NULL || turned == NULL) {
        return;
    }
    const auto own = [&](int variant) {
        return narrow_product(c, variant, finish, dinp, other, dout, turned, NULL, sizes->rows,
                              sizes->out_features, sizes->in_features);
    };
    const auto library = [&] {
        product(c, &p, dinp, dout, values);
        finish_apart(c, finish, dinp, other, sizes->rows * (size_t)sizes->in_features);
        return 1;
    };
    if (bf16_too) {
        const int flags = aligned(dinp, dout, turned) | aligned(other, NULL, NULL) << 1 | (int)finish << 2;
        const int way = fastest_way(c, "input gradient", sizes, flags, own, library);
        if (way != LIBRARY && own(way)) {
            return;
        }
    }
    (void)library();
}

/* dweight += dout^T inp, dbias += the sum of dout over rows; dbias may be NULL. */
static int library_parameter_gradients(struct compute *c, float *dweight, float *dbias,
                                       const activation *dout, const activation *inp,
                                       const struct linear_sizes *sizes)
{
    struct matrix_product p = {};
    p.rows = (size_t)sizes->out_features;
    p.columns = (size_t)sizes->in_features;
    p.depth = sizes->rows;
    p.a_transposed = 1;
    p.bf16_inputs = c->precision == PRECISION_BF16;
    p.tf32 = c->precision == PRECISION_TF32;
    p.accumulates = 1;
    product(c, &p, dweight, dout, inp);
    if (dbias != NULL) {
        cuda_add_row_sums(c, dbias, dout, sizes->rows, sizes->out_features);
    }
    return 1;
}

/* The faster way, measured into memory of its own: measuring must add nothing to the gradients. */
static int faster_parameter_gradients(struct compute *c, const activation *dout, const activation *inp,
                                      int with_bias, const struct linear_sizes *sizes)
{
    const int flags = with_bias | aligned(dout, inp, NULL) << 1;
    const size_t count = (size_t)sizes->in_features * (size_t)sizes->out_features;
    const struct measured_key key = {
        {'l', 'p', sizes->rows, (size_t)sizes->in_features, (size_t)sizes->out_features, (size_t)flags}};
    const int known = measured_choice(&key);
    if (known >= 0 && known <= LIBRARY) {
        return known;
    }
    float *trial = (float *)c->allocate(c, (count + (size_t)sizes->out_features) * sizeof(float));
    if (trial == NULL) {
        return LIBRARY;
    }
    float *trial_bias = with_bias ? trial + count : NULL;
    const auto own = [&](int variant) {
        return variant == 0 && weight_gradient(c, trial, trial_bias, dout, inp, sizes->rows,
                                               sizes->in_features, sizes->out_features);
    };
    const auto library = [&] { return library_parameter_gradients(c, trial, trial_bias, dout, inp, sizes); };
    const int way = fastest_way(c, "parameter gradients", sizes, flags, own, library);
    c->release(c, trial);
    return way;
}

/* dweight += dout^T inp, dbias += the sum of dout over rows; either may be NULL. */
static void parameter_gradients(struct compute *c, float *dweight, float *dbias, const activation *dout,
                                const activation *inp, const struct linear_sizes *sizes)
{
    if (dweight == NULL) {
        if (dbias != NULL) {
            cuda_add_row_sums(c, dbias, dout, sizes->rows, sizes->out_features);
        }
        return;
    }
    if (c->precision == PRECISION_BF16 &&
        faster_parameter_gradients(c, dout, inp, dbias != NULL, sizes) != LIBRARY &&
        weight_gradient(c, dweight, dbias, dout, inp, sizes->rows, sizes->in_features, sizes->out_features)) {
        return;
    }
    (void)library_parameter_gradients(c, dweight, dbias, dout, inp, sizes);
}

static void parameter_gradients_as_leaf(struct compute *c, float *dweight, float *dbias,
                                        const activation *dout, const activation *inp,
                                        const struct linear_sizes *sizes)
{
    const size_t outs = (size_t)sizes->out_features, ins = (size_t)sizes->in_features;
    leaf_begin(c);
    parameter_gradients(c, dweight, dbias, dout, inp, sizes);
    leaf_end(c, {range_of(dweight, outs * ins), range_of(dbias, outs), range_of(c, dout, sizes->rows * outs),
                 range_of(c, inp, sizes->rows * ins)});
}

void cuda_linear_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                          const activation *dout, const activation *inp, const float *weight, size_t rows,
                          int in_features, int out_features)
{
    const struct linear_sizes sizes = {rows, in_features, out_features};
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    parameter_gradients_as_leaf(c, dweight, dbias, dout, inp, &sizes);
    if (dinp != NULL) {
        const struct written_ranges written(c, {range_of(c, dinp, rows * (size_t)in_features)});
        input_gradient(c, FINISH_PLAIN, dinp, NULL, dout, weight, &sizes);
    }
}

void cuda_linear_gelu_backward(struct compute *c, activation *dwide, float *dweight, float *dbias,
                               const activation *dout, const activation *activated, const activation *wide,
                               const float *weight, size_t rows, int in_features, int out_features)
{
    const struct linear_sizes sizes = {rows, in_features, out_features};
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    parameter_gradients_as_leaf(c, dweight, dbias, dout, activated, &sizes);
    if (dwide != NULL) {
        const struct written_ranges written(c, {range_of(c, dwide, rows * (size_t)in_features)});
        input_gradient(c, FINISH_GELU_GRADIENT, dwide, const_cast<activation *>(wide), dout, weight, &sizes);
    }
}
