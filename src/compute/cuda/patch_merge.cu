#include "compute/cuda/leaves.cuh"
#include "compute/cuda/vector.cuh"

/* The grid of tokens that is merged, and that of merged ones. */
struct merge_shape {
    int d, h, w;
    int half_d, half_h, half_w;
    int channels;
};

static struct merge_shape merge_shape_of(int d, int h, int w, int channels)
{
    const struct merge_shape shape = {d, h, w, (d + 1) / 2, (h + 1) / 2, (w + 1) / 2, channels};
    return shape;
}

/* Bits 4j to 4j + 2: the offset of the order's neighbour j, as 4 d + 2 h + w. */
static uint32_t offsets_of(enum patch_merging order)
{
    uint32_t offsets = 0;
    for (int j = 0; j < 8; j++) {
        int offset[3];
        patch_merging_offset(order, j, offset);
        offsets |= (uint32_t)(4 * offset[0] + 2 * offset[1] + offset[2]) << (4 * j);
    }
    return offsets;
}

/* A block has one line of merged tokens, (sample, d, h). */
template <typename T, int width>
static __global__ void merge_patches(T *out, const T *inp, uint32_t offsets, merge_shape s)
{
    const unsigned groups = (unsigned)(s.channels / width), line = blockIdx.x;
    const int y = (int)(line % s.half_h) * 2, z = (int)(line / s.half_h % s.half_d) * 2;
    const size_t sample = line / s.half_h / s.half_d;
    T *to = out + (size_t)line * s.half_w * 8 * s.channels;
    for (unsigned k = threadIdx.x; k < s.half_w * 8 * groups; k += blockDim.x) {
        const unsigned neighbour = k / groups, group = k - neighbour * groups;
        const uint32_t offset = offsets >> (neighbour % 8 * 4) & 7;
        const int from_z = z + (int)(offset >> 2), from_y = y + (int)(offset >> 1 & 1);
        const int from_x = (int)(neighbour / 8) * 2 + (int)(offset & 1);
        vector<T, width> value = {};
        if (from_z < s.d && from_y < s.h && from_x < s.w) {
            const size_t token = ((sample * s.d + from_z) * s.h + from_y) * s.w + from_x;
            value = load_vector<width>(inp + token * s.channels + group * width);
        }
        store_vector(to + (size_t)k * width, value);
    }
}

/* A block has one line of tokens, and adds up what became of each. */
template <typename T, int width>
static __global__ void divide_patches(T *dinp, const T *dout, uint32_t offsets, merge_shape s)
{
    const unsigned groups = (unsigned)(s.channels / width), line = blockIdx.x;
    const int y = (int)(line % s.h), z = (int)(line / s.h % s.d);
    const size_t sample = line / s.h / s.d;
    const size_t merged = ((sample * s.half_d + z / 2) * s.half_h + y / 2) * s.half_w;
    T *to = dinp + (size_t)line * s.w * s.channels;
    for (unsigned k = threadIdx.x; k < s.w * groups; k += blockDim.x) {
        const unsigned x = k / groups, group = k - x * groups;
        const uint32_t own = (uint32_t)(z & 1) << 2 | (uint32_t)(y & 1) << 1 | (x & 1);
        const T *from = dout + (merged + x / 2) * 8 * s.channels + group * width;
        float sum[width] = {};
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if ((offsets >> (4 * j) & 7) == own) {
                const vector<T, width> value = load_vector<width>(from + (size_t)j * s.channels);
#pragma unroll
                for (int i = 0; i < width; i++) {
                    sum[i] += to_float(value.value[i]);
                }
            }
        }
        vector<T, width> result;
#pragma unroll
        for (int i = 0; i < width; i++) {
            result.value[i] = from_float<T>(sum[i]);
        }
        store_vector(to + (size_t)k * width, result);
    }
}

/* Threads of a block that does `vectors` vectors. */
static dim3 threads_for(size_t vectors)
{
    return dim3(vectors >= 256 ? 256 : (unsigned)(divide_up(vectors, warp_size) * warp_size));
}

void cuda_patch_merge_forward(struct compute *c, activation *out, const activation *inp,
                              enum patch_merging order, int n, int d, int h, int w, int channels)
{
    const struct written_ranges written(
        c, {range_of(c, out, (size_t)n * ((d + 1) / 2) * ((h + 1) / 2) * ((w + 1) / 2) * 8 * channels)});
    const struct merge_shape s = merge_shape_of(d, h, w, channels);
    const dim3 lines((unsigned)((size_t)n * s.half_d * s.half_h));
    with_vectors(c, (size_t)channels, all_aligned(out, inp), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        launch(c, merge_patches<T, decltype(kind)::width>, lines,
               threads_for((size_t)s.half_w * 8 * channels / decltype(kind)::width), 0, (T *)out,
               (const T *)inp, offsets_of(order), s);
    });
}

void cuda_patch_merge_backward(struct compute *c, activation *dinp, const activation *dout,
                               enum patch_merging order, int n, int d, int h, int w, int channels)
{
    const struct written_ranges written(c, {range_of(c, dinp, (size_t)n * d * h * w * channels)});
    const struct merge_shape s = merge_shape_of(d, h, w, channels);
    const dim3 lines((unsigned)((size_t)n * d * h));
    with_vectors(c, (size_t)channels, all_aligned(dinp, dout), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        launch(c, divide_patches<T, decltype(kind)::width>, lines,
               threads_for((size_t)w * channels / decltype(kind)::width), 0, (T *)dinp, (const T *)dout,
               offsets_of(order), s);
    });
}
