/* Planes of the input, and of the output's gradient, brought to the points. */
#include "compute/cpu/kernels/winograd_points.h"

static ALWAYS_INLINE vec normed_and_active(vec v, const struct vector_norm *norm)
{
    const vec normal = (v - norm->mean) * norm->rstd;
    return choose_positive(normal, normal, normal * norm->slope);
}

/* One column of voxels along y, of some channels. A row is NULL where it is outside the grid, and norm where
 * there is none. */
static ALWAYS_INLINE void input_column(vec column[point_side], const activation *const rows[point_side],
                                       size_t offset, int count, const struct vector_norm *norm)
{
    vec v[point_side];
#pragma GCC unroll 6
    for (int k = 0; k < point_side; k++) {
        v[k] = (vec){0};
        if (rows[k] != NULL) {
            v[k] = count == lanes ? load_activations(rows[k] + offset)
                                  : load_activations_part(rows[k] + offset, count);
            if (norm != NULL) {
                v[k] = normed_and_active(v[k], norm);
            }
        }
    }
    input_transform(v, 1);
#pragma GCC unroll 6
    for (int k = 0; k < point_side; k++) {
        column[k] = v[k];
    }
}

enum { shared_columns = point_side - tile_side }; /* of a tile with the next one of its run */

/* A tile, of some channels; first: its first column, at x = first, is the only one that may be outside on the
 * left. `shared` holds the columns that the tile before it, if there is one, has left. */
static ALWAYS_INLINE void input_tile(factor *at, size_t pitch, vec shared[shared_columns][point_side],
                                     const activation *const rows[point_side], int first, int begins,
                                     int channel, int channels, const struct tiling *t, int count,
                                     const struct vector_norm *norm)
{
    vec columns[point_side][point_side];
    for (int k = 0; k < point_side; k++) {
        const int x = first + k;
        if (k < shared_columns && !begins) {
            memcpy(columns[k], shared[k], sizeof columns[k]);
        } else if (x < 0 || x >= t->w) {
            memset(columns[k], 0, sizeof columns[k]);
        } else {
            input_column(columns[k], rows, (size_t)x * channels + channel, count, norm);
        }
    }
    memcpy(shared, columns[tile_side], sizeof columns[0] * shared_columns);
#pragma GCC unroll 6
    for (int row = 0; row < point_side; row++) {
        vec v[point_side];
#pragma GCC unroll 6
        for (int k = 0; k < point_side; k++) {
            v[k] = columns[k][row];
        }
        input_transform(v, 1);
#pragma GCC unroll 6
        for (int k = 0; k < point_side; k++, at += pitch) {
            store_factor_row(at, v[k]);
        }
    }
}

/* As input_tile, through the input's norm where it has one. */
static ALWAYS_INLINE void input_tile_of(factor *at, vec shared[shared_columns][point_side],
                                        const activation *const rows[point_side], int first, int begins,
                                        int channel, const struct winograd_input *input, size_t grid,
                                        const struct tiling *t, int count)
{
    const size_t pitch = point_stride(input->channels);
    if (input->mean != NULL) {
        const struct vector_norm norm = vector_norm(input, grid, channel, count);
        input_tile(at, pitch, shared, rows, first, begins, channel, input->channels, t, count, &norm);
    } else {
        input_tile(at, pitch, shared, rows, first, begins, channel, input->channels, t, count, NULL);
    }
}

/* The tiles of a run, of channels [from, to), at most vectors_together of them. at: of the first tile. */
static void input_run(factor *at, const activation *const rows[point_side], const struct tile_run *run,
                      int from, int to, const struct winograd_input *input, size_t grid,
                      const struct tiling *t)
{
    vec shared[vectors_together][shared_columns][point_side];
    for (int tile = 0; tile < run->length; tile++, at += (size_t)whole_vectors(input->channels) * lanes) {
        const int first = run->x + tile * tile_side - 1;
        int channel = from;
        vec(*next)[shared_columns][point_side] = shared;
        for (; channel + lanes <= to; channel += lanes, next++) {
            input_tile_of(at + channel, *next, rows, first, tile == 0, channel, input, grid, t, lanes);
        }
        if (channel < to) {
            input_tile_of(at + channel, *next, rows, first, tile == 0, channel, input, grid, t, to - channel);
        }
    }
}

/* Plane z of the block. */
static void input_plane(factor *at, const struct winograd_input *input, const struct tile_block *block, int z,
                        const struct tiling *t)
{
    enum { together = vectors_together * lanes };
    const int channels = input->channels;
    struct tile_run run;
    for (int done = 0; done < block->count; done += run.length) {
        run = run_of(block->first + done, block->count - done, t);
        const activation *rows[point_side];
        for (int k = 0; k < point_side; k++) {
            const int y = run.y + k - 1;
            rows[k] = y >= 0 && y < t->h ? input->x + voxel_at(t, block->grid, z, y, 0) * channels : NULL;
        }
        factor *to = at + (size_t)done * whole_vectors(channels) * lanes;
        for (int from = 0; from < channels; from += together) {
            const int end = channels - from < together ? channels : from + together;
            input_run(to, rows, &run, from, end, input, block->grid, t);
        }
    }
}

void KERNEL(winograd_inputs)(struct plane_ring *ring, const struct winograd_input *input,
                             const struct tile_block *block, const struct tiling *t, int moves_on)
{
    if (!moves_on) {
        ring->next = block->depth > 0 ? block->depth - 1 : 0;
    }
    for (; ring->next < t->d && ring->next <= block->depth + block->planes; ring->next++) {
        factor *at = ring->at + ring->next % ring->slots * plane_length(input->channels);
        input_plane(at, input, block, ring->next, t);
    }
}

/* One tile of dout, of some channels. */
static ALWAYS_INLINE void gradient_tile(factor *at, size_t pitch, const activation *dout, int inside_y,
                                        int inside_x, const struct tiling *t, int channels, int count)
{
    vec columns[tile_side][point_side];
#pragma GCC unroll 4
    for (int x = 0; x < tile_side; x++) {
        vec v[tile_side] = {{0}};
        for (int y = 0; y < tile_side; y++) {
            if (y < inside_y && x < inside_x) {
                v[y] = load_activations_part(dout + ((size_t)y * t->w + x) * channels, count);
            }
        }
        gradient_transform(columns[x], 1, v, 1);
    }
#pragma GCC unroll 6
    for (int row = 0; row < point_side; row++) {
        vec v[tile_side], at_x[point_side];
#pragma GCC unroll 4
        for (int x = 0; x < tile_side; x++) {
            v[x] = columns[x][row];
        }
        gradient_transform(at_x, 1, v, 1);
#pragma GCC unroll 6
        for (int k = 0; k < point_side; k++, at += pitch) {
            store_factor_row(at, at_x[k]);
        }
    }
}

void KERNEL(winograd_output_gradients)(factor *at, const activation *dout, int channels,
                                       const struct tile_block *block, int z, const struct tiling *t)
{
    const size_t pitch = point_stride(channels);
    for (int k = 0; k < block->count; k++, at += whole_vectors(channels) * lanes) {
        const struct tile_run tile = run_of(block->first + k, 1, t);
        const activation *from = dout + voxel_at(t, block->grid, z, tile.y, tile.x) * channels;
        const int left_y = t->h - tile.y, left_x = t->w - tile.x;
        for (int channel = 0; channel < channels; channel += lanes) {
            const int left = channels - channel < lanes ? channels - channel : lanes;
            if (left == lanes && left_y >= tile_side && left_x >= tile_side) {
                gradient_tile(at + channel, pitch, from + channel, tile_side, tile_side, t, channels, lanes);
            } else {
                gradient_tile(at + channel, pitch, from + channel, left_y, left_x, t, channels, left);
            }
        }
    }
}
