#include "compute/cpu/kernels/winograd.h"

#include "compute/cpu/packed_weights.h"

int KERNEL(winograd_fits)(const struct conv3d_shape *s)
{
    /* Below, transforms outweigh the products that they save, the earlier the faster products are, or the
     * weights at 64 points all activations. */
    enum { least_channels = factors_together == 1 ? 12 : 16, least_voxels = 5 * 5 * 5 };
    return s->kernel == 3 && s->stride == 1 && s->in_channels >= least_channels &&
           s->out_channels >= least_channels && s->d * s->h * s->w >= least_voxels;
}

/* The weights at the points, kept until they change. */
static const factor *weights_of(struct compute *c, const float *weight, const struct conv3d_shape *s,
                                int backward)
{
    const int inner = backward ? s->out_channels : s->in_channels,
              outer = backward ? s->in_channels : s->out_channels;
    int fresh;
    factor *at =
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
    const size_t inputs = float_bytes(points * point_stride(inner)); /* enough for bf16 too */
    const size_t outputs = float_bytes(points * point_stride(outer));
    const size_t zero_row = float_bytes((size_t)s->w * inner), own = inputs + outputs;
    const size_t blocks = blocks_of(&t), panel = winograd_weights_length(inner, outer) / points;
    const factor *weights = weights_of(c, weight, s, backward);
    unsigned char *memory = weights != NULL ? cpu_scratch(c, zero_row + threads * own) : NULL;
    if (memory == NULL) {
        return;
    }
    const activation *zeros = memset(memory, 0, zero_row);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        factor *inp = (factor *)(memory + zero_row + part * own);
        float *out = (float *)(memory + zero_row + part * own + inputs);
        memset(inp, 0, inputs); /* rows behind the last tile */
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

/* One thread's memory. */
struct gradient_work {
    float *sums;                    /* (64, inner, whole vectors of outer) */
    factor *inp, *dout;             /* at the 64 points */
    factor *inp_turns, *dout_turns; /* at one, rows in turns */
};

/* Points the arrays into memory; returns the bytes they take, of which the sums come first. */
static size_t lay_out_work(struct gradient_work *work, unsigned char *memory, int inner, int outer)
{
    const size_t pitch = (size_t)whole_vectors(outer) * lanes;
    const size_t sums = float_bytes(points * (size_t)inner * pitch);
    const size_t inputs = float_bytes(points * point_stride(inner)); /* enough for bf16 too */
    const size_t gradients = float_bytes(points * point_stride(outer));
    const size_t inp_turns = float_bytes(point_stride(inner)), dout_turns = float_bytes(point_stride(outer));
    work->sums = (float *)memory;
    work->inp = (factor *)(memory + sums);
    work->dout = (factor *)(memory + sums + inputs);
    work->inp_turns = (factor *)(memory + sums + inputs + gradients);
    work->dout_turns = (factor *)(memory + sums + inputs + gradients + inp_turns);
    return sums + inputs + gradients + inp_turns + dout_turns;
}

/* Adds the products of one block of tiles, whose inputs and gradients lie at the points. */
static void add_block(const struct gradient_work *work, int count, int inner, int outer)
{
    const int inner_pitch = whole_vectors(inner) * lanes, outer_pitch = whole_vectors(outer) * lanes;
    for (int p = 0; p < points; p++) {
        const factor *inp =
            rows_in_turns(work->inp_turns, work->inp + p * point_stride(inner), count, inner_pitch);
        const factor *dout =
            rows_in_turns(work->dout_turns, work->dout + p * point_stride(outer), count, outer_pitch);
        KERNEL(winograd_add_products)
        (work->sums + p * (size_t)inner * outer_pitch, inp, dout, count, inner, outer);
    }
}

void KERNEL(winograd_gradient)(struct compute *c, float *dweight, const activation *dout,
                               const activation *inp, const struct conv3d_shape *s)
{
    const int inner = s->in_channels, outer = s->out_channels, threads = cpu_state(c)->threads;
    const struct tiling t = cut_tiles(s);
    const size_t zero_row = float_bytes((size_t)s->w * inner), blocks = blocks_of(&t);
    struct gradient_work measured;
    const size_t own = lay_out_work(&measured, NULL, inner, outer);
    unsigned char *memory = cpu_scratch(c, zero_row + threads * own);
    if (memory == NULL) {
        return;
    }
    const activation *zeros = memset(memory, 0, zero_row);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct gradient_work work;
        lay_out_work(&work, memory + zero_row + part * own, inner, outer);
        memset(work.sums, 0, (unsigned char *)work.inp - (unsigned char *)work.sums);
        for (size_t b = share_begin(blocks, part, threads); b < share_begin(blocks, part + 1, threads); b++) {
            const int count = tiles_of_block(&t, b);
            KERNEL(winograd_inputs)(work.inp, inp, zeros, b * tiles_together, count, inner, &t);
            KERNEL(winograd_output_gradients)(work.dout, dout, b * tiles_together, count, outer, &t);
            add_block(&work, count, inner, outer);
        }
    }
    KERNEL(winograd_add_weight_gradient)
    (dweight, (const float *)(memory + zero_row), own / sizeof(float), threads, inner, outer, threads);
}
