#include "compute/cpu/kernels/winograd.h"

#include "compute/cpu/packed_weights.h"

int KERNEL(winograd_fits)(const struct conv3d_shape *s)
{
    /* Below, transforms outweigh the products that they save, or the weights at 64 points all activations. */
    enum { least_channels = 12, least_voxels = 5 * 5 * 5 };
    return s->kernel == 3 && s->stride == 1 && s->in_channels >= least_channels &&
           s->out_channels >= least_channels && s->d * s->h * s->w >= least_voxels;
}

/* The weights at the points, kept until they change. */
static const float *weights_of(struct compute *c, const float *weight, const struct conv3d_shape *s,
                               int backward)
{
    const int inner = backward ? s->out_channels : s->in_channels,
              outer = backward ? s->in_channels : s->out_channels;
    int fresh;
    float *at =
        packed_weights(cpu_state(c)->packed, weight, backward ? PACKED_WINOGRAD_BACKWARD : PACKED_WINOGRAD,
                       winograd_weights_length(inner, outer) * sizeof *at, &fresh);
    if (at == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "weights of a convolution");
    } else if (!fresh) {
        KERNEL(winograd_weights)
        (at, weight, s->in_channels, s->out_channels, backward, cpu_state(c)->threads);
    }
    return at;
}

static size_t blocks_of(const struct tiling *t)
{
    return (t->count + tiles_together - 1) / tiles_together;
}

static int tiles_of_block(const struct tiling *t, size_t block)
{
    const size_t left = t->count - block * tiles_together;
    return left < tiles_together ? (int)left : tiles_together;
}

void KERNEL(winograd_convolution)(struct compute *c, activation *result, const activation *first,
                                  const float *weight, const struct conv3d_shape *s, int backward)
{
    const int inner = backward ? s->out_channels : s->in_channels,
              outer = backward ? s->in_channels : s->out_channels;
    const int threads = cpu_state(c)->threads;
    const struct tiling t = cut_tiles(s);
    const size_t inputs = points * point_stride(inner), outputs = points * point_stride(outer);
    const size_t zero_row = float_bytes((size_t)s->w * inner); /* enough for activations */
    const size_t own = (inputs + outputs) * sizeof(float);
    const size_t blocks = blocks_of(&t), panel = winograd_weights_length(inner, outer) / points;
    const float *weights = weights_of(c, weight, s, backward);
    unsigned char *memory = weights != NULL ? cpu_scratch(c, zero_row + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    const activation *zeros = memset(memory, 0, zero_row);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        float *inp = (float *)(memory + zero_row + part * own), *out = inp + inputs;
        memset(inp, 0, inputs * sizeof *inp); /* rows behind the last tile */
        for (size_t b = share_begin(blocks, part, threads); b < share_begin(blocks, part + 1, threads); b++) {
            const int count = tiles_of_block(&t, b);
            KERNEL(winograd_inputs)(inp, first, zeros, b * tiles_together, count, inner, &t);
            for (int p = 0; p < points; p++) {
                KERNEL(winograd_product)
                (out + p * point_stride(outer), inp + p * point_stride(inner), weights + p * panel, count,
                 inner, outer);
            }
            KERNEL(winograd_outputs)(result, out, b * tiles_together, count, outer, &t);
        }
    }
}

void KERNEL(winograd_gradient)(struct compute *c, float *dweight, const activation *dout,
                               const activation *inp, const struct conv3d_shape *s)
{
    const int inner = s->in_channels, outer = s->out_channels, threads = cpu_state(c)->threads;
    const struct tiling t = cut_tiles(s);
    const size_t inputs = points * point_stride(inner), gradients = points * point_stride(outer);
    const size_t point = (size_t)inner * whole_vectors(outer) * lanes, sums = points * point;
    const size_t zero_row = float_bytes((size_t)s->w * inner),
                 /* enough for activations */ own = sums + inputs + gradients;
    const size_t blocks = blocks_of(&t);
    unsigned char *memory = cpu_scratch(c, zero_row + threads * own * sizeof(float));
    if (memory == NULL) {
        return;
    }
    const activation *zeros = memset(memory, 0, zero_row);
    float *work = (float *)(memory + zero_row);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        float *sum = work + part * own, *x = sum + sums, *g = x + inputs;
        memset(sum, 0, sums * sizeof *sum);
        for (size_t b = share_begin(blocks, part, threads); b < share_begin(blocks, part + 1, threads); b++) {
            const int count = tiles_of_block(&t, b);
            KERNEL(winograd_inputs)(x, inp, zeros, b * tiles_together, count, inner, &t);
            KERNEL(winograd_output_gradients)(g, dout, b * tiles_together, count, outer, &t);
            for (int p = 0; p < points; p++) {
                KERNEL(winograd_add_products)
                (sum + p * point, x + p * point_stride(inner), g + p * point_stride(outer), count, inner,
                 outer);
            }
        }
    }
    KERNEL(winograd_add_weight_gradient)(dweight, work, own, threads, inner, outer, threads);
}
