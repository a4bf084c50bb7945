#include "compute/cpu/kernels/winograd.h"

/* A run of tiles along w. */
struct tile_run {
    size_t grid;
    int z, y, x; /* first voxel of the first tile */
    int length;  /* tiles */
};

/* The run that begins with this tile and ends with its row or after `most` tiles. */
static struct tile_run run_of(size_t tile, int most, const struct tiling *t)
{
    struct tile_run run = {.grid = tile / t->per_grid};
    const int within = (int)(tile % t->per_grid), x = within % t->tiles_w;
    run.x = x * tile_side;
    run.y = within / t->tiles_w % t->tiles_h * tile_side;
    run.z = within / t->tiles_w / t->tiles_h * tile_side;
    run.length = t->tiles_w - x < most ? t->tiles_w - x : most;
    return run;
}

/* Voxel (grid, z, y, 0) of x, or zeros where that lies outside. */
static const activation *row_at(const activation *x, const activation *zeros, const struct tiling *t,
                                size_t grid, int z, int y, int channels)
{
    const int inside = z >= 0 && z < t->d && y >= 0 && y < t->h;
    return inside ? x + ((grid * t->d + z) * t->h + y) * t->w * channels : zeros;
}

static ALWAYS_INLINE void input_transform(vec v[point_side], int stride)
{
    const vec d0 = v[0], d1 = v[stride], d2 = v[2 * stride], d3 = v[3 * stride];
    v[0] = d0 - d2;
    v[stride] = d1 + d2;
    v[2 * stride] = d2 - d1;
    v[3 * stride] = d1 - d3;
}

/* One column of voxels, 4 x 4 along z and y, of some channels. */
static ALWAYS_INLINE void input_column(vec column[16], const activation *const rows[16], size_t offset,
                                       int count)
{
    vec v[16];
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
        v[k] = count == lanes ? load_activations(rows[k] + offset)
                              : load_activations_part(rows[k] + offset, count);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        input_transform(v + k, 4);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        input_transform(v + 4 * k, 1);
    }
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
        column[k] = v[k];
    }
}

/* The tiles of a run, of the vector of channels at `channel`. at: of the first tile. */
static ALWAYS_INLINE void input_run(float *at, const activation *const rows[16], const struct tile_run *run,
                                    int channel, int channels, const struct tiling *t, int count)
{
    const size_t pitch = point_stride(channels), tile_pitch = (size_t)whole_vectors(channels) * lanes;
    vec columns[4][16]; /* a ring: column x lies at (x + 1) % 4 */
    for (int x = run->x - 1; x < run->x + 2 * run->length + 1; x++) {
        vec *column = columns[(x + 1) % 4];
        if (x < 0 || x >= t->w) {
            memset(column, 0, sizeof columns[0]);
        } else {
            input_column(column, rows, (size_t)x * channels + channel, count);
        }
        if (x < run->x + 2 || (x - run->x) % 2 != 0) {
            continue;
        }
        const vec *c0 = columns[(x + 2) % 4], *c1 = columns[(x + 3) % 4], *c2 = columns[x % 4], *c3 = column;
        float *to = at + (size_t)((x - run->x) / 2 - 1) * tile_pitch;
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++, to += 4 * pitch) {
            store(to, c0[k] - c2[k]);
            store(to + pitch, c1[k] + c2[k]);
            store(to + 2 * pitch, c2[k] - c1[k]);
            store(to + 3 * pitch, c1[k] - c3[k]);
        }
    }
}

void KERNEL(winograd_inputs)(float *at, const activation *x, const activation *zeros, size_t first, int count,
                             int channels, const struct tiling *t)
{
    struct tile_run run;
    for (int done = 0; done < count; done += run.length) {
        run = run_of(first + done, count - done, t);
        const activation *rows[16];
        for (int k = 0; k < 16; k++) {
            rows[k] = row_at(x, zeros, t, run.grid, run.z + k / 4 - 1, run.y + k % 4 - 1, channels);
        }
        float *to = at + (size_t)done * whole_vectors(channels) * lanes;
        int channel = 0;
        for (; channel + lanes <= channels; channel += lanes) {
            input_run(to + channel, rows, &run, channel, channels, t, lanes);
        }
        if (channel < channels) {
            input_run(to + channel, rows, &run, channel, channels, t, channels - channel);
        }
    }
}

/* Two values to four points. */
static ALWAYS_INLINE void gradient_transform(vec *to, int to_stride, vec g0, vec g1)
{
    to[0] = g0;
    to[to_stride] = (g0 + g1) * 0.5F;
    to[2 * to_stride] = (g0 - g1) * 0.5F;
    to[3 * to_stride] = g1;
}

/* One tile of dout, of some channels; corner: its first voxel. */
static ALWAYS_INLINE void gradient_tile(float *at, size_t pitch, const activation *corner,
                                        const int inside[3], const struct tiling *t, int channels, int count)
{
    vec plane[2][16];
#pragma GCC unroll 2
    for (int z = 0; z < 2; z++) {
        vec voxel[4] = {{0}}, rows[8];
        for (int k = 0; k < 4; k++) {
            if (z < inside[0] && k / 2 < inside[1] && k % 2 < inside[2]) {
                const size_t place = (size_t)(z * t->h + k / 2) * t->w + k % 2;
                voxel[k] = load_activations_part(corner + place * channels, count);
            }
        }
        gradient_transform(rows, 1, voxel[0], voxel[1]);
        gradient_transform(rows + 4, 1, voxel[2], voxel[3]);
        for (int k = 0; k < 4; k++) {
            gradient_transform(plane[z] + k, 4, rows[k], rows[4 + k]);
        }
    }
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
        vec at_z[4];
        gradient_transform(at_z, 1, plane[0][k], plane[1][k]);
        for (int z = 0; z < 4; z++) {
            store(at + (size_t)(16 * z + k) * pitch, at_z[z]);
        }
    }
}

static int voxels_inside(int from, int extent)
{
    return extent - from < tile_side ? extent - from : tile_side;
}

void KERNEL(winograd_output_gradients)(float *at, const activation *dout, size_t first, int count,
                                       int channels, const struct tiling *t)
{
    const size_t pitch = point_stride(channels);
    for (int k = 0; k < count; k++, at += whole_vectors(channels) * lanes) {
        const struct tile_run tile = run_of(first + k, 1, t);
        const int inside[3] = {voxels_inside(tile.z, t->d), voxels_inside(tile.y, t->h),
                               voxels_inside(tile.x, t->w)};
        const activation *corner =
            row_at(dout, NULL, t, tile.grid, tile.z, tile.y, channels) + (size_t)tile.x * channels;
        for (int channel = 0; channel < channels; channel += lanes) {
            const int left = channels - channel < lanes ? channels - channel : lanes;
            gradient_tile(at + channel, pitch, corner + channel, inside, t, channels, left);
        }
    }
}

/* Four points to two values. */
static ALWAYS_INLINE void output_transform(vec *to, int to_stride, const vec *v, int stride)
{
    const vec sum = v[stride] + v[2 * stride], difference = v[stride] - v[2 * stride];
    to[0] = v[0] + sum;
    to[to_stride] = difference - v[3 * stride];
}

/* The 2^3 voxels of a tile, of some channels. */
static ALWAYS_INLINE void output_tile(vec voxel[8], const float *at, size_t pitch)
{
    vec plane[16]; /* (4 along z, 2, 2) */
#pragma GCC unroll 4
    for (int z = 0; z < 4; z++) {
        vec v[16], rows[8];
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++) {
            v[k] = load(at + (size_t)(16 * z + k) * pitch);
        }
#pragma GCC unroll 4
        for (int y = 0; y < 4; y++) {
            output_transform(rows + 2 * y, 1, v + 4 * y, 1);
        }
        output_transform(plane + 4 * z, 2, rows, 2);
        output_transform(plane + 4 * z + 1, 2, rows + 1, 2);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        output_transform(voxel + k, 4, plane + k, 4);
    }
}

void KERNEL(winograd_outputs)(activation *out, const float *at, size_t first, int count, int channels,
                              const struct tiling *t)
{
    const size_t pitch = point_stride(channels);
    for (int k = 0; k < count; k++, at += whole_vectors(channels) * lanes) {
        const struct tile_run tile = run_of(first + k, 1, t);
        const int inside[3] = {voxels_inside(tile.z, t->d), voxels_inside(tile.y, t->h),
                               voxels_inside(tile.x, t->w)};
        activation *corner = out + (((tile.grid * t->d + tile.z) * t->h + tile.y) * t->w + tile.x) * channels;
        for (int channel = 0; channel < channels; channel += lanes) {
            const int left = channels - channel < lanes ? channels - channel : lanes;
            vec voxel[8];
            output_tile(voxel, at + channel, pitch);
            for (int v = 0; v < 8; v++) {
                if (v / 4 < inside[0] && v / 2 % 2 < inside[1] && v % 2 < inside[2]) {
                    const size_t place = ((size_t)(v / 4) * t->h + v / 2 % 2) * t->w + v % 2;
                    store_activations_part(corner + place * channels + channel, voxel[v], left);
                }
            }
        }
    }
}

/* Three taps to four points. */
static ALWAYS_INLINE void weight_transform(vec *to, int to_stride, const vec *g, int stride)
{
    const vec outer = (g[0] + g[2 * stride]) * 0.5F, middle = g[stride] * 0.5F;
    to[0] = g[0];
    to[to_stride] = outer + middle;
    to[2 * to_stride] = outer - middle;
    to[3 * to_stride] = g[2 * stride];
}

static void weights_at_points(vec at[points], const vec tap[27])
{
    vec along_x[36], along_y[48]; /* (3, 3, 4), (3, 4, 4) */
    for (int k = 0; k < 9; k++) {
        weight_transform(along_x + 4 * k, 1, tap + 3 * k, 1);
    }
    for (int k = 0; k < 12; k++) {
        weight_transform(along_y + k / 4 * 16 + k % 4, 4, along_x + k / 4 * 12 + k % 4, 4);
    }
    for (int k = 0; k < 16; k++) {
        weight_transform(at + k, 16, along_y + k, 16);
    }
}

void KERNEL(winograd_weights)(float *at, const float *weight, int in_channels, int out_channels, int backward,
                              int threads)
{
    const int inner = backward ? out_channels : in_channels, outer = backward ? in_channels : out_channels;
    const int vectors = whole_vectors(outer);
    const size_t point = winograd_weights_length(inner, outer) / points;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < inner; i++) {
        for (int v = 0; v < vectors; v++) {
            const int panel = v / panel_vectors * panel_vectors;
            const int width = vectors - panel < panel_vectors ? vectors - panel : panel_vectors;
            vec tap[27] = {{0}}, transformed[points];
            for (int o = v * lanes; o < outer && o < (v + 1) * lanes; o++) {
                const float *from =
                    weight + (backward ? (size_t)i * in_channels + o : (size_t)o * in_channels + i) * 27;
                for (int k = 0; k < 27; k++) {
                    tap[k][o - v * lanes] = from[backward ? 26 - k : k];
                }
            }
            weights_at_points(transformed, tap);
            float *to = at + (size_t)panel * inner * lanes + ((size_t)i * width + v - panel) * lanes;
            for (int p = 0; p < points; p++) {
                store(to + p * point, transformed[p]);
            }
        }
    }
}

/* Four points to three taps. */
static ALWAYS_INLINE void tap_transform(vec *to, int to_stride, const vec *v, int stride)
{
    const vec sum = v[stride] + v[2 * stride], difference = v[stride] - v[2 * stride];
    to[0] = v[0] + sum;
    to[to_stride] = difference;
    to[2 * to_stride] = sum - v[3 * stride];
}

static void taps_of_points(vec tap[27], const vec at[points])
{
    vec along_z[48], along_y[36]; /* (3, 4, 4), (3, 3, 4) */
    for (int k = 0; k < 16; k++) {
        tap_transform(along_z + k, 16, at + k, 16);
    }
    for (int k = 0; k < 12; k++) {
        tap_transform(along_y + k / 4 * 12 + k % 4, 4, along_z + k / 4 * 16 + k % 4, 4);
    }
    for (int k = 0; k < 9; k++) {
        tap_transform(tap + 3 * k, 1, along_y + 4 * k, 1);
    }
}

void KERNEL(winograd_add_weight_gradient)(float *dweight, const float *at, size_t stride, int parts,
                                          int in_channels, int out_channels, int threads)
{
    const int vectors = whole_vectors(out_channels);
    const size_t point = (size_t)in_channels * vectors * lanes;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < in_channels; i++) {
        for (int v = 0; v < vectors; v++) {
            vec sums[points], tap[27];
            for (int p = 0; p < points; p++) {
                const float *from = at + p * point + ((size_t)i * vectors + v) * lanes;
                sums[p] = load(from);
                for (int part = 1; part < parts; part++) {
                    sums[p] += load(from + part * stride);
                }
            }
            taps_of_points(tap, sums);
            for (int o = v * lanes; o < out_channels && o < (v + 1) * lanes; o++) {
                float *to = dweight + ((size_t)o * in_channels + i) * 27;
                for (int k = 0; k < 27; k++) {
                    to[k] += tap[k][o - v * lanes];
                }
            }
        }
    }
}
