#include "compute/cpu/kernels/amx/tile_convolution.h"

/* The weights' gradient: for each tap, in_channels x positions times positions x out_channels. Sums of tiles
 * lie in memory (27 taps, tiles of in_channels, tiles of out_channels, 16, 16) and are taken into registers
 * for a stretch of positions at a time. */

enum {
    stretch_positions = 384, /* whose pairs stay in the first-level cache */
    taps = 27,
};

struct gradient_pass {
    struct plane_sizes z;
    struct plane_source source;
    const activation *dout;
    int out_channels;
    const activation *nothing; /* a transposed plane of zeros */
    int planes_together;       /* of a slab */
};

/* One thread's memory. */
struct gradient_work {
    float *sums;
    activation *planes; /* transposed: plane z lies at z % (planes_together + 2) */
    activation *pairs;  /* of dout, those of a slab's planes */
};

/* One plane's part of a stretch. */
struct stretch_plane {
    const activation *inp[plane_taps]; /* transposed planes of the taps along z */
    const activation *pairs;
};

/* Positions of some planes that are summed over without leaving the registers. */
struct stretch {
    const struct stretch_plane *planes;
    int plane_count;
    int first, steps; /* of tile_depth positions */
    size_t pitch;     /* of transposed planes */
    int row;
    int pair_tiles; /* of out_channels */
};

/* A tile's rows: 16 input channels at a tap. */
struct tap_rows {
    int dz;
    size_t offset; /* in a transposed plane */
    float *sums;   /* (tiles of out_channels, 16, 16) */
};

static struct tap_rows tap_rows(const struct gradient_pass *p, const struct gradient_work *work, int index)
{
    const int tiles = channel_tiles(p->source.channels), tap = index / tiles, tile = index % tiles;
    return (struct tap_rows){
        .dz = tap / 9,
        .offset =
            (size_t)tile * tile_rows * transposed_pitch(&p->z) + (size_t)(tap / 3 % 3) * p->z.row + tap % 3,
        .sums = work->sums + (size_t)index * channel_tiles(p->out_channels) * tile_rows * tile_columns};
}

/* Adds the products of two tiles of rows and two of output channels; two: whether there is a second one. */
static ALWAYS_INLINE void add_products_of(const struct stretch *s, const struct tap_rows *a,
                                          const struct tap_rows *b, int tile, int two)
{
    enum { sums_length = tile_rows * tile_columns };
    const size_t pitch = s->pitch * sizeof(activation);
    const size_t pair_pitch = (size_t)s->pair_tiles * tile_columns * 2;
    float *sums_a = a->sums + (size_t)tile * sums_length, *sums_b = b->sums + (size_t)tile * sums_length;
    _tile_loadd(0, sums_a, tile_row_bytes);
    _tile_loadd(2, sums_b, tile_row_bytes);
    if (two) {
        _tile_loadd(1, sums_a + sums_length, tile_row_bytes);
        _tile_loadd(3, sums_b + sums_length, tile_row_bytes);
    }
    for (int plane = 0; plane < s->plane_count; plane++) {
        const struct stretch_plane *at = &s->planes[plane];
        const activation *rows_a = at->inp[a->dz] + a->offset + s->first;
        const activation *rows_b = at->inp[b->dz] + b->offset + s->first;
        const activation *pairs = at->pairs + s->first / 2 * pair_pitch + (size_t)tile * tile_columns * 2;
        for (int k = 0; k < s->steps; k++) {
            _tile_loadd(4, pairs, pair_pitch * sizeof *pairs);
            _tile_loadd(6, rows_a, pitch);
            _tile_dpbf16ps(0, 6, 4);
            if (two) {
                _tile_loadd(5, pairs + 2 * tile_columns, pair_pitch * sizeof *pairs);
                _tile_dpbf16ps(1, 6, 5);
            }
            _tile_loadd(7, rows_b, pitch);
            _tile_dpbf16ps(2, 7, 4);
            if (two) {
                _tile_dpbf16ps(3, 7, 5);
            }
            rows_a += tile_depth;
            rows_b += tile_depth;
            pairs += tile_depth / 2 * pair_pitch;
        }
    }
    _tile_stored(0, sums_a, tile_row_bytes);
    _tile_stored(2, sums_b, tile_row_bytes);
    if (two) {
        _tile_stored(1, sums_a + sums_length, tile_row_bytes);
        _tile_stored(3, sums_b + sums_length, tile_row_bytes);
    }
}

static void add_stretch(const struct gradient_pass *p, const struct gradient_work *work,
                        const struct stretch *s)
{
    const int rows = taps * channel_tiles(p->source.channels);
    for (int k = 0; k < rows; k += 2) {
        const struct tap_rows a = tap_rows(p, work, k);
        /* Behind an odd last one, the tile of sums that lies there takes what nobody reads. */
        struct tap_rows b = k + 1 < rows ? tap_rows(p, work, k + 1) : a;
        b.sums = a.sums + (size_t)s->pair_tiles * tile_rows * tile_columns;
        for (int tile = 0; tile < s->pair_tiles; tile += 2) {
            if (tile + 1 < s->pair_tiles) {
                add_products_of(s, &a, &b, tile, 1);
            } else {
                add_products_of(s, &a, &b, tile, 0);
            }
        }
    }
}

static size_t transposed_length(const struct gradient_pass *p)
{
    return (size_t)channel_tiles(p->source.channels) * tile_rows * transposed_pitch(&p->z);
}

/* Planes first .. first + count - 1 of a grid; those of the neighbourhood are in work->planes. */
static void add_slab(const struct gradient_pass *p, const struct gradient_work *work, int grid, int first,
                     int count)
{
    const int ring = p->planes_together + border;
    const size_t pair_length = paired_length(&p->z, p->out_channels);
    struct stretch_plane planes[stretch_positions];
    for (int k = 0; k < count; k++) {
        activation *pairs = work->pairs + k * pair_length;
        KERNEL(pair_positions)(pairs, p->dout, p->out_channels, grid, first + k, &p->z);
        planes[k].pairs = pairs;
        for (int tap = 0; tap < plane_taps; tap++) {
            const int at = first + k + tap - 1;
            planes[k].inp[tap] =
                at < 0 || at >= p->z.d ? p->nothing : work->planes + at % ring * transposed_length(p);
        }
    }
    struct stretch s = {.planes = planes,
                        .plane_count = count,
                        .pitch = transposed_pitch(&p->z),
                        .row = p->z.row,
                        .pair_tiles = channel_tiles(p->out_channels)};
    const int positions = rounded_up(p->z.positions, tile_depth);
    for (s.first = 0; s.first < positions; s.first += stretch_positions) {
        const int left = positions - s.first;
        s.steps = (left < stretch_positions ? left : stretch_positions) / tile_depth;
        add_stretch(p, work, &s);
    }
}

/* Planes [begin, end) of all grids. */
static void add_share(const struct gradient_pass *p, const struct gradient_work *work, size_t begin,
                      size_t end)
{
    const int ring = p->planes_together + border;
    int grid = -1, padded = 0; /* planes before this one of the grid are there */
    for (size_t plane = begin; plane < end;) {
        const int depth = (int)(plane % p->z.d), own = (int)(plane / p->z.d);
        const size_t in_grid = p->z.d - depth, left = end - plane < in_grid ? end - plane : in_grid;
        const int count = left < (size_t)p->planes_together ? (int)left : p->planes_together;
        if (own != grid) {
            grid = own;
            padded = depth > 0 ? depth - 1 : 0;
        }
        for (; padded < p->z.d && padded <= depth + count; padded++) {
            KERNEL(pad_plane_transposed)
            (work->planes + padded % ring * transposed_length(p), &p->source, grid, padded, &p->z);
        }
        add_slab(p, work, grid, depth, count);
        plane += count;
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
                const size_t tile = (tap * in_tiles + in / tile_rows) * out_tiles + out / tile_columns;
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
    struct gradient_pass p = {.z = plane_sizes(s),
                              .source = {.x = inp, .channels = s->in_channels, .norm = norm},
                              .dout = dout,
                              .out_channels = s->out_channels};
    const int wanted = stretch_positions / rounded_up(p.z.positions, tile_depth);
    p.planes_together = wanted < 1 ? 1 : wanted < s->d ? wanted : s->d;
    const int threads = cpu_state(c)->threads;
    const size_t tiles = ((size_t)taps * channel_tiles(s->in_channels) + 1) * channel_tiles(s->out_channels);
    const size_t sums = tiles * tile_rows * tile_columns * sizeof(float);
    const size_t plane = transposed_length(&p) * sizeof(activation);
    const size_t planes = plane * (p.planes_together + border);
    const size_t pairs = paired_length(&p.z, s->out_channels) * p.planes_together * sizeof(activation);
    const size_t own = sums + planes + pairs;
    unsigned char *memory = cpu_scratch(c, plane + threads * own);
    if (memory == NULL) {
        return;
    }
    p.nothing = memset(memory, 0, plane);
    const size_t count = (size_t)s->n * s->d;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        unsigned char *mine = memset(memory + plane + part * own, 0, own);
        const struct gradient_work work = {.sums = (float *)mine,
                                           .planes = (activation *)(mine + sums),
                                           .pairs = (activation *)(mine + sums + planes)};
        configure_whole_tiles();
        add_share(&p, &work, share_begin(count, part, threads), share_begin(count, part + 1, threads));
        _tile_release();
    }
    reduce(dweight, (const float *)(memory + plane), own / sizeof(float), threads, s->in_channels,
           s->out_channels);
}
