/* The weights' gradient of one input channel, 3^3 and bf16, on tensor cores (single_channel_walk.cuh), and
 * the same through an instance norm behind the convolution, whose gradient is then never written.
 *
 * dweight (o, tap) is a sum over voxels v of d[v, o] x[v + tap], with d the gradient of the convolution's
 * output y. Behind a norm, with g the gradient of its result xhat = (y - m) rstd,
 *
 *     d = rstd (g - mean(g) - xhat mean(g xhat)),
 *
 * which is linear in g, 1 and y, so that a sample's part of dweight follows from three sums: of g[v, o] x[v +
 * tap], of x[v + tap], and of y[v, o] x[v + tap]. As y is itself the sum over taps t of w[o, t] x[v + t], the
 * last one needs no y, only the sums of x[v + t] x[v + tap], 27 x 27 for each sample: products of the very
 * registers that hold x for the first one. A tap that reads ones gives the second. */
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/single_channel_walk.cuh"

enum {
    staged_voxels = 32, /* of a line, whose gradients a warp fetches at once */
    stages = 3,
    staged_pitch = channels_here + 8, /* so that rows of matrices lie in different banks */
    staged_size = staged_voxels * staged_pitch,
    staged_bytes = walk_warps * stages * staged_size * 2,
    ones_size = tile_width + step, /* behind the ring */
    ring_with_ones = ring_size + ones_size,
    walk_bytes = staged_bytes + 2 * ring_with_ones * 2,
    row_tiles = 2,       /* of 16 taps */
    both_taps = 32,      /* with those that fill up */
    ones_tap = taps,     /* the first of them */
    moment_tiles = 6,    /* of 16 x 8 products of taps; the rest is the same by symmetry */
    moment_columns = 28, /* taps and ones */
    moment_count = taps * moment_columns,
};

/* The gradients of a warp's line, fetched a few pieces ahead of their use. */
struct staged_line {
    bf16 *memory;
    const bf16 *gradients; /* of the column's channels */
    int pieces;            /* of a line */

    __device__ __forceinline__ bf16 *stage(int k) const
    {
        return memory + k % stages * staged_size;
    }

    /* Begins to fetch piece k of the walk, as a group of copies; zeros beyond the line's end. */
    __device__ __forceinline__ void fetch(int k, const column &at, const channel_walk &g) const
    {
        enum { chunks = channels_here / 8 };
        const int lane = (int)threadIdx.x % warp_size;
        const int p = at.first + (pieces > 0 ? k / pieces : 0);
        if (pieces > 0 && p < at.last) {
            const int w = k % pieces * staged_voxels;
            const bf16 *from = gradients + (at.voxel(g, p) + w) * (size_t)g.channels;
            for (int chunk = lane; chunk < staged_voxels * chunks; chunk += warp_size) {
                const int voxel = chunk / chunks, eight = 8 * (chunk % chunks);
                const int inside = w + voxel < at.width;
                copy_async(stage(k) + voxel * staged_pitch + eight,
                           from + (inside ? (size_t)voxel * (size_t)g.channels + eight : 0), inside);
            }
        }
        copy_async_commit();
    }
};

/* What a thread has of x for 16 taps (row and row + 8) and 16 voxels. */
static __device__ __forceinline__ void load_taps(uint32_t (&a)[4], const uint16_t *low, const uint16_t *high)
{
    a[0] = *(const uint32_t *)low;
    a[1] = *(const uint32_t *)high;
    a[2] = *(const uint32_t *)(low + 8);
    a[3] = *(const uint32_t *)(high + 8);
}

/* sums += the products of taps and gradients at 16 voxels. */
static __device__ __forceinline__ void multiply_gradients(float (&sums)[row_tiles][column_tiles][4],
                                                          const uint32_t (&a)[row_tiles][4],
                                                          const bf16 *gradients)
{
    const int lane = (int)threadIdx.x % warp_size;
#pragma unroll
    for (int j = 0; j < column_tiles; j += 2) { /* voxels 0-7 and 8-15 of one tile, then of the next */
        uint32_t four[4];
        load_matrices_transposed(four, gradients + lane % 16 * staged_pitch + 8 * (j + lane / 16));
#pragma unroll
        for (int m = 0; m < row_tiles; m++) {
            multiply_add_bf16(sums[m][j], a[m], &four[0]);
            multiply_add_bf16(sums[m][j + 1], a[m], &four[2]);
        }
    }
}

/* Keeps the first `voxels` of two. */
static __device__ __forceinline__ uint32_t first_of(uint32_t pair, int voxels)
{
    return voxels > 1 ? pair : voxels > 0 ? pair & 0xffffu : 0;
}

/* moments += the products of taps and taps at the first `voxels` of 16 voxels. */
static __device__ __forceinline__ void multiply_taps(float (&moments)[moment_tiles][4],
                                                     const uint32_t (&a)[row_tiles][4], int voxels)
{
    const int left = voxels - (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const uint32_t first = a[j / 2][j % 2], second = a[j / 2][2 + j % 2];
        uint32_t b[2] = {first, second};
        if (voxels < step) {
            b[0] = first_of(first, left);
            b[1] = first_of(second, left - 8);
        }
        multiply_add_bf16(moments[j], a[0], b);
        if (j >= 2) {
            multiply_add_bf16(moments[j + 2], a[1], b);
        }
    }
}

/* What the warps' sums are added from, in shared memory: (walk_warps, channels_here, taps), and then
 * (walk_warps, both_taps, both_taps) products of taps. */
enum {
    gradient_count = channels_here * taps,
    square_count = both_taps * both_taps,
    moments_at = walk_warps * gradient_count,
};
static_assert((moments_at + walk_warps * square_count) * 4 <= staged_bytes, "sums lie where gradients were");

static __device__ __forceinline__ void put_sums(float *to, const float (&sums)[row_tiles][column_tiles][4])
{
    const int lane = (int)threadIdx.x % warp_size, row = lane / 4, pair = lane % 4;
#pragma unroll
    for (int k = 0; k < row_tiles * column_tiles * 4; k++) {
        const int m = k / (column_tiles * 4), j = k / 4 % column_tiles, e = k % 4;
        const int tap = 16 * m + row + 8 * (e / 2);
        if (tap < taps) {
            to[(8 * j + 2 * pair + e % 2) * taps + tap] = sums[m][j][e];
        }
    }
}

static __device__ __forceinline__ void put_moments(float *to, const float (&moments)[moment_tiles][4])
{
    const int lane = (int)threadIdx.x % warp_size, row = lane / 4, pair = lane % 4;
#pragma unroll
    for (int k = 0; k < moment_tiles * 4; k++) {
        const int tile = k / 4, m = tile / 4, j = tile - 2 * m, e = k % 4;
        const int one = 16 * m + row + 8 * (e / 2), other = 8 * j + 2 * pair + e % 2;
        to[one * both_taps + other] = moments[tile][e];
        if (m == 0 && j >= 2) {
            to[other * both_taps + one] = moments[tile][e];
        }
    }
}

/* The sum over the warps' values, `count` apart. */
static __device__ __forceinline__ float over_warps(const float *from, int count)
{
    float sum = 0;
#pragma unroll
    for (int k = 0; k < walk_warps; k++) {
        sum += from[k * count];
    }
    return sum;
}

/* partials: (n x parts, record), a record being (channels, taps) products with the gradients and, where
 * through_norm, (taps, moment_columns) products of taps with taps and ones. */
template <bool through_norm>
static __global__ void __launch_bounds__(walk_threads, 2)
    weight_gradient(float *partials, const bf16 *dout, const bf16 *inp, channel_walk g)
{
    dynamic_shared(unsigned char, shared);
    const int lane = (int)threadIdx.x % warp_size, line = (int)threadIdx.x / warp_size;
    const int row = lane / 4, pair = lane % 4;
    const int first_channel = (int)blockIdx.y * channels_here;
    uint16_t *ring = (uint16_t *)(shared + staged_bytes); /* and once more, see plane_fetch::put */
    const column at(g);
    plane_fetch fetch(inp, at, g);
    const staged_line staged = {(bf16 *)shared + line * stages * staged_size, dout + first_channel,
                                (at.width + staged_voxels - 1) / staged_voxels};
    float sums[row_tiles][column_tiles][4] = {{{0}}};
    float moments[moment_tiles][4] = {{0}};
    int piece = 0;
    for (; piece < stages - 1; piece++) {
        staged.fetch(piece, at, g);
    }
    fill_ring<ring_with_ones>(ring, fetch, at.first, g);
    for (int k = (int)threadIdx.x; k < ones_size; k += walk_threads) {
        ring[ring_size + k] = 0x3f80; /* 1 */
    }
    __syncthreads();
#pragma unroll 1
    for (int p = at.first; p < at.last; p++) {
        int offsets[4];
        fetch.begin(p + 2, g);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int tap = row + 8 * k;
            const int place = tap < taps ? tap_place(tap).at_plane(p) + line * line_pitch : (int)ring_size;
            offsets[k] = place % 2 == 0 ? place : ring_with_ones + place - 1;
        }
#pragma unroll 1
        for (int w = 0; w < at.width; w += staged_voxels, piece++) {
            staged.fetch(piece, at, g);
            copy_async_wait<stages - 1>();
            __syncwarp();
            const bf16 *gradients = staged.stage(piece - (stages - 1));
#pragma unroll(through_norm ? 1 : 2) /* as registers allow */
            for (int s = 0; s < staged_voxels; s += step) {
                if (w + s < at.width) {
                    const uint16_t *x = ring + w + s + 2 * pair;
                    uint32_t a[row_tiles][4];
                    load_taps(a[0], x + offsets[0], x + offsets[1]);
                    load_taps(a[1], x + offsets[2], x + offsets[3]);
                    multiply_gradients(sums, a, gradients + s * staged_pitch);
                    if (through_norm) {
                        multiply_taps(moments, a, at.width - w - s);
                    }
                }
            }
            __syncwarp();
        }
        fetch.put<ring_with_ones>(ring, p + 2);
        __syncthreads();
    }
    copy_async_wait<0>();
    __syncthreads();
    float *warps_sums = (float *)shared, *warps_moments = warps_sums + moments_at;
    const size_t record = (size_t)g.channels * taps + (through_norm ? moment_count : 0);
    float *to = partials + ((size_t)at.sample * parts_of(g) + at.part) * record;
    put_sums(warps_sums + line * gradient_count, sums);
    if (through_norm) {
        put_moments(warps_moments + line * square_count, moments);
    }
    __syncthreads();
    for (int k = (int)threadIdx.x; k < gradient_count; k += walk_threads) {
        to[(size_t)first_channel * taps + k] = over_warps(warps_sums + k, gradient_count);
    }
    for (int k = (int)threadIdx.x; through_norm && first_channel == 0 && k < moment_count;
         k += walk_threads) {
        const int from = k / moment_columns * both_taps + k % moment_columns;
        to[(size_t)g.channels * taps + k] = over_warps(warps_moments + from, square_count);
    }
}

/* sums (n, record): the parts of each sample, in their order. */
static __global__ void add_parts_of_samples(double *sums, const float *partials, int parts, int record)
{
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const float *from = partials + (size_t)blockIdx.y * parts * record + k;
    if (k < record) {
        double sum = 0;
#pragma unroll 4
        for (int part = 0; part < parts; part++) {
            sum += from[(size_t)part * record];
        }
        sums[(size_t)blockIdx.y * record + k] = sum;
    }
}

/* The norm behind the convolution. */
struct norm_behind {
    const float *mean, *rstd;          /* (n, channels) */
    const float *g_mean, *g_xhat_mean; /* the same */
};

enum { finish_taps = 32, finish_lanes = 16 };

/* dweight += what the samples' sums give. A block has one channel, its lanes every finish_lanes-th sample. */
static __global__ void __launch_bounds__(finish_taps *finish_lanes)
    add_through_norm(float *dweight, const double *sums, const float *weight, norm_behind norm, int n,
                     int channels)
{
    __shared__ double over_lanes[finish_lanes][finish_taps];
    const int tap = (int)threadIdx.x % finish_taps, lane = (int)threadIdx.x / finish_taps;
    const int channel = (int)blockIdx.x;
    const size_t record = (size_t)channels * taps + moment_count;
    double sum = 0;
    for (int sample = lane; tap < taps && sample < n; sample += finish_lanes) {
        const size_t moment = (size_t)sample * channels + channel;
        const double *products = sums + sample * record, *of_taps = products + (size_t)channels * taps;
        const double ones = of_taps[tap * moment_columns + ones_tap], rstd = norm.rstd[moment];
        double y = 0;
        for (int k = 0; k < taps; k++) {
            const double w = to_float(from_float<bf16>(weight[channel * taps + k]));
            y += w * of_taps[k * moment_columns + tap];
        }
        const double xhat = rstd * (y - norm.mean[moment] * ones);
        sum += rstd * (products[channel * taps + tap] - norm.g_mean[moment] * ones -
                       norm.g_xhat_mean[moment] * xhat);
    }
    over_lanes[lane][tap] = sum;
    __syncthreads();
    if (lane == 0 && tap < taps) {
        for (int k = 1; k < finish_lanes; k++) {
            sum += over_lanes[k][tap];
        }
        dweight[channel * taps + tap] += (float)sum;
    }
}

static size_t partials_bytes(const channel_walk &g, int n, size_t record)
{
    return cuda_aligned((size_t)n * parts_of(g) * record * sizeof(float));
}

void single_channel_bf16_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, const struct conv3d_shape *s)
{
    const channel_walk g = plan_channel_walk(c, s);
    float *partials = (float *)cuda_scratch(c, partials_bytes(g, s->n, (size_t)g.channels * taps));
    launch(c, weight_gradient<false>, channel_walk_grid(g, s->n), dim3(walk_threads), walk_bytes, partials,
           (const bf16 *)dout, (const bf16 *)inp, g);
    conv3d_add_partials(c, dweight, partials, s->n * parts_of(g), g.channels, 1, taps);
}

static size_t record_through_norm(const channel_walk &g)
{
    return (size_t)g.channels * taps + moment_count;
}

size_t single_channel_bf16_normed_gradient_scratch(const struct compute *c, const struct conv3d_shape *s)
{
    const channel_walk g = plan_channel_walk(c, s);
    return partials_bytes(g, s->n, record_through_norm(g)) +
           (size_t)s->n * record_through_norm(g) * sizeof(double);
}

void single_channel_bf16_normed_gradient(struct compute *c, float *dweight, const activation *dnorm,
                                         const float *dnorm_mean, const float *dnorm_xhat_mean,
                                         const struct norm_activation *norm, const activation *inp,
                                         const float *weight, void *scratch, const struct conv3d_shape *s)
{
    const channel_walk g = plan_channel_walk(c, s);
    const size_t record = record_through_norm(g);
    const norm_behind behind = {norm->mean, norm->rstd, dnorm_mean, dnorm_xhat_mean};
    float *partials = (float *)scratch;
    double *sums = (double *)((char *)scratch + partials_bytes(g, s->n, record));
    launch(c, weight_gradient<true>, channel_walk_grid(g, s->n), dim3(walk_threads), walk_bytes, partials,
           (const bf16 *)dnorm, (const bf16 *)inp, g);
    launch(c, add_parts_of_samples, dim3((unsigned)divide_up(record, 128), (unsigned)s->n), dim3(128), 0,
           sums, (const float *)partials, parts_of(g), (int)record);
    launch(c, add_through_norm, dim3((unsigned)g.channels), dim3(finish_taps * finish_lanes), 0, dweight,
           (const double *)sums, weight, behind, s->n, g.channels);
}
