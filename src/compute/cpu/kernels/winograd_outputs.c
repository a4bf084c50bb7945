/* From products at the points to the voxels of a block, and sums over these. */
#include "compute/cpu/kernels/winograd_points.h"

/* A tile of one of a block's planes: its first voxel, and how many rows and columns of it are inside. */
struct tile_place {
    size_t voxel;
    int inside_y, inside_x;
};

static int voxels_inside(int from, int extent)
{
    return extent - from < tile_side ? extent - from : tile_side;
}

static struct tile_place place_of(const struct tile_block *block, int z, int tile, const struct tiling *t)
{
    const struct tile_run run = run_of(block->first + tile, 1, t);
    return (struct tile_place){.voxel = voxel_at(t, block->grid, z, run.y, run.x),
                               .inside_y = voxels_inside(run.y, t->h),
                               .inside_x = voxels_inside(run.x, t->w)};
}

size_t KERNEL(winograd_block_voxels)(const struct tile_block *block, const struct tiling *t)
{
    size_t voxels = 0;
    for (int tile = 0; tile < block->count; tile++) {
        const struct tile_place place = place_of(block, 0, tile, t);
        voxels += (size_t)place.inside_y * place.inside_x;
    }
    return voxels * block->planes;
}

/* The voxels of a tile, of some channels. */
static ALWAYS_INLINE void output_tile(vec voxel[tile_voxels], const float *at, size_t pitch)
{
    vec columns[tile_side * point_side]; /* (tile_side along y, point_side) */
#pragma GCC unroll 6
    for (int k = 0; k < point_side; k++) {
        vec v[point_side];
#pragma GCC unroll 6
        for (int row = 0; row < point_side; row++) {
            v[row] = load(at + (size_t)(row * point_side + k) * pitch);
        }
        output_transform(columns + k, point_side, v, 1);
    }
#pragma GCC unroll 4
    for (int y = 0; y < tile_side; y++) {
        output_transform(voxel + y * tile_side, 1, columns + y * point_side, 1);
    }
}

/* A running sum with what rounding has lost of it (Kahan, "Further remarks on reducing truncation errors",
 * 1965): where an image is constant, all roundings go the same way. */
struct exact_sum {
    vec sum, lost;
};

static ALWAYS_INLINE void add_exactly(struct exact_sum *s, vec value)
{
    const vec wanted = value - s->lost, sum = s->sum + wanted;
    s->lost = (sum - s->sum) - wanted;
    s->sum = sum;
}

/* Two sums over the voxels of a block. */
struct voxel_sums {
    struct exact_sum first, second;
};

/* What is made of some channels of a block. */
struct channels_output {
    int channel, count;
    vec shift;               /* WINOGRAD_MOMENTS: near the mean */
    struct vector_norm norm; /* WINOGRAD_NORM_GRADIENT */
    struct voxel_sums sums;
};

static struct channels_output begin_channels(const struct winograd_output *output, const float *at,
                                             size_t grid, int channel)
{
    const int left = output->channels - channel;
    struct channels_output o = {.channel = channel, .count = left < lanes ? left : lanes};
    if (output->sums == WINOGRAD_NORM_GRADIENT) {
        o.norm = vector_norm(&output->norm, grid, channel, o.count);
    } else if (output->sums == WINOGRAD_MOMENTS) { /* so that squares lose nothing */
        vec voxel[tile_voxels];
        output_tile(voxel, at + channel, point_stride(output->channels));
        o.shift = voxel[0];
    }
    return o;
}

/* sums: (2, whole vectors of channels) of the block. */
static void end_channels(float *sums, const struct channels_output *o, const struct winograd_output *output,
                         size_t voxels)
{
    const int pad = whole_vectors(output->channels) * lanes;
    const vec first = o->sums.first.sum, second = o->sums.second.sum;
    if (output->sums == WINOGRAD_MOMENTS) {
        const vec offset = first / (float)voxels;
        store(sums + o->channel, o->shift + offset);
        store(sums + pad + o->channel, second - first * offset);
    } else if (output->sums == WINOGRAD_NORM_GRADIENT) {
        store(sums + o->channel, first);
        store(sums + pad + o->channel, second);
    }
}

/* The voxels of one tile, of some channels, on their way to memory. */
static ALWAYS_INLINE void write_tile(const struct winograd_output *output, struct channels_output *o,
                                     const float *at, const struct tile_place *place, const struct tiling *t,
                                     int count, enum winograd_sums kind, int whole)
{
    const size_t channels = output->channels;
    vec voxel[tile_voxels], first = {0}, second = {0};
    output_tile(voxel, at + o->channel, point_stride(output->channels));
#pragma GCC unroll 4
    for (int y = 0; y < tile_side; y++) {
#pragma GCC unroll 4
        for (int x = 0; x < tile_side; x++) {
            if (!whole && (y >= place->inside_y || x >= place->inside_x)) {
                continue;
            }
            const size_t element = (place->voxel + (size_t)y * t->w + x) * channels + o->channel;
            vec value = voxel[y * tile_side + x];
            if (kind == WINOGRAD_MOMENTS) {
                const vec distance = value - o->shift;
                first += distance;
                second += distance * distance;
            } else if (kind == WINOGRAD_NORM_GRADIENT) {
                const vec distance = load_activations_part(output->norm.x + element, count) - o->norm.mean;
                value = choose_positive(distance, value, value * o->norm.slope);
                first += value;
                second += value * distance;
            }
            store_activations_part(output->x + element, value, count);
        }
    }
    if (kind != WINOGRAD_NO_SUMS) {
        add_exactly(&o->sums.first, first);
        add_exactly(&o->sums.second, second);
    }
}

static ALWAYS_INLINE void write_tile_of(const struct winograd_output *output, struct channels_output *o,
                                        const float *at, const struct tile_place *place,
                                        const struct tiling *t, enum winograd_sums kind)
{
    if (o->count == lanes && place->inside_y == tile_side && place->inside_x == tile_side) {
        write_tile(output, o, at, place, t, lanes, kind, 1);
    } else {
        write_tile(output, o, at, place, t, o->count, kind, 0);
    }
}

/* Up to vectors_together vectors of channels of all tiles. */
static void write_channels(const struct winograd_output *output, float *sums, const float *at,
                           const struct tile_block *block, const struct tiling *t, int channel, int vectors)
{
    const size_t tile_pitch = (size_t)whole_vectors(output->channels) * lanes;
    struct channels_output o[vectors_together];
    for (int v = 0; v < vectors; v++) {
        o[v] = begin_channels(output, at, block->grid, channel + v * lanes);
    }
    for (int plane = 0; plane < block->planes; plane++) {
        for (int tile = 0; tile < block->count; tile++) {
            const struct tile_place place = place_of(block, block->depth + plane, tile, t);
            const float *from = at + plane * plane_length(output->channels) + tile * tile_pitch;
            for (int v = 0; v < vectors; v++) {
                switch (output->sums) {
                case WINOGRAD_MOMENTS:
                    write_tile_of(output, &o[v], from, &place, t, WINOGRAD_MOMENTS);
                    break;
                case WINOGRAD_NORM_GRADIENT:
                    write_tile_of(output, &o[v], from, &place, t, WINOGRAD_NORM_GRADIENT);
                    break;
                default:
                    write_tile_of(output, &o[v], from, &place, t, WINOGRAD_NO_SUMS);
                }
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        end_channels(sums, &o[v], output, KERNEL(winograd_block_voxels)(block, t));
    }
}

void KERNEL(winograd_outputs)(const struct winograd_output *output, float *sums, const float *at,
                              const struct tile_block *block, const struct tiling *t)
{
    const int vectors = whole_vectors(output->channels);
    for (int v = 0; v < vectors; v += vectors_together) {
        const int left = vectors - v;
        write_channels(output, sums, at, block, t, v * lanes,
                       left < vectors_together ? left : vectors_together);
    }
}
