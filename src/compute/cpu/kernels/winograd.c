#include "compute/cpu/kernels/winograd.h"

#include "compute/cpu/packed_weights.h"

int KERNEL(winograd_fits)(const struct conv3d_shape *s)
{
    /* Below, transforms outweigh the products that they save, or the weights at the points all activations.
     */
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
    factor *at = packed_weights(cpu_state(c)->packed, weight, backward ? PACKED_BACKWARD : PACKED_FORWARD,
                                winograd_weights_length(inner, outer) * sizeof *at, &fresh);
    if (at == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "weights of a convolution");
    } else if (!fresh) {
        KERNEL(winograd_weights)
        (at, weight, s->in_channels, s->out_channels, backward, cpu_state(c)->threads);
    }
    return at;
}

/* One convolution, forward or of the input's gradient, and one thread's memory for it. */
struct pass {
    struct tiling t;
    struct winograd_input input;
    struct winograd_output output;
    const factor *weights; /* at the points */
    float *sums;           /* (blocks, 2, whole vectors of output channels) */
    size_t *voxels;        /* (blocks) */
};

struct pass_memory {
    struct plane_ring inp;
    float *out; /* (planes, plane_length) */
};

static size_t block_sums_length(const struct pass *p)
{
    return 2 * (size_t)whole_vectors(p->output.channels) * lanes;
}

static void convolve_block(const struct pass *p, size_t index, const struct pass_memory *m)
{
    const int inner = p->input.channels, outer = p->output.channels;
    const size_t weights = winograd_weights_length(inner, outer) / points;
    const struct tile_block block = block_of(&p->t, index);
    for (int k = 0; k < points; k++) {
        for (int plane = 0; plane < block.planes; plane++) {
            const factor *inp[depth_taps];
            for (int tap = 0; tap < depth_taps; tap++) {
                const factor *at = ring_plane(&m->inp, block.depth + plane + tap - 1, inner, &p->t);
                inp[tap] = at != NULL ? at + k * point_stride(inner) : NULL;
            }
            KERNEL(winograd_product)
            (m->out + plane * plane_length(outer) + k * point_stride(outer), inp, p->weights + k * weights,
             block.count, inner, outer);
        }
    }
    KERNEL(winograd_outputs)(&p->output, p->sums + index * block_sums_length(p), m->out, &block, &p->t);
    p->voxels[index] = KERNEL(winograd_block_voxels)(&block, &p->t);
}

static void convolve_share(const struct pass *p, struct pass_memory *m, size_t begin, size_t end)
{
    for (size_t index = begin; index < end; index++) {
        const struct tile_block block = block_of(&p->t, index);
        KERNEL(winograd_inputs)(&m->inp, &p->input, &block, &p->t, index > begin && block.depth > 0);
        convolve_block(p, index, m);
    }
}

/* Fills p->sums and p->voxels, which last until the next cpu_scratch; 0 where that fails. */
static int convolve(struct compute *c, struct pass *p)
{
    const int threads = cpu_state(c)->threads, slots = p->t.planes + depth_taps - 1;
    const size_t inputs = float_bytes(slots * plane_length(p->input.channels)); /* enough for bf16 too */
    const size_t outputs = float_bytes(p->t.planes * plane_length(p->output.channels));
    const size_t sums = float_bytes(p->t.blocks * block_sums_length(p)), own = inputs + outputs;
    unsigned char *memory = cpu_scratch(c, sums + p->t.blocks * sizeof(size_t) + 64 + threads * own);
    if (memory == NULL) {
        return 0;
    }
    p->sums = (float *)(memory + threads * own);
    p->voxels = (size_t *)(memory + threads * own + sums);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        unsigned char *mine = memory + part * own;
        struct pass_memory m = {.inp = {.at = (factor *)mine, .slots = slots},
                                .out = (float *)(mine + inputs)};
        memset(mine, 0, inputs); /* rows behind the last tile */
        convolve_share(p, &m, share_begin(p->t.blocks, part, threads),
                       share_begin(p->t.blocks, part + 1, threads));
    }
    return 1;
}

/* The sums of a grid's blocks. */
static struct block_sums sums_of_grid(const struct pass *p, size_t grid)
{
    const size_t stride = block_sums_length(p), first = grid * p->t.grid_blocks;
    return (struct block_sums){.sums = p->sums + first * stride,
                               .stride = stride,
                               .second = stride / 2,
                               .rows = p->voxels + first,
                               .blocks = p->t.grid_blocks,
                               .channels = p->output.channels};
}

void KERNEL(winograd_forward)(struct compute *c, activation *out, float *mean, float *rstd,
                              const activation *inp, const struct norm_activation *norm, const float *weight,
                              const struct conv3d_shape *s)
{
    struct pass p = {.t = cut_tiles(s),
                     .input = winograd_input(inp, s->in_channels, norm),
                     .output = {.x = out,
                                .channels = s->out_channels,
                                .sums = mean != NULL ? WINOGRAD_MOMENTS : WINOGRAD_NO_SUMS},
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

void KERNEL(winograd_input_gradient)(struct compute *c, activation *dinp, float *shift, float *factors,
                                     const activation *dout, const float *weight, const activation *inp,
                                     const struct norm_activation *norm, const struct conv3d_shape *s)
{
    struct pass p = {.t = cut_tiles(s),
                     .input = winograd_input(dout, s->out_channels, NULL),
                     .output = {.x = dinp,
                                .channels = s->in_channels,
                                .sums = norm != NULL ? WINOGRAD_NORM_GRADIENT : WINOGRAD_NO_SUMS,
                                .norm = winograd_input(inp, s->in_channels, norm)},
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
