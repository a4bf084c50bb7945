#include "compute/cpu/kernels/amx/tile_linear.h"

#include "compute/cpu/kernels/amx/tile_sums.h"

enum {
    stretch_rows = 256,
    rows_pitch = stretch_rows + tile_depth, /* an odd number of cache lines */
    sums_length = tile_rows * tile_columns,
};

struct linear_sizes {
    int in_features, out_features;
    int in_tiles, out_tiles;
};

/* One thread's memory. */
struct linear_work {
    float *sums;            /* (out_tiles, in_tiles, 16, 16), and room for one more of out_tiles */
    activation *transposed; /* (whole tiles of out_features, rows_pitch) */
    activation *pairs;      /* (stretch_rows / 2, whole tiles of in_features, 2) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct linear_work *work, unsigned char *memory, const struct linear_sizes *z)
{
    const size_t sums = (size_t)(z->out_tiles + 1) * z->in_tiles * sums_length * sizeof(float);
    const size_t transposed = (size_t)z->out_tiles * tile_rows * rows_pitch * sizeof(activation);
    const size_t pairs = (size_t)z->in_tiles * tile_columns * stretch_rows * sizeof(activation);
    work->sums = (float *)memory;
    work->transposed = (activation *)(memory + sums);
    work->pairs = (activation *)(memory + sums + transposed);
    return sums + transposed + pairs;
}

/* Of up to stretch_rows rows. */
static void add_rows(const struct linear_work *work, const activation *dout, const activation *inp, int rows,
                     const struct linear_sizes *z)
{
    const int whole = (rows + tile_depth - 1) / tile_depth * tile_depth;
    KERNEL(transpose_rows)(work->transposed, rows_pitch, dout, z->out_features, rows);
    KERNEL(pair_rows)(work->pairs, inp, z->in_features, rows, whole);
    const struct stretch_plane plane = {.rows = {work->transposed}, .pairs = work->pairs};
    const struct stretch s = {.planes = &plane,
                              .plane_count = 1,
                              .steps = whole / tile_depth,
                              .pitch = rows_pitch,
                              .pair_tiles = z->in_tiles};
    for (int k = 0; k < z->out_tiles; k += 2) {
        const struct tile_rows a = {.offset = (size_t)k * tile_rows * rows_pitch,
                                    .sums = work->sums + (size_t)k * z->in_tiles * sums_length};
        struct tile_rows b = a; /* behind an odd last one */
        b.sums += (size_t)z->in_tiles * sums_length;
        b.offset += k + 1 < z->out_tiles ? (size_t)tile_rows * rows_pitch : 0;
        add_row_products(&s, &a, &b);
    }
}

/* dweight (out, in) += the sums of all threads, `stride` floats apart, in their order */
static void reduce(float *dweight, const float *sums, size_t stride, int parts, const struct linear_sizes *z)
{
#pragma omp parallel for schedule(static) num_threads(parts)
    for (int out = 0; out < z->out_features; out++) {
        for (int in = 0; in < z->in_features; in++) {
            const size_t tile = (size_t)(out / tile_rows) * z->in_tiles + in / tile_columns;
            const float *from =
                sums + (tile * tile_rows + out % tile_rows) * tile_columns + in % tile_columns;
            float sum = 0;
            for (int part = 0; part < parts; part++) {
                sum += from[part * stride];
            }
            dweight[(size_t)out * z->in_features + in] += sum;
        }
    }
}

void KERNEL(tile_linear_weight_gradient)(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, size_t rows, int in_features,
                                         int out_features)
{
    const struct linear_sizes z = {.in_features = in_features,
                                   .out_features = out_features,
                                   .in_tiles = rounded_up(in_features, tile_columns) / tile_columns,
                                   .out_tiles = rounded_up(out_features, tile_rows) / tile_rows};
    const int threads = cpu_state(c)->threads;
    const size_t stretches = (rows + stretch_rows - 1) / stretch_rows;
    struct linear_work measured;
    const size_t own = lay_out_work(&measured, NULL, &z);
    unsigned char *memory = cpu_scratch(c, threads * own);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct linear_work work;
        lay_out_work(&work, memset(memory + part * own, 0, own), &z);
        configure_tiles(tile_depth);
        for (size_t k = share_begin(stretches, part, threads); k < share_begin(stretches, part + 1, threads);
             k++) {
            const size_t first = k * stretch_rows, left = rows - first;
            add_rows(&work, dout + first * out_features, inp + first * in_features,
                     left < stretch_rows ? (int)left : stretch_rows, &z);
        }
        _tile_release();
    }
    reduce(dweight, (const float *)memory, own / sizeof(float), threads, &z);
}
