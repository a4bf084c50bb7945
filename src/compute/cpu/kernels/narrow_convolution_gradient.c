#include "compute/cpu/kernels/narrow_convolution.h"

/* One thread's memory. */
struct gradient_work {
    float *padded; /* the slab's input */
    float *douts;  /* rows of dout, (rows, w, vectors x lanes) */
    float *sums;   /* (9, 3 channels, vectors x lanes), of one plane */
    double *total; /* the same, of all */
};

/* Rows of dout that are worked on together: they and their input stay in the first-level cache. */
static int rows_together(const struct slabs *b, int vectors)
{
    const size_t row_bytes = (b->row + (size_t)b->w * vectors * lanes) * sizeof(float);
    const size_t rows = 24576 / row_bytes;
    return rows < 1 ? 1 : rows > (size_t)b->h ? b->h : (int)rows;
}

/* Rows of vectors from rows of channels, zeros behind the last channel. */
static void spread_rows(float *to, const activation *from, size_t voxels, int channels, int vectors)
{
    for (size_t k = 0; k < voxels; k++) {
        for (int v = 0; v < vectors; v++) {
            const int left = channels - v * lanes;
            store(to + (k * vectors + v) * lanes,
                  load_activations_part(from + k * channels + v * lanes, left < lanes ? left : lanes));
        }
    }
}

/* sums (block, vectors x lanes) += over rows and voxels: the block's consecutive floats of the padded input,
 * times dout. */
static ALWAYS_INLINE void add_block(float *sums, const float *inp, const float *douts, int rows,
                                    const struct slabs *b, int channels, int vectors, int block)
{
    vec sum[accumulators];
#pragma GCC unroll 24
    for (int k = 0; k < block * vectors; k++) {
        sum[k] = load(sums + k * lanes);
    }
    for (int y = 0; y < rows; y++, inp += b->row) {
        const float *from = inp;
        for (int x = 0; x < b->w; x++, from += channels, douts += vectors * lanes) {
            vec dout[most_vectors];
            for (int v = 0; v < vectors; v++) {
                dout[v] = load(douts + v * lanes);
            }
#pragma GCC unroll 24
            for (int j = 0; j < block; j++) {
                const float x_j = from[j / (3 * channels) * b->row + j % (3 * channels)];
                for (int v = 0; v < vectors; v++) {
                    sum[j * vectors + v] += x_j * dout[v];
                }
            }
        }
    }
#pragma GCC unroll 24
    for (int k = 0; k < block * vectors; k++) {
        store(sums + k * lanes, sum[k]);
    }
}

/* The largest block that registers hold and that divides the floats around a voxel; three rows together where
 * that is too few to keep the processor busy. */
static ALWAYS_INLINE int block_length(int channels, int vectors)
{
    int block = accumulators / vectors;
    if (channels == 1 && block >= 9) {
        return 9;
    }
    while (3 * channels % block != 0) {
        block--;
    }
    return block;
}

/* Adds the products of some rows of dout with the 27 neighbourhoods of their input. */
static ALWAYS_INLINE void add_rows(struct gradient_work *work, const float *inp, int rows,
                                   const struct slabs *b, int channels, int vectors, int block)
{
    for (int first = 0; first < 27 * channels; first += block) {
        const int zy = first / (3 * channels), j = first % (3 * channels);
        add_block(work->sums + first * vectors * lanes, inp + zy / 3 * b->plane + zy % 3 * b->row + j,
                  work->douts, rows, b, channels, vectors, block);
    }
}

static ALWAYS_INLINE void add_slab(struct gradient_work *work, const activation *dout, const struct slabs *b,
                                   size_t slab, int channels, int out_channels, int vectors)
{
    const size_t sample = slab / b->per_sample, length = (size_t)27 * channels * vectors * lanes;
    const int together = rows_together(b, vectors);
    const float *padded = work->padded;
    for (int z = slab_begin(b, slab); z < slab_end(b, slab); z++, padded += b->plane) {
        memset(work->sums, 0, length * sizeof *work->sums);
        for (int y = 0; y < b->h; y += together) {
            const int rows = b->h - y < together ? b->h - y : together;
            spread_rows(work->douts, dout + ((sample * b->d + z) * b->h + y) * b->w * out_channels,
                        (size_t)rows * b->w, out_channels, vectors);
            add_rows(work, padded + y * b->row, rows, b, channels, vectors, block_length(channels, vectors));
        }
        for (size_t k = 0; k < length; k++) {
            work->total[k] += work->sums[k];
        }
    }
}

static ALWAYS_INLINE void add_slab_of(struct gradient_work *work, const activation *dout,
                                      const struct slabs *b, size_t slab, int channels, int out_channels,
                                      int vectors)
{
    switch (vectors) {
    case 1:
        add_slab(work, dout, b, slab, channels, out_channels, 1);
        break;
    case 2:
        add_slab(work, dout, b, slab, channels, out_channels, 2);
        break;
    case 3:
        add_slab(work, dout, b, slab, channels, out_channels, 3);
        break;
    default:
        add_slab(work, dout, b, slab, channels, out_channels, 6);
    }
}

/* dweight (out, in, 27) += totals (27, in, vectors x lanes) of all threads, in their order */
static void add_totals(float *dweight, unsigned char *totals, size_t stride, int threads, int in, int out,
                       int padded)
{
    for (int tap = 0; tap < 27; tap++) {
        for (int i = 0; i < in; i++) {
            for (int o = 0; o < out; o++) {
                double sum = 0;
                for (int part = 0; part < threads; part++) {
                    sum += ((double *)(totals + part * stride))[((size_t)tap * in + i) * padded + o];
                }
                dweight[((size_t)o * in + i) * 27 + tap] += (float)sum;
            }
        }
    }
}

int KERNEL(narrow_gradient_fits)(int in_channels, int out_channels)
{
    /* oneDNN's gradient of 1 to 48 channels does not use a second thread. */
    const int widens = in_channels == 1 && out_channels == 48 && out_channels <= most_vectors * lanes;
    return widens || KERNEL(narrow_convolution_fits)(in_channels, out_channels);
}

void KERNEL(narrow_convolution_gradient)(struct compute *c, float *dweight, const activation *dout,
                                         const activation *inp, const struct conv3d_shape *s)
{
    const int threads = cpu_state(c)->threads, channels = s->in_channels, out_channels = s->out_channels;
    const int vectors = (out_channels + lanes - 1) / lanes;
    const struct slabs b = cut_slabs(s, channels);
    const size_t length = (size_t)27 * channels * vectors * lanes, count = s->n * b.per_sample;
    const size_t total_bytes = 2 * float_bytes(length), sums_bytes = float_bytes(length);
    const size_t douts_bytes = float_bytes((size_t)rows_together(&b, vectors) * b.w * vectors * lanes);
    const size_t stride = total_bytes + sums_bytes + douts_bytes + float_bytes(padded_slab_length(&b));
    unsigned char *memory = cpu_scratch(c, threads * stride);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        unsigned char *own = memory + part * stride;
        struct gradient_work work = {.total = (double *)own,
                                     .sums = (float *)(own + total_bytes),
                                     .douts = (float *)(own + total_bytes + sums_bytes),
                                     .padded = (float *)(own + total_bytes + sums_bytes + douts_bytes)};
        memset(work.total, 0, length * sizeof(double));
        for (size_t slab = share_begin(count, part, threads); slab < share_begin(count, part + 1, threads);
             slab++) {
            KERNEL(pad_slab)(work.padded, inp, &b, slab);
            switch (channels) {
            case 1:
                add_slab_of(&work, dout, &b, slab, 1, out_channels, vectors);
                break;
            case 12:
                add_slab_of(&work, dout, &b, slab, 12, out_channels, vectors);
                break;
            default:
                add_slab_of(&work, dout, &b, slab, 24, out_channels, vectors);
            }
        }
    }
    add_totals(dweight, memory, stride, threads, channels, out_channels, vectors * lanes);
}
