#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/tensor_core.cuh"

/* One input channel, 3^3 and bf16 on tensor cores: the 27 taps of a voxel, filled up to 32, are one side of
 * the product. single_channel_conv3d.cu does it without, but then multiplying takes longer than memory does.
 *
 * A block has 8 lines of up to 64 output voxels (h, w), one for each warp, and 48 output channels. */

enum {
    warps = 8, /* = lines of a tile */
    tile_width = 64,
    channels_here = 48,
    column_tiles = channels_here / 8,
    taps = 27,
    lines_read = warps + 2,
    columns_read = tile_width + 2,
    tile_voxels = 3 * lines_read * columns_read,
    step = 16,                        /* voxels of one product */
    staged_voxels = 32,               /* of a line, whose gradients a warp fetches at once */
    staged_pitch = channels_here + 8, /* so that rows of matrices lie in different banks */
};

struct planes {
    int d, h, w, channels; /* stride 1: the input's are the output's */
    int tiles_h, tiles_w;
    size_t tiles;
};

struct tile {
    int n, d, h, w;
};

static __device__ __forceinline__ struct tile tile_of(size_t index, const struct planes &g)
{
    struct tile t;
    t.w = (int)(index % (unsigned)g.tiles_w) * tile_width;
    t.h = (int)(index / (unsigned)g.tiles_w % (unsigned)g.tiles_h) * warps;
    t.d = (int)(index / (unsigned)g.tiles_w / (unsigned)g.tiles_h % (unsigned)g.d);
    t.n = (int)(index / (unsigned)g.tiles_w / (unsigned)g.tiles_h / (unsigned)g.d);
    return t;
}

/* What the tile reads, zeros where that is padding. */
static __device__ __forceinline__ void load_tile(uint16_t *shared, const bf16 *inp, struct tile t,
                                                 const struct planes &g)
{
    for (int at = (int)threadIdx.x; at < tile_voxels; at += warps * warp_size) {
        const int d = t.d + at / columns_read / lines_read - 1, h = t.h + at / columns_read % lines_read - 1;
        const int w = t.w + at % columns_read - 1;
        const int inside = d >= 0 && d < g.d && h >= 0 && h < g.h && w >= 0 && w < g.w;
        const size_t from = (((size_t)t.n * g.d + d) * g.h + h) * g.w + w;
        shared[at] = inside ? inp[from].bits : (uint16_t)0;
    }
}

/* How far what a tap reads is from what the first one reads. The taps that fill up read what the first does.
 */
static __device__ __forceinline__ int offset_of(int tap)
{
    return tap < taps ? (tap / 9 * lines_read + tap / 3 % 3) * columns_read + tap % 3 : 0;
}

static __device__ __forceinline__ uint32_t pair_of(const uint16_t *low, const uint16_t *high)
{
    return (uint32_t)*low | (uint32_t)*high << 16;
}

/* Columns of products are dealt out to channels so that what a thread gets of a voxel is 8 neighbouring
 * channels of the first 32 and 4 of the last 16: it stores them at once. */
static __device__ __forceinline__ int channel_of(int column_tile, int column)
{
    return column_tile < 4 ? column / 2 * 8 + column_tile * 2 + column % 2
                           : 32 + column / 2 * 4 + (column_tile - 4) * 2 + column % 2;
}

static __global__ void __launch_bounds__(warps *warp_size)
    forward(bf16 *out, const bf16 *inp, const float *weight, const float *bias, struct planes g)
{
    __shared__ uint16_t shared[tile_voxels];
    const int lane = (int)threadIdx.x % warp_size, line = (int)threadIdx.x / warp_size;
    const int row = lane / 4, pair = lane % 4;
    const int first_channel = (int)blockIdx.y * channels_here;
    const struct tile t = tile_of(blockIdx.x, g);
    uint32_t b[2][column_tiles][2];
    int offsets[2][2][2];
    float biases[column_tiles][2];
    load_tile(shared, inp, t, g);
    for (int k = 0; k < 2; k++) {
        for (int half = 0; half < 2; half++) {
            const int tap = 16 * k + 8 * half + 2 * pair;
            offsets[k][half][0] = offset_of(tap);
            offsets[k][half][1] = offset_of(tap + 1);
            for (int j = 0; j < column_tiles; j++) {
                const float *from = weight + (size_t)(first_channel + channel_of(j, row)) * taps;
                b[k][j][half] =
                    pack_bf16(tap < taps ? from[tap] : 0.0f, tap + 1 < taps ? from[tap + 1] : 0.0f);
            }
        }
    }
    for (int j = 0; j < column_tiles; j++) {
        for (int e = 0; e < 2; e++) {
            biases[j][e] = bias != NULL ? bias[first_channel + channel_of(j, 2 * pair + e)] : 0.0f;
        }
    }
    __syncthreads();
    const int h = t.h + line, width = min(g.w - t.w, (int)tile_width);
    if (h >= g.h) {
        return;
    }
    bf16 *to = out + ((((size_t)t.n * g.d + t.d) * g.h + h) * g.w + t.w) * (size_t)g.channels + first_channel;
    for (int w = 0; w < width; w += step) {
        const uint16_t *from = shared + line * columns_read + w + row;
        float sums[column_tiles][4];
        for (int j = 0; j < column_tiles; j++) {
            sums[j][0] = sums[j][2] = biases[j][0];
            sums[j][1] = sums[j][3] = biases[j][1];
        }
#pragma unroll
        for (int k = 0; k < 2; k++) {
            uint32_t a[4];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int low = offsets[k][half][0], high = offsets[k][half][1];
                a[2 * half] = pair_of(from + low, from + high);
                a[2 * half + 1] = pair_of(from + 8 + low, from + 8 + high);
            }
#pragma unroll
            for (int j = 0; j < column_tiles; j++) {
                multiply_add_bf16(sums[j], a, b[k][j]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int voxel = w + row + 8 * half, e = 2 * half;
            if (voxel < width) {
                bf16 *at = to + (size_t)voxel * (size_t)g.channels;
                *(uint4 *)(at + 8 * pair) =
                    make_uint4(pack_bf16(sums[0][e], sums[0][e + 1]), pack_bf16(sums[1][e], sums[1][e + 1]),
                               pack_bf16(sums[2][e], sums[2][e + 1]), pack_bf16(sums[3][e], sums[3][e + 1]));
                *(uint2 *)(at + 32 + 4 * pair) =
                    make_uint2(pack_bf16(sums[4][e], sums[4][e + 1]), pack_bf16(sums[5][e], sums[5][e + 1]));
            }
        }
    }
}

/* Begins to fetch the gradients of `staged_voxels` voxels of a warp's line; zeros beyond its end. */
static __device__ __forceinline__ void stage_gradients(bf16 *staged, const bf16 *dout, int voxels,
                                                       int channels, int lane)
{
    enum { pieces = channels_here / 8 };
    for (int at = lane; at < staged_voxels * pieces; at += warp_size) {
        const int voxel = at / pieces, piece = at % pieces, inside = voxel < voxels;
        copy_async(staged + voxel * staged_pitch + 8 * piece,
                   dout + (inside ? (size_t)voxel * (size_t)channels + 8 * piece : 0), inside);
    }
    copy_async_commit();
}

/* sums (2 tiles of 16 taps, tiles of 8 channels) += the products of 16 voxels. */
static __device__ __forceinline__ void multiply_step(float sums[2][column_tiles][4], const bf16 *gradients,
                                                     const uint16_t *from, const int offsets[4], int lane)
{
    uint32_t b[column_tiles][2];
#pragma unroll
    for (int j = 0; j < column_tiles; j += 2) { /* voxels 0-7 and 8-15 of one tile, then of the next */
        uint32_t four[4];
        load_matrices_transposed(four, gradients + lane % 16 * staged_pitch + 8 * (j + lane / 16));
        b[j][0] = four[0];
        b[j][1] = four[1];
        b[j + 1][0] = four[2];
        b[j + 1][1] = four[3];
    }
#pragma unroll
    for (int m = 0; m < 2; m++) {
        const uint16_t *low = from + offsets[2 * m], *high = from + offsets[2 * m + 1];
        const uint32_t a[4] = {pair_of(low, low + 1), pair_of(high, high + 1), pair_of(low + 8, low + 9),
                               pair_of(high + 8, high + 9)};
#pragma unroll
        for (int j = 0; j < column_tiles; j++) {
            multiply_add_bf16(sums[m][j], a, b[j]);
        }
    }
}

/* partials: (blocks, channels, taps). Every block sums over each gridDim.x-th tile; then its warps' sums are
 * added in their order. */
static __global__ void __launch_bounds__(warps *warp_size)
    weight_gradient(float *partials, const bf16 *dout, const bf16 *inp, struct planes g)
{
    __shared__ __align__(16) bf16 staged[warps][staged_voxels * staged_pitch];
    __shared__ uint16_t shared[tile_voxels];
    __shared__ float total[channels_here * taps];
    const int lane = (int)threadIdx.x % warp_size, line = (int)threadIdx.x / warp_size;
    const int row = lane / 4, pair = lane % 4;
    const int first_channel = (int)blockIdx.y * channels_here;
    const int offsets[4] = {offset_of(row), offset_of(row + 8), offset_of(row + 16), offset_of(row + 24)};
    float sums[2][column_tiles][4] = {{{0}}};
    for (size_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const struct tile t = tile_of(index, g);
        const int h = t.h + line, width = h < g.h ? min(g.w - t.w, (int)tile_width) : 0;
        const bf16 *gradients =
            dout + ((((size_t)t.n * g.d + t.d) * g.h + h) * g.w + t.w) * (size_t)g.channels + first_channel;
        if (width > 0) {
            stage_gradients(staged[line], gradients, width, g.channels, lane);
        }
        __syncthreads();
        load_tile(shared, inp, t, g);
        __syncthreads();
        for (int w = 0; w < width; w += staged_voxels) {
            if (w > 0) {
                stage_gradients(staged[line], gradients + (size_t)w * (size_t)g.channels, width - w,
                                g.channels, lane);
            }
            copy_async_wait<0>();
            __syncwarp();
#pragma unroll
            for (int s = 0; s < staged_voxels; s += step) {
                multiply_step(sums, staged[line] + s * staged_pitch,
                              shared + line * columns_read + w + s + 2 * pair, offsets, lane);
            }
            __syncwarp();
        }
    }
    for (int turn = 0; turn < warps; turn++) {
        for (int k = 0; line == turn && k < 2 * column_tiles * 4; k++) {
            const int m = k / (column_tiles * 4), j = k / 4 % column_tiles, e = k % 4;
            const int tap = 16 * m + row + 8 * (e / 2), at = (8 * j + 2 * pair + e % 2) * taps + tap;
            if (tap < taps) {
                total[at] = (turn > 0 ? total[at] : 0.0f) + sums[m][j][e];
            }
        }
        __syncthreads();
    }
    float *to = partials + ((size_t)blockIdx.x * g.channels + first_channel) * taps;
    for (int at = (int)threadIdx.x; at < channels_here * taps; at += warps * warp_size) {
        to[at] = total[at];
    }
}

int single_channel_bf16_fits(const struct compute *c, const struct conv3d_shape *s, const activation *wide)
{
    return c->precision == PRECISION_BF16 && s->in_channels == 1 && s->kernel == 3 && s->stride == 1 &&
           s->out_channels % channels_here == 0 && (uintptr_t)wide % 16 == 0;
}

static struct planes planes_of(const struct conv3d_shape *s)
{
    struct planes g;
    g.d = s->d, g.h = s->h, g.w = s->w;
    g.channels = s->out_channels;
    g.tiles_h = (int)divide_up((size_t)g.h, warps);
    g.tiles_w = (int)divide_up((size_t)g.w, tile_width);
    g.tiles = (size_t)s->n * (size_t)g.d * (size_t)g.tiles_h * (size_t)g.tiles_w;
    return g;
}

void single_channel_bf16_forward(struct compute *c, activation *out, const activation *inp,
                                 const float *weight, const float *bias, const struct conv3d_shape *s)
{
    const struct planes g = planes_of(s);
    launch(c, forward, dim3((unsigned)g.tiles, (unsigned)(g.channels / channels_here)),
           dim3(warps * warp_size), 0, (bf16 *)out, (const bf16 *)inp, weight, bias, g);
}

void single_channel_bf16_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, const struct conv3d_shape *s)
{
    const struct planes g = planes_of(s);
    const size_t most_blocks = 4 * (size_t)cuda_state(c)->multiprocessors;
    const size_t blocks = g.tiles < most_blocks ? g.tiles : most_blocks;
    float *partials = (float *)cuda_scratch(c, blocks * (size_t)g.channels * taps * sizeof *partials);
    launch(c, weight_gradient, dim3((unsigned)blocks, (unsigned)(g.channels / channels_here)),
           dim3(warps * warp_size), 0, partials, (const bf16 *)dout, (const bf16 *)inp, g);
    conv3d_add_partials(c, dweight, partials, (int)blocks, g.channels, 1, taps);
}
