#include "compute/cuda/direct_conv3d.cuh"

/* ---- forward and the input's gradient: rows are voxels that gather others around them ---- */

struct gathering {
    int n, d, h, w;                   /* voxels that are rows */
    int source_d, source_h, source_w; /* they gather from `scale` times their position, plus tap - padding */
    int scale, padding, kernel;
    int target_d, target_h, target_w; /* they are written to target_scale times their position, plus ... */
    int target_scale;                 /* ... the tap that the block is for, where this is not 1 */
    int in, out;                      /* channels */
    /* how far weights of neighbouring ones are apart */
    size_t weight_of_out;
    ptrdiff_t weight_of_tap;
};

enum {
    threads = 256,
    side = 16, /* threads along rows, and along columns */
    tile_rows = 128,
    rows_each = tile_rows / side,
    depth = 16,
    row_pitch = tile_rows + 4,
};

struct voxel {
    int n, d, h, w;
};

static __device__ __forceinline__ struct voxel voxel_of(size_t row, int d, int h, int w)
{
    struct voxel v;
    v.w = (int)(row % (unsigned)w);
    v.h = (int)(row / (unsigned)w % (unsigned)h);
    v.d = (int)(row / (unsigned)w / (unsigned)h % (unsigned)d);
    v.n = (int)(row / (unsigned)w / (unsigned)h / (unsigned)d);
    return v;
}

/* The channels that a row's tap reads, or NULL where it reads padding. */
template <typename T>
static __device__ __forceinline__ const T *gathered(const T *source, struct voxel row, int tap,
                                                    const struct gathering &g)
{
    const int d = row.d * g.scale + tap / (g.kernel * g.kernel) - g.padding;
    const int h = row.h * g.scale + tap / g.kernel % g.kernel - g.padding;
    const int w = row.w * g.scale + tap % g.kernel - g.padding;
    const int inside =
        row.n < g.n && d >= 0 && d < g.source_d && h >= 0 && h < g.source_h && w >= 0 && w < g.source_w;
    const size_t at = (((size_t)row.n * g.source_d + d) * g.source_h + h) * g.source_w + w;
    return inside ? source + at * (size_t)g.in : NULL;
}

/* Each block: 128 rows of 16 x columns_each output channels, `depth` input channels at a time. */
template <typename T, int columns_each>
static __global__ void __launch_bounds__(threads)
    gather_product(T *target, const T *source, const T *weight, const float *bias, struct gathering g)
{
    __shared__ __align__(16) float a[depth][row_pitch];
    __shared__ float b[depth][side * columns_each + 1];
    const int thread = (int)threadIdx.x;
    const int column = thread % side, first_row = thread / side * rows_each;
    const int loaded_row = thread / 2, loaded_depth = thread % 2 * (depth / 2);
    const int first_out = (int)blockIdx.y * side * columns_each;
    const size_t block_row = (size_t)blockIdx.x * tile_rows;
    const struct voxel row = voxel_of(block_row + (size_t)loaded_row, g.d, g.h, g.w);
    const int taps = g.kernel * g.kernel * g.kernel;
    float sums[rows_each][columns_each] = {{0}};
    for (int tap = 0; tap < taps; tap++) {
        const T *from = gathered(source, row, tap, g);
        const T *weights = weight + (ptrdiff_t)(tap + blockIdx.z) * g.weight_of_tap;
        for (int in = 0; in < g.in; in += depth) {
            __syncthreads();
            for (int k = loaded_depth; k < loaded_depth + depth / 2; k++) {
                a[k][loaded_row] = from != NULL && in + k < g.in ? to_float(from[in + k]) : 0.0f;
            }
            for (int at = thread; at < depth * side * columns_each; at += threads) {
                const int k = at % depth, o = at / depth;
                const int inside = in + k < g.in && first_out + o < g.out;
                b[k][o] =
                    inside ? to_float(weights[(size_t)(first_out + o) * g.weight_of_out + (size_t)(in + k)])
                           : 0.0f;
            }
            __syncthreads();
            float part[rows_each][columns_each] = {{0}}; /* short sums first: their rounding adds up less */
#pragma unroll
            for (int k = 0; k < depth; k++) {
                const float4 low = *(const float4 *)&a[k][first_row];
                const float4 high = *(const float4 *)&a[k][first_row + 4];
                const float rows[rows_each] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (int j = 0; j < columns_each; j++) {
                    const float factor = b[k][column + side * j];
#pragma unroll
                    for (int r = 0; r < rows_each; r++) {
                        part[r][j] += rows[r] * factor;
                    }
                }
            }
#pragma unroll
            for (int r = 0; r < rows_each; r++) {
#pragma unroll
                for (int j = 0; j < columns_each; j++) {
                    sums[r][j] += part[r][j];
                }
            }
        }
    }
    for (int r = 0; r < rows_each; r++) {
        const struct voxel v = voxel_of(block_row + (size_t)(first_row + r), g.d, g.h, g.w);
        const int side_of_taps = g.target_scale, tap = (int)blockIdx.z;
        const int d = v.d * g.target_scale + tap / (side_of_taps * side_of_taps);
        const int h = v.h * g.target_scale + tap / side_of_taps % side_of_taps;
        const int w = v.w * g.target_scale + tap % side_of_taps;
        const size_t at = (((size_t)v.n * g.target_d + d) * g.target_h + h) * g.target_w + w;
#pragma unroll
        for (int j = 0; j < columns_each; j++) {
            const int o = first_out + column + side * j;
            if (v.n < g.n && o < g.out) {
                target[at * (size_t)g.out + o] = from_float<T>(sums[r][j] + (bias != NULL ? bias[o] : 0.0f));
            }
        }
    }
}

template <typename T>
static void gather_in(struct compute *c, activation *target, const activation *source, const void *weight,
                      const float *bias, const struct gathering &g)
{
    const size_t rows = (size_t)g.n * (size_t)g.d * (size_t)g.h * (size_t)g.w;
    const unsigned targets = (unsigned)(g.target_scale * g.target_scale * g.target_scale);
    const unsigned blocks = (unsigned)divide_up(rows, tile_rows);
    if (g.out <= side) {
        launch(c, gather_product<T, 1>, dim3(blocks, 1, targets), dim3(threads), 0, (T *)target,
               (const T *)source, (const T *)weight, bias, g);
    } else {
        launch(c, gather_product<T, 3>, dim3(blocks, (unsigned)divide_up((size_t)g.out, 3 * side), targets),
               dim3(threads), 0, (T *)target, (const T *)source, (const T *)weight, bias, g);
    }
}

static void gather(struct compute *c, activation *target, const activation *source, const void *weight,
                   const float *bias, const struct gathering &g)
{
    if (c->precision == PRECISION_BF16) {
        gather_in<bf16>(c, target, source, weight, bias, g);
    } else {
        gather_in<float>(c, target, source, weight, bias, g);
    }
}

void direct_conv3d_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                           const float *bias, const struct conv3d_shape *s)
{
    if (c->status != VOCO_OK) {
        return;
    }
    if (single_channel_fits(s)) {
        single_channel_forward(c, out, inp, weight, bias, s);
        return;
    }
    const int d = s->d / s->stride, h = s->h / s->stride, w = s->w / s->stride, taps = conv3d_taps(s);
    struct gathering g = {};
    g.n = s->n, g.d = d, g.h = h, g.w = w;
    g.source_d = s->d, g.source_h = s->h, g.source_w = s->w;
    g.scale = s->stride, g.padding = s->stride == 1 ? (s->kernel - 1) / 2 : 0, g.kernel = s->kernel;
    g.target_d = d, g.target_h = h, g.target_w = w, g.target_scale = 1;
    g.in = s->in_channels, g.out = s->out_channels;
    g.weight_of_out = (size_t)taps * (size_t)s->in_channels, g.weight_of_tap = s->in_channels;
    gather(c, out, inp, cuda_weights(c, weight, WEIGHTS_OUT_TAP_IN, s->out_channels, s->in_channels, taps),
           bias, g);
}

/* A convolution with the flipped weights, whose taps come in reverse. Where windows do not overlap each input
 * voxel has one output voxel and one tap: a product for each tap, weights negatively far apart. */
void direct_conv3d_input_gradient(struct compute *c, activation *dinp, const activation *dout,
                                  const float *weight, const struct conv3d_shape *s)
{
    const int d = s->d / s->stride, h = s->h / s->stride, w = s->w / s->stride, taps = conv3d_taps(s);
    if (c->status != VOCO_OK) {
        return;
    }
    const char *flipped =
        (const char *)cuda_weights(c, weight, WEIGHTS_FLIPPED, s->out_channels, s->in_channels, taps);
    struct gathering g = {};
    g.n = s->n, g.d = d, g.h = h, g.w = w;
    g.source_d = d, g.source_h = h, g.source_w = w;
    g.scale = 1, g.padding = s->stride == 1 ? (s->kernel - 1) / 2 : 0;
    g.kernel = s->stride == 1 ? s->kernel : 1;
    g.target_d = s->d, g.target_h = s->h, g.target_w = s->w, g.target_scale = s->stride;
    g.in = s->out_channels, g.out = s->in_channels;
    g.weight_of_out = (size_t)s->out_channels;
    g.weight_of_tap = (ptrdiff_t)s->in_channels * s->out_channels;
    if (flipped != NULL && s->stride > 1) {
        flipped += (size_t)(taps - 1) * (size_t)g.weight_of_tap * c->activation_size;
        g.weight_of_tap = -g.weight_of_tap;
    }
    gather(c, dinp, dout, flipped, NULL, g);
}

/* ---- the weights' gradient ---- */

enum { tile_channels = 48, channels_each = tile_channels / side, voxels_at_once = 32 };

/* partials (splits, out, taps, in): a block multiplies 48 output channels by 48 input channels at one tap,
 * over `split_rows` output voxels. Sums of 32 voxels are added up apart, which keeps them exact. */
template <typename T>
static __global__ void __launch_bounds__(threads)
    weight_product(float *partials, const T *dout, const T *inp, struct gathering g, size_t split_rows)
{
    __shared__ float a[voxels_at_once][tile_channels];
    __shared__ float b[voxels_at_once][tile_channels];
    __shared__ const T *sources[voxels_at_once];
    const int thread = (int)threadIdx.x, column = thread % side, line = thread / side;
    const int in_tiles = (g.in + tile_channels - 1) / tile_channels;
    const int first_in = (int)blockIdx.y % in_tiles * tile_channels;
    const int first_out = (int)blockIdx.y / in_tiles * tile_channels;
    const int tap = (int)blockIdx.z, taps = (int)gridDim.z;
    const size_t rows = (size_t)g.n * g.d * g.h * g.w;
    const size_t begin = blockIdx.x * split_rows, end = min(begin + split_rows, rows);
    float sums[channels_each][channels_each] = {{0}};
    for (size_t first = begin; first < end; first += voxels_at_once) {
        __syncthreads();
        if (thread < voxels_at_once) {
            const size_t row = first + (size_t)thread;
            sources[thread] = row < end ? gathered(inp, voxel_of(row, g.d, g.h, g.w), tap, g) : NULL;
        }
        __syncthreads();
        for (int at = thread; at < voxels_at_once * tile_channels; at += threads) {
            const int k = at / tile_channels, channel = at % tile_channels;
            const int o = first_out + channel, i = first_in + channel;
            const T *source = sources[k];
            a[k][channel] =
                source != NULL && o < g.out ? to_float(dout[(first + (size_t)k) * (size_t)g.out + o]) : 0.0f;
            b[k][channel] = source != NULL && i < g.in ? to_float(source[i]) : 0.0f;
        }
        __syncthreads();
        float partial[channels_each][channels_each] = {{0}};
#pragma unroll 8
        for (int k = 0; k < voxels_at_once; k++) {
#pragma unroll
            for (int m = 0; m < channels_each; m++) {
#pragma unroll
                for (int j = 0; j < channels_each; j++) {
                    partial[m][j] += a[k][line + side * m] * b[k][column + side * j];
                }
            }
        }
        for (int m = 0; m < channels_each; m++) {
            for (int j = 0; j < channels_each; j++) {
                sums[m][j] += partial[m][j];
            }
        }
    }
    for (int m = 0; m < channels_each; m++) {
        for (int j = 0; j < channels_each; j++) {
            const int o = first_out + line + side * m, i = first_in + column + side * j;
            if (o < g.out && i < g.in) {
                partials[(((size_t)blockIdx.x * g.out + o) * taps + tap) * (size_t)g.in + i] = sums[m][j];
            }
        }
    }
}

void direct_conv3d_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                   const activation *inp, const struct conv3d_shape *s)
{
    if (c->status != VOCO_OK) {
        return;
    }
    if (single_channel_fits(s)) {
        single_channel_weight_gradient(c, dweight, dout, inp, s);
        return;
    }
    const int taps = conv3d_taps(s);
    const size_t rows = conv3d_output_voxels(s);
    struct gathering g = {};
    g.n = s->n, g.d = s->d / s->stride, g.h = s->h / s->stride, g.w = s->w / s->stride;
    g.source_d = s->d, g.source_h = s->h, g.source_w = s->w;
    g.scale = s->stride, g.padding = s->stride == 1 ? (s->kernel - 1) / 2 : 0, g.kernel = s->kernel;
    g.in = s->in_channels, g.out = s->out_channels;
    const size_t tiles = divide_up((size_t)g.in, tile_channels) * divide_up((size_t)g.out, tile_channels);
    const size_t wanted = divide_up(8 * (size_t)cuda_state(c)->multiprocessors, tiles * (size_t)taps);
    const size_t most = divide_up(rows, 256);
    const size_t split_rows =
        divide_up(divide_up(rows, wanted < most ? wanted : most), voxels_at_once) * voxels_at_once;
    const size_t splits = divide_up(rows, split_rows);
    const size_t count = (size_t)taps * (size_t)g.in * (size_t)g.out;
    float *partials = (float *)cuda_scratch(c, splits * count * sizeof *partials);
    const dim3 grid((unsigned)splits, (unsigned)tiles, (unsigned)taps);
    if (c->precision == PRECISION_BF16) {
        launch(c, weight_product<bf16>, grid, dim3(threads), 0, partials, (const bf16 *)dout,
               (const bf16 *)inp, g, split_rows);
    } else {
        launch(c, weight_product<float>, grid, dim3(threads), 0, partials, (const float *)dout,
               (const float *)inp, g, split_rows);
    }
    conv3d_add_partials(c, dweight, partials, (int)splits, g.out, g.in, taps);
}
