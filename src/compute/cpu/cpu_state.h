/* What the cpu implementation keeps between operations. */
#ifndef COMPUTE_CPU_CPU_STATE_H
#define COMPUTE_CPU_CPU_STATE_H

#include "compute/compute.h"

#include <stddef.h>

struct onednn;
struct packed_weights;

/* What kernels/ offers beyond the operations of struct compute. */
struct kernels {
    /* sums (channels) += the sum of the rows of x (rows, channels) */
    void (*add_row_sums)(struct compute *c, float *sums, const activation *x, size_t rows, int channels);

    /* x (rows, channels) += bias (channels) in each row */
    void (*add_bias)(struct compute *c, activation *x, const float *bias, size_t rows, int channels);

    /* Linear layers, for many rows and features; each may be NULL, where oneDNN's is as good. The last one
     * adds to dweight. */
    void (*linear_forward)(struct compute *c, activation *out, const activation *inp, const float *weight,
                           const float *bias, size_t rows, int in_features, int out_features);
    void (*linear_input_gradient)(struct compute *c, activation *dinp, const activation *dout,
                                  const float *weight, size_t rows, int in_features, int out_features);
    void (*linear_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                   const activation *inp, size_t rows, int in_features, int out_features);

    /* 3^3 convolutions of stride 1 between so few channels that they are faster than oneDNN's. */
    int (*narrow_convolution_fits)(int in_channels, int out_channels);
    /* result is out of first, inp; or, backward, dinp of first, dout. */
    void (*narrow_convolution)(struct compute *c, activation *result, const activation *first,
                               const float *weight, const struct conv3d_shape *shape, int backward);
    /* The weight's gradient, which is added to dweight, for some more channels. */
    int (*narrow_gradient_fits)(int in_channels, int out_channels);
    void (*narrow_convolution_gradient)(struct compute *c, float *dweight, const activation *dout,
                                        const activation *inp, const struct conv3d_shape *shape);

    /* The same together with norms, for most shapes: by Winograd's algorithm, or in tiles where the processor
     * has them. */
    int (*fused_convolution_fits)(const struct conv3d_shape *shape);
    /* norm as in normed_conv3d_forward; mean and rstd: of out, or both NULL. */
    void (*fused_convolution_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                      const activation *inp, const struct norm_activation *norm,
                                      const float *weight, const struct conv3d_shape *shape);
    /* With norm, the norm of inp, dinp is g, the gradient taken back through the activation, and shift and
     * factor (n, in_channels) are what norm_input_gradient goes on with. */
    void (*fused_convolution_input_gradient)(struct compute *c, activation *dinp, float *shift, float *factor,
                                             const activation *dout, const float *weight,
                                             const activation *inp, const struct norm_activation *norm,
                                             const struct conv3d_shape *shape);
    /* Adds to dweight. */
    void (*fused_convolution_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                              const activation *inp, const struct norm_activation *norm,
                                              const struct conv3d_shape *shape);

    /* dinp = rstd g - (shift + (inp - mean) factor), where dinp holds g. */
    void (*norm_input_gradient)(struct compute *c, activation *dinp, const activation *inp,
                                const struct norm_activation *norm, const float *shift, const float *factor,
                                int n, size_t space, int channels);
};

struct cpu_state {
    int threads;
    struct kernels kernels[2]; /* by precision */
    struct compute full;       /* where activations are not floats: the compute whose are */
    void *scratch;             /* memory of the operation at work */
    size_t scratch_bytes;
    struct onednn *onednn;
    void *floats; /* see cpu_float_arrays */
    size_t floats_bytes;
    struct packed_weights *packed;
};

static inline struct cpu_state *cpu_state(const struct compute *c)
{
    return c->state;
}

static inline const struct kernels *kernels_of(const struct compute *c)
{
    return &cpu_state(c)->kernels[c->precision];
}

/* At least `bytes` bytes, aligned to 64 and uninitialised, until the next call: an operation calls it once.
 * The memory is kept for the operations to come. NULL when there is none, which is then c's status. */
void *cpu_scratch(struct compute *c, size_t bytes);

/* Points a and b at arrays of so many floats, for activations of the operation at work that are converted as
 * a whole: aligned to 64, uninitialised, until the next call, and kept as cpu_scratch's memory is, which they
 * are no part of. 0 when there is no memory. */
int cpu_float_arrays(struct compute *c, float **a, size_t a_count, float **b, size_t b_count);

/* Lets oneDNN, which asks OpenMP, work with the threads of c, whichever thread calls. */
void use_threads(const struct compute *c);

/* `count` floats as bytes, rounded up so that what follows is aligned to 64 too. */
static inline size_t float_bytes(size_t count)
{
    return (count * sizeof(float) + 63) / 64 * 64;
}

/* Memory for an array of `bytes` bytes, aligned to 64, off what *at points at; NULL where that is NULL, which
 * only measures. */
static inline void *take_bytes(size_t *at, unsigned char *memory, size_t bytes)
{
    void *array = memory != NULL ? memory + *at : NULL;
    *at += (bytes + 63) / 64 * 64;
    return array;
}

/* Where part `part` of `parts` begins when 0 .. count - 1 are dealt out in equal, contiguous shares: the
 * fixed division of work that makes sums over threads reproducible. */
static inline size_t share_begin(size_t count, int part, int parts)
{
    return count / parts * part + (count % parts) * part / parts;
}

void cpu_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                        const float *bias, const struct conv3d_shape *shape);
void cpu_conv3d_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                         const activation *dout, const activation *inp, const float *weight,
                         const struct conv3d_shape *shape);

/* Convolutions over so few voxels of so many channels that matrix products beat oneDNN's, in float. */
int is_small_grid(const struct conv3d_shape *shape);           /* forward and input gradient */
int has_small_grid_gradient(const struct conv3d_shape *shape); /* weight gradient */
void small_grid_forward(struct compute *c, float *out, const float *inp, const float *weight,
                        const struct conv3d_shape *shape);
void small_grid_input_gradient(struct compute *c, float *dinp, const float *dout, const float *weight,
                               const struct conv3d_shape *shape);
/* Adds to dweight. */
void small_grid_weight_gradient(struct compute *c, float *dweight, const float *dout, const float *inp,
                                const struct conv3d_shape *shape);

void cpu_normed_conv3d_forward(struct compute *c, activation *out, float *mean, float *rstd,
                               const activation *inp, const struct norm_activation *norm, activation *work,
                               const float *weight, const struct conv3d_shape *shape);
void cpu_normed_conv3d_backward(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                                const activation *inp, const struct norm_activation *norm, activation *work,
                                const float *weight, const struct conv3d_shape *shape);
size_t cpu_normed_conv3d_work(struct compute *c, const struct conv3d_shape *shape);

/* Convolutions by oneDNN, see onednn.h; bias may be NULL. The last adds to dweight. */
void convolution_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                         const float *bias, const struct conv3d_shape *shape);
void convolution_input_gradient(struct compute *c, activation *dinp, const activation *dout,
                                const float *weight, const struct conv3d_shape *shape);
void convolution_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                 const activation *inp, const struct conv3d_shape *shape);

void cpu_linear_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                        const float *bias, size_t rows, int in_features, int out_features);
void cpu_linear_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                         const activation *dout, const activation *inp, const float *weight, size_t rows,
                         int in_features, int out_features);

#endif
