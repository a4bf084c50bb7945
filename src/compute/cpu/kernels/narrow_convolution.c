#include "compute/cpu/kernels/narrow_convolution.h"

void KERNEL(pad_slab)(float *padded, const activation *inp, const struct slabs *b, size_t slab)
{
    const size_t sample = slab / b->per_sample, line = (size_t)b->w * b->channels;
    const int first = slab_begin(b, slab) - 1, end = slab_end(b, slab) + 1;
    for (int z = first; z < end; z++, padded += b->plane) {
        if (z < 0 || z >= b->d) {
            memset(padded, 0, b->plane * sizeof *padded);
            continue;
        }
        memset(padded, 0, b->row * sizeof *padded);
        memset(padded + (b->h + 1) * b->row, 0, b->row * sizeof *padded);
        for (int y = 0; y < b->h; y++) {
            float *row = padded + (y + 1) * b->row;
            memset(row, 0, b->channels * sizeof *row);
            floats_of(row + b->channels, inp + ((sample * b->d + z) * b->h + y) * line, line);
            memset(row + b->channels + line, 0, b->channels * sizeof *row);
        }
    }
}

/* One tile of voxels: out (tile, out_channels) from the padded voxels around, `inp` the corner of the first.
 * weights (9, 3 channels, vectors x lanes). */
static ALWAYS_INLINE void convolve_tile(activation *out, const float *inp, const float *weights, size_t row,
                                        size_t plane, int channels, int out_channels, int vectors, int tile)
{
    vec sum[accumulators] = {{0}};
    for (int zy = 0; zy < 9; zy++) {
        const float *from = inp + zy / 3 * plane + zy % 3 * row;
        for (int j = 0; j < 3 * channels; j++, from++, weights += vectors * lanes) {
            vec weight[most_vectors];
            for (int v = 0; v < vectors; v++) {
                weight[v] = load(weights + v * lanes);
            }
#pragma GCC unroll 24
            for (int t = 0; t < tile; t++) {
                for (int v = 0; v < vectors; v++) {
                    sum[t * vectors + v] += from[t * channels] * weight[v];
                }
            }
        }
    }
#pragma GCC unroll 24
    for (int t = 0; t < tile; t++) {
        for (int v = 0; v < vectors; v++) {
            const int left = out_channels - v * lanes;
            store_activations_part(out + t * out_channels + v * lanes, sum[t * vectors + v],
                                   left < lanes ? left : lanes);
        }
    }
}

static ALWAYS_INLINE void convolve_row(activation *out, const float *inp, const float *weights,
                                       const struct slabs *b, int channels, int out_channels, int vectors)
{
    const int tile = accumulators / vectors, small = tile >= 8 ? tile / 4 : 1;
    int x = 0;
    for (; x + tile <= b->w; x += tile) {
        convolve_tile(out + (size_t)x * out_channels, inp + (size_t)x * channels, weights, b->row, b->plane,
                      channels, out_channels, vectors, tile);
    }
    for (; x + small <= b->w; x += small) {
        convolve_tile(out + (size_t)x * out_channels, inp + (size_t)x * channels, weights, b->row, b->plane,
                      channels, out_channels, vectors, small);
    }
    for (; x < b->w; x++) {
        convolve_tile(out + (size_t)x * out_channels, inp + (size_t)x * channels, weights, b->row, b->plane,
                      channels, out_channels, vectors, 1);
    }
}

static ALWAYS_INLINE void convolve_slab(activation *out, const float *padded, const float *weights,
                                        const struct slabs *b, size_t slab, int channels, int out_channels,
                                        int vectors)
{
    const size_t sample = slab / b->per_sample;
    for (int z = slab_begin(b, slab); z < slab_end(b, slab); z++, padded += b->plane) {
        for (int y = 0; y < b->h; y++) {
            convolve_row(out + ((sample * b->d + z) * b->h + y) * b->w * out_channels, padded + y * b->row,
                         weights, b, channels, out_channels, vectors);
        }
    }
}

/* The counts of vectors that `convolve_slab` is unrolled for. */
static ALWAYS_INLINE void convolve_slab_of(activation *out, const float *padded, const float *weights,
                                           const struct slabs *b, size_t slab, int channels, int out_channels,
                                           int vectors)
{
    switch (vectors) {
    case 1:
        convolve_slab(out, padded, weights, b, slab, channels, out_channels, 1);
        break;
    case 2:
        convolve_slab(out, padded, weights, b, slab, channels, out_channels, 2);
        break;
    case 3:
        convolve_slab(out, padded, weights, b, slab, channels, out_channels, 3);
        break;
    default:
        convolve_slab(out, padded, weights, b, slab, channels, out_channels, 6);
    }
}

int KERNEL(narrow_convolution_fits)(int in_channels, int out_channels)
{
    return (in_channels == 1 || in_channels == 12 || in_channels == 24) &&
           (out_channels == 12 || out_channels == 24);
}

/* packed (27, inner, vectors x lanes): for forward from weight (outer, inner, 27); for backward with the taps
 * mirrored, from weight (inner, outer, 27). */
static void pack_weights(float *packed, const float *weight, int inner, int outer, int backward)
{
    const int padded = (outer + lanes - 1) / lanes * lanes;
    for (int tap = 0; tap < 27; tap++) {
        for (int i = 0; i < inner; i++, packed += padded) {
            for (int o = 0; o < padded; o++) {
                const size_t place =
                    backward ? ((size_t)i * outer + o) * 27 + 26 - tap : ((size_t)o * inner + i) * 27 + tap;
                packed[o] = o < outer ? weight[place] : 0;
            }
        }
    }
}

void KERNEL(narrow_convolution)(struct compute *c, activation *result, const activation *first,
                                const float *weight, const struct conv3d_shape *s, int backward)
{
    const int inner = backward ? s->out_channels : s->in_channels;
    const int outer = backward ? s->in_channels : s->out_channels;
    const int threads = cpu_state(c)->threads, vectors = (outer + lanes - 1) / lanes;
    const struct slabs b = cut_slabs(s, inner);
    const size_t packed = float_bytes((size_t)27 * inner * vectors * lanes);
    const size_t slab_bytes = float_bytes(padded_slab_length(&b)), count = s->n * b.per_sample;
    unsigned char *memory = cpu_scratch(c, packed + threads * slab_bytes);
    if (memory == NULL) {
        return;
    }
    float *weights = (float *)memory;
    pack_weights(weights, weight, inner, outer, backward);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        float *padded = (float *)(memory + packed + part * slab_bytes);
        for (size_t slab = share_begin(count, part, threads); slab < share_begin(count, part + 1, threads);
             slab++) {
            KERNEL(pad_slab)(padded, first, &b, slab);
            switch (inner) {
            case 1:
                convolve_slab_of(result, padded, weights, &b, slab, 1, outer, vectors);
                break;
            case 12:
                convolve_slab_of(result, padded, weights, &b, slab, 12, outer, vectors);
                break;
            default:
                convolve_slab_of(result, padded, weights, &b, slab, 24, outer, vectors);
            }
        }
    }
}
