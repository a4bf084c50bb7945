#include "compute/cuda/folded_norm.cuh"
#include "compute/cuda/gradient_unit.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/normed_rows.cuh"
#include "compute/cuda/vector.cuh"

extern "C" {
#include "compute/reference/operations.h"
}

/* A layer norm and the linear layer to queries, keys and values behind it, at the widest stage, in bf16: the
 * passes over memory are those of x and of what the layer gives. */
enum {
    features = 3 * normed_channels,
    weights = features * normed_channels,
    wide_pitch = features + 8, /* in shared memory, as normed_pitch */
    block_threads = 256,
    block_warps = block_threads / warp_size,
    warp_rows = 16,
    forward_blocks = 3, /* of a multiprocessor */
    backward_blocks = 2,
    stages = 2,
    units = features / unit,
    writing_warps = normed_tile / 16, /* 16 rows each; the others normalise and sum */
    sums = weights + features,
};

static __device__ __forceinline__ void load_weights(bf16 *to, const bf16 *from)
{
    const int pieces = weights / 8, across = normed_channels / 8;
    for (int k = (int)threadIdx.x; k < pieces; k += block_threads) {
        copy_async(to + k / across * normed_pitch + k % across * 8, from + k * 8, 1);
    }
}

/* ---- forward: a warp takes 16 rows from x to out ---- */

struct forward_shared {
    bf16 weight[features * normed_pitch];
    bf16 kept[block_warps][warp_rows * wide_pitch]; /* so that 16 bytes are written at once */
    float bias[features];
};

static __device__ __forceinline__ void multiply_rows(bf16 *kept, const uint32_t xhat[normed_steps][4],
                                                     const struct forward_shared *s, int first, int lane)
{
    const int g = lane / 4, t = lane % 4;
    float sum[2][4];
    multiply_normed_rows(sum, xhat, s->weight, s->bias, first, lane);
#pragma unroll
    for (int j = 0; j < 2; j++) {
        bf16 *to = kept + g * wide_pitch + first + 8 * j + 2 * t;
        *reinterpret_cast<uint32_t *>(to) = pack_bf16(sum[j][0], sum[j][1]);
        *reinterpret_cast<uint32_t *>(to + 8 * wide_pitch) = pack_bf16(sum[j][2], sum[j][3]);
    }
}

static __global__ void __launch_bounds__(block_threads, forward_blocks)
    normalise_and_multiply(bf16 *out, const bf16 *x, const bf16 *weight, const float *bias, size_t rows)
{
    dynamic_shared(struct forward_shared, s);
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const size_t step = (size_t)gridDim.x * block_warps * warp_rows;
    bf16 *kept = s->kept[warp];
    load_weights(s->weight, weight);
    copy_async_commit();
    for (int k = (int)threadIdx.x; k < features; k += block_threads) {
        s->bias[k] = bias[k];
    }
    copy_async_wait<0>();
    __syncthreads();
    for (size_t first = ((size_t)blockIdx.x * block_warps + (size_t)warp) * warp_rows; first < rows;
         first += step) {
        uint32_t inp[normed_steps][4], xhat[normed_steps][4];
        load_normed_rows(inp, x, first + (size_t)(lane / 4), rows, lane % 4);
        normalise_rows_kept(xhat, inp);
#pragma unroll 3
        for (int feature = 0; feature < features; feature += 16) {
            multiply_rows(kept, xhat, s, feature, lane);
        }
        __syncwarp();
        const int pieces = features / 8;
#pragma unroll 3
        for (int k = lane; k < warp_rows * pieces; k += warp_size) {
            const int row = k / pieces, at = k % pieces * 8;
            if (first + (size_t)row < rows) {
                *reinterpret_cast<uint4 *>(out + (first + (size_t)row) * features + at) =
                    *reinterpret_cast<const uint4 *>(kept + row * wide_pitch + at);
            }
        }
        __syncwarp();
    }
}

/* ---- backward ---- */

struct backward_shared {
    bf16 weight[features * normed_pitch];
    bf16 dout[stages][normed_tile * wide_pitch];
    bf16 x[stages][normed_tile * normed_pitch]; /* becomes xhat */
    bf16 residual[stages][normed_tile * normed_pitch];
    float rstd[normed_tile];
};

static __device__ __forceinline__ void load_tile(struct backward_shared *s, int stage, const bf16 *x,
                                                 const bf16 *dout, const bf16 *residual, size_t first,
                                                 size_t rows)
{
    const int pieces = features / 8;
    load_normed_tile(s->x[stage], x, first, rows, (int)threadIdx.x, block_threads);
    load_normed_tile(s->residual[stage], residual, first, rows, (int)threadIdx.x, block_threads);
    for (int k = (int)threadIdx.x; k < normed_tile * pieces; k += block_threads) {
        const int row = k / pieces, at = k % pieces * 8;
        const int valid = first + (size_t)row < rows;
        copy_async(s->dout[stage] + row * wide_pitch + at,
                   dout + (valid ? (first + (size_t)row) * features + (size_t)at : 0), valid);
    }
}

/* Block k takes tiles k, k + gridDim.x, ...; its sums are the k-th. Half of the warps write dx, the others
 * normalise and sum. */
static __global__ void __launch_bounds__(block_threads, backward_blocks)
    multiply_back(bf16 *dx, float *partial, const bf16 *dout, const bf16 *x, const bf16 *residual,
                  const bf16 *weight, size_t rows, int tiles)
{
    dynamic_shared(struct backward_shared, s);
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int own_tiles = (tiles - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
    const size_t step = (size_t)gridDim.x * normed_tile;
    size_t first = (size_t)blockIdx.x * normed_tile;
    load_weights(s->weight, weight);
    load_tile(s, 0, x, dout, residual, first, rows);
    copy_async_commit();
    const auto next_tile = [&](int tile) {
        copy_async_wait<0>();
        __syncthreads(); /* the tile is there, and nobody reads the one before */
        if (tile + 1 < own_tiles) {
            load_tile(s, (tile + 1) % stages, x, dout, residual, first + step, rows);
        }
        copy_async_commit();
    };
    if (warp < writing_warps) {
        for (int tile = 0; tile < own_tiles; tile++, first += step) {
            const int stage = tile % stages;
            float g[normed_tiles][4] = {};
            next_tile(tile);
            multiply_to_channels<features>(g, s->dout[stage] + 16 * warp * wide_pitch, wide_pitch, s->weight,
                                           lane);
            __syncthreads(); /* x is normalised */
            write_input_gradient(dx, g, s->x[stage], s->residual[stage], s->rstd, 16 * warp, first, rows,
                                 lane);
        }
        return;
    }
    const int thread = (int)threadIdx.x - writing_warps * warp_size, own_unit = warp - writing_warps;
    float sum[unit_tiles][unit_columns + 1][4] = {}; /* a column more: of the bias */
    for (int tile = 0; tile < own_tiles; tile++, first += step) {
        const int stage = tile % stages;
        next_tile(tile);
        normalise_tile(s->x[stage], s->rstd, thread);
        __syncthreads();
        if (own_unit < units) {
#pragma unroll 1
            for (int k = 0; k < normed_tile; k += 16) {
                add_unit_rows(sum, s->dout[stage] + k * wide_pitch + own_unit * unit, wide_pitch,
                              s->x[stage] + k * normed_pitch, normed_pitch, 1, lane);
            }
        }
    }
    float *own_partial = partial + (size_t)blockIdx.x * sums;
    if (own_unit < units) {
        store_unit_rows(own_partial + own_unit * unit * normed_channels, normed_channels, sum, lane);
        store_unit_ones(own_partial + weights + own_unit * unit, sum, lane);
    }
}

/* ---- the operations ---- */

int cuda_normed_linear_fits(struct compute *c, int in_features, int out_features)
{
    return c->precision == PRECISION_BF16 && in_features == normed_channels && out_features == features &&
           sizeof(struct backward_shared) <= cuda_state(c)->shared_per_block;
}

/* The folded layer, in scratch memory; 0 where there is none. */
static int fold_layer(struct compute *c, bf16 **weight, float **bias, const struct normed_linear *layer)
{
    unsigned char *memory = (unsigned char *)cuda_scratch(c, folded_bytes(layer));
    if (memory == NULL) {
        return 0;
    }
    *weight = (bf16 *)memory;
    *bias = (float *)(memory + folded_weight_bytes(layer));
    fold_norm(c, *weight, *bias, layer);
    return 1;
}

void cuda_normed_linear_forward(struct compute *c, activation *out, const activation *x,
                                const struct normed_linear *layer, size_t rows)
{
    const size_t most = (size_t)cuda_state(c)->multiprocessors * forward_blocks;
    const size_t wanted = divide_up(rows, block_warps * warp_rows);
    bf16 *weight = NULL;
    float *bias = NULL;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (!cuda_normed_linear_fits(c, layer->in_features, layer->out_features) || !all_aligned(out, x)) {
        reference_normed_linear_forward(c, out, x, layer, rows);
    } else if (fold_layer(c, &weight, &bias, layer)) {
        launch(c, normalise_and_multiply, dim3((unsigned)(wanted < most ? wanted : most)),
               dim3(block_threads), sizeof(struct forward_shared), (bf16 *)out, (const bf16 *)x,
               (const bf16 *)weight, (const float *)bias, rows);
    }
}

/* What blocks have summed lies behind room for the total. */
static void add_sums_as_leaf(struct compute *c, const struct normed_linear_gradients *gradients, float *total,
                             size_t blocks, const struct normed_linear *layer)
{
    leaf_begin(c);
    add_folded_gradients(c, gradients, total, total + sums, blocks, sums, layer);
    leaf_end(c, {range_of(total, (1 + blocks) * sums), range_of(gradients->norm_weight, normed_channels),
                 range_of(gradients->norm_bias, normed_channels), range_of(gradients->weight, weights),
                 range_of(gradients->bias, features)});
}

void cuda_normed_linear_backward(struct compute *c, activation *dx,
                                 const struct normed_linear_gradients *gradients, const activation *dout,
                                 const activation *x, const activation *residual,
                                 const struct normed_linear *layer, size_t rows)
{
    const size_t tiles = divide_up(rows, normed_tile);
    const size_t most = (size_t)cuda_state(c)->multiprocessors * backward_blocks;
    const size_t blocks = tiles < most ? tiles : most;
    bf16 *weight = NULL;
    float *bias = NULL;
    if (c->status != VOCO_OK || rows == 0) {
        return;
    }
    if (!cuda_normed_linear_fits(c, layer->in_features, layer->out_features) ||
        !all_aligned(dx, dout, x, residual)) {
        reference_normed_linear_backward(c, dx, gradients, dout, x, residual, layer, rows);
        return;
    }
    const struct written_ranges written(c, {range_of(c, dx, rows * normed_channels)});
    float *total = (float *)leaf_input(c, (1 + blocks) * sums * sizeof *total);
    if (total != NULL && fold_layer(c, &weight, &bias, layer)) {
        launch(c, multiply_back, dim3((unsigned)blocks), dim3(block_threads), sizeof(struct backward_shared),
               (bf16 *)dx, total + sums, (const bf16 *)dout, (const bf16 *)x, (const bf16 *)residual,
               (const bf16 *)weight, rows, (int)tiles);
        add_sums_as_leaf(c, gradients, total, blocks, layer);
    }
}
