#include "compute/cuda/direct_conv3d.cuh"

/* One input channel: little is read, much is written (forward) or summed (the weights' gradient). A block
 * takes a tile of 8 x 64 output voxels (h, w) and what they read into shared memory; a thread has two output
 * channels of one line and walks along w, with the window of input that its voxel reads in registers, and all
 * weights of its channels (or the sums of their gradients) too. */

enum {
    tile_lines = 8,
    tile_width = 64,
    most_pairs = 24, /* pairs of output channels in a block; more are other blocks' */
    most_threads = tile_lines * most_pairs,
    loads_ahead = 4,
};

struct lines {
    int n, d, h, w;                   /* output voxels */
    int source_d, source_h, source_w; /* input */
    int channels, pairs;              /* output channels, and pairs of them in a block */
    int tiles_h, tiles_w;
    size_t tiles;
};

template <int kernel, int stride> struct window {
    enum {
        taps = kernel * kernel * kernel,
        lines = stride * tile_lines + kernel - stride,
        columns = stride * tile_width + kernel - stride,
        pitch = columns + 1,
        padding = stride == 1 ? (kernel - 1) / 2 : 0,
    };
};

struct tile {
    int n, d, h, w; /* its first output voxel */
};

static __device__ __forceinline__ struct tile tile_of(size_t index, const struct lines &g)
{
    struct tile t;
    t.w = (int)(index % (unsigned)g.tiles_w) * tile_width;
    t.h = (int)(index / (unsigned)g.tiles_w % (unsigned)g.tiles_h) * tile_lines;
    t.d = (int)(index / (unsigned)g.tiles_w / (unsigned)g.tiles_h % (unsigned)g.d);
    t.n = (int)(index / (unsigned)g.tiles_w / (unsigned)g.tiles_h / (unsigned)g.d);
    return t;
}

/* What the tile reads, zeros where that is padding. */
template <typename T, int kernel, int stride>
static __device__ __forceinline__ void load_tile(float *shared, const T *inp, struct tile t,
                                                 const struct lines &g)
{
    typedef window<kernel, stride> shape;
    for (int at = (int)threadIdx.x; at < kernel * shape::lines * shape::columns; at += (int)blockDim.x) {
        const int column = at % shape::columns, line = at / shape::columns % shape::lines;
        const int layer = at / shape::columns / shape::lines;
        const int d = t.d * stride + layer - shape::padding, h = t.h * stride + line - shape::padding;
        const int w = t.w * stride + column - shape::padding;
        const int inside = d >= 0 && d < g.source_d && h >= 0 && h < g.source_h && w >= 0 && w < g.source_w;
        const size_t from = (((size_t)t.n * g.source_d + d) * g.source_h + h) * g.source_w + w;
        shared[(layer * shape::lines + line) * shape::pitch + column] = inside ? to_float(inp[from]) : 0.0f;
    }
}

/* The columns of the window that voxel `w` of a line does not share with the voxel before it. The first voxel
 * calls start_window before. */
template <int kernel, int stride>
static __device__ __forceinline__ void load_columns(float x[kernel][kernel][kernel], const float *line, int w,
                                                    int first_column)
{
    typedef window<kernel, stride> shape;
#pragma unroll
    for (int a = 0; a < kernel; a++) {
#pragma unroll
        for (int b = 0; b < kernel; b++) {
#pragma unroll
            for (int k = first_column; k < kernel; k++) {
                x[a][b][k] = line[(a * shape::lines + b) * shape::pitch + stride * w + k];
            }
        }
    }
}

template <int kernel>
static __device__ __forceinline__ void shift_columns(float x[kernel][kernel][kernel], int count)
{
#pragma unroll
    for (int a = 0; a < kernel; a++) {
#pragma unroll
        for (int b = 0; b < kernel; b++) {
#pragma unroll
            for (int k = 0; k < count; k++) {
                x[a][b][k] = x[a][b][k + 1];
            }
        }
    }
}

template <int kernel, int stride>
static __device__ __forceinline__ void next_window(float x[kernel][kernel][kernel], const float *line, int w)
{
    if (stride > 1) {
        load_columns<kernel, stride>(x, line, w, 0);
    } else {
        shift_columns<kernel>(x, kernel - 1);
        load_columns<kernel, stride>(x, line, w, kernel - 1);
    }
}

/* So that next_window of voxel 0 finds its columns where it looks for them. */
template <int kernel, int stride>
static __device__ __forceinline__ void start_window(float x[kernel][kernel][kernel], const float *line)
{
    if (stride == 1) {
        load_columns<kernel, stride>(x, line, -1, 1);
    }
}

static __device__ __forceinline__ void store_pair(bf16 *to, float low, float high)
{
    *(uint32_t *)to = pack_bf16(low, high);
}

static __device__ __forceinline__ void store_pair(float *to, float low, float high)
{
    *(float2 *)to = make_float2(low, high);
}

static __device__ __forceinline__ float2 load_pair(const bf16 *from)
{
    const uint32_t pair = *(const uint32_t *)from;
    return make_float2(low_of(pair), high_of(pair));
}

static __device__ __forceinline__ float2 load_pair(const float *from)
{
    return *(const float2 *)from;
}

template <typename T, int kernel, int stride>
static __global__ void __launch_bounds__(most_threads)
    forward(T *out, const T *inp, const float *weight, const float *bias, struct lines g)
{
    typedef window<kernel, stride> shape;
    __shared__ float shared[kernel * shape::lines * shape::pitch];
    const struct tile t = tile_of(blockIdx.x, g);
    load_tile<T, kernel, stride>(shared, inp, t, g);
    __syncthreads();
    const int line = (int)threadIdx.x / g.pairs, h = t.h + line;
    const int channel = 2 * ((int)blockIdx.y * g.pairs + (int)threadIdx.x % g.pairs);
    if (h >= g.h || channel >= g.channels) {
        return;
    }
    const int both = channel + 1 < g.channels, aligned = g.channels % 2 == 0;
    float low_weights[shape::taps], high_weights[shape::taps], x[kernel][kernel][kernel];
#pragma unroll
    for (int tap = 0; tap < shape::taps; tap++) {
        low_weights[tap] = weight[(size_t)channel * shape::taps + tap];
        high_weights[tap] = both ? weight[(size_t)(channel + 1) * shape::taps + tap] : 0.0f;
    }
    const float low_bias = bias != NULL ? bias[channel] : 0.0f;
    const float high_bias = bias != NULL && both ? bias[channel + 1] : 0.0f;
    const float *from = shared + stride * line * shape::pitch;
    const int width = min(g.w - t.w, (int)tile_width);
    T *to = out + ((((size_t)t.n * g.d + t.d) * g.h + h) * g.w + t.w) * (size_t)g.channels + channel;
    start_window<kernel, stride>(x, from);
#pragma unroll 3
    for (int w = 0; w < width; w++, to += g.channels) {
        float low = low_bias, high = high_bias;
        next_window<kernel, stride>(x, from, w);
#pragma unroll
        for (int tap = 0; tap < shape::taps; tap++) {
            const float factor = x[tap / kernel / kernel][tap / kernel % kernel][tap % kernel];
            low += low_weights[tap] * factor;
            high += high_weights[tap] * factor;
        }
        if (aligned) {
            store_pair(to, low, high);
        } else {
            to[0] = from_float<T>(low);
            if (both) {
                to[1] = from_float<T>(high);
            }
        }
    }
}

/* Adds the thread's products along its line of one tile to its sums. */
template <typename T, int kernel, int stride>
static __device__ __forceinline__ void add_line(float *low_sums, float *high_sums, const T *dout,
                                                const float *from, int width, int channel, int channels)
{
    typedef window<kernel, stride> shape;
    const int both = channel + 1 < channels, aligned = channels % 2 == 0;
    float x[kernel][kernel][kernel];
    start_window<kernel, stride>(x, from);
    for (int first = 0; first < width; first += loads_ahead) {
        float2 gradients[loads_ahead];
#pragma unroll
        for (int k = 0; k < loads_ahead; k++) {
            const T *at = dout + (size_t)(first + k) * (size_t)channels;
            if (first + k >= width) {
                gradients[k] = make_float2(0.0f, 0.0f);
            } else if (aligned) {
                gradients[k] = load_pair(at);
            } else {
                gradients[k] = make_float2(to_float(at[0]), both ? to_float(at[1]) : 0.0f);
            }
        }
#pragma unroll
        for (int k = 0; k < loads_ahead; k++) {
            next_window<kernel, stride>(x, from, first + k);
#pragma unroll
            for (int tap = 0; tap < shape::taps; tap++) {
                const float factor = x[tap / kernel / kernel][tap / kernel % kernel][tap % kernel];
                low_sums[tap] += gradients[k].x * factor;
                high_sums[tap] += gradients[k].y * factor;
            }
        }
    }
}

/* partials: (blocks, channels, taps). Every block sums over each gridDim.x-th tile, line by line; then the
 * lines are added in their order. */
template <typename T, int kernel, int stride>
static __global__ void __launch_bounds__(most_threads)
    weight_gradient(float *partials, const T *dout, const T *inp, struct lines g)
{
    typedef window<kernel, stride> shape;
    __shared__ float shared[kernel * shape::lines * shape::pitch];
    __shared__ float sums[2 * most_pairs * shape::taps];
    const int line = (int)threadIdx.x / g.pairs, pair = (int)threadIdx.x % g.pairs;
    const int first_channel = 2 * (int)blockIdx.y * g.pairs, channel = first_channel + 2 * pair;
    float low_sums[shape::taps], high_sums[shape::taps];
#pragma unroll
    for (int tap = 0; tap < shape::taps; tap++) {
        low_sums[tap] = high_sums[tap] = 0;
    }
    for (size_t index = blockIdx.x; index < g.tiles; index += gridDim.x) {
        const struct tile t = tile_of(index, g);
        const int h = t.h + line;
        __syncthreads();
        load_tile<T, kernel, stride>(shared, inp, t, g);
        __syncthreads();
        if (h < g.h && channel < g.channels) {
            const size_t voxel = (((size_t)t.n * g.d + t.d) * g.h + h) * g.w + t.w;
            add_line<T, kernel, stride>(low_sums, high_sums, dout + voxel * (size_t)g.channels + channel,
                                        shared + stride * line * shape::pitch,
                                        min(g.w - t.w, (int)tile_width), channel, g.channels);
        }
    }
    for (int turn = 0; turn < tile_lines; turn++) {
        if (line == turn) {
            float *low = sums + 2 * pair * shape::taps, *high = low + shape::taps;
#pragma unroll
            for (int tap = 0; tap < shape::taps; tap++) {
                low[tap] = (turn > 0 ? low[tap] : 0.0f) + low_sums[tap];
                high[tap] = (turn > 0 ? high[tap] : 0.0f) + high_sums[tap];
            }
        }
        __syncthreads();
    }
    const int channels_here = min(2 * g.pairs, g.channels - first_channel);
    float *to = partials + ((size_t)blockIdx.x * g.channels + first_channel) * shape::taps;
    for (int at = (int)threadIdx.x; at < channels_here * shape::taps; at += (int)blockDim.x) {
        to[at] = sums[at];
    }
}

int single_channel_fits(const struct conv3d_shape *s)
{
    return s->in_channels == 1 &&
           (s->kernel == 1 || (s->kernel == 3 && s->stride == 1) || (s->kernel == 2 && s->stride == 2));
}

static struct lines lines_of(const struct conv3d_shape *s)
{
    struct lines g;
    const int pairs = (s->out_channels + 1) / 2;
    g.n = s->n, g.d = s->d / s->stride, g.h = s->h / s->stride, g.w = s->w / s->stride;
    g.source_d = s->d, g.source_h = s->h, g.source_w = s->w;
    g.channels = s->out_channels;
    g.pairs = pairs < most_pairs ? pairs : (int)most_pairs;
    g.tiles_h = (int)divide_up((size_t)g.h, tile_lines);
    g.tiles_w = (int)divide_up((size_t)g.w, tile_width);
    g.tiles = (size_t)g.n * (size_t)g.d * (size_t)g.tiles_h * (size_t)g.tiles_w;
    return g;
}

static unsigned blocks_of_channels(const struct lines &g)
{
    return (unsigned)divide_up(divide_up((size_t)g.channels, 2), (size_t)g.pairs);
}

template <typename T, int kernel, int stride>
static void forward_of(struct compute *c, activation *out, const activation *inp, const float *weight,
                       const float *bias, const struct lines &g)
{
    launch(c, forward<T, kernel, stride>, dim3((unsigned)g.tiles, blocks_of_channels(g)),
           dim3((unsigned)(tile_lines * g.pairs)), 0, (T *)out, (const T *)inp, weight, bias, g);
}

template <typename T>
static void forward_in(struct compute *c, activation *out, const activation *inp, const float *weight,
                       const float *bias, const struct conv3d_shape *s)
{
    const struct lines g = lines_of(s);
    if (s->kernel == 3) {
        forward_of<T, 3, 1>(c, out, inp, weight, bias, g);
    } else if (s->kernel == 2) {
        forward_of<T, 2, 2>(c, out, inp, weight, bias, g);
    } else {
        forward_of<T, 1, 1>(c, out, inp, weight, bias, g);
    }
}

void single_channel_forward(struct compute *c, activation *out, const activation *inp, const float *weight,
                            const float *bias, const struct conv3d_shape *s)
{
    if (single_channel_bf16_fits(c, s, out)) {
        single_channel_bf16_forward(c, out, inp, weight, bias, s);
    } else if (c->precision == PRECISION_BF16) {
        forward_in<bf16>(c, out, inp, weight, bias, s);
    } else {
        forward_in<float>(c, out, inp, weight, bias, s);
    }
}

template <typename T, int kernel, int stride>
static void weight_gradient_of(struct compute *c, float *dweight, const activation *dout,
                               const activation *inp, const struct lines &g)
{
    const size_t most_blocks = 4 * (size_t)cuda_state(c)->multiprocessors;
    const size_t blocks = g.tiles < most_blocks ? g.tiles : most_blocks;
    const int taps = window<kernel, stride>::taps;
    float *partials = (float *)cuda_scratch(c, blocks * (size_t)g.channels * (size_t)taps * sizeof *partials);
    launch(c, weight_gradient<T, kernel, stride>, dim3((unsigned)blocks, blocks_of_channels(g)),
           dim3((unsigned)(tile_lines * g.pairs)), 0, partials, (const T *)dout, (const T *)inp, g);
    conv3d_add_partials(c, dweight, partials, (int)blocks, g.channels, 1, taps);
}

template <typename T>
static void weight_gradient_in(struct compute *c, float *dweight, const activation *dout,
                               const activation *inp, const struct conv3d_shape *s)
{
    const struct lines g = lines_of(s);
    if (s->kernel == 3) {
        weight_gradient_of<T, 3, 1>(c, dweight, dout, inp, g);
    } else if (s->kernel == 2) {
        weight_gradient_of<T, 2, 2>(c, dweight, dout, inp, g);
    } else {
        weight_gradient_of<T, 1, 1>(c, dweight, dout, inp, g);
    }
}

void single_channel_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                    const activation *inp, const struct conv3d_shape *s)
{
    if (single_channel_bf16_fits(c, s, dout)) {
        single_channel_bf16_weight_gradient(c, dweight, dout, inp, s);
    } else if (c->precision == PRECISION_BF16) {
        weight_gradient_in<bf16>(c, dweight, dout, inp, s);
    } else {
        weight_gradient_in<float>(c, dweight, dout, inp, s);
    }
}
