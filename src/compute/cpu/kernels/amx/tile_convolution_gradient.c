#include "compute/cpu/kernels/amx/tile_convolution.h"
#include "compute/cpu/kernels/amx/tile_sums.h"

/* The weights' gradient: for each tap, in_channels x positions times positions x out_channels. Sums of tiles
 * lie in memory (taps along d and w, tiles of in_channels,
 * taps along h, tiles of out_channels, 16, 16) and are taken into registers
 * for a stretch of positions at a time. */

enum {
    stretch_positions = 256, /* whose pairs and rows stay in the first-level cache */
    taps = 27,
};

static const size_t strip_bytes =
    (size_t)900 << 10; /* of the transposed strips of three planes: in the second-level cache */

struct gradient_pass {
    struct strip_sizes z;
    struct strip_source source;
    const activation *dout;
    int out_channels;
    const activation *nothing; /* a transposed strip of zeros */
    int planes_together;       /* of a slab */
};

/* One thread's memory. */
struct gradient_work {
    float *sums;
    activation *transposed; /* of plane z at z % (planes_together + 2) */
    activation *pairs;      /* of dout, those of a slab's planes */
};

/* Taps along h are the fastest: they read almost the same. */
static struct tile_rows tap_rows(const struct gradient_pass *p, const struct gradient_work *work, int index)
{
    const int tiles = channel_tiles(p->source.channels), dy = index % plane_taps;
    const int tile = index / plane_taps % tiles, dx = index / plane_taps / tiles % plane_taps;
    return (struct tile_rows){.tap = index / plane_taps / tiles / plane_taps,
                              .offset = dx * transposed_copy_length(&p->z, p->source.channels) +
                                        tile * tile_rows * transposed_pitch(&p->z) + (size_t)dy * p->z.w,
                              .sums = work->sums + (size_t)index * channel_tiles(p->out_channels) *
                                                       tile_rows * tile_columns};
}

static void add_stretch(const struct gradient_pass *p, const struct gradient_work *work,
                        const struct stretch *s)
{
    const int rows = taps * channel_tiles(p->source.channels);
    for (int k = 0; k < rows; k += 2) {
        const struct tile_rows a = tap_rows(p, work, k);
        /* Behind an odd last one, the tile of sums that lies there takes what nobody reads. */
        struct tile_rows b = k + 1 < rows ? tap_rows(p, work, k + 1) : a;
        b.sums = a.sums + (size_t)s->pair_tiles * tile_rows * tile_columns;
        add_row_products(s, &a, &b);
    }
}

static size_t transposed_length(const struct gradient_pass *p)
{
    return plane_taps * transposed_copy_length(&p->z, p->source.channels);
}

/* A strip of `count` planes from strip->depth on, whose neighbourhoods are in work->transposed. */
static void add_slab(const struct gradient_pass *p, const struct gradient_work *work,
                     const struct strip *strip, int count)
{
    const int ring = p->planes_together + border;
    const size_t pair_length = paired_length(&p->z, p->out_channels);
    struct stretch_plane planes[stretch_positions];
    for (int k = 0; k < count; k++) {
        activation *pairs = work->pairs + k * pair_length;
        struct strip at = *strip;
        at.depth += k;
        KERNEL(pair_voxels)(pairs, p->dout, p->out_channels, &at, &p->z);
        planes[k].pairs = pairs;
        for (int tap = 0; tap < plane_taps; tap++) {
            const int depth = at.depth + tap - 1;
            planes[k].rows[tap] = depth < 0 || depth >= p->z.d
                                      ? p->nothing
                                      : work->transposed + depth % ring * transposed_length(p);
        }
    }
    struct stretch s = {.planes = planes,
                        .plane_count = count,
                        .pitch = transposed_pitch(&p->z),
                        .pair_tiles = channel_tiles(p->out_channels)};
    const int positions = rounded_up(strip->rows * p->z.w, tile_depth);
    for (s.first = 0; s.first < positions; s.first += stretch_positions) {
        const int left = positions - s.first;
        s.steps = (left < stretch_positions ? left : stretch_positions) / tile_depth;
        add_stretch(p, work, &s);
    }
}

/* Strips [begin, end). */
static void add_share(const struct gradient_pass *p, const struct gradient_work *work, size_t begin,
                      size_t end)
{
    const int ring = p->planes_together + border;
    int transposed = 0; /* planes before this one are there */
    for (size_t index = begin; index < end;) {
        const struct strip strip = strip_at(&p->z, index);
        const size_t in_grid = p->z.d - strip.depth, left = end - index < in_grid ? end - index : in_grid;
        const int count = left < (size_t)p->planes_together ? (int)left : p->planes_together;
        if (index == begin || strip.depth == 0) {
            transposed = strip.depth > 0 ? strip.depth - 1 : 0;
        }
        for (; transposed < p->z.d && transposed <= strip.depth + count; transposed++) {
            struct strip next = strip;
            next.depth = transposed;
            KERNEL(transpose_strip)
            (work->transposed + transposed % ring * transposed_length(p), &p->source, &next, &p->z);
        }
        add_slab(p, work, &strip, count);
        index += count;
    }
}

/* dweight += the sums of all parts, `stride` floats apart. */
static void reduce(float *dweight, const float *sums, size_t stride, int parts, int in_channels,
                   int out_channels)
{
    const size_t in_tiles = channel_tiles(in_channels), out_tiles = channel_tiles(out_channels);
#pragma omp parallel for schedule(static) num_threads(parts)
    for (int out = 0; out < out_channels; out++) {
        for (int in = 0; in < in_channels; in++) {
            for (int tap = 0; tap < taps; tap++) {
                const int dz = tap / 9, dy = tap / 3 % 3, dx = tap % 3;
                const size_t row = ((dz * 3 + dx) * in_tiles + in / tile_rows) * 3 + dy;
                const size_t tile = row * out_tiles + out / tile_columns;
                const float *from =
                    sums + (tile * tile_rows + in % tile_rows) * tile_columns + out % tile_columns;
                float sum = 0;
                for (int part = 0; part < parts; part++) {
                    sum += from[part * stride];
                }
                dweight[((size_t)out * in_channels + in) * taps + tap] += sum;
            }
        }
    }
}

void KERNEL(tile_convolution_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                              const activation *inp, const struct norm_activation *norm,
                                              const struct conv3d_shape *s)
{
    const size_t row = 3 * (size_t)plane_taps * s->w * rounded_up(s->in_channels, tile_rows);
    struct gradient_pass p = {.z = cut_strips(s, row * sizeof(activation), strip_bytes),
                              .source = {.x = inp, .channels = s->in_channels, .norm = norm},
                              .dout = dout,
                              .out_channels = s->out_channels};
    const int wanted = stretch_positions / rounded_up(p.z.rows * s->w, tile_depth);
    p.planes_together = wanted < 1 ? 1 : wanted < s->d ? wanted : s->d;
    const int threads = cpu_state(c)->threads;
    const size_t tiles = ((size_t)taps * channel_tiles(s->in_channels) + 1) * channel_tiles(s->out_channels);
    const size_t sums = tiles * tile_rows * tile_columns * sizeof(float);
    const size_t one = transposed_length(&p) * sizeof(activation);
    const size_t transposed = one * (p.planes_together + border);
    const size_t pairs = paired_length(&p.z, s->out_channels) * p.planes_together * sizeof(activation);
    const size_t own = sums + transposed + pairs, count = strip_count(&p.z);
    unsigned char *memory = cpu_scratch(c, one + threads * own);
    if (memory == NULL) {
        return;
    }
    p.nothing = memset(memory, 0, one);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        unsigned char *mine = memset(memory + one + part * own, 0, own);
        const struct gradient_work work = {.sums = (float *)mine,
                                           .transposed = (activation *)(mine + sums),
                                           .pairs = (activation *)(mine + sums + transposed)};
        configure_tiles(tile_depth);
        add_share(&p, &work, share_begin(count, part, threads), share_begin(count, part + 1, threads));
        _tile_release();
    }
    reduce(dweight, (const float *)(memory + one), own / sizeof(float), threads, s->in_channels,
           s->out_channels);
}
