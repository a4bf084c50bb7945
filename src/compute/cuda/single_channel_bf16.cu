/* Forward of one input channel, 3^3 and bf16, on tensor cores (single_channel_walk.cuh): the 27 taps of a
 * voxel, filled up to 32, are one side of the product. single_channel_conv3d.cu does it without, but then
 * multiplying takes longer than memory does. */
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/single_channel_walk.cuh"

/* Columns of products are dealt out to channels so that what a thread gets of a voxel is 8 neighbouring
 * channels of the first 32 and 4 of the last 16: it stores them at once. */
static __device__ __forceinline__ int channel_of(int column_tile, int column)
{
    return column_tile < 4 ? column / 2 * 8 + column_tile * 2 + column % 2
                           : 32 + column / 2 * 4 + (column_tile - 4) * 2 + column % 2;
}

/* The weights of this thread's taps and columns; taps that fill up have none. */
static __device__ __forceinline__ void load_weights(uint32_t (&b)[2][column_tiles][2], const float *weight,
                                                    int first_channel)
{
    const int lane = (int)threadIdx.x % warp_size, row = lane / 4, pair = lane % 4;
    for (int k = 0; k < 2; k++) {
        for (int half = 0; half < 2; half++) {
            const int tap = 16 * k + 8 * half + 2 * pair;
            for (int j = 0; j < column_tiles; j++) {
                const float *from = weight + (size_t)(first_channel + channel_of(j, row)) * taps;
                b[k][j][half] =
                    pack_bf16(tap < taps ? from[tap] : 0.0f, tap + 1 < taps ? from[tap + 1] : 0.0f);
            }
        }
    }
}

/* What a thread has seen of its channels. */
struct channel_moments {
    float sum[column_tiles][2], square[column_tiles][2];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int j = 0; j < column_tiles; j++) {
            sum[j][0] = sum[j][1] = square[j][0] = square[j][1] = 0;
        }
    }

    __device__ __forceinline__ void add(const float (&values)[column_tiles][4], int half)
    {
#pragma unroll
        for (int j = 0; j < column_tiles; j++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float v = values[j][2 * half + e];
                sum[j][e] += v;
                square[j][e] = fmaf(v, v, square[j][e]);
            }
        }
    }

    /* Over the warp's voxels, then over the block's warps, to `to` (channels_here, 2). */
    __device__ __forceinline__ void write(float *to, float (*shared)[2 * channels_here])
    {
        const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
#pragma unroll
        for (int j = 0; j < column_tiles; j++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                for (int offset = 4; offset < warp_size; offset *= 2) {
                    sum[j][e] += __shfl_xor_sync(whole_warp, sum[j][e], offset);
                    square[j][e] += __shfl_xor_sync(whole_warp, square[j][e], offset);
                }
                if (lane < 4) {
                    const int channel = channel_of(j, 2 * lane + e);
                    shared[warp][2 * channel] = sum[j][e];
                    shared[warp][2 * channel + 1] = square[j][e];
                }
            }
        }
        __syncthreads();
        if (threadIdx.x < 2 * channels_here) {
            float total = 0;
            for (int k = 0; k < walk_warps; k++) {
                total += shared[k][threadIdx.x];
            }
            to[threadIdx.x] = total;
        }
    }
};

/* sums += the products of 16 voxels: x at this thread's first voxel, and where its 8 taps read from there. */
static __device__ __forceinline__ void multiply_voxels(float (&sums)[column_tiles][4], const uint16_t *x,
                                                       const int (&offsets)[2][2][2],
                                                       const uint32_t (&b)[2][column_tiles][2])
{
#pragma unroll
    for (int k = 0; k < 2; k++) {
        uint32_t a[4];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int low = offsets[k][half][0], high = offsets[k][half][1];
            a[2 * half] = pair_of(x + low, x + high);
            a[2 * half + 1] = pair_of(x + 8 + low, x + 8 + high);
        }
#pragma unroll
        for (int j = 0; j < column_tiles; j++) {
            multiply_add_bf16(sums[j], a, b[k][j]);
        }
    }
}

/* One voxel's values of this thread, to its 8 + 4 channels. */
static __device__ __forceinline__ void store_voxel(bf16 *to, const float (&sums)[column_tiles][4], int half)
{
    const int pair = (int)threadIdx.x % 4, e = 2 * half;
    *(uint4 *)(to + 8 * pair) =
        make_uint4(pack_bf16(sums[0][e], sums[0][e + 1]), pack_bf16(sums[1][e], sums[1][e + 1]),
                   pack_bf16(sums[2][e], sums[2][e + 1]), pack_bf16(sums[3][e], sums[3][e + 1]));
    *(uint2 *)(to + 32 + 4 * pair) =
        make_uint2(pack_bf16(sums[4][e], sums[4][e + 1]), pack_bf16(sums[5][e], sums[5][e + 1]));
}

/* part_sums (n, parts, channels, 2): where with_moments, sums of the output and of its squares over each
 * block's voxels; bias: where not. */
template <bool with_moments>
static __global__ void __launch_bounds__(walk_threads, 2)
    forward(bf16 *out, const bf16 *inp, const float *weight, const float *bias, float *part_sums,
            channel_walk g)
{
    __shared__ uint16_t ring[ring_size];
    __shared__ float over_warps[with_moments ? walk_warps : 1][2 * channels_here];
    const int lane = (int)threadIdx.x % warp_size, line = (int)threadIdx.x / warp_size;
    const int row = lane / 4, pair = lane % 4;
    const int first_channel = (int)blockIdx.y * channels_here;
    const column at(g);
    plane_fetch fetch(inp, at, g);
    uint32_t b[2][column_tiles][2];
    channel_moments moments;
    moments.clear();
    fill_ring(ring, fetch, at.first, g);
    load_weights(b, weight, first_channel);
    __syncthreads();
#pragma unroll 1
    for (int p = at.first; p < at.last; p++) {
        int offsets[2][2][2];
        fetch.begin(p + 2, g);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const int tap = 16 * (k / 4) + 8 * (k / 2 % 2) + 2 * pair + k % 2;
            offsets[k / 4][k / 2 % 2][k % 2] = tap_place(tap < taps ? tap : 0).at_plane(p);
        }
        bf16 *to = out + at.voxel(g, p) * (size_t)g.channels + first_channel;
        for (int w = 0; w < at.width; w += step) {
            float sums[column_tiles][4];
#pragma unroll
            for (int j = 0; j < column_tiles; j++) {
                const bool biased = !with_moments && bias != NULL;
                const int channel = first_channel + channel_of(j, 2 * pair);
                sums[j][0] = sums[j][2] = biased ? bias[channel] : 0.0f;
                sums[j][1] = sums[j][3] = biased ? bias[channel + 1] : 0.0f;
            }
            multiply_voxels(sums, ring + line * line_pitch + w + row, offsets, b);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int voxel = w + row + 8 * half;
                if (voxel < at.width) {
                    store_voxel(to + (size_t)voxel * (size_t)g.channels, sums, half);
                    if (with_moments) {
                        moments.add(sums, half);
                    }
                }
            }
        }
        fetch.put(ring, p + 2);
        __syncthreads();
    }
    if (with_moments) {
        const size_t block = (size_t)at.sample * parts_of(g) + at.part;
        moments.write(part_sums + 2 * (block * g.channels + first_channel), over_warps);
    }
}

int single_channel_bf16_fits(const struct compute *c, const struct conv3d_shape *s, const activation *wide)
{
    return c->precision == PRECISION_BF16 && s->in_channels == 1 && s->kernel == 3 && s->stride == 1 &&
           s->out_channels % channels_here == 0 && (uintptr_t)wide % 16 == 0;
}

void single_channel_bf16_forward(struct compute *c, activation *out, const activation *inp,
                                 const float *weight, const float *bias, const struct conv3d_shape *s)
{
    const channel_walk g = plan_channel_walk(c, s);
    launch(c, forward<false>, channel_walk_grid(g, s->n), dim3(walk_threads), 0, (bf16 *)out,
           (const bf16 *)inp, weight, bias, (float *)NULL, g);
}

void single_channel_bf16_forward_with_moments(struct compute *c, activation *out, float *mean, float *rstd,
                                              const activation *inp, const float *weight,
                                              const struct conv3d_shape *s)
{
    const channel_walk g = plan_channel_walk(c, s);
    const int parts = parts_of(g);
    float *sums = (float *)cuda_scratch(c, (size_t)s->n * parts * g.channels * 2 * sizeof *sums);
    launch(c, forward<true>, channel_walk_grid(g, s->n), dim3(walk_threads), 0, (bf16 *)out,
           (const bf16 *)inp, weight, (const float *)NULL, sums, g);
    conv3d_finish_sums(c, mean, rstd, NULL, sums, parts, s->n, (size_t)g.d * g.h * g.w, g.channels);
}
