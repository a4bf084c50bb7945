#include "compute/cpu/kernels/amx/tile_convolution.h"

/* A row of voxels of a block: w of them, or those that the block has. */
struct voxel_row {
    size_t position, voxel; /* the first one's, in the block and in the grids */
    int length;             /* 0 where the block has only the border of it */
};

/* The row that begins at this position of the block. *next: where the one behind begins. */
static struct voxel_row row_at(int position, int *next, const struct position_block *b,
                               const struct strip_sizes *z)
{
    const int row = z->w + border, place = b->first + position, y = place / row, x = place % row;
    const int end = b->count - position, left = z->w - x;
    const size_t plane = (size_t)b->strip.grid * z->d + b->strip.depth;
    *next = position + (row - x);
    return (struct voxel_row){.position = position,
                              .voxel = (plane * z->h + b->strip.first + y) * z->w + x,
                              .length = left < 0     ? 0
                                        : left < end ? left
                                                     : end};
}

/* Up to 16 channels of all voxels. */
static ALWAYS_INLINE size_t write_channels(const struct convolution_output *o, float *sums, const float *from,
                                           const struct position_block *b, const struct strip_sizes *z,
                                           int channel, int count, enum output_sums kind)
{
    const size_t pitch = (size_t)channel_tiles(o->channels) * tile_columns, channels = o->channels;
    vec shift = {0}, first = {0}, second = {0};
    float slope = 1;
    size_t voxels = 0;
    if (kind == NORM_GRADIENT) {
        shift = load_part(o->norm->mean + (size_t)b->strip.grid * channels + channel, count);
        slope = o->norm->slope;
    }
    int next;
    for (int position = 0; position < b->count; position = next) {
        const struct voxel_row row = row_at(position, &next, b, z);
        const float *value = from + row.position * pitch + channel;
        activation *to = o->x + row.voxel * channels + channel;
        const activation *normed = kind == NORM_GRADIENT ? o->normed + row.voxel * channels + channel : NULL;
        if (kind == MOMENTS && voxels == 0 && row.length > 0) {
            shift = load(value); /* near the mean, so that squares lose nothing */
        }
        for (int x = 0; x < row.length; x++, value += pitch, to += channels) {
            vec v = load(value);
            if (kind == MOMENTS) {
                const vec distance = v - shift;
                first += distance;
                second += distance * distance;
            } else if (kind == NORM_GRADIENT) {
                const vec distance = load_activations_part(normed, count) - shift;
                v = choose_positive(distance, v, v * slope);
                first += v;
                second += v * distance;
                normed += channels;
            }
            store_activations_part(to, v, count);
        }
        voxels += row.length;
    }
    if (kind == MOMENTS) {
        const vec offset = first / (float)voxels;
        store(sums + channel, shift + offset);
        store(sums + pitch + channel, second - first * offset);
    } else if (kind == NORM_GRADIENT) {
        store(sums + channel, first);
        store(sums + pitch + channel, second);
    }
    return voxels;
}

size_t KERNEL(write_outputs)(const struct convolution_output *o, float *sums, const float *from,
                             const struct position_block *b, const struct strip_sizes *z)
{
    size_t voxels = 0;
    for (int channel = 0; channel < o->channels; channel += lanes) {
        const int left = o->channels - channel, count = left < lanes ? left : lanes;
        switch (o->sums) {
        case MOMENTS:
            voxels = write_channels(o, sums, from, b, z, channel, count, MOMENTS);
            break;
        case NORM_GRADIENT:
            voxels = write_channels(o, sums, from, b, z, channel, count, NORM_GRADIENT);
            break;
        default:
            voxels = write_channels(o, sums, from, b, z, channel, count, NO_SUMS);
        }
    }
    return voxels;
}
