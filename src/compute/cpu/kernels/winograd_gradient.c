#include "compute/cpu/kernels/winograd.h"

struct gradient_pass {
    struct tiling t;
    struct winograd_input input;
    const activation *dout;
    int out_channels;
};

/* One thread's memory, with inner and outer for the channels of input and output. */
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

static void add_share(const struct gradient_pass *p, const struct gradient_work *work, size_t begin,
                      size_t end)
{
    memset(work->sums, 0, (unsigned char *)work->inp - (unsigned char *)work->sums);
    for (size_t index = begin; index < end; index++) {
        const struct tile_block block = block_of(&p->t, index);
        KERNEL(winograd_inputs)(work->inp, &p->input, &block, &p->t);
        KERNEL(winograd_output_gradients)(work->dout, p->dout, p->out_channels, &block, &p->t);
        add_block(work, block.count, p->input.channels, p->out_channels);
    }
}

void KERNEL(winograd_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                      const activation *inp, const struct norm_activation *norm,
                                      const struct conv3d_shape *s)
{
    const struct gradient_pass p = {.t = cut_tiles(s),
                                    .input = winograd_input(inp, s->in_channels, norm),
                                    .dout = dout,
                                    .out_channels = s->out_channels};
    const int threads = cpu_state(c)->threads;
    struct gradient_work measured;
    const size_t own = lay_out_work(&measured, NULL, s->in_channels, s->out_channels);
    unsigned char *memory = cpu_scratch(c, threads * own);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct gradient_work work;
        lay_out_work(&work, memory + part * own, s->in_channels, s->out_channels);
        add_share(&p, &work, share_begin(p.t.blocks, part, threads),
                  share_begin(p.t.blocks, part + 1, threads));
    }
    KERNEL(winograd_add_weight_gradient)
    (dweight, (const float *)memory, own / sizeof(float), threads, s->in_channels, s->out_channels, threads);
}
