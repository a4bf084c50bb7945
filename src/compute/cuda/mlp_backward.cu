#include "compute/cuda/gelu.cuh"
#include "compute/cuda/gradient_unit.cuh"
#include "compute/cuda/mlp.cuh"

/* A block streams tiles of rows past the weights. Half of its warps compute the hidden layer's values and
 * gradients of one tile; the other half takes what they left of the tile before: the gradient of x, a sixth
 * of the weights' gradients a warp, which stay in registers to the end, the biases'. It also loads tiles
 * ahead and normalises them. All meet once a tile. */
enum {
    block_threads = 512,
    half_threads = block_threads / 2,
    tile_rows = 64,
    stages = 4, /* of x and dout: summed, multiplied, normalised, loaded */
    steps = mlp_channels / 16,
    channel_tiles = mlp_channels / 8,
    chunk = 16, /* hidden features at once */
    warp_rows = 32,
    warp_hidden = mlp_hidden / 4, /* hidden features of a warp */
    tail_threads = half_threads / 2,
    tail_warps = tail_threads / warp_size,
    hidden_pairs = mlp_hidden / 2,
    channel_pairs = mlp_channels / 2,
};

/* Arrays of rows, at mlp_narrow_pitch and mlp_wide_pitch. */
struct backward_shared {
    bf16 weight1[mlp_hidden * mlp_narrow_pitch];
    bf16 weight2[mlp_channels * mlp_wide_pitch];
    bf16 activated[2][tile_rows * mlp_wide_pitch];
    bf16 dhidden[2][tile_rows * mlp_wide_pitch];
    bf16 x[stages][tile_rows * mlp_narrow_pitch]; /* becomes xhat */
    bf16 dout[stages][tile_rows * mlp_narrow_pitch];
    float rstd[stages][tile_rows];
    float bias1[mlp_hidden];
};

/* ---- the first half: the hidden layer ---- */

/* 32 rows as the left factor. */
static __device__ __forceinline__ void load_left(uint32_t a[2][steps][4], const bf16 *rows, int lane)
{
    const bf16 *from = rows + lane % 16 * mlp_narrow_pitch + lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int k = 0; k < steps; k++) {
            load_matrices(a[i][k], from + 16 * i * mlp_narrow_pitch + 16 * k);
        }
    }
}

/* A chunk of the hidden features from `first` on, of 32 rows from `row` on. */
static __device__ __forceinline__ void compute_chunk(struct backward_shared *s, int buffer,
                                                     const uint32_t xhat[2][steps][4],
                                                     const uint32_t dout[2][steps][4], int row, int first,
                                                     int lane)
{
    const int g = lane / 4, t = lane % 4;
    const bf16 *b1 = s->weight1 + (first + lane / 16 * 8 + lane % 8) * mlp_narrow_pitch + lane / 8 % 2 * 8;
    const bf16 *b2 = s->weight2 + (lane / 8 % 2 * 8 + lane % 8) * mlp_wide_pitch + first + lane / 16 * 8;
    float wide[2][2][4], gradient[2][2][4] = {};
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const float2 bias = *reinterpret_cast<const float2 *>(s->bias1 + first + 8 * j + 2 * t);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            wide[i][j][0] = wide[i][j][2] = bias.x;
            wide[i][j][1] = wide[i][j][3] = bias.y;
        }
    }
#pragma unroll
    for (int k = 0; k < steps; k++) {
        uint32_t b[4], back[4];
        load_matrices(b, b1 + 16 * k);
        load_matrices_transposed(back, b2 + 16 * k * mlp_wide_pitch);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            multiply_add_bf16(wide[i][0], xhat[i][k], b);
            multiply_add_bf16(wide[i][1], xhat[i][k], b + 2);
            multiply_add_bf16(gradient[i][0], dout[i][k], back);
            multiply_add_bf16(gradient[i][1], dout[i][k], back + 2);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float value[2], slope[2];
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    const float v = wide[i][j][2 * half + k];
                    const normal_distribution normal = normal_of(v, bf16());
                    value[k] = v * normal.below;
                    slope[k] = normal.below + v * normal.density;
                }
                const int at = (row + 16 * i + 8 * half + g) * mlp_wide_pitch + first + 8 * j + 2 * t;
                *reinterpret_cast<uint32_t *>(s->activated[buffer] + at) = pack_bf16(value[0], value[1]);
                *reinterpret_cast<uint32_t *>(s->dhidden[buffer] + at) =
                    pack_bf16(gradient[i][j][2 * half] * slope[0], gradient[i][j][2 * half + 1] * slope[1]);
            }
        }
    }
}

static __device__ __forceinline__ void compute_hidden(struct backward_shared *s, int tile, int warp, int lane)
{
    const int stage = tile % stages, row = warp % 2 * warp_rows, first = warp / 2 * warp_hidden;
    uint32_t xhat[2][steps][4], dout[2][steps][4];
    load_left(xhat, s->x[stage] + row * mlp_narrow_pitch, lane);
    load_left(dout, s->dout[stage] + row * mlp_narrow_pitch, lane);
#pragma unroll 1
    for (int k = 0; k < warp_hidden; k += chunk) {
        compute_chunk(s, tile % 2, xhat, dout, row, first + k, lane);
    }
}

/* ---- the other half ---- */

static __device__ __forceinline__ void load_tile(struct backward_shared *s, int stage, const bf16 *x,
                                                 const bf16 *dout, size_t first, size_t rows, int thread)
{
    const int pieces = mlp_channels / 8;
    for (int k = thread; k < tile_rows * pieces; k += half_threads) {
        const int row = k / pieces, at = k % pieces * 8;
        const int valid = first + (size_t)row < rows;
        const size_t from = valid ? (first + (size_t)row) * mlp_channels + (size_t)at : 0;
        copy_async(s->x[stage] + row * mlp_narrow_pitch + at, x + from, valid);
        copy_async(s->dout[stage] + row * mlp_narrow_pitch + at, dout + from, valid);
    }
}

/* Two threads a row, pairs of channels in turn. */
static __device__ __forceinline__ void normalise_tile(struct backward_shared *s, int stage, int thread)
{
    const int row = thread / 2, part = thread % 2;
    uint32_t *x = reinterpret_cast<uint32_t *>(s->x[stage] + row * mlp_narrow_pitch) + part;
    float sum = 0, square = 0;
    uint32_t pairs[channel_pairs / 2];
#pragma unroll
    for (int k = 0; k < channel_pairs / 2; k++) {
        pairs[k] = x[2 * k];
        sum += low_of(pairs[k]) + high_of(pairs[k]);
    }
    const float mean = (sum + __shfl_xor_sync(whole_warp, sum, 1)) / mlp_channels;
#pragma unroll
    for (int k = 0; k < channel_pairs / 2; k++) {
        const float low = low_of(pairs[k]) - mean, high = high_of(pairs[k]) - mean;
        square += low * low;
        square += high * high;
    }
    const float variance = (square + __shfl_xor_sync(whole_warp, square, 1)) / mlp_channels;
    const float rstd = 1 / sqrtf(variance + (float)normalisation_epsilon);
#pragma unroll
    for (int k = 0; k < channel_pairs / 2; k++) {
        x[2 * k] = pack_bf16((low_of(pairs[k]) - mean) * rstd, (high_of(pairs[k]) - mean) * rstd);
    }
    if (part == 0) {
        s->rstd[stage][row] = rstd;
    }
}

/* The sums over the tile's rows of a pair of dhidden's or dout's columns, for biases. */
static __device__ __forceinline__ void sum_pair(float sum[2], const struct backward_shared *s, int buffer,
                                                int stage, int thread)
{
    const int wide = thread < hidden_pairs;
    const int pitch = wide ? mlp_wide_pitch : mlp_narrow_pitch;
    const bf16 *column =
        wide ? s->dhidden[buffer] + 2 * thread : s->dout[stage] + 2 * (thread - hidden_pairs);
    if (thread < hidden_pairs + channel_pairs) {
#pragma unroll 8
        for (int row = 0; row < tile_rows; row++) {
            const uint32_t pair = *reinterpret_cast<const uint32_t *>(column + row * pitch);
            sum[0] += low_of(pair);
            sum[1] += high_of(pair);
        }
    }
}

/* g = dhidden weight1, of 16 rows, and from it dx = rstd (g - mean(g) - xhat mean(g xhat)) + dout. */
static __device__ __forceinline__ void write_rows(bf16 *dx, const struct backward_shared *s, int buffer,
                                                  int stage, int row, size_t first, size_t rows, int lane)
{
    const int g = lane / 4, t = lane % 4;
    const bf16 *a_from = s->dhidden[buffer] + (row + lane % 16) * mlp_wide_pitch + lane / 16 * 8;
    const bf16 *b_from = s->weight1 + (lane / 8 % 2 * 8 + lane % 8) * mlp_narrow_pitch + lane / 16 * 8;
    float sum[channel_tiles][4] = {};
#pragma unroll 2
    for (int k = 0; k < mlp_hidden; k += 16) {
        uint32_t a[4];
        load_matrices(a, a_from + k);
#pragma unroll
        for (int j = 0; j < channel_tiles; j += 2) {
            uint32_t b[4];
            load_matrices_transposed(b, b_from + k * mlp_narrow_pitch + 8 * j);
            multiply_add_bf16(sum[j], a, b);
            multiply_add_bf16(sum[j + 1], a, b + 2);
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int own = row + 8 * half + g, at = own * mlp_narrow_pitch + 2 * t;
        float total = 0, product = 0;
#pragma unroll
        for (int j = 0; j < channel_tiles; j++) {
            const uint32_t xhat = *reinterpret_cast<const uint32_t *>(s->x[stage] + at + 8 * j);
            total += sum[j][2 * half] + sum[j][2 * half + 1];
            product += sum[j][2 * half] * low_of(xhat) + sum[j][2 * half + 1] * high_of(xhat);
        }
        total += __shfl_xor_sync(whole_warp, total, 1);
        product += __shfl_xor_sync(whole_warp, product, 1);
        const float mean = (total + __shfl_xor_sync(whole_warp, total, 2)) / mlp_channels;
        const float product_mean = (product + __shfl_xor_sync(whole_warp, product, 2)) / mlp_channels;
        const float rstd = s->rstd[stage][own];
        if (first + (size_t)own >= rows) {
            continue;
        }
#pragma unroll
        for (int j = 0; j < channel_tiles; j++) {
            const uint32_t xhat = *reinterpret_cast<const uint32_t *>(s->x[stage] + at + 8 * j);
            const uint32_t beside = *reinterpret_cast<const uint32_t *>(s->dout[stage] + at + 8 * j);
            const float low = rstd * (sum[j][2 * half] - mean - low_of(xhat) * product_mean),
                        high = rstd * (sum[j][2 * half + 1] - mean - high_of(xhat) * product_mean);
            *reinterpret_cast<uint32_t *>(dx + (first + (size_t)own) * mlp_channels + 8 * j + 2 * t) =
                pack_bf16(low + low_of(beside), high + high_of(beside));
        }
    }
}

/* Of the weights' gradients, warps 0 to 3: weight2 (channels, 48 of hidden); 4 to 7: S (48 of hidden,
 * channels). */
static __device__ __forceinline__ void add_tile(float (&sum)[unit_tiles][unit_columns][4],
                                                const struct backward_shared *s, int buffer, int stage,
                                                int warp, int lane)
{
    const int first = warp % 4 * unit;
    const bf16 *hidden = (warp < 4 ? s->activated[buffer] : s->dhidden[buffer]) + first;
    const bf16 *left = warp < 4 ? s->dout[stage] : hidden, *right = warp < 4 ? hidden : s->x[stage];
    const int left_pitch = warp < 4 ? mlp_narrow_pitch : mlp_wide_pitch,
              right_pitch = warp < 4 ? mlp_wide_pitch : mlp_narrow_pitch;
#pragma unroll 1
    for (int row = 0; row < tile_rows; row += 16) {
        add_unit_rows(sum, left + row * left_pitch, left_pitch, right + row * right_pitch, right_pitch, 0,
                      lane);
    }
}

static __device__ __forceinline__ void
store_sums(float *partial, const float (&sum)[unit_tiles][unit_columns][4], int warp, int lane)
{
    const int g = lane / 4, t = lane % 4, first = warp % 4 * unit;
    const int pitch = warp < 4 ? mlp_hidden : mlp_channels;
    float *to = warp < 4 ? partial + mlp_sum_weight2 + first : partial + mlp_sum_weight1 + first * pitch;
#pragma unroll
    for (int i = 0; i < unit_tiles; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int j = 0; j < unit_columns; j++) {
                float2 v;
                v.x = sum[i][j][2 * half];
                v.y = sum[i][j][2 * half + 1];
                *reinterpret_cast<float2 *>(to + (16 * i + 8 * half + g) * pitch + 8 * j + 2 * t) = v;
            }
        }
    }
}

/* Block k takes tiles k, k + gridDim.x, ...; `tiles` of all. */
static __global__ void __launch_bounds__(block_threads, 1)
    pass_rows_back(bf16 *dx, float *partial, const bf16 *dout, const bf16 *x, struct mlp_factors factors,
                   size_t rows, int tiles)
{
    dynamic_shared(struct backward_shared, s);
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x % half_threads / warp_size;
    const int first_half = threadIdx.x < half_threads, thread = (int)threadIdx.x - half_threads;
    const int own_tiles = (tiles - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
    const size_t first_row = (size_t)blockIdx.x * tile_rows, row_step = (size_t)gridDim.x * tile_rows;
    const int in_tail = !first_half && warp >= tail_warps;
    load_mlp_weights(s->weight1, s->weight2, factors);
    for (int k = (int)threadIdx.x; k < mlp_hidden; k += block_threads) {
        s->bias1[k] = factors.bias1[k];
    }
    if (!first_half) {
        for (int tile = 0; tile < 2 && tile < own_tiles; tile++) {
            load_tile(s, tile, x, dout, first_row + (size_t)tile * row_step, rows, thread);
        }
    }
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    if (in_tail) {
        normalise_tile(s, 0, thread - tail_threads);
    }
    __syncthreads();
    if (first_half) {
        for (int tile = 0; tile <= own_tiles; tile++) {
            if (tile < own_tiles) {
                compute_hidden(s, tile, warp, lane);
            }
            __syncthreads();
        }
        return;
    }
    float sum[unit_tiles][unit_columns][4] = {};
    float bias_sum[2] = {};
    for (int tile = 0; tile <= own_tiles; tile++) {
        const int before = tile - 1, stage = before % stages, buffer = before % 2;
        if (tile + 2 < own_tiles) {
            load_tile(s, (tile + 2) % stages, x, dout, first_row + (size_t)(tile + 2) * row_step, rows,
                      thread);
        }
        copy_async_commit();
        if (in_tail && tile + 1 < own_tiles) {
            normalise_tile(s, (tile + 1) % stages, thread - tail_threads);
        }
        if (tile > 0) {
            if (in_tail) {
                sum_pair(bias_sum, s, buffer, stage, thread - tail_threads);
            } else {
                write_rows(dx, s, buffer, stage, 16 * warp, first_row + (size_t)before * row_step, rows,
                           lane);
            }
            add_tile(sum, s, buffer, stage, warp, lane);
        }
        copy_async_wait<0>();
        __syncthreads();
    }
    float *own_partial = partial + (size_t)blockIdx.x * mlp_sums;
    store_sums(own_partial, sum, warp, lane);
    const int pair = thread - tail_threads;
    if (in_tail && pair < hidden_pairs + channel_pairs) { /* the biases' sums follow one another */
        own_partial[mlp_sum_bias1 + 2 * pair] = bias_sum[0];
        own_partial[mlp_sum_bias1 + 2 * pair + 1] = bias_sum[1];
    }
}

size_t mlp_backward_blocks(const struct compute *c, size_t rows)
{
    const size_t tiles = divide_up(rows, tile_rows), most = (size_t)cuda_state(c)->multiprocessors;
    return tiles < most ? tiles : most;
}

void mlp_rows_backward(struct compute *c, bf16 *dx, float *partial, const bf16 *dout, const bf16 *x,
                       const struct mlp_factors *factors, size_t rows)
{
    launch(c, pass_rows_back, dim3((unsigned)mlp_backward_blocks(c, rows)), dim3(block_threads),
           sizeof(struct backward_shared), dx, partial, dout, x, *factors, rows,
           (int)divide_up(rows, tile_rows));
}
