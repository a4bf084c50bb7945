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
    stages = 4, /* of x and dout: summed, multiplied, normalised, loaded */
    chunk = 16, /* hidden features at once */
    warp_rows = 32,
    warp_hidden = mlp_hidden / 4, /* hidden features of a warp */
    tail_threads = half_threads / 2,
    tail_warps = tail_threads / warp_size,
    hidden_pairs = mlp_hidden / 2,
};

/* Arrays of rows, at normed_pitch and mlp_wide_pitch. */
struct backward_shared {
    bf16 weight1[mlp_hidden * normed_pitch];
    bf16 weight2[normed_channels * mlp_wide_pitch];
    bf16 activated[2][normed_tile * mlp_wide_pitch];
    bf16 dhidden[2][normed_tile * mlp_wide_pitch];
    bf16 x[stages][normed_tile * normed_pitch]; /* becomes xhat */
    bf16 dout[stages][normed_tile * normed_pitch];
    float rstd[stages][normed_tile];
    float bias1[mlp_hidden];
};

/* ---- the first half: the hidden layer ---- */

/* 32 rows as the left factor. */
static __device__ __forceinline__ void load_left(uint32_t a[2][normed_steps][4], const bf16 *rows, int lane)
{
    const bf16 *from = rows + lane % 16 * normed_pitch + lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int k = 0; k < normed_steps; k++) {
            load_matrices(a[i][k], from + 16 * i * normed_pitch + 16 * k);
        }
    }
}

/* A chunk of the hidden features from `first` on, of 32 rows from `row` on. */
static __device__ __forceinline__ void compute_chunk(struct backward_shared *s, int buffer,
                                                     const uint32_t xhat[2][normed_steps][4],
                                                     const uint32_t dout[2][normed_steps][4], int row,
                                                     int first, int lane)
{
    const int g = lane / 4, t = lane % 4;
    const bf16 *b1 = s->weight1 + (first + lane / 16 * 8 + lane % 8) * normed_pitch + lane / 8 % 2 * 8;
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
    for (int k = 0; k < normed_steps; k++) {
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
                    const gelu_pair gelu = gelu_and_derivative<bf16>(wide[i][j][2 * half + k]);
                    value[k] = gelu.value;
                    slope[k] = gelu.derivative;
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
    uint32_t xhat[2][normed_steps][4], dout[2][normed_steps][4];
    load_left(xhat, s->x[stage] + row * normed_pitch, lane);
    load_left(dout, s->dout[stage] + row * normed_pitch, lane);
#pragma unroll 1
    for (int k = 0; k < warp_hidden; k += chunk) {
        compute_chunk(s, tile % 2, xhat, dout, row, first + k, lane);
    }
}

/* ---- the other half ---- */

static __device__ __forceinline__ void load_tile(struct backward_shared *s, int stage, const bf16 *x,
                                                 const bf16 *dout, size_t first, size_t rows, int thread)
{
    load_normed_tile(s->x[stage], x, first, rows, thread, half_threads);
    load_normed_tile(s->dout[stage], dout, first, rows, thread, half_threads);
}

/* For biases: a thread sums a pair of dhidden's or dout's columns. */
static __device__ __forceinline__ void sum_pair(float sum[2], const struct backward_shared *s, int buffer,
                                                int stage, int thread)
{
    if (thread < hidden_pairs) {
        add_column_pair(sum, s->dhidden[buffer] + 2 * thread, mlp_wide_pitch);
    } else if (thread < hidden_pairs + normed_pairs) {
        add_column_pair(sum, s->dout[stage] + 2 * (thread - hidden_pairs), normed_pitch);
    }
}

static __device__ __forceinline__ void write_rows(bf16 *dx, const struct backward_shared *s, int buffer,
                                                  int stage, int row, size_t first, size_t rows, int lane)
{
    float g[normed_tiles][4] = {};
    multiply_to_channels<mlp_hidden>(g, s->dhidden[buffer] + row * mlp_wide_pitch, mlp_wide_pitch, s->weight1,
                                     lane);
    write_input_gradient(dx, g, s->x[stage], s->dout[stage], s->rstd[stage], row, first, rows, lane);
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
    const int left_pitch = warp < 4 ? (int)normed_pitch : (int)mlp_wide_pitch,
              right_pitch = warp < 4 ? (int)mlp_wide_pitch : (int)normed_pitch;
#pragma unroll 1
    for (int row = 0; row < normed_tile; row += 16) {
        add_unit_rows(sum, left + row * left_pitch, left_pitch, right + row * right_pitch, right_pitch, 0,
                      lane);
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
    const size_t first_row = (size_t)blockIdx.x * normed_tile, row_step = (size_t)gridDim.x * normed_tile;
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
        normalise_tile(s->x[0], s->rstd[0], thread - tail_threads);
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
            normalise_tile(s->x[(tile + 1) % stages], s->rstd[(tile + 1) % stages], thread - tail_threads);
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
    if (warp < 4) {
        store_unit_rows(own_partial + mlp_sum_weight2 + warp * unit, mlp_hidden, sum, lane);
    } else {
        store_unit_rows(own_partial + mlp_sum_weight1 + (warp - 4) * unit * normed_channels, normed_channels,
                        sum, lane);
    }
    const int pair = thread - tail_threads;
    float *to = own_partial +
                (pair < hidden_pairs ? mlp_sum_bias1 + 2 * pair : mlp_sum_bias2 + 2 * (pair - hidden_pairs));
    if (in_tail && pair < hidden_pairs + normed_pairs) {
        to[0] = bias_sum[0];
        to[1] = bias_sum[1];
    }
}

size_t mlp_backward_shared(void)
{
    return sizeof(struct backward_shared);
}

size_t mlp_backward_blocks(const struct compute *c, size_t rows)
{
    const size_t tiles = divide_up(rows, normed_tile), most = (size_t)cuda_state(c)->multiprocessors;
    return tiles < most ? tiles : most;
}

void mlp_rows_backward(struct compute *c, bf16 *dx, float *partial, const bf16 *dout, const bf16 *x,
                       const struct mlp_factors *factors, size_t rows)
{
    launch(c, pass_rows_back, dim3((unsigned)mlp_backward_blocks(c, rows)), dim3(block_threads),
           sizeof(struct backward_shared), dx, partial, dout, x, *factors, rows,
           (int)divide_up(rows, normed_tile));
}
