/* The weight's gradient of small grids, where the sums at the points, 36 x 3 for each pair of channels, are
 * more than the rows that they are made of (of 2 grids of 8^3 x 192: 16 MB and 3.5 MB in bf16) and would pass
 * through memory for each thread and block of rows. All planes are brought to the points first. Then a thread
 * makes the sums of a few channels over all rows, at all points, in its own cache, and takes them to the
 * taps.
 */
#include "compute/cpu/kernels/winograd.h"

#include <omp.h>

/* All planes at the points, rows in turns: (points, sequences, d, rows, whole vectors of channels). A
 * sequence is a run of tiles of a grid in all its planes; rows behind its last tile are zeros. */
struct planes_at_points {
    factor *at;
    int channels;
    size_t plane, point; /* elements from one to the next */
};

struct small_pass {
    struct tiling t;
    struct winograd_input input;
    const activation *dout;
    float *dweight;
    int sequences, rows; /* the latter: of a plane, whole pairs */
    struct planes_at_points inp, gradient;
};

/* One thread's memory. */
struct small_work {
    factor *plane;          /* (plane_length) of the channels of either side */
    float *sums;            /* (points, depth_taps, rows_together, vectors of a panel) */
    struct row_pair *pairs; /* (sequences d) */
};

static size_t pitch_of(int channels)
{
    return (size_t)whole_vectors(channels) * lanes;
}

static struct planes_at_points planes_of(const struct small_pass *p, int channels)
{
    const size_t plane = p->rows * pitch_of(channels);
    return (struct planes_at_points){
        .channels = channels, .plane = plane, .point = (size_t)p->sequences * p->t.d * plane};
}

static struct small_pass small_pass(const struct tiling *t, const struct winograd_input *input,
                                    int out_channels)
{
    struct small_pass p = {.t = *t, .input = *input, .sequences = t->n * t->runs};
    p.rows = rounded_up_to(t->block_tiles, factors_together);
    p.inp = planes_of(&p, input->channels);
    p.gradient = planes_of(&p, out_channels);
    return p;
}

int KERNEL(winograd_grids_are_small)(const struct tiling *t, const struct conv3d_shape *s, int threads)
{
    const struct winograd_input input = {.channels = s->in_channels};
    const struct small_pass p = small_pass(t, &input, s->out_channels);
    const size_t rows = points * (p.inp.point + p.gradient.point) * sizeof(factor);
    const size_t sums =
        (size_t)points * depth_taps * s->in_channels * pitch_of(s->out_channels) * sizeof(float);
    return rows < threads * sums;
}

/* Spreads a plane at the points, (points, rows), over the points' arrays. */
static void keep_plane(const struct planes_at_points *planes, size_t index, const factor *plane, int count,
                       int rows)
{
    const int pitch = (int)pitch_of(planes->channels);
    const int whole = rounded_up_to(count, factors_together);
    for (int p = 0; p < points; p++, plane += point_stride(planes->channels)) {
        factor *to = planes->at + p * planes->point + index * planes->plane;
        const factor *in_turns = rows_in_turns(to, plane, count, pitch);
        if (in_turns != to) { /* floats: as they are */
            memcpy(to, in_turns, (size_t)count * pitch * sizeof *to);
        }
        memset(to + (size_t)whole * pitch, 0, (size_t)(rows - whole) * pitch * sizeof *to);
    }
}

static void bring_planes(const struct small_pass *p, const struct small_work *work, size_t index)
{
    const int z = (int)(index % p->t.d), sequence = (int)(index / p->t.d);
    const int first = sequence % p->t.runs * p->t.block_tiles, left = p->t.plane_tiles - first;
    const struct tile_block block = {.grid = sequence / p->t.runs,
                                     .first = first,
                                     .count = left < p->t.block_tiles ? left : p->t.block_tiles,
                                     .depth = z};
    struct plane_ring ring = {.at = work->plane, .slots = 1, .next = z};
    KERNEL(winograd_inputs)(&ring, &p->input, &block, &p->t, 1);
    keep_plane(&p->inp, index, work->plane, block.count, p->rows);
    KERNEL(winograd_output_gradients)(work->plane, p->dout, p->gradient.channels, &block, z, &p->t);
    keep_plane(&p->gradient, index, work->plane, block.count, p->rows);
}

/* The rows that are multiplied at a point for a tap along d. */
static void pair_rows(struct row_pair *pairs, const struct small_pass *p, int point, int tap)
{
    const factor *inp = p->inp.at + point * p->inp.point, *dout = p->gradient.at + point * p->gradient.point;
    for (int sequence = 0; sequence < p->sequences; sequence++) {
        for (int z = 0; z < p->t.d; z++, pairs++, inp += p->inp.plane, dout += p->gradient.plane) {
            const int from = z + tap - depth_taps / 2;
            *pairs = (struct row_pair){
                .inp = from < 0 || from >= p->t.d ? NULL : inp + (from - z) * (ptrdiff_t)p->inp.plane,
                .dout = dout};
        }
    }
}

/* Of rows_together input channels from k on, or as many as are left, and of the panel from vector v on. */
static void add_channels(const struct small_pass *p, const struct small_work *work, int k, int v)
{
    const int inner = p->input.channels, outer = p->gradient.channels;
    const int vectors = vectors_of_panel(v, outer), left = inner - k;
    const size_t row = (size_t)vectors * lanes, depth = rows_together * row;
    const struct sums_at_points layout = {.point = depth_taps * depth, .depth = depth, .parts = 1};
    for (int point = 0; point < points; point++) {
        for (int tap = 0; tap < depth_taps; tap++) {
            pair_rows(work->pairs, p, point, tap);
            KERNEL(panel_products_over_rows)
            (work->sums + point * layout.point + tap * depth, work->pairs, p->sequences * p->t.d, p->rows,
             inner, outer, k, v);
        }
    }
    for (int i = 0; i < rows_together && i < left; i++) {
        for (int part = 0; part < vectors; part++) {
            const int o = (v + part) * lanes, count = outer - o < lanes ? outer - o : lanes;
            KERNEL(winograd_add_taps)
            (p->dweight + ((size_t)o * inner + k + i) * taps, (size_t)inner * taps, count,
             work->sums + i * row + part * lanes, &layout);
        }
    }
}

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct small_work *work, unsigned char *memory, const struct small_pass *p)
{
    const int inner = p->input.channels, outer = p->gradient.channels;
    const size_t plane = float_bytes(plane_length(inner > outer ? inner : outer)); /* enough for bf16 too */
    const size_t sums = float_bytes((size_t)points * depth_taps * rows_together * panel_vectors * lanes);
    work->plane = (factor *)memory;
    work->sums = (float *)(memory + plane);
    work->pairs = (struct row_pair *)(memory + plane + sums);
    return plane + sums + ((size_t)p->sequences * p->t.d * sizeof *work->pairs + 63) / 64 * 64;
}

void KERNEL(winograd_gradient_of_small_grids)(struct compute *c, float *dweight, const activation *dout,
                                              const struct winograd_input *input, const struct tiling *t,
                                              int out_channels)
{
    struct small_pass p = small_pass(t, input, out_channels);
    const int threads = cpu_state(c)->threads;
    const size_t planes = (size_t)p.sequences * t->d;
    const int chunks = (input->channels + rows_together - 1) / rows_together;
    const int panels = (whole_vectors(out_channels) + panel_vectors - 1) / panel_vectors;
    struct small_work measured;
    const size_t own = lay_out_work(&measured, NULL, &p);
    const size_t inputs = float_bytes(points * p.inp.point),
                 gradients = float_bytes(points * p.gradient.point);
    unsigned char *memory = cpu_scratch(c, threads * own + inputs + gradients);
    if (memory == NULL) {
        return;
    }
    p.dout = dout;
    p.dweight = dweight;
    p.inp.at = (factor *)(memory + threads * own);
    p.gradient.at = (factor *)(memory + threads * own + inputs);
#pragma omp parallel num_threads(threads)
    {
        struct small_work work;
        lay_out_work(&work, memory + omp_get_thread_num() * own, &p);
#pragma omp for schedule(static)
        for (size_t index = 0; index < planes; index++) {
            bring_planes(&p, &work, index);
        }
#pragma omp for schedule(static)
        for (int unit = 0; unit < panels * chunks;
             unit++) { /* chunks the faster: a panel stays in the cache */
            add_channels(&p, &work, unit % chunks * rows_together, unit / chunks * panel_vectors);
        }
    }
}
