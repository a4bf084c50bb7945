/* The weight gradient of a convolution over few voxels and many channels, as one matrix product over gathered
 * neighbourhoods. It adds to PyTorch's layout as it is, where oneDNN would make a gradient in a layout of its
 * own, larger than all activations, and reorder it. */
#include "compute/cpu/cpu_state.h"
#include "compute/cpu/onednn.h"

enum { most_voxels = 64, least_channels = 192 };

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

int is_small_grid(const struct conv3d_shape *s)
{
    return s->kernel == 3 && s->in_channels >= least_channels && s->out_channels >= least_channels &&
           s->d * s->h * s->w <= most_voxels &&
           (size_t)s->n * s->d * s->h * s->w * s->in_channels * 27 <= most_columns;
}

void small_grid_weight_gradient(struct compute *c, float *dweight, const float *dout, const float *inp,
                                const struct conv3d_shape *s)
{
    const size_t rows = (size_t)s->n * s->d * s->h * s->w, length = (size_t)s->in_channels * 27;
    float *columns = cpu_scratch(c, rows * length * sizeof *columns);
    if (columns == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t row = 0; row < rows; row++) {
        gather_neighbourhood(columns + row * length, inp, row, s);
    }
    if (onednn_product(dweight, dout, 1, columns, 0, s->out_channels, length, rows, 1) != 0) {
        compute_failed(c, VOCO_NO_MEMORY, "weight gradient of a convolution");
    }
}
