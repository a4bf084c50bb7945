#include "compute/cuda/gelu.cuh"
#include "compute/cuda/mlp.cuh"

/* A warp takes 16 rows from x to out with everything between in registers: what one product leaves is what
 * the next one takes. Only the weights lie in shared memory. */
enum {
    block_threads = 256,
    block_warps = block_threads / warp_size,
    blocks_at_once = 3, /* of a multiprocessor */
    rows_of_warp = 16,
};

struct forward_shared {
    bf16 weight1[mlp_hidden * normed_pitch];
    bf16 weight2[normed_channels * mlp_wide_pitch];
    float bias1[mlp_hidden], bias2[normed_channels];
};

/* sum += what 16 hidden features from `first` on add. */
static __device__ __forceinline__ void pass_through(float sum[normed_tiles][4],
                                                    const uint32_t xhat[normed_steps][4],
                                                    const struct forward_shared *s, int first, int lane)
{
    const bf16 *b2 = s->weight2 + (lane / 16 * 8 + lane % 8) * mlp_wide_pitch + first + lane / 8 % 2 * 8;
    float wide[2][4];
    uint32_t activated[4];
    multiply_normed_rows(wide, xhat, s->weight1, s->bias1, first, lane);
#pragma unroll
    for (int j = 0; j < 2; j++) {
        activated[2 * j] = pack_bf16(gelu<bf16>(wide[j][0]), gelu<bf16>(wide[j][1]));
        activated[2 * j + 1] = pack_bf16(gelu<bf16>(wide[j][2]), gelu<bf16>(wide[j][3]));
    }
#pragma unroll
    for (int j = 0; j < normed_tiles; j += 2) {
        uint32_t b[4];
        load_matrices(b, b2 + 8 * j * mlp_wide_pitch);
        multiply_add_bf16(sum[j], activated, b);
        multiply_add_bf16(sum[j + 1], activated, b + 2);
    }
}

/* sum + bias2 + x */
static __device__ __forceinline__ void store_rows(bf16 *out, const float sum[normed_tiles][4],
                                                  const uint32_t x[normed_steps][4], const float *bias2,
                                                  size_t row, size_t rows, int t)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const size_t at = row + (size_t)(8 * half);
        bf16 *to = out + at * normed_channels + 2 * t;
#pragma unroll
        for (int j = 0; j < normed_tiles; j++) {
            const float2 bias = *reinterpret_cast<const float2 *>(bias2 + 8 * j + 2 * t);
            const uint32_t beside = x[j / 2][half + j % 2 * 2];
            if (at < rows) {
                *reinterpret_cast<uint32_t *>(to + 8 * j) =
                    pack_bf16(sum[j][2 * half] + bias.x + low_of(beside),
                              sum[j][2 * half + 1] + bias.y + high_of(beside));
            }
        }
    }
}

static __global__ void __launch_bounds__(block_threads, blocks_at_once)
    pass_rows_through(bf16 *out, const bf16 *x, struct mlp_factors factors, size_t rows)
{
    dynamic_shared(struct forward_shared, s);
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const size_t step = (size_t)gridDim.x * block_warps * rows_of_warp;
    size_t first = ((size_t)blockIdx.x * block_warps + (size_t)warp) * rows_of_warp;
    load_mlp_weights(s->weight1, s->weight2, factors);
    copy_async_commit();
    for (int k = (int)threadIdx.x; k < mlp_hidden; k += block_threads) {
        s->bias1[k] = factors.bias1[k];
        if (k < normed_channels) {
            s->bias2[k] = factors.bias2[k];
        }
    }
    copy_async_wait<0>();
    __syncthreads();
    for (; first < rows; first += step) {
        const size_t row = first + (size_t)(lane / 4);
        uint32_t inp[normed_steps][4], xhat[normed_steps][4];
        float sum[normed_tiles][4] = {};
        load_normed_rows(inp, x, row, rows, lane % 4);
        normalise_rows_kept(xhat, inp);
#pragma unroll 1
        for (int hidden = 0; hidden < mlp_hidden; hidden += 32) {
            pass_through(sum, xhat, s, hidden, lane);
            pass_through(sum, xhat, s, hidden + 16, lane);
        }
        store_rows(out, sum, inp, s->bias2, row, rows, lane % 4);
    }
}

void mlp_rows_forward(struct compute *c, bf16 *out, const bf16 *x, const struct mlp_factors *factors,
                      size_t rows)
{
    const size_t most = (size_t)cuda_state(c)->multiprocessors * blocks_at_once;
    const size_t wanted = divide_up(rows, block_warps * rows_of_warp);
    launch(c, pass_rows_through, dim3((unsigned)(wanted < most ? wanted : most)), dim3(block_threads),
           sizeof(struct forward_shared), out, x, *factors, rows);
}
