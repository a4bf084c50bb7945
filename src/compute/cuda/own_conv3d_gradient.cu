/* The weights' gradient of own_conv3d.cuh, but for what own_conv3d_wide_gradient.cu does.
 *
 * dweight (tap, in, out) is a sum over voxels v of inp[v + tap] dout[v]. A block has the nine taps of one
 * plane kd of the kernel, a slice of the input and one of the output channels, and a share of the volumes'
 * planes, 16 x 16 voxels of each: it holds its sums in registers over all of them, writes them to scratch
 * memory, and a second kernel adds the blocks' sums in their order.
 *
 * The sums of a block are `slabs` of 16 input channels of one tap, each times all output channels of the
 * slice. A product is of four slabs, one for each of the block's warps, and 16 voxels of a row. Voxels are
 * the inner dimension, but neighbours in memory are channels: both sides are read transposed. Two blocks
 * share a multiprocessor, so that one multiplies while the other fetches and normalises. */
#include "compute/cuda/own_conv3d.cuh"
#include "compute/cuda/own_conv3d_gradient.cuh"

enum {
    block_threads = 128,
    block_warps = block_threads / warp_size,
    kernel_area = 9,
};

template <int channels> struct gradient_tiles {
    typedef tile_plane<tile_edge + 2, tile_edge + 2, channels> input;
    typedef tile_plane<tile_edge, tile_edge, channels> output;
    static constexpr int bytes = input::bytes + output::bytes;
    static constexpr int slabs = kernel_area * channels / 16;
    static constexpr int products = (slabs + block_warps - 1) / block_warps; /* for 16 voxels */
    static constexpr int sums = channels / 2; /* of a thread, for each product */
};

/* Where a step's planes lie. */
struct gradient_step {
    volume_plane input, output;
    int h0, w0;
    tile_norm norm;

    __device__ __forceinline__ gradient_step(const gradient_planes &g, int step, int kd, int first_in,
                                             int first_out)
    {
        const int d = step % g.d, tile = step / g.d % (g.tiles_h * g.tiles_w);
        const int sample = step / g.d / (g.tiles_h * g.tiles_w), input_d = d + kd - 1;
        const int there = (unsigned)input_d < (unsigned)g.d; /* else the plane is zeros: outside everywhere */
        h0 = tile / g.tiles_w * tile_edge;
        w0 = tile % g.tiles_w * tile_edge;
        input.first =
            g.inp + first_in + ((size_t)sample * g.d + (there ? input_d : 0)) * g.h * g.w * g.in_channels;
        input.h = there ? g.h : 0;
        input.w = g.w;
        input.stride = g.in_channels;
        output.first = g.dout + first_out + ((size_t)sample * g.d + d) * g.h * g.w * g.out_channels;
        output.h = g.h;
        output.w = g.w;
        output.stride = g.out_channels;
        norm = g.norm;
        if (norm.mean != NULL) {
            norm.mean += (size_t)sample * g.in_channels + first_in;
            norm.rstd += (size_t)sample * g.in_channels + first_in;
        }
    }
};

template <int channels>
static __device__ __forceinline__ void copy_step(unsigned char *to, const gradient_step &step)
{
    typedef gradient_tiles<channels> tiles;
    copy_plane<typename tiles::input, block_threads, 4>(to, step.input, step.h0 - 1, step.w0 - 1);
    copy_plane<typename tiles::output, block_threads, 4>(to + tiles::input::bytes, step.output, step.h0,
                                                         step.w0);
    copy_async_commit();
}

/* The slab of this warp in a product; beyond the last one the last one again, which nobody writes. */
template <int channels> static __device__ __forceinline__ int slab_of(int product)
{
    const int slab = product * block_warps + (int)threadIdx.x / warp_size;
    return min(slab, gradient_tiles<channels>::slabs - 1);
}

/* The sums of a thread. */
template <int channels> struct gradient_sums {
    float of[gradient_tiles<channels>::products][gradient_tiles<channels>::sums];
};

/* Where this lane's rows of the products' left sides start in a plane of the input, in bytes. */
template <int channels> struct left_rows {
    typedef gradient_tiles<channels> tiles;
    typedef typename tiles::input in;
    int row[tiles::products];

    __device__ __forceinline__ left_rows()
    {
        const int lane = (int)threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
        for (int p = 0; p < tiles::products; p++) {
            const int slab = slab_of<channels>(p), area = slab / (channels / 16),
                      sixteen = slab % (channels / 16);
            row[p] = (2 * sixteen + matrix % 2) * in::group_bytes + area / 3 * in::row_bytes +
                     (area % 3 + matrix / 2 * 8 + lane % 8) * 16;
        }
    }
};

/* sums += what one plane gives. */
template <int channels>
static __device__ __forceinline__ void multiply_plane(gradient_sums<channels> &sums,
                                                      const unsigned char *input, const unsigned char *output)
{
    typedef gradient_tiles<channels> tiles;
    typedef typename tiles::input in;
    typedef typename tiles::output out;
    const int lane = (int)threadIdx.x % warp_size, matrix = lane / 8;
    const left_rows<channels> rows;
    const unsigned char *b_row = output + matrix / 2 * out::group_bytes + (matrix % 2 * 8 + lane % 8) * 16;
#pragma unroll 1
    for (int h = 0; h < tile_edge; h++) {
        uint32_t a[tiles::products][4];
#pragma unroll
        for (int p = 0; p < tiles::products; p++) {
            load_matrices_transposed(a[p], input + h * in::row_bytes + rows.row[p]);
        }
#pragma unroll
        for (int pair = 0; pair < channels / 16; pair++) {
            uint32_t b[4];
            load_matrices_transposed(b, b_row + h * out::row_bytes + 2 * pair * out::group_bytes);
#pragma unroll
            for (int p = 0; p < tiles::products; p++) {
                multiply_add_bf16(&sums.of[p][8 * pair], a[p], &b[0]);
                multiply_add_bf16(&sums.of[p][8 * pair + 4], a[p], &b[2]);
            }
        }
    }
}

/* To partial (splits, taps, in channels, out channels). */
template <int channels>
static __device__ __forceinline__ void
write_sums(const gradient_planes &g, const gradient_sums<channels> &sums, int kd, int first_in, int first_out)
{
    typedef gradient_tiles<channels> tiles;
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
#pragma unroll
    for (int p = 0; p < tiles::products; p++) {
        const int slab = slab_of<channels>(p), tap = kd * kernel_area + slab / (channels / 16);
        const int i = first_in + slab % (channels / 16) * 16 + lane / 4, o = first_out + lane % 4 * 2;
        float *to =
            g.partial + (((size_t)blockIdx.x * kernel_taps + tap) * g.in_channels + i) * g.out_channels + o;
        if (p * block_warps + warp < tiles::slabs) {
#pragma unroll
            for (int octet = 0; octet < channels / 8; octet++) {
                const float *values = &sums.of[p][4 * octet];
                *(float2 *)(to + 8 * octet) = make_float2(values[0], values[1]);
                *(float2 *)(to + (size_t)8 * g.out_channels + 8 * octet) = make_float2(values[2], values[3]);
            }
        }
    }
}

/* Blocks: x: the split of the steps; y: kd, then the slices of input and output channels. */
template <int channels>
static __global__ void __launch_bounds__(block_threads, 2) sum_gradient(const gradient_planes g)
{
    typedef gradient_tiles<channels> tiles;
    dynamic_shared(unsigned char, shared);
    const int slices_out = g.out_channels / channels, kd = (int)blockIdx.y % 3;
    const int first_out = (int)blockIdx.y / 3 % slices_out * channels;
    const int first_in = (int)blockIdx.y / 3 / slices_out * channels;
    const int begin = (int)((long long)g.steps * blockIdx.x / gridDim.x);
    const int end = (int)((long long)g.steps * (blockIdx.x + 1) / gridDim.x);
    gradient_sums<channels> sums;
#pragma unroll
    for (int p = 0; p < tiles::products; p++) {
#pragma unroll
        for (int k = 0; k < tiles::sums; k++) {
            sums.of[p][k] = 0;
        }
    }
    if (begin < end) {
        copy_step<channels>(shared, gradient_step(g, begin, kd, first_in, first_out));
    }
#pragma unroll 1
    for (int step = begin; step < end; step++) {
        unsigned char *current = shared + (step - begin) % 2 * tiles::bytes;
        copy_async_wait<0>();
        if (g.norm.mean != NULL) {
            const gradient_step now(g, step, kd, first_in, first_out);
            normalise_plane<typename tiles::input, block_threads, 4>(current, now.input, now.h0 - 1,
                                                                     now.w0 - 1, now.norm);
        }
        __syncthreads(); /* the planes are there, and nobody reads those of the step before */
        if (step + 1 < end) {
            copy_step<channels>(shared + (step - begin + 1) % 2 * tiles::bytes,
                                gradient_step(g, step + 1, kd, first_in, first_out));
        }
        multiply_plane<channels>(sums, current, current + tiles::input::bytes);
    }
    write_sums<channels>(g, sums, kd, first_in, first_out);
}

/* dweight (out, in, taps) += the partial sums (splits, taps, in, out), in their order. */
static __global__ void add_partials(float *dweight, const float *partial, int splits, int ins, int outs)
{
    const int count = kernel_taps * ins * outs, k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (k < count) {
        const int o = k % outs, i = k / outs % ins, tap = k / outs / ins;
        float sum = 0;
#pragma unroll 8
        for (int split = 0; split < splits; split++) {
            sum += partial[(size_t)split * count + k];
        }
        dweight[((size_t)o * ins + i) * kernel_taps + tap] += sum;
    }
}

template <int channels> static void launch_gradient(struct compute *c, const gradient_planes &g, dim3 grid)
{
    const size_t shared = 2 * (size_t)gradient_tiles<channels>::bytes;
    launch(c, sum_gradient<channels>, grid, dim3(block_threads), shared, g);
}

void own_conv3d_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                const activation *inp, const struct norm_activation *norm,
                                const struct conv3d_shape *shape)
{
    const int ins = shape->in_channels, outs = shape->out_channels;
    const int channels = ins % 48 == 0 && outs % 48 == 0 ? 48 : 16;
    const int kinds = 3 * (ins / channels) * (outs / channels);
    if (channels == 48 && cuda_state(c)->major == 9 && !own_conv3d_by_warps) {
        if (norm != NULL || !own_conv3d_boxed_weight_gradient(c, dweight, dout, inp, shape)) {
            own_conv3d_wide_weight_gradient(c, dweight, dout, inp, norm, shape);
        }
        return;
    }
    gradient_planes g = gradient_planes_of(dout, inp, norm, shape);
    const int wanted = 2 * cuda_state(c)->multiprocessors / kinds;
    const int splits = wanted < 1 ? 1 : wanted < g.steps ? wanted : g.steps;
    const int count = kernel_taps * ins * outs;
    g.partial = (float *)cuda_scratch(c, (size_t)splits * count * sizeof(float));
    const dim3 grid((unsigned)splits, (unsigned)kinds);
    if (channels == 48) {
        launch_gradient<48>(c, g, grid);
    } else {
        launch_gradient<16>(c, g, grid);
    }
    launch(c, add_partials, dim3((unsigned)divide_up((size_t)count, 256)), dim3(256), 0, dweight, g.partial,
           splits, ins, outs);
}
