/* Shifted-window attention: what its kernels share. Windows are cut as in
 * src/compute/reference/window_attention.c.
 *
 * A block works on one head and, one after the other, on the windows blockIdx.y, blockIdx.y + gridDim.y, ...
 * of all samples, so that the head's bias table is read once. A token is known by its number in the window
 * (d-major). */
#ifndef COMPUTE_CUDA_WINDOW_ATTENTION_CUH
#define COMPUTE_CUDA_WINDOW_ATTENTION_CUH

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/supported_shapes.h"

enum {
    window_tokens_most = relative_table_window * relative_table_window * relative_table_window,
    table_side = 2 * relative_table_window - 1,
    table_centre = (relative_table_rows - 1) / 2, /* the row of query == key */
    table_slots = 2200,                           /* rows of the table in shared memory, to 16 bytes */
};

/* What the mask adds to scores between regions. */
static const float masked_score = -100;

/* The windows of an attention_shape. */
struct window_grid {
    int extent[3], window[3], shift[3];
    int end[3];   /* extents, padded */
    int along[3]; /* windows of an axis */
    int tokens;   /* of a window */
    int windows;  /* of all samples */
    int heads, head_dim;
    float scale; /* of scores, head_dim^-0.5 */
};

static inline window_grid window_grid_of(const struct attention_shape *s)
{
    window_grid g;
    const int extent[3] = {s->d, s->h, s->w};
    g.tokens = 1;
    g.windows = s->n;
    g.heads = s->heads;
    g.head_dim = s->head_dim;
    g.scale = (float)(1 / sqrt((double)s->head_dim));
    for (int axis = 0; axis < 3; axis++) {
        g.extent[axis] = extent[axis];
        g.window[axis] = s->window[axis];
        g.shift[axis] = s->shift[axis];
        g.along[axis] = (extent[axis] + s->window[axis] - 1) / s->window[axis];
        g.end[axis] = g.along[axis] * s->window[axis];
        g.tokens *= s->window[axis];
        g.windows *= g.along[axis];
    }
    return g;
}

/* How many blocks share the windows of each head, where `blocks` of them fill the GPU. */
static inline int window_groups(const window_grid *g, int blocks)
{
    const int groups = blocks / g->heads > 1 ? blocks / g->heads : 1;
    return groups < g->windows ? groups : g->windows;
}

/* One window. Which of its tokens are real is a question of each axis by itself. */
struct window_cut {
    int sample;
    int corner[3]; /* on the padded and rolled grid */
    int real[3];   /* places of each axis that are not padding */
    int mixed;     /* its tokens are of several regions */
};

/* Places before `inside`, of one axis of a window, that are not padding: those before the extent, and those
 * that the shift has rolled in from the axis' beginning. */
static __device__ __forceinline__ int real_before(const window_grid &g, const window_cut &cut, int axis,
                                                  int inside)
{
    const int first = cut.corner[axis] + g.shift[axis];
    const int until_extent = min(max(g.extent[axis] - first, 0), inside);
    return until_extent + max(inside - max(g.end[axis] - first, 0), 0);
}

static __device__ __forceinline__ window_cut cut_window(const window_grid &g, int index)
{
    window_cut cut;
    cut.mixed = 0;
    for (int axis = 2; axis >= 0; axis--) {
        cut.corner[axis] = index % g.along[axis] * g.window[axis];
        index /= g.along[axis];
        cut.mixed |= g.shift[axis] > 0 && cut.corner[axis] + g.window[axis] == g.end[axis];
    }
    cut.sample = index;
    for (int axis = 0; axis < 3; axis++) {
        cut.real[axis] = real_before(g, cut, axis, g.window[axis]);
    }
    return cut;
}

struct window_token {
    int row;    /* of qkv and out, -1: padding */
    int rank;   /* real tokens before it */
    int region; /* tokens of different regions see each other through the mask */
};

static __device__ __forceinline__ window_token token_of_window(const window_grid &g, const window_cut &cut,
                                                               int number)
{
    const int n = relative_table_window;
    window_token token = {cut.sample, 0, 0};
    int inside[3] = {number / n / n, number / n % n, number % n};
    if (g.window[1] != n || g.window[2] != n) { /* rarely: these are slow */
        inside[0] = number / g.window[2] / g.window[1];
        inside[1] = number / g.window[2] % g.window[1];
        inside[2] = number % g.window[2];
    }
    int padding = 0, alike = 1; /* real so far: tokens of the same places on the axes so far count */
    for (int axis = 0; axis < 3; axis++) {
        const int rolled = cut.corner[axis] + inside[axis];
        const int unrolled = rolled + g.shift[axis];
        const int place = unrolled < g.end[axis] ? unrolled : unrolled - g.end[axis];
        const int region = g.shift[axis] == 0 || rolled < g.end[axis] - g.window[axis] ? 0
                           : rolled < g.end[axis] - g.shift[axis]                      ? 1
                                                                                       : 2;
        token.region = token.region * 3 + region;
        token.row = token.row * g.extent[axis] + place;
        token.rank = token.rank * cut.real[axis] + (alike ? real_before(g, cut, axis, inside[axis]) : 0);
        alike = alike && place < g.extent[axis];
        padding = padding || place >= g.extent[axis];
    }
    token.row = padding ? -1 : token.row;
    return token;
}

/* Places of query and key: in the lower half such that query - key is where the bias table in shared memory
 * has their row, in bytes, as if the window were one of 7^3; in the upper half the region. So the upper half
 * of the difference is 0 within a region. */
static __device__ __forceinline__ uint32_t key_place(int number, int region)
{
    const int n = relative_table_window;
    const int row = (number / n / n * table_side + number / n % n) * table_side + number % n;
    return (uint32_t)region << 16 | (uint32_t)(row * (int)sizeof(float));
}

static __device__ __forceinline__ uint32_t query_place(int number, int region)
{
    return key_place(number, region) + table_centre * (uint32_t)sizeof(float);
}

/* The row of the table. */
static __device__ __forceinline__ int table_row(uint32_t query, uint32_t key)
{
    return (int)(((query - key) & 0xffff) / sizeof(float));
}

/* What is added to the product of query and key: table and mask, both in the table's units. */
template <bool mixed>
static __device__ __forceinline__ float bias_of(const float *table, uint32_t query, uint32_t key, float mask)
{
    const uint32_t difference = query - key;
    const char *from = (const char *)table;
    if (!mixed) {
        return *(const float *)(from + difference);
    }
    return *(const float *)(from + (difference & 0xffff)) + (difference > 0xffff ? mask : 0.0f);
}

/* One head's column of the bias table, times `factor`, by all threads of the block. */
static __device__ __forceinline__ void load_table(float *table, const float *bias_table, int head, int heads,
                                                  float factor)
{
    for (int r = (int)threadIdx.x; r < relative_table_rows; r += (int)blockDim.x) {
        table[r] = bias_table[(size_t)r * heads + head] * factor;
    }
}

/* 2^x, 0 for minus infinity. */
static __device__ __forceinline__ float power_of_two(float x)
{
#ifdef __CUDACC__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return exp2f(x);
#endif
}

static const float log2_of_e = 1.4426950408889634f;

/* What a block of backward leaves in scratch memory, at [(head * groups + group) * length]: its sums of the
 * table's gradient, then those of k and v of padding. */
static HOST_DEVICE __forceinline__ size_t attention_partial_length(int head_dim)
{
    return (size_t)relative_table_rows + 2 * (size_t)head_dim;
}

/* Adds up what the blocks left, in their order. */
static __global__ void add_attention_partials(float *dqkv_bias, float *dbias_table, const float *partials,
                                              int heads, int head_dim, int groups)
{
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x), head = (int)blockIdx.y;
    const size_t length = attention_partial_length(head_dim);
    if ((size_t)k >= length) {
        return;
    }
    float sum = 0;
    for (int group = 0; group < groups; group++) {
        sum += partials[((size_t)head * groups + group) * length + k];
    }
    if (k < relative_table_rows) {
        dbias_table[(size_t)k * heads + head] += sum;
    } else {
        const int part = 1 + (k - relative_table_rows) / head_dim, i = (k - relative_table_rows) % head_dim;
        dqkv_bias[((size_t)part * heads + head) * head_dim + i] += sum;
    }
}

/* `partials` are of leaf_input. */
static inline void launch_attention_sums(struct compute *c, float *dqkv_bias, float *dbias_table,
                                         const float *partials, const window_grid *g, int groups)
{
    const size_t length = attention_partial_length(g->head_dim);
    leaf_begin(c);
    launch(c, add_attention_partials, dim3((unsigned)divide_up(length, 128), (unsigned)g->heads), dim3(128),
           0, dqkv_bias, dbias_table, partials, g->heads, g->head_dim, groups);
    leaf_end(c, {range_of(dqkv_bias, (size_t)3 * g->heads * g->head_dim),
                 range_of(dbias_table, (size_t)relative_table_rows * g->heads),
                 range_of(partials, (size_t)g->heads * groups * length)});
}

/* window_attention_backward_wide.cu: bf16, heads of 32 or 64 channels, where a block may have the shared
 * memory. Returns 0, with nothing done, for all else. */
int wide_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias, float *dbias_table,
                                   const activation *dout, const activation *out, const float *logsumexp,
                                   const activation *qkv, const float *qkv_bias, const float *bias_table,
                                   const struct attention_shape *shape);

/* window_attention_plain.cu: any precision and head_dim; shape is known to be one that is supported. */
void plain_window_attention_forward(struct compute *c, activation *out, float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *shape);
void plain_window_attention_backward(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *shape);

#endif
