/* The weight's gradient: (out_features, rows) times (rows, in_features). Rows are taken in stretches, whose
 * parts lie in the second-level cache: dout with rows along a line, inp as pairs of rows. */
#include "compute/cpu/kernels/parts/part_linear.h"
#include "compute/cpu/kernels/parts/sums_over_rows.h"

enum {
    most_stretch = 256,        /* rows, a multiple of tile_depth */
    stretch_bytes = 768 << 10, /* of the parts of a stretch */
    pitch_pad = tile_depth,    /* keeps lines out of each other's cache sets */
};

struct gradient_sizes {
    int in_features, out_features;
    int in_tiles, out_tiles; /* out_tiles: rounded up to two */
    int stretch, pitch;      /* rows, and elements between the lines of dout */
};

/* One thread's memory. */
struct gradient_work {
    float *sums; /* (out_tiles, in_tiles, 16, 16) */
    part *lines; /* (part_count, out_tiles tile_rows, pitch); those behind the last feature reach no result */
    part *pairs; /* (part_count, stretch / 2, in_tiles tile_columns, 2) */
};

static struct gradient_sizes gradient_sizes(int in_features, int out_features)
{
    struct gradient_sizes z = {.in_features = in_features, .out_features = out_features};
    z.in_tiles = (in_features + tile_columns - 1) / tile_columns;
    z.out_tiles = (out_features + 2 * tile_rows - 1) / (2 * tile_rows) * 2;
    const int row_bytes = part_count * (int)sizeof(part) * (z.in_tiles + z.out_tiles) * tile_rows;
    const int fitting = stretch_bytes / row_bytes / tile_depth * tile_depth;
    z.stretch = fitting < tile_depth ? tile_depth : fitting < most_stretch ? fitting : most_stretch;
    z.pitch = z.stretch + pitch_pad;
    return z;
}

static size_t lines_length(const struct gradient_sizes *z)
{
    return (size_t)z->out_tiles * tile_rows * z->pitch;
}

static size_t pairs_length(const struct gradient_sizes *z)
{
    return (size_t)z->in_tiles * tile_columns * z->stretch;
}

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct gradient_work *work, unsigned char *memory, const struct gradient_sizes *z)
{
    const size_t sums = (size_t)z->out_tiles * z->in_tiles * tile_sums * sizeof(float);
    const size_t lines = part_count * lines_length(z) * sizeof(part);
    work->sums = (float *)memory;
    work->lines = (part *)(memory + sums);
    work->pairs = (part *)(memory + sums + lines);
    return sums + lines + part_count * pairs_length(z) * sizeof(part);
}

static void make_lines(const struct gradient_work *work, const struct gradient_sizes *z,
                       const activation *dout, int rows)
{
    const struct line_sizes sizes = {
        .features = z->out_features, .pitch = z->pitch, .part_length = lines_length(z)};
    for (int first = 0; first < z->out_features; first += tile_rows) {
        for (int row = 0; row < rows; row += tile_depth) {
            split_lines(work->lines + (size_t)first * z->pitch + row, &sizes,
                        dout + (size_t)row * z->out_features + first, rows - row, z->out_features - first);
        }
    }
}

/* rows: an even number of them is written, zeros beside an odd last one; whole: and zeros up to there. */
static void make_pairs(const struct gradient_work *work, const struct gradient_sizes *z, const float *inp,
                       int rows, int whole)
{
    const size_t pitch = (size_t)z->in_tiles * tile_columns * 2, features = z->in_features;
    for (int row = 0; row < whole; row += 2) {
        part *to = work->pairs + row / 2 * pitch;
        const float *from = inp + row * features;
        for (int first = 0; first < z->in_features; first += tile_columns, to += 2 * tile_columns) {
            const __mmask16 present = first_lanes(z->in_features - first);
            const struct parts a = parts_of(_mm512_maskz_loadu_ps(row < rows ? present : 0, from + first));
            const struct parts b =
                parts_of(_mm512_maskz_loadu_ps(row + 1 < rows ? present : 0, from + features + first));
            for (int p = 0; p < part_count; p++) {
                _mm512_storeu_si512(to + p * pairs_length(z), parts_in_turns(&a, &b, p));
            }
        }
    }
}

/* ---- products ---- */

/* Two tiles of out_features and one or two of in_features. */
static ALWAYS_INLINE void add_tiles(const struct gradient_work *work, const struct gradient_sizes *z, int out,
                                    int in, int steps, int two)
{
    const size_t pair_pitch = (size_t)z->in_tiles * tile_columns * 2;
    const struct sums_over_rows s = {.sums = work->sums + ((size_t)out * z->in_tiles + in) * tile_sums,
                                     .sums_down = (size_t)z->in_tiles * tile_sums,
                                     .lines = work->lines + (size_t)out * tile_rows * z->pitch,
                                     .pairs = work->pairs + (size_t)in * tile_columns * 2,
                                     .line_bytes = z->pitch * sizeof(part),
                                     .pair_bytes = pair_pitch * sizeof(part),
                                     .next_lines = (size_t)tile_rows * z->pitch,
                                     .next_pairs = 2 * tile_columns,
                                     .line_parts = lines_length(z),
                                     .pair_parts = pairs_length(z),
                                     .pair_step = tile_depth / 2 * pair_pitch,
                                     .steps = steps};
    add_two_lines(s, two);
}

static void add_stretch(const struct gradient_work *work, const struct gradient_sizes *z,
                        const activation *dout, const float *inp, int rows)
{
    const int steps = (rows + tile_depth - 1) / tile_depth;
    make_lines(work, z, dout, rows);
    make_pairs(work, z, inp, rows, steps * tile_depth);
    before_tile_loads();
    for (int out = 0; out < z->out_tiles; out += 2) {
        int in = 0;
        for (; in + 2 <= z->in_tiles; in += 2) {
            add_tiles(work, z, out, in, steps, 1);
        }
        if (in < z->in_tiles) {
            add_tiles(work, z, out, in, steps, 0);
        }
    }
}

/* dweight (out, in) += the sums of all threads, `stride` floats apart, in their order */
static void reduce(float *dweight, const float *sums, size_t stride, int threads,
                   const struct gradient_sizes *z)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int out = 0; out < z->out_features; out++) {
        for (int tile = 0; tile < z->in_tiles; tile++) {
            const __mmask16 present = first_lanes(z->in_features - tile * tile_columns);
            const float *from = sums + ((size_t)(out / tile_rows) * z->in_tiles + tile) * tile_sums +
                                (size_t)(out % tile_rows) * tile_columns;
            float *to = dweight + (size_t)out * z->in_features + (size_t)tile * tile_columns;
            __m512 sum = _mm512_loadu_ps(from);
            for (int k = 1; k < threads; k++) {
                sum = _mm512_add_ps(sum, _mm512_loadu_ps(from + k * stride));
            }
            _mm512_mask_storeu_ps(to, present, _mm512_add_ps(_mm512_maskz_loadu_ps(present, to), sum));
        }
    }
}

void KERNEL(part_linear_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, size_t rows, int in_features,
                                         int out_features)
{
    const struct gradient_sizes z = gradient_sizes(in_features, out_features);
    const int threads = cpu_state(c)->threads;
    const size_t stretches = (rows + z.stretch - 1) / z.stretch;
    struct gradient_work measured;
    const size_t own = lay_out_work(&measured, NULL, &z);
    unsigned char *memory = cpu_scratch(c, threads * own);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int piece = 0; piece < threads; piece++) {
        struct gradient_work work;
        lay_out_work(&work, memory + piece * own, &z);
        memset(work.sums, 0, (unsigned char *)work.lines - (unsigned char *)work.sums);
        configure_tiles(tile_depth);
        for (size_t k = share_begin(stretches, piece, threads);
             k < share_begin(stretches, piece + 1, threads); k++) {
            const size_t first = k * z.stretch, left = rows - first;
            add_stretch(&work, &z, dout + first * out_features, (const float *)inp + first * in_features,
                        left < (size_t)z.stretch ? (int)left : z.stretch);
        }
        _tile_release();
    }
    reduce(dweight, (const float *)memory, own / sizeof(float), threads, &z);
}
