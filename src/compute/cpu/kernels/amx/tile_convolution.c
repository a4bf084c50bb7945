#include "compute/cpu/kernels/amx/tile_convolution.h"

#include "compute/cpu/kernels/channel_sums.h"
#include "compute/cpu/packed_weights.h"

/* Shares of the second-level cache. */
static const size_t strip_bytes = (size_t)640 << 10; /* of three padded strips */
static const size_t block_bytes = (size_t)128 << 10; /* of a block's sums */

enum {
    rows_together = 2 * tile_rows
}; /* positions that four tiles of sums hold, for two tiles of channels */

int KERNEL(tile_convolution_fits)(const struct conv3d_shape *s)
{
    /* On smaller grids oneDNN's products over several of them read fewer weights. */
    enum { least_channels = 12, least_voxels = 5 * 5 * 5 };
    return s->kernel == 3 && s->stride == 1 && (s->in_channels == 1 || s->in_channels >= least_channels) &&
           s->out_channels >= least_channels && s->d * s->h * s->w >= least_voxels;
}

/* One convolution, forward or of the input's gradient. */
struct pass {
    struct strip_sizes z;
    struct strip_source source;
    struct convolution_output output;
    const activation *weights; /* as tiles */
    const activation *nothing; /* a padded strip of zeros */
    int block_positions, strip_blocks;
    float *sums;    /* (strips, blocks of a strip, 2, whole tiles of output channels) */
    size_t *voxels; /* (strips, blocks of a strip) */
};

/* One thread's memory. */
struct pass_memory {
    activation *padded[plane_taps]; /* of plane z at z % 3 */
    float *out;                     /* of a block */
};

static int whole_channels(int channels)
{
    return channel_tiles(channels) * tile_columns;
}

/* Sums of products of 32 positions and 32 channels, or 16 where `two` is 0, over the places along h and w of
 * one plane's taps, added to what is there unless it is the first plane. run: where the neighbourhood of the
 * first position begins in the plane. weights: of two tiles of channels, `other` elements apart. */
static ALWAYS_INLINE void plane_products(float *out, size_t out_pitch, int add, const activation *run,
                                         int row, int channels, const activation *weights, size_t other,
                                         int two)
{
    const size_t pitch = channels * sizeof(activation), lower = tile_rows * (size_t)channels;
    const size_t sums_pitch = out_pitch * sizeof *out;
    const int steps = run_steps(channels);
    float *lower_out = out + tile_rows * out_pitch;
    if (add) {
        _tile_loadd(0, out, sums_pitch);
        _tile_loadd(2, lower_out, sums_pitch);
        if (two) {
            _tile_loadd(1, out + tile_columns, sums_pitch);
            _tile_loadd(3, lower_out + tile_columns, sums_pitch);
        }
    } else {
        zero_sums();
    }
    for (int place = 0; place < plane_taps; place++) {
        const activation *from = run + (size_t)place * row * channels;
        for (int k = 0; k < steps; k++, from += tile_depth, weights += tile_elements) {
            _tile_loadd(4, weights, tile_row_bytes);
            _tile_loadd(6, from, pitch);
            _tile_dpbf16ps(0, 6, 4);
            if (two) {
                _tile_loadd(5, weights + other, tile_row_bytes);
                _tile_dpbf16ps(1, 6, 5);
            }
            _tile_loadd(7, from + lower, pitch);
            _tile_dpbf16ps(2, 7, 4);
            if (two) {
                _tile_dpbf16ps(3, 7, 5);
            }
        }
    }
    _tile_stored(0, out, sums_pitch);
    _tile_stored(2, lower_out, sums_pitch);
    if (two) {
        _tile_stored(1, out + tile_columns, sums_pitch);
        _tile_stored(3, lower_out + tile_columns, sums_pitch);
    }
}

/* Plane by plane, so that the weights at hand stay in the first-level cache for all positions. */
static void convolve_block(const struct pass *p, const struct position_block *block,
                           const activation *const padded[plane_taps], float *out)
{
    const int inner = p->source.channels, tiles = channel_tiles(p->output.channels);
    const size_t tile_length = tile_weights_length(inner, 1), pitch = (size_t)tiles * tile_columns;
    for (int tile = 0; tile < tiles; tile += 2) {
        for (int tap = 0; tap < plane_taps; tap++) {
            const activation *weights = p->weights + tile * tile_length + tap * (tile_length / plane_taps);
            for (int k = 0; k < block->count; k += rows_together) {
                const activation *run = padded[tap] + (size_t)(block->first + k) * inner;
                float *to = out + k * pitch + (size_t)tile * tile_columns;
                if (tile + 1 < tiles) {
                    plane_products(to, pitch, tap > 0, run, p->z.w + border, inner, weights, tile_length, 1);
                } else {
                    plane_products(to, pitch, tap > 0, run, p->z.w + border, inner, weights, tile_length, 0);
                }
            }
        }
    }
}

static void convolve_strip(const struct pass *p, size_t index, const struct strip *strip,
                           const struct pass_memory *m)
{
    const activation *padded[plane_taps];
    for (int k = 0; k < plane_taps; k++) {
        const int depth = strip->depth + k - 1;
        padded[k] = depth < 0 || depth >= p->z.d ? p->nothing : m->padded[depth % plane_taps];
    }
    const size_t sums_length = 2 * (size_t)whole_channels(p->output.channels);
    for (int k = 0; k < p->strip_blocks; k++) {
        const int first = k * p->block_positions, left = padded_positions(&p->z, strip->rows) - first;
        const struct position_block block = {
            .strip = *strip, .first = first, .count = left < p->block_positions ? left : p->block_positions};
        const size_t place = index * p->strip_blocks + k;
        float *sums = p->sums + place * sums_length;
        if (left <= 0) { /* a last strip of fewer rows */
            memset(sums, 0, sums_length * sizeof *sums);
            p->voxels[place] = 0;
            continue;
        }
        convolve_block(p, &block, padded, m->out);
        p->voxels[place] = KERNEL(write_outputs)(&p->output, sums, m->out, &block, &p->z);
    }
}

static void convolve_share(const struct pass *p, const struct pass_memory *m, size_t begin, size_t end)
{
    int padded = 0; /* planes before this one are there */
    for (size_t index = begin; index < end; index++) {
        const struct strip strip = strip_at(&p->z, index);
        if (index == begin || strip.depth == 0) {
            padded = strip.depth > 0 ? strip.depth - 1 : 0;
        }
        for (; padded < p->z.d && padded <= strip.depth + 1; padded++) {
            struct strip next = strip;
            next.depth = padded;
            KERNEL(pad_strip)(m->padded[padded % plane_taps], &p->source, &next, &p->z);
        }
        convolve_strip(p, index, &strip, m);
    }
}

static size_t activation_bytes(size_t count)
{
    return float_bytes((count + 1) / 2);
}

/* Fills p->sums and p->voxels, which last until the next cpu_scratch; 0 where that fails. */
static int convolve(struct compute *c, struct pass *p)
{
    const int threads = cpu_state(c)->threads, outer = whole_channels(p->output.channels);
    const int fitting = (int)(block_bytes / ((size_t)outer * sizeof(float))) / rows_together * rows_together;
    const int most = padded_positions(&p->z, p->z.rows), rounded = rounded_up(most, rows_together);
    p->block_positions = fitting < rows_together ? rows_together : fitting < rounded ? fitting : rounded;
    p->strip_blocks = (most + p->block_positions - 1) / p->block_positions;
    const size_t strips = strip_count(&p->z), blocks = strips * p->strip_blocks;
    const size_t padded = activation_bytes(padded_length(&p->z, p->source.channels));
    const size_t out = float_bytes((size_t)p->block_positions * outer), own = plane_taps * padded + out;
    const size_t sums = float_bytes(blocks * 2 * outer);
    unsigned char *memory = cpu_scratch(c, padded + sums + blocks * sizeof(size_t) + 64 + threads * own);
    if (memory == NULL) {
        return 0;
    }
    p->nothing = memset(memory, 0, padded);
    p->sums = (float *)(memory + padded);
    unsigned char *shares = memory + padded + sums;
    p->voxels = (size_t *)(shares + threads * own);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        unsigned char *mine = shares + part * own;
        struct pass_memory m = {.out = (float *)(mine + plane_taps * padded)};
        for (int k = 0; k < plane_taps; k++) {
            m.padded[k] = memset(mine + k * padded, 0, padded);
        }
        configure_tiles(run_depth(p->source.channels));
        convolve_share(p, &m, share_begin(strips, part, threads), share_begin(strips, part + 1, threads));
        _tile_release();
    }
    return 1;
}

/* Of the three padded strips of a convolution that reads so many channels. */
static struct strip_sizes strips_of(const struct conv3d_shape *s, int channels)
{
    return cut_strips(s, plane_taps * (size_t)(s->w + border) * channels * sizeof(activation), strip_bytes);
}

/* The weights as tiles, kept until they change. */
static const activation *weights_of(struct compute *c, const float *weight, const struct conv3d_shape *s,
                                    int backward)
{
    const int inner = backward ? s->out_channels : s->in_channels,
              outer = backward ? s->in_channels : s->out_channels;
    int fresh;
    activation *tiles =
        packed_weights(cpu_state(c)->packed, weight, backward ? PACKED_BACKWARD : PACKED_FORWARD,
                       tile_weights_length(inner, outer) * sizeof *tiles, &fresh);
    if (tiles == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "weights of a convolution");
    } else if (!fresh) {
        KERNEL(tile_weights)
        (tiles, weight, s->in_channels, s->out_channels, backward, cpu_state(c)->threads);
    }
    return tiles;
}

/* The sums of a grid's blocks. */
static struct block_sums sums_of_grid(const struct pass *p, int grid)
{
    const size_t second = whole_channels(p->output.channels),
                 blocks = (size_t)p->z.strips * p->z.d * p->strip_blocks;
    return (struct block_sums){.sums = p->sums + grid * blocks * 2 * second,
                               .stride = 2 * second,
                               .second = second,
                               .rows = p->voxels + grid * blocks,
                               .blocks = blocks,
                               .channels = p->output.channels};
}

void KERNEL(tile_convolution_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                                      const activation *inp, const struct norm_activation *norm,
                                      const float *weight, const struct conv3d_shape *s)
{
    struct pass p = {
        .z = strips_of(s, s->in_channels),
        .source = {.x = inp, .channels = s->in_channels, .norm = norm},
        .output = {.x = out, .channels = s->out_channels, .sums = mean != NULL ? MOMENTS : NO_SUMS},
        .weights = weights_of(c, weight, s, 0)};
    if (p.weights == NULL || !convolve(c, &p) || mean == NULL) {
        return;
    }
    for (int grid = 0; grid < s->n; grid++) {
        const struct block_sums sums = sums_of_grid(&p, grid);
        KERNEL(merge_moments)
        (mean + (size_t)grid * s->out_channels, rstd + (size_t)grid * s->out_channels, &sums);
    }
}

void KERNEL(tile_convolution_input_gradient)(struct compute *c, activation *dinp, float *shift,
                                             float *factors, const activation *dout, const float *weight,
                                             const activation *inp, const struct norm_activation *norm,
                                             const struct conv3d_shape *s)
{
    struct pass p = {.z = strips_of(s, s->out_channels),
                     .source = {.x = dout, .channels = s->out_channels},
                     .output = {.x = dinp,
                                .channels = s->in_channels,
                                .sums = norm != NULL ? NORM_GRADIENT : NO_SUMS,
                                .normed = inp,
                                .norm = norm},
                     .weights = weights_of(c, weight, s, 1)};
    if (p.weights == NULL || !convolve(c, &p) || norm == NULL) {
        return;
    }
    for (int grid = 0; grid < s->n; grid++) {
        const struct block_sums sums = sums_of_grid(&p, grid);
        const size_t first = (size_t)grid * s->in_channels;
        KERNEL(merge_norm_gradient)(shift + first, factors + first, norm->rstd + first, &sums);
    }
}
