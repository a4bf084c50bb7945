/* The operations that the network and the optimiser are made of, behind one interface.
 *
 * An implementation ("reference": plain loops, the oracle of every test; "cpu": oneDNN and fused kernels;
 * "cuda": cuDNN, cuBLASLt and fused kernels on a GPU) is one struct of function pointers. All tensors are
 * contiguous arrays. Activations are NDHWC, so that one voxel is one token is one row of channels, and (N x D
 * x H x W) is simply "rows" to layers that look at one token. The network's (d, h, w) are the volume's (x, y,
 * z).
 *
 * What flows between layers, and its gradient, is of type `activation`, whose form is the implementation's
 * own: reals, or bfloat16 where it was opened with PRECISION_BF16. Everything else is `real`: parameters,
 * their gradients, the moments of norms, log-sum-exps, embeddings. Sums are in float at least whatever the
 * form.
 *
 * Conventions of every operation:
 *   - outputs come first, then inputs, then sizes; arrays may not overlap unless the comment allows it;
 *   - gradients of activations (dinp, dresidual, dqkv) are written; gradients of parameters (dweight, dbias,
 * dtable) are added to what is there, so that crops can pass a few at a time;
 *   - a gradient that is not wanted is passed as NULL where the comment says "may be NULL";
 *   - weights are in PyTorch's layouts: Linear (out, in), Conv3d (out, in, kd, kh, kw);
 *   - operations return nothing. The first failure inside an implementation (out of memory, an unsupported
 * shape) is remembered; from then on operations do nothing, and compute_status() reports it. Look once per
 * step. With equal threads an implementation gives equal bits for equal input. */
#ifndef COMPUTE_COMPUTE_H
#define COMPUTE_COMPUTE_H

#include "compute/crop_transform.h"
#include "compute/real.h"
#include "voco/status.h"

#include <stddef.h>

/* An element of an activation: `activation_size` bytes of struct compute. No code outside the implementations
 * looks inside. */
typedef struct activation activation;

/* How activations are kept, and multiplied. */
enum compute_precision {
    PRECISION_FLOAT32, /* as reals (double in the tests' build in double) */
    PRECISION_BF16,    /* as the upper half of a float, rounded to nearest even */
    PRECISION_TF32,    /* as reals; what convolutions and linear layers multiply is rounded to TF32's 11
                          significant bits where tensor cores do it, all else is as with PRECISION_FLOAT32 */
    compute_precisions
};

enum { relative_table_window = 7 }; /* the table is always that of a 7^3 window ... */
enum { relative_table_rows = 13 * 13 * 13 };

static const double normalisation_epsilon = 1e-5; /* added to variances by layer and instance norms */

/* A cubic 3D convolution over n volumes of d x h x w voxels. "Same" padding of (kernel - 1) / 2 where stride
 * is 1; none where stride == kernel (patch embedding: d, h, w are multiples of the stride). */
struct conv3d_shape {
    int n, d, h, w;
    int in_channels, out_channels;
    int kernel; /* 1, 2 or 3 */
    int stride; /* 1, or equal to kernel */
};

/* Shifted-window attention over n grids of d x h x w tokens (voco.md section 2, "Swin block").
 * window and shift per axis: an axis of at most 7 tokens has window = its tokens and shift 0; else window 7
 * and shift 3 in the odd block, 0 in the even one. Axes are padded at their end to a multiple of the window.
 */
struct attention_shape {
    int n, d, h, w;
    int heads, head_dim; /* channels C = heads x head_dim */
    int window[3];
    int shift[3];
};

/* An instance norm whose moments are known, and its activation: act((x - mean) rstd), by sample and channel,
 * with act(v) = v > 0 ? v : slope v (1: none, 0.01: leaky ReLU). */
struct norm_activation {
    const real *mean, *rstd; /* (n, channels) */
    real slope;
};

/* What is added between norm and activation: x itself (n, space, channels), or, where scale is given, a
 * multiple of the one channel of x (n, space): scale (x - centre). */
struct pooled_residual {
    const activation *x;
    const real *scale;  /* (n, channels), or NULL */
    const real *centre; /* (n) */
};

/* A layer norm and a linear layer of its result. */
struct normed_linear {
    int in_features, out_features;
    const real *norm_weight, *norm_bias; /* (in_features) */
    const real *weight, *bias;           /* (out_features, in_features), (out_features) */
};

/* Of its parameters; all are added to. */
struct normed_linear_gradients {
    real *norm_weight, *norm_bias, *weight, *bias;
};

/* The MLP of a transformer's block: a layer norm, a linear layer to `hidden` features, GELU and a linear
 * layer back. */
struct mlp {
    int channels, hidden;
    const real *norm_weight, *norm_bias; /* (channels) */
    const real *weight1, *bias1;         /* (hidden, channels), (hidden) */
    const real *weight2, *bias2;         /* (channels, hidden), (channels) */
};

/* Of its parameters; all are added to. */
struct mlp_gradients {
    real *norm_weight, *norm_bias, *weight1, *bias1, *weight2, *bias2;
};

/* The crops that the loss compares, N = V (S + K) rows: all random crops first (volume-major), then all bases
 * (volume-major). */
struct contrast_shape {
    int volumes; /* V >= 1; one volume is its own neighbour in the inter term */
    int crops;   /* S >= 1 */
    int bases;   /* K >= 1; with a single base there are no pairs and reg is 0 */
    int width;   /* D */
};

/* The terms of a volume's loss, in their order. */
enum { CONTRAST_INTRA, CONTRAST_INTER, CONTRAST_REG, contrast_terms };

/* Which of the 8 neighbours (d, h, w offsets) patch merging gathers, in order (voco.md section 2, item 6). */
enum patch_merging {
    PATCH_MERGING_LEGACY, /* 000 100 010 001 101 010 001 111: MONAI <= 1.4, the published checkpoints */
    PATCH_MERGING_FIXED,  /* 000 100 010 001 110 101 011 111: later MONAI */
    PATCH_MERGING_V2,     /* 000 001 010 011 100 101 110 111: MONAI's mergingv2 */
};

/* One AdamW step with AMSGrad as PyTorch computes it (voco.md section 4). `step` counts from 1. */
struct adamw_settings {
    double learning_rate;
    double beta1, beta2;
    double epsilon;
    double weight_decay;
    double clip_norm; /* the gradient is scaled down to this norm; 0: no clipping */
    long step;
};

struct machine_peak; /* compute/cpu/machine_peak.h */
struct recording;    /* the implementation's own */

/* What take_choices found in a text. */
enum choices_taken {
    CHOICES_OF_ANOTHER_MACHINE, /* or of other libraries: nothing was taken */
    CHOICES_KNOWN,              /* nothing that was not chosen already */
    CHOICES_NEW
};

struct compute {
    const char *name; /* "reference", "cpu" or "cuda" */
    void *state;      /* the implementation's own */
    int threads;      /* as it was opened with */
    int gpu;          /* the same: which of the GPUs that this process sees */

    enum compute_precision precision;
    size_t activation_size; /* bytes of an activation */
    int multiplies_bf16;    /* the machine does; where it does not, PRECISION_BF16 saves memory, not time */

    /* The same implementation with PRECISION_FLOAT32, for what stays in full precision whatever the encoder
     * does; itself where that is its own. It shares state and threads and is closed with c. Its failures
     * are compute_status's of either. */
    struct compute *full;

    /* Arrays of operations lie in memory of the implementation's own (a GPU's), which the host cannot look
     * into; 0: in the host's. That holds for every array that an operation below takes; structs, sizes and
     * what is returned are the host's. Where memory is not separate any memory will do, and the copies are
     * plain ones. */
    int separate_memory;

    /* Memory for arrays of operations, aligned to 64 at least, uninitialised; NULL where there is none, which
     * is then c's status and says how much was needed and how much there was. */
    void *(*allocate)(struct compute *c, size_t bytes);
    void (*release)(struct compute *c, void *memory); /* NULL: nothing */

    /* Host memory from and to which copies are fast and need not wait for the host. */
    void *(*allocate_staging)(struct compute *c, size_t bytes);
    void (*release_staging)(struct compute *c, void *memory);

    /* Bytes of separate memory that are free; NULL where memory is not separate. */
    size_t (*free_memory)(struct compute *c);

    /* Copies, in their order among the operations. Host memory must stay as it is, and what comes from the
     * device must not be read, before wait(). */
    void (*to_device)(struct compute *c, void *to, const void *host, size_t bytes);
    void (*to_host)(struct compute *c, void *host, const void *from, size_t bytes);
    void (*copy)(struct compute *c, void *to, const void *from, size_t bytes);

    /* Until everything asked for so far is done. Failures that only show then are compute_status's. */
    void (*wait)(struct compute *c);

    /* A second queue: opens `beside`, the same implementation with bf16 activations (and floats in
     * beside->full), for allocations, copies, wait and the elementwise operations between reals and
     * activations and sum_in_order. What it is asked for goes on beside what c is asked for. Its status is
     * its own. It closes before c does. These four are NULL where memory is not separate. */
    enum voco_status (*open_beside)(struct compute *c, struct compute *beside);

    /* What c is asked for from now on begins when all that `other` was asked for so far is done. The host
     * does not wait. */
    void (*follow)(struct compute *c, struct compute *other);

    /* Whether everything asked for so far is done, without waiting; what failed counts as done. */
    int (*done)(struct compute *c);

    /* c's queue as the device's own libraries take it: of a GPU, its cudaStream_t. */
    void *(*queue)(struct compute *c);

    /* Recordings: operations that are asked for again and again, which a device then starts one after the
     * other by itself. These five are NULL where there are none.
     *
     * Between record_begin, where c has not failed, and record_end nothing is done: what c and c->full are
     * asked for is kept. It may be operations that take arrays and return nothing, `zero` and `copy` too;
     * each must have been done before with the same arrays, so that all is known that is found out when sizes
     * are first met. What else c does makes the recording fail: allocating and releasing, copies from and to
     * the host, waiting, following and being followed, parameters_changed.
     *
     * record_end gives the recording, to be freed before c closes; or the first failure since record_begin,
     * and NULL. Either way c goes on as if nothing had been asked for since. */
    void (*record_begin)(struct compute *c);
    enum voco_status (*record_end)(struct compute *c, struct recording **recording);

    /* Asks for all of it again, at its turn among the operations: for the same bits as one by one, from what
     * its arrays then hold. Only while can_replay is not 0, which other operations may change for good: where
     * they make memory of the implementation's own move. */
    void (*replay)(struct compute *c, struct recording *recording);
    int (*can_replay)(struct compute *c, const struct recording *recording);
    void (*recording_free)(struct compute *c, struct recording *recording); /* NULL: nothing */

    /* Between reals and activations, count of them. */
    void (*activations_from_reals)(struct compute *c, activation *out, const real *inp, size_t count);
    void (*reals_from_activations)(struct compute *c, real *out, const activation *inp, size_t count);

    /* out (n, side, side, side): crops as the network takes them, from `stored`, the voxels of as many, of
     * voxel_bytes (1 or 2) each. transforms (n) is an array of the operation like the others. The product
     * with the scale and the sum with the shift are rounded one after the other, so that every implementation
     * gives the same bits. */
    void (*transform_crops)(struct compute *c, real *out, const void *stored, int voxel_bytes,
                            const struct crop_transform *transforms, int n, int side);

    /* out (n, d/s, h/s, w/s, out_channels) from inp (n, d, h, w, in_channels), weight (O, I, k, k, k), bias
     * (O) or NULL. */
    void (*conv3d_forward)(struct compute *c, activation *out, const activation *inp, const real *weight,
                           const real *bias, const struct conv3d_shape *shape);
    /* dinp, dweight and dbias may each be NULL. */
    void (*conv3d_backward)(struct compute *c, activation *dinp, real *dweight, real *dbias,
                            const activation *dout, const activation *inp, const real *weight,
                            const struct conv3d_shape *shape);

    /* A 3^3 convolution of stride 1 without bias between two instance norms:
     *     out = conv(act(norm(inp))), and the moments of out, mean and rstd (n, out_channels),
     * where norm is that of inp; NULL: inp is read as it is. work: normed_conv3d_work elements that may be
     * written. */
    void (*normed_conv3d_forward)(struct compute *c, activation *out, real *mean, real *rstd,
                                  const activation *inp, const struct norm_activation *norm, activation *work,
                                  const real *weight, const struct conv3d_shape *shape);
    /* dinp is the gradient of inp, through activation and norm; it may be NULL. */
    void (*normed_conv3d_backward)(struct compute *c, activation *dinp, real *dweight, const activation *dout,
                                   const activation *inp, const struct norm_activation *norm,
                                   activation *work, const real *weight, const struct conv3d_shape *shape);
    /* The weights' gradients of two such convolutions in a row, of which the first reads one channel, whose
     * gradient is not wanted:
     *     between = conv1(x), out = conv2(act(norm(between))),
     * with between and the moments in norm as forward left them. shape is conv2's, its in_channels are
     * conv1's out_channels. dbetween is memory of between's size; what is left there has no meaning. */
    void (*normed_conv3d_pair_backward)(struct compute *c, real *dweight1, real *dweight2,
                                        activation *dbetween, const activation *dout,
                                        const activation *between, const struct norm_activation *norm,
                                        activation *work, const activation *x, const real *weight1,
                                        const real *weight2, const struct conv3d_shape *shape);
    /* 0 where the implementation needs no memory for act(norm(inp)), else the size of inp. */
    size_t (*normed_conv3d_work)(struct compute *c, const struct conv3d_shape *shape);

    /* out (rows, out_features) = inp (rows, in_features) weight^T + bias; bias may be NULL. */
    void (*linear_forward)(struct compute *c, activation *out, const activation *inp, const real *weight,
                           const real *bias, size_t rows, int in_features, int out_features);
    /* dinp, dweight and dbias may each be NULL. */
    void (*linear_backward)(struct compute *c, activation *dinp, real *dweight, real *dbias,
                            const activation *dout, const activation *inp, const real *weight, size_t rows,
                            int in_features, int out_features);

    /* A linear layer and the operation next to it, rounded to activations between the two.
     * out = linear(inp), activated = GELU(out), both (rows, out_features); bias may be NULL. */
    void (*linear_gelu_forward)(struct compute *c, activation *out, activation *activated,
                                const activation *inp, const real *weight, const real *bias, size_t rows,
                                int in_features, int out_features);
    /* linear_backward of a layer whose input is activated = GELU(wide), both (rows, in_features): dwide is
     * the gradient of wide, through GELU. dwide, dweight and dbias may each be NULL. */
    void (*linear_gelu_backward)(struct compute *c, activation *dwide, real *dweight, real *dbias,
                                 const activation *dout, const activation *activated, const activation *wide,
                                 const real *weight, size_t rows, int in_features, int out_features);
    /* out = linear(inp) + residual (rows, out_features); bias may be NULL. */
    void (*linear_add_forward)(struct compute *c, activation *out, const activation *inp, const real *weight,
                               const real *bias, const activation *residual, size_t rows, int in_features,
                               int out_features);

    /* out = x + linear2(GELU(linear1(norm(x)))), both (rows, channels), without an array of the hidden
     * layer's width. The three functions are NULL where an implementation does not fuse the operations above.
     */
    void (*mlp_forward)(struct compute *c, activation *out, const activation *x, const struct mlp *mlp,
                        size_t rows);
    /* dx: the gradient of x, through the MLP and past it. What forward computed is computed again. */
    void (*mlp_backward)(struct compute *c, activation *dx, const struct mlp_gradients *gradients,
                         const activation *dout, const activation *x, const struct mlp *mlp, size_t rows);
    /* 0 where an MLP is so wide that the operations one by one are faster, which keep an array of the hidden
     * layer's width. The two above compute it all the same. */
    int (*mlp_fits)(struct compute *c, int channels, int hidden);

    /* out (rows, out_features) = linear(norm(x)), without an array of norm(x). The three functions are NULL
     * where an implementation does not fuse the two. */
    void (*normed_linear_forward)(struct compute *c, activation *out, const activation *x,
                                  const struct normed_linear *layer, size_t rows);
    /* dx: the gradient of x through both, + residual (rows, in_features). */
    void (*normed_linear_backward)(struct compute *c, activation *dx,
                                   const struct normed_linear_gradients *gradients, const activation *dout,
                                   const activation *x, const activation *residual,
                                   const struct normed_linear *layer, size_t rows);
    /* 0 where one after the other is faster; as mlp_fits. */
    int (*normed_linear_fits)(struct compute *c, int in_features, int out_features);

    /* Over the channels of each row, biased variance, eps 1e-5. weight and bias (channels): both given or
     * both NULL (no affine). mean and rstd (rows) are written for backward. */
    void (*layer_norm_forward)(struct compute *c, activation *out, real *mean, real *rstd,
                               const activation *inp, const real *weight, const real *bias, size_t rows,
                               int channels);
    /* dinp is the gradient of inp, + residual where that is not NULL: what reaches inp past the norm. dweight
     * and dbias are NULL where weight is. dinp may be dout. */
    void (*layer_norm_backward)(struct compute *c, activation *dinp, real *dweight, real *dbias,
                                const activation *dout, const activation *inp, const real *mean,
                                const real *rstd, const real *weight, const activation *residual, size_t rows,
                                int channels);

    /* out = act(norm(inp) + residual), norm over the `space` rows of each of n samples per channel, biased
     * variance, eps 1e-5, no affine; act(v) = v > 0 ? v : slope v (1: none, 0.01: leaky ReLU, 0: ReLU). inp,
     * out, residual are (n, space, channels); residual may be NULL. mean and rstd (n, channels) are written
     * for backward. The projector's BatchNorm + ReLU over N crops is this with n = 1, space = N, slope = 0.
     */
    void (*instance_norm_forward)(struct compute *c, activation *out, real *mean, real *rstd,
                                  const activation *inp, const activation *residual, real slope, int n,
                                  size_t space, int channels);
    /* The sign of act's argument is read from out, the result of forward (not read where slope is 1, may be
     * NULL then). dresidual may be NULL; dinp may be dout. */
    void (*instance_norm_backward)(struct compute *c, activation *dinp, activation *dresidual,
                                   const activation *dout, const activation *out, const activation *inp,
                                   const real *mean, const real *rstd, real slope, int n, size_t space,
                                   int channels);

    /* mean and rstd (n, channels), as instance_norm_forward has them. */
    void (*instance_norm_moments)(struct compute *c, real *mean, real *rstd, const activation *inp, int n,
                                  size_t space, int channels);
    /* out = act(norm(inp) + residual); residual may be NULL. */
    void (*instance_norm_apply)(struct compute *c, activation *out, const activation *inp,
                                const struct norm_activation *norm, const activation *residual, int n,
                                size_t space, int channels);

    /* The mean over space of v = act(norm(inp) + residual): pooled[i * stride + ch]; the stride lets several
     * pools fill one concatenated embedding. bends (3, n, channels): what backward needs, the means of b =
     * act'(norm(inp) + residual), which is 1 or slope, of b norm(inp), and of b (x - centre) where the
     * residual has a scale, else of v. */
    void (*pooled_norm_forward)(struct compute *c, real *pooled, size_t stride, real *bends,
                                const activation *inp, const struct norm_activation *norm,
                                const struct pooled_residual *residual, int n, size_t space, int channels);
    /* dinp: through activation and norm. dresidual (n, space, channels) is written where the residual has no
     * scale; else dscale (n, channels) is. bends: as forward wrote them. */
    void (*pooled_norm_backward)(struct compute *c, activation *dinp, activation *dresidual, real *dscale,
                                 const real *dpooled, size_t stride, const real *bends, const activation *inp,
                                 const struct norm_activation *norm, const struct pooled_residual *residual,
                                 int n, size_t space, int channels);

    /* The instance norm of w x, one channel x with moments m and v scaled by each w of `weight` (channels),
     * is scale (x - m) with scale = w / sqrt(w^2 v + eps), and dscale/dw = eps / sqrt(w^2 v + eps)^3: both
     * (n, channels), from rstd (n) of x itself, 1 / sqrt(v + eps). */
    void (*channel_scale_forward)(struct compute *c, real *scale, real *dscale_dweight, const real *weight,
                                  const real *rstd, int n, int channels);
    /* dweight (channels) += the sum over n of dscale dscale_dweight. */
    void (*channel_scale_backward)(struct compute *c, real *dweight, const real *dscale,
                                   const real *dscale_dweight, int n, int channels);

    /* Attention of every window and head. qkv (n, d, h, w, 3C) holds the real tokens only, its columns
     * ordered (q | k | v, head, head_dim), bias already added. Padded tokens (the input was padded after
     * LayerNorm) have q = k = v = qkv_bias (3C) and are attended to; their own outputs are not computed. out
     * (n, d, h, w, C), heads head-major. Scores: q k^T head_dim^-0.5 + bias_table (2197, heads) at the index
     * of a 7^3 window, also where the window is smaller, + -100 between tokens of different shift regions.
     * logsumexp (n, d, h, w, heads): per query the log of the sum of exponentials of its scores, for
     * backward. */
    void (*window_attention_forward)(struct compute *c, activation *out, real *logsumexp,
                                     const activation *qkv, const real *qkv_bias, const real *bias_table,
                                     const struct attention_shape *shape);
    /* dqkv (n, d, h, w, 3C) is written: the gradient of real tokens' q, k, v. dqkv_bias (3C): only what
     * reaches the bias through padded tokens is added (the real tokens' share comes from the linear layer).
     * dbias_table is added to. */
    void (*window_attention_backward)(struct compute *c, activation *dqkv, real *dqkv_bias, real *dbias_table,
                                      const activation *dout, const activation *out, const real *logsumexp,
                                      const activation *qkv, const real *qkv_bias, const real *bias_table,
                                      const struct attention_shape *shape);

    /* Exact GELU, x Phi(x) with the error function. dinp may be dout. */
    void (*gelu_forward)(struct compute *c, activation *out, const activation *inp, size_t count);
    void (*gelu_backward)(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                          size_t count);

    /* Gathers 2^3 neighbours: out (n, ceil(d/2), ceil(h/2), ceil(w/2), 8 channels) from inp (n, d, h, w,
     * channels); odd axes are zero-padded at their end. */
    void (*patch_merge_forward)(struct compute *c, activation *out, const activation *inp,
                                enum patch_merging order, int n, int d, int h, int w, int channels);
    /* Neighbours that the order reads twice get the sum, those it never reads get zero. */
    void (*patch_merge_backward)(struct compute *c, activation *dinp, const activation *dout,
                                 enum patch_merging order, int n, int d, int h, int w, int channels);

    /* out = a + b; out may be a or b. */
    void (*add)(struct compute *c, activation *out, const activation *a, const activation *b, size_t count);

    /* out = mask inp where the mask is not 0, else 0 whatever inp holds. out may be inp. */
    void (*apply_mask)(struct compute *c, real *out, const real *inp, const real *mask, size_t count);

    /* The loss of VoCo (voco.md section 3) on the projectors' outputs, with its gradient. z (N, D) is the
     * student's, t (N, D) the teacher's, labels (V, S, K) the shares of overlap.
     *
     * terms (V, 3), each of a volume:
     *   intra: similarity of random crops with the teacher's bases of the same volume, against the labels;
     *   inter: similarity with the bases of the next volume, against the teacher's opinion of it;
     *   reg: bases of a volume should not resemble each other.
     *
     * dz (N, D) is written: the gradient of the mean over the volumes of their sum with respect to z where
     * the method lets it through. The teacher is constant everywhere, and so is the second partner b of a
     * pair of bases in reg. Where cos is not positive relu passes nothing; where a similarity equals its
     * target |y - s| passes nothing (as PyTorch has both).
     *
     * similarity (V, S, K) is written: relu(cos(z of random crop s, t of base k)) within each volume, what
     * intra compares with the labels.
     *
     * cos(a, b) = a.b / max(|a| |b|, 1e-8). Everything is summed in double; NaN anywhere in z or t makes a
     * term NaN. work: contrast_loss_work doubles. */
    void (*contrast_loss)(struct compute *c, double *terms, real *dz, real *similarity, const real *z,
                          const real *t, const float *labels, double *work,
                          const struct contrast_shape *shape);

    /* p *= 1 - lr wd; m, v from scale grad; vmax = max(vmax, v), uncorrected; p -= lr / (1 - beta1^t) m /
     * (sqrt(vmax) / sqrt(1 - beta2^t) + eps). All arrays (count), but squares (1): the sum of squares of the
     * whole gradient, of which grad may be a part. It decides the scale and, where it is no finite float,
     * that nothing is done (compute/gradient_scale.h). */
    void (*adamw_step)(struct compute *c, real *param, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq,
                       const real *grad, const double *squares, const struct adamw_settings *settings,
                       size_t count);
    /* array = before, both (count), where such squares let adamw_step do nothing; else nothing. */
    void (*undo_if_skipped)(struct compute *c, real *array, const real *before, const double *squares,
                            size_t count);

    /* average = decay average + (1 - decay) value. previous (may be NULL) is written: average as it was. */
    void (*moving_average)(struct compute *c, real *average, real *previous, const real *value, real decay,
                           size_t count);

    /* x = 0, each part by the thread that adamw_step gives it to: on a machine whose memory lies in several
     * places, pages that nobody has touched yet come to lie near the thread that uses them. */
    void (*zero)(struct compute *c, real *x, size_t count);

    /* out (count) = scale * the sum of parts (n, count), the first part first; each sum is rounded to a real.
     * n >= 1. */
    void (*sum_in_order)(struct compute *c, real *out, const activation *parts, int n, size_t count,
                         real scale);

    /* sum (1): of squares, summed in double; NaN or infinite where an element is. */
    void (*sum_of_squares)(struct compute *c, double *sum, const real *x, size_t count);

    /* Parameters have changed: what was derived from them (weights in another layout) is stale. */
    void (*parameters_changed)(struct compute *c);

    /* Where there are several ways to compute the same, the fastest is found when sizes are first met, and
     * which it was decides the order of sums. `choices` is what was chosen so far, as text, to be freed; NULL
     * without memory, which is then c's status. With `take_choices` this or another process on a machine of
     * the same kind does likewise from then on, and so gives equal bits. VOCO_BAD_INPUT for what is no such
     * text. Both are NULL where nothing is chosen. */
    char *(*choices)(struct compute *c);
    enum voco_status (*take_choices)(struct compute *c, const char *text, enum choices_taken *taken);

    /* Measures what a device can do at best; NULL: the processor's own is meant, machine_peak_measure. */
    enum voco_status (*measure_peak)(struct compute *c, struct machine_peak *peak);

    void (*close)(struct compute *c); /* frees state */

    enum voco_status status; /* the first failure, see compute_status */
    char message[256];
};

/* By enum compute_precision, then NULL. */
extern const char *const compute_precision_names[];

/* One of these names; anything else is VOCO_BAD_INPUT. */
enum voco_status compute_precision_from_name(enum compute_precision *precision, const char *name);

/* VOCO_OK, or the first failure inside an operation since the last call, with its message as the thread's
 * error. Clears it. */
enum voco_status compute_status(struct compute *c);

/* For implementations: remembers the first failure. */
void compute_failed(struct compute *c, enum voco_status status, const char *what);

/* Opens an implementation by name. threads: 0 takes what OpenMP would (OMP_NUM_THREADS, else all cores).
 * VOCO_BAD_INPUT for an unknown name, VOCO_UNSUPPORTED for a precision that it does not have (reference has
 * PRECISION_FLOAT32 only, cpu no PRECISION_TF32). *c must stay where it is until compute_close. */
enum voco_status compute_open(struct compute *c, const char *name, int threads,
                              enum compute_precision precision);

/* The same; "cuda" on GPU number `gpu` of those that this process sees (gpus.h), where compute_open takes the
 * first. */
enum voco_status compute_open_on_gpu(struct compute *c, const char *name, int gpu, int threads,
                                     enum compute_precision precision);
void compute_close(struct compute *c);

/* An array of reals as activations of an implementation whose activations are reals, such as c->full: nothing
 * is copied. As with strchr, what may be written to is the caller's to know. */
static inline activation *as_activations(const real *reals)
{
    return (activation *)reals;
}

/* Closes and opens it again as it was: scratch memory and everything that was made for shapes or parameters
 * goes. A failure leaves it closed. */
enum voco_status compute_restart(struct compute *c);

/* Window and shift of one axis of `tokens` tokens in an even (0) or odd (1) block. */
void attention_window_of_axis(int tokens, int odd_block, int *window, int *shift);

/* Doubles that contrast_loss works in, enough for every implementation. */
size_t contrast_loss_work(const struct contrast_shape *shape);

/* The offsets (d, h, w) of the j-th of 8 gathered neighbours. */
void patch_merging_offset(enum patch_merging order, int j, int offset[3]);

#endif
