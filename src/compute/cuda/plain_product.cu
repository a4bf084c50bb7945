#include "compute/cuda/kernel.cuh"
#include "compute/cuda/products.cuh"
#include "compute/cuda/row_sums.cuh"

/* A block computes 64 x 64 of d, 16 of the depth at a time; a thread 4 x 4, 16 apart. */
enum { side = 64, depth_step = 16, edge = 16, per_thread = side / edge };

struct product_strides {
    size_t a_row, a_depth; /* between neighbours of a */
    size_t b_depth, b_column;
};

/* Block (x, y, z): rows x, columns y, part z of the depth, written `pitch` elements behind part z - 1. */
template <typename In, typename Out>
static __global__ void __launch_bounds__(edge *edge)
    multiply_plainly(Out *d, const In *a, const In *b, const float *bias, size_t rows, size_t columns,
                     size_t depth, struct product_strides strides, size_t depth_per_part, size_t pitch,
                     int accumulates)
{
    __shared__ float a_tile[depth_step][side + 1];
    __shared__ float b_tile[depth_step][side + 1];
    const int tx = (int)threadIdx.x, ty = (int)threadIdx.y;
    const size_t first_row = (size_t)blockIdx.x * side, first_column = (size_t)blockIdx.y * side;
    const size_t begin = (size_t)blockIdx.z * depth_per_part;
    const size_t end = begin + depth_per_part < depth ? begin + depth_per_part : depth;
    float sum[per_thread][per_thread] = {};
    for (size_t k0 = begin; k0 < end; k0 += depth_step) {
        for (int index = ty * edge + tx; index < side * depth_step; index += edge * edge) {
            /* Neighbouring threads read neighbours in memory, whichever way the arrays lie. */
            const int a_k = strides.a_depth == 1 ? index % depth_step : index / side;
            const int a_r = strides.a_depth == 1 ? index / depth_step : index % side;
            const int b_k = strides.b_depth == 1 ? index % depth_step : index / side;
            const int b_c = strides.b_depth == 1 ? index / depth_step : index % side;
            const size_t row = first_row + (size_t)a_r, column = first_column + (size_t)b_c;
            const size_t ka = k0 + (size_t)a_k, kb = k0 + (size_t)b_k;
            a_tile[a_k][a_r] =
                row < rows && ka < end ? to_float(a[row * strides.a_row + ka * strides.a_depth]) : 0;
            b_tile[b_k][b_c] = column < columns && kb < end
                                   ? to_float(b[kb * strides.b_depth + column * strides.b_column])
                                   : 0;
        }
        __syncthreads();
        for (int k = 0; k < depth_step; k++) {
            for (int i = 0; i < per_thread; i++) {
                for (int j = 0; j < per_thread; j++) {
                    sum[i][j] += a_tile[k][ty + i * edge] * b_tile[k][tx + j * edge];
                }
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < per_thread; i++) {
        for (int j = 0; j < per_thread; j++) {
            const size_t row = first_row + (size_t)(ty + i * edge),
                         column = first_column + (size_t)(tx + j * edge);
            if (row < rows && column < columns) {
                Out *to = d + (size_t)blockIdx.z * pitch + row * columns + column;
                const float added = bias != NULL ? bias[column] : 0;
                *to = from_float<Out>(sum[i][j] + added + (accumulates ? to_float(*to) : 0));
            }
        }
    }
}

/* Parts of the depth of what accumulates: enough for a GPU's multiprocessors where rows and columns are few.
 */
static size_t parts_of(struct compute *c, const struct matrix_product *p)
{
    const size_t blocks = divide_up(p->rows, side) * divide_up(p->columns, side);
    const size_t wanted = divide_up((size_t)cuda_state(c)->multiprocessors * 4, blocks);
    const size_t most = divide_up(p->depth, 16 * depth_step);
    return wanted < most ? wanted : most;
}

template <typename In, typename Out>
static void run(struct compute *c, const struct matrix_product *p, void *d, const void *a, const void *b,
                const float *bias)
{
    const struct product_strides strides = {p->a_transposed ? 1 : p->depth, p->a_transposed ? p->rows : 1,
                                            p->b_transposed ? 1 : p->columns, p->b_transposed ? p->depth : 1};
    const dim3 threads(edge, edge);
    dim3 grid((unsigned)divide_up(p->rows, side), (unsigned)divide_up(p->columns, side));
    const size_t parts = p->accumulates && !p->bf16_output ? parts_of(c, p) : 1;
    const size_t count = p->rows * p->columns;
    if (parts <= 1) {
        launch(c, multiply_plainly<In, Out>, grid, threads, 0, (Out *)d, (const In *)a, (const In *)b, bias,
               p->rows, p->columns, p->depth, strides, p->depth, (size_t)0, p->accumulates);
        return;
    }
    const size_t depth_per_part = divide_up(divide_up(p->depth, parts), depth_step) * depth_step;
    grid.z = (unsigned)divide_up(p->depth, depth_per_part);
    float *partial = (float *)cuda_scratch(c, grid.z * count * sizeof(float));
    launch(c, multiply_plainly<In, float>, grid, threads, 0, partial, (const In *)a, (const In *)b, bias,
           p->rows, p->columns, p->depth, strides, depth_per_part, count, 0);
    cuda_add_parts(c, (float *)d, count, NULL, 0, partial, grid.z, count);
}

void plain_product(struct compute *c, const struct matrix_product *p, void *d, const void *a, const void *b,
                   const float *bias)
{
    if (c->status != VOCO_OK) {
        return;
    }
    if (p->bf16_inputs && p->bf16_output) {
        run<bf16, bf16>(c, p, d, a, b, bias);
    } else if (p->bf16_inputs) {
        run<bf16, float>(c, p, d, a, b, bias);
    } else {
        run<float, float>(c, p, d, a, b, bias);
    }
}

template <typename T>
static __global__ void add_to_rows(T *x, const float *bias, const T *residual, size_t count,
                                   unsigned features)
{
    const size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (k < count) {
        const T sum = from_float<T>(to_float(x[k]) + bias[k % features]);
        x[k] = residual != NULL ? from_float<T>(to_float(sum) + to_float(residual[k])) : sum;
    }
}

static __device__ __forceinline__ uint32_t add_to_pair(uint32_t pair, const float *bias, uint32_t residual)
{
    const uint32_t sum = pack_bf16(low_of(pair) + bias[0], high_of(pair) + bias[1]);
    return pack_bf16(low_of(sum) + low_of(residual), high_of(sum) + high_of(residual));
}

enum { bias_threads = 256, bias_rows = 8 };

/* A thread adds the same 8 neighbours to a few rows. Block (x, y): rows x, pieces from y `across`. */
static __global__ void __launch_bounds__(bias_threads)
    add_to_rows_of_pieces(uint4 *x, const float *bias, const uint4 *residual, size_t rows, int pieces,
                          int across)
{
    const int lanes = bias_threads / across;
    const int lane = (int)threadIdx.x / across;
    const int piece = (int)blockIdx.y * across + (int)threadIdx.x % across;
    const size_t first = (size_t)blockIdx.x * (size_t)(lanes * bias_rows);
    float added[8];
    if (lane >= lanes || piece >= pieces) {
        return;
    }
    for (int k = 0; k < 8; k++) {
        added[k] = bias[piece * 8 + k];
    }
#pragma unroll 4
    for (int k = 0; k < bias_rows; k++) {
        const size_t row = first + (size_t)(k * lanes + lane);
        if (row < rows) {
            const size_t at = row * (size_t)pieces + piece;
            const uint4 beside = residual != NULL ? residual[at] : uint4();
            uint4 v = x[at];
            v.x = add_to_pair(v.x, added, beside.x);
            v.y = add_to_pair(v.y, added + 2, beside.y);
            v.z = add_to_pair(v.z, added + 4, beside.z);
            v.w = add_to_pair(v.w, added + 6, beside.w);
            x[at] = v;
        }
    }
}

void add_bias(struct compute *c, activation *x, const float *bias, const activation *residual, size_t rows,
              int features)
{
    const size_t count = rows * (size_t)features;
    const dim3 grid((unsigned)divide_up(count, bias_threads));
    if (c->precision == PRECISION_BF16 && features % 8 == 0 &&
        ((uintptr_t)x | (uintptr_t)residual) % 16 == 0) {
        const size_t pieces = (size_t)features / 8;
        const size_t column_blocks = divide_up(pieces, bias_threads);
        const size_t across = divide_up(pieces, column_blocks);
        const size_t lanes = bias_threads / across;
        launch(c, add_to_rows_of_pieces,
               dim3((unsigned)divide_up(rows, lanes * bias_rows), (unsigned)column_blocks),
               dim3(bias_threads), 0, (uint4 *)x, bias, (const uint4 *)residual, rows, (int)pieces,
               (int)across);
    } else if (c->precision == PRECISION_BF16) {
        launch(c, add_to_rows<bf16>, grid, dim3(bias_threads), 0, (bf16 *)x, bias, (const bf16 *)residual,
               count, (unsigned)features);
    } else {
        launch(c, add_to_rows<float>, grid, dim3(bias_threads), 0, (float *)x, bias, (const float *)residual,
               count, (unsigned)features);
    }
}
