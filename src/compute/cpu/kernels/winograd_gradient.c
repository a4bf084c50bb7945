#include "compute/cpu/kernels/winograd.h"

struct gradient_pass {
    struct tiling t;
    struct winograd_input input;
    const activation *dout;
    int out_channels;
};

/* One thread's memory, with inner and outer for the channels of input and output. */
struct gradient_work {
    float *sums; /* (points, depth_taps, inner, whole vectors of outer) */
    struct plane_ring inp;
    factor *dout;                   /* (planes, plane_length) */
    factor *inp_turns, *dout_turns; /* at one point, of all planes, rows in turns */
};

/* Points the arrays into memory; returns the bytes they take, of which the sums come first. */
static size_t lay_out_work(struct gradient_work *work, unsigned char *memory, int inner, int outer,
                           const struct tiling *t)
{
    const size_t pitch = (size_t)whole_vectors(outer) * lanes, slots = t->planes + depth_taps - 1;
    const size_t sums = float_bytes(points * depth_taps * (size_t)inner * pitch);
    const size_t inputs = float_bytes(slots * plane_length(inner)); /* enough for bf16 too */
    const size_t gradients = float_bytes(t->planes * plane_length(outer));
    const size_t inp_turns = float_bytes(slots * point_stride(inner));
    const size_t dout_turns = float_bytes(t->planes * point_stride(outer));
    work->sums = (float *)memory;
    work->inp = (struct plane_ring){.at = (factor *)(memory + sums), .slots = (int)slots};
    work->dout = (factor *)(memory + sums + inputs);
    work->inp_turns = (factor *)(memory + sums + inputs + gradients);
    work->dout_turns = (factor *)(memory + sums + inputs + gradients + inp_turns);
    return sums + inputs + gradients + inp_turns + dout_turns;
}

/* Adds the products of one block at point p, whose inputs and gradients lie at the points. */
static void add_point(const struct gradient_pass *pass, const struct gradient_work *work,
                      const struct tile_block *block, int p)
{
    const int inner = pass->input.channels, outer = pass->out_channels, reach = depth_taps / 2;
    const int inner_pitch = whole_vectors(inner) * lanes, outer_pitch = whole_vectors(outer) * lanes;
    const factor *inp[most_planes + depth_taps - 1], *dout[most_planes];
    for (int k = 0; k < block->planes + depth_taps - 1; k++) {
        const factor *at = ring_plane(&work->inp, block->depth + k - reach, inner, &pass->t);
        inp[k] = at == NULL ? NULL
                            : rows_in_turns(work->inp_turns + k * point_stride(inner),
                                            at + p * point_stride(inner), block->count, inner_pitch);
    }
    for (int k = 0; k < block->planes; k++) {
        dout[k] = rows_in_turns(work->dout_turns + k * point_stride(outer),
                                work->dout + k * plane_length(outer) + p * point_stride(outer), block->count,
                                outer_pitch);
    }
    float *sums = work->sums + (size_t)p * depth_taps * inner * outer_pitch;
    for (int tap = 0; tap < depth_taps; tap++, sums += (size_t)inner * outer_pitch) {
        struct row_pair pairs[most_planes];
        for (int k = 0; k < block->planes; k++) {
            pairs[k] = (struct row_pair){.inp = inp[k + tap], .dout = dout[k]};
        }
        KERNEL(add_products_over_rows)(sums, pairs, block->planes, block->count, inner, outer);
    }
}

static void add_share(const struct gradient_pass *p, struct gradient_work *work, size_t begin, size_t end)
{
    memset(work->sums, 0, (unsigned char *)work->inp.at - (unsigned char *)work->sums);
    for (size_t index = begin; index < end; index++) {
        const struct tile_block block = block_of(&p->t, index);
        KERNEL(winograd_inputs)(&work->inp, &p->input, &block, &p->t, index > begin && block.depth > 0);
        for (int k = 0; k < block.planes; k++) {
            KERNEL(winograd_output_gradients)
            (work->dout + k * plane_length(p->out_channels), p->dout, p->out_channels, &block,
             block.depth + k, &p->t);
        }
        for (int point = 0; point < points; point++) {
            add_point(p, work, &block, point);
        }
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
    if (KERNEL(winograd_grids_are_small)(&p.t, s, threads)) {
        KERNEL(winograd_gradient_of_small_grids)(c, dweight, dout, &p.input, &p.t, s->out_channels);
        return;
    }
    struct gradient_work measured;
    const size_t own = lay_out_work(&measured, NULL, s->in_channels, s->out_channels, &p.t);
    unsigned char *memory = cpu_scratch(c, threads * own);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct gradient_work work;
        lay_out_work(&work, memory + part * own, s->in_channels, s->out_channels, &p.t);
        add_share(&p, &work, share_begin(p.t.blocks, part, threads),
                  share_begin(p.t.blocks, part + 1, threads));
    }
    KERNEL(winograd_add_weight_gradient)
    (dweight, (const float *)memory, own / sizeof(float), threads, s->in_channels, s->out_channels, threads);
}
