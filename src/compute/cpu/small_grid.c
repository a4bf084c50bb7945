/* Convolutions over few voxels and many channels as matrix products over gathered neighbourhoods. They read
 * and add to weights in PyTorch's layout as it is, where oneDNN would keep a copy in a layout of its own,
 * larger than all activations, and reorder it whenever the weights change. */
#include "compute/cpu/cpu_state.h"
#include "compute/cpu/onednn.h"

enum { most_voxels = 8, most_voxels_of_gradient = 64, least_channels = 192 };

static const size_t most_columns = (size_t)16 << 20; /* floats gathered */

static int outside(int place, int extent)
{
    return place < 0 || place >= extent;
}

/* columns (in_channels, 27) of one voxel, numbered over all samples */
static void gather_neighbourhood(float *columns, const float *inp, size_t voxel, const struct conv3d_shape *s)
{
    const int x = (int)(voxel % s->w), y = (int)(voxel / s->w % s->h), z = (int)(voxel / s->w / s->h % s->d);
    const size_t channels = s->in_channels;
    for (int tap = 0; tap < 27; tap++) {
        const int dz = tap / 9 - 1, dy = tap / 3 % 3 - 1, dx = tap % 3 - 1;
        if (outside(z + dz, s->d) || outside(y + dy, s->h) || outside(x + dx, s->w)) {
            for (size_t ch = 0; ch < channels; ch++) {
                columns[ch * 27 + tap] = 0;
            }
            continue;
        }
        const ptrdiff_t neighbour = (ptrdiff_t)voxel + ((ptrdiff_t)dz * s->h + dy) * s->w + dx;
        const float *from = inp + neighbour * (ptrdiff_t)channels;
        for (size_t ch = 0; ch < channels; ch++) {
            columns[ch * 27 + tap] = from[ch];
        }
    }
}

static size_t voxel_count(const struct conv3d_shape *s)
{
    return (size_t)s->n * s->d * s->h * s->w;
}

static int fits(const struct conv3d_shape *s, int voxels)
{
    return s->kernel == 3 && s->in_channels >= least_channels && s->out_channels >= least_channels &&
           (size_t)s->d * s->h * s->w <= (size_t)voxels &&
           voxel_count(s) * s->in_channels * 27 <= most_columns;
}

int is_small_grid(const struct conv3d_shape *s)
{
    return fits(s, most_voxels);
}

int has_small_grid_gradient(const struct conv3d_shape *s)
{
    return fits(s, most_voxels_of_gradient);
}

/* Scratch for the neighbourhoods of all voxels, (voxels, in_channels, 27). */
static float *column_memory(struct compute *c, const struct conv3d_shape *s)
{
    return cpu_scratch(c, voxel_count(s) * s->in_channels * 27 * sizeof(float));
}

static void gather_columns(const struct compute *c, float *columns, const float *inp,
                           const struct conv3d_shape *s)
{
    const size_t rows = voxel_count(s), length = (size_t)s->in_channels * 27;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t row = 0; row < rows; row++) {
        gather_neighbourhood(columns + row * length, inp, row, s);
    }
}

void small_grid_forward(struct compute *c, float *out, const float *inp, const float *weight,
                        const struct conv3d_shape *s)
{
    float *columns = column_memory(c, s);
    if (columns == NULL) {
        return;
    }
    gather_columns(c, columns, inp, s);
    if (onednn_product(out, columns, 0, weight, 1, voxel_count(s), s->out_channels,
                       (size_t)s->in_channels * 27, 0) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "convolution");
    }
}

/* dinp of one voxel: the sum over the neighbourhoods that it is part of. */
static void sum_neighbourhoods(float *dinp, const float *dcolumns, size_t voxel, const struct conv3d_shape *s)
{
    const int x = (int)(voxel % s->w), y = (int)(voxel / s->w % s->h), z = (int)(voxel / s->w / s->h % s->d);
    const size_t channels = s->in_channels;
    for (size_t ch = 0; ch < channels; ch++) {
        dinp[ch] = 0;
    }
    for (int tap = 0; tap < 27; tap++) {
        const int dz = 1 - tap / 9, dy = 1 - tap / 3 % 3, dx = 1 - tap % 3;
        if (outside(z + dz, s->d) || outside(y + dy, s->h) || outside(x + dx, s->w)) {
            continue;
        }
        const ptrdiff_t centre = (ptrdiff_t)voxel + ((ptrdiff_t)dz * s->h + dy) * s->w + dx;
        const float *from = dcolumns + centre * (ptrdiff_t)channels * 27 + tap;
        for (size_t ch = 0; ch < channels; ch++) {
            dinp[ch] += from[ch * 27];
        }
    }
}

void small_grid_input_gradient(struct compute *c, float *dinp, const float *dout, const float *weight,
                               const struct conv3d_shape *s)
{
    float *dcolumns = column_memory(c, s);
    if (dcolumns == NULL) {
        return;
    }
    const size_t rows = voxel_count(s);
    if (onednn_product(dcolumns, dout, 0, weight, 0, rows, (size_t)s->in_channels * 27, s->out_channels, 0) !=
        0) {
        compute_failed(c, VOCO_NO_MEMORY, "input gradient of a convolution");
        return;
    }
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t row = 0; row < rows; row++) {
        sum_neighbourhoods(dinp + row * s->in_channels, dcolumns, row, s);
    }
}

void small_grid_weight_gradient(struct compute *c, float *dweight, const float *dout, const float *inp,
                                const struct conv3d_shape *s)
{
    float *columns = column_memory(c, s);
    if (columns == NULL) {
        return;
    }
    gather_columns(c, columns, inp, s);
    if (onednn_product(dweight, dout, 1, columns, 0, s->out_channels, (size_t)s->in_channels * 27,
                       voxel_count(s), 1) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "weight gradient of a convolution");
    }
}
