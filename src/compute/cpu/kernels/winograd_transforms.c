#include "compute/cpu/kernels/winograd.h"

/* A run of tiles along w. */
struct tile_run {
    int z, y, x; /* first voxel of the first tile */
    int length;  /* tiles */
};

/* The run that begins with this tile of a grid and ends with its row or after `most` tiles. */
static struct tile_run run_of(size_t tile, int most, const struct tiling *t)
{
    struct tile_run run;
    const int x = (int)(tile % t->tiles_w);
    run.x = x * tile_side;
    run.y = (int)(tile / t->tiles_w % t->tiles_h) * tile_side;
    run.z = (int)(tile / t->tiles_w / t->tiles_h) * tile_side;
    run.length = t->tiles_w - x < most ? t->tiles_w - x : most;
    return run;
}

static size_t voxel_at(const struct tiling *t, size_t grid, int z, int y, int x)
{
    return ((grid * t->d + z) * t->h + y) * t->w + x;
}

static ALWAYS_INLINE void input_transform(vec v[point_side], int stride)
{
    const vec d0 = v[0], d1 = v[stride], d2 = v[2 * stride], d3 = v[3 * stride];
    v[0] = d0 - d2;
    v[stride] = d1 + d2;
    v[2 * stride] = d2 - d1;
    v[3 * stride] = d1 - d3;
}

/* The norm and activation of some channels of a grid. */
struct vector_norm {
    vec mean, rstd;
    float slope;
};

static ALWAYS_INLINE struct vector_norm vector_norm(const struct winograd_input *input, size_t grid,
                                                    int channel, int count)
{
    const size_t place = grid * input->channels + channel;
    return (struct vector_norm){.mean = load_part(input->mean + place, count),
                                .rstd = load_part(input->rstd + place, count),
                                .slope = input->slope};
}

static ALWAYS_INLINE vec normed_and_active(vec v, const struct vector_norm *norm)
{
    const vec normal = (v - norm->mean) * norm->rstd;
    return choose_positive(normal, normal, normal * norm->slope);
}

/* One column of voxels, 4 x 4 along z and y, of some channels. A row is NULL where it is outside the grid,
 * and norm where there is none. */
static ALWAYS_INLINE void input_column(vec column[16], const activation *const rows[16], size_t offset,
                                       int count, const struct vector_norm *norm)
{
    vec v[16];
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
        v[k] = (vec){0};
        if (rows[k] != NULL) {
            v[k] = count == lanes ? load_activations(rows[k] + offset)
                                  : load_activations_part(rows[k] + offset, count);
            if (norm != NULL) {
                v[k] = normed_and_active(v[k], norm);
            }
        }
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
static ALWAYS_INLINE void input_run(factor *at, const activation *const rows[16], const struct tile_run *run,
                                    int channel, int channels, const struct tiling *t, int count,
                                    const struct vector_norm *norm)
{
    const size_t pitch = point_stride(channels), tile_pitch = (size_t)whole_vectors(channels) * lanes;
    vec columns[4][16]; /* a ring: column x lies at (x + 1) % 4 */
    for (int x = run->x - 1; x < run->x + 2 * run->length + 1; x++) {
        vec *column = columns[(x + 1) % 4];
        if (x < 0 || x >= t->w) {
            memset(column, 0, sizeof columns[0]);
        } else {
            input_column(column, rows, (size_t)x * channels + channel, count, norm);
        }
        if (x < run->x + 2 || (x - run->x) % 2 != 0) {
            continue;
        }
        const vec *c0 = columns[(x + 2) % 4], *c1 = columns[(x + 3) % 4], *c2 = columns[x % 4], *c3 = column;
        factor *to = at + (size_t)((x - run->x) / 2 - 1) * tile_pitch;
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++, to += 4 * pitch) {
            store_factor_row(to, c0[k] - c2[k]);
            store_factor_row(to + pitch, c1[k] + c2[k]);
            store_factor_row(to + 2 * pitch, c2[k] - c1[k]);
            store_factor_row(to + 3 * pitch, c1[k] - c3[k]);
        }
    }
}

/* As input_run, through the input's norm where it has one. */
static ALWAYS_INLINE void input_run_of(factor *at, const activation *const rows[16],
                                       const struct tile_run *run, int channel,
                                       const struct winograd_input *input, size_t grid,
                                       const struct tiling *t, int count)
{
    if (input->mean != NULL) {
        const struct vector_norm norm = vector_norm(input, grid, channel, count);
        input_run(at, rows, run, channel, input->channels, t, count, &norm);
    } else {
        input_run(at, rows, run, channel, input->channels, t, count, NULL);
    }
}

void KERNEL(winograd_inputs)(factor *at, const struct winograd_input *input, const struct tile_block *block,
                             const struct tiling *t)
{
    const int channels = input->channels;
    struct tile_run run;
    for (int done = 0; done < block->count; done += run.length) {
        run = run_of(block->first + done, block->count - done, t);
        const activation *rows[16];
        for (int k = 0; k < 16; k++) {
            const int z = run.z + k / 4 - 1, y = run.y + k % 4 - 1;
            const int inside = z >= 0 && z < t->d && y >= 0 && y < t->h;
            rows[k] = inside ? input->x + voxel_at(t, block->grid, z, y, 0) * channels : NULL;
        }
        factor *to = at + (size_t)done * whole_vectors(channels) * lanes;
        int channel = 0;
        for (; channel + lanes <= channels; channel += lanes) {
            input_run_of(to + channel, rows, &run, channel, input, block->grid, t, lanes);
        }
        if (channel < channels) {
            input_run_of(to + channel, rows, &run, channel, input, block->grid, t, channels - channel);
        }
    }
}

/* Where a tile's first voxel lies, and how many voxels of it along z, y, x are inside the grid. */
struct tile_place {
    size_t voxel;
    int inside[3];
};

static int voxels_inside(int from, int extent)
{
    return extent - from < tile_side ? extent - from : tile_side;
}

static struct tile_place place_of(const struct tile_block *block, int tile, const struct tiling *t)
{
    const struct tile_run run = run_of(block->first + tile, 1, t);
    return (struct tile_place){
        .voxel = voxel_at(t, block->grid, run.z, run.y, run.x),
        .inside = {voxels_inside(run.z, t->d), voxels_inside(run.y, t->h), voxels_inside(run.x, t->w)}};
}

/* Whether the tile has the voxel at these three bits of v, z first. */
static int has_voxel(const struct tile_place *place, int v)
{
    return v / 4 < place->inside[0] && v / 2 % 2 < place->inside[1] && v % 2 < place->inside[2];
}

static size_t tile_voxel(const struct tile_place *place, int v, const struct tiling *t)
{
    return place->voxel + ((size_t)(v / 4) * t->h + v / 2 % 2) * t->w + v % 2;
}

size_t KERNEL(winograd_block_voxels)(const struct tile_block *block, const struct tiling *t)
{
    size_t voxels = 0;
    for (int tile = 0; tile < block->count; tile++) {
        const struct tile_place place = place_of(block, tile, t);
        voxels += (size_t)place.inside[0] * place.inside[1] * place.inside[2];
    }
    return voxels;
}

/* Two values to four points. */
static ALWAYS_INLINE void gradient_transform(vec *to, int to_stride, vec g0, vec g1)
{
    to[0] = g0;
    to[to_stride] = (g0 + g1) * 0.5F;
    to[2 * to_stride] = (g0 - g1) * 0.5F;
    to[3 * to_stride] = g1;
}

/* One tile of dout, of some channels. */
static ALWAYS_INLINE void gradient_tile(factor *at, size_t pitch, const activation *dout,
                                        const struct tile_place *place, const struct tiling *t, int channels,
                                        int count)
{
    vec plane[2][16];
#pragma GCC unroll 2
    for (int z = 0; z < 2; z++) {
        vec voxel[4] = {{0}}, rows[8];
        for (int k = 0; k < 4; k++) {
            if (has_voxel(place, 4 * z + k)) {
                voxel[k] = load_activations_part(dout + tile_voxel(place, 4 * z + k, t) * channels, count);
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
            store_factor_row(at + (size_t)(16 * z + k) * pitch, at_z[z]);
        }
    }
}

void KERNEL(winograd_output_gradients)(factor *at, const activation *dout, int channels,
                                       const struct tile_block *block, const struct tiling *t)
{
    const size_t pitch = point_stride(channels);
    for (int k = 0; k < block->count; k++, at += whole_vectors(channels) * lanes) {
        const struct tile_place place = place_of(block, k, t);
        for (int channel = 0; channel < channels; channel += lanes) {
            const int left = channels - channel < lanes ? channels - channel : lanes;
            gradient_tile(at + channel, pitch, dout + channel, &place, t, channels, left);
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

static ALWAYS_INLINE vec sum_of_8(const vec v[8])
{
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

/* Two sums over the voxels of a block. */
struct voxel_sums {
    struct exact_sum first, second;
};

/* The voxels of one tile, of some channels, on their way to memory. */
static ALWAYS_INLINE void write_tile(const struct winograd_output *output, struct voxel_sums *sums,
                                     const float *at, size_t pitch, const struct tile_place *place,
                                     const struct tiling *t, int channel, int count, enum winograd_sums kind,
                                     vec shift, const struct vector_norm *norm)
{
    vec voxel[8], first[8] = {{0}}, second[8] = {{0}};
    output_tile(voxel, at, pitch);
    const int whole = place->inside[0] + place->inside[1] + place->inside[2] == 3 * tile_side;
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++) {
        if (!whole && !has_voxel(place, v)) {
            continue;
        }
        const size_t element = tile_voxel(place, v, t) * output->channels + channel;
        vec value = voxel[v];
        if (kind == WINOGRAD_MOMENTS) {
            first[v] = value - shift;
            second[v] = first[v] * first[v];
        } else if (kind == WINOGRAD_NORM_GRADIENT) {
            const vec distance = load_activations_part(output->norm.x + element, count) - norm->mean;
            first[v] = value = choose_positive(distance, value, value * norm->slope);
            second[v] = value * distance;
        }
        store_activations_part(output->x + element, value, count);
    }
    if (kind != WINOGRAD_NO_SUMS) {
        add_exactly(&sums->first, sum_of_8(first));
        add_exactly(&sums->second, sum_of_8(second));
    }
}

/* All tiles of a block, of some channels; `sums` (2, whole vectors of channels) at those. */
static ALWAYS_INLINE void write_block(const struct winograd_output *output, float *sums, const float *at,
                                      const struct tile_place *places, const struct tile_block *block,
                                      const struct tiling *t, int channel, int count, enum winograd_sums kind)
{
    const int channels = output->channels, whole = whole_vectors(channels) * lanes;
    const size_t pitch = point_stride(channels);
    struct voxel_sums running = {{{0}, {0}}, {{0}, {0}}};
    struct vector_norm norm = {{0}, {0}, 0};
    vec shift = {0}, first[8];
    if (kind == WINOGRAD_NORM_GRADIENT) {
        norm = vector_norm(&output->norm, block->grid, channel, count);
    } else if (kind == WINOGRAD_MOMENTS) { /* near the mean, so that squares lose nothing */
        output_tile(first, at + channel, pitch);
        shift = first[0];
    }
    for (int tile = 0; tile < block->count; tile++) {
        write_tile(output, &running, at + (size_t)tile * whole + channel, pitch, &places[tile], t, channel,
                   count, kind, shift, &norm);
    }
    if (kind == WINOGRAD_MOMENTS) {
        const vec offset = running.first.sum / (float)KERNEL(winograd_block_voxels)(block, t);
        store(sums + channel, shift + offset);
        store(sums + whole + channel, running.second.sum - running.first.sum * offset);
    } else if (kind == WINOGRAD_NORM_GRADIENT) {
        store(sums + channel, running.first.sum);
        store(sums + whole + channel, running.second.sum);
    }
}

static ALWAYS_INLINE void write_block_of(const struct winograd_output *output, float *sums, const float *at,
                                         const struct tile_place *places, const struct tile_block *block,
                                         const struct tiling *t, int channel, int count)
{
    switch (output->sums) {
    case WINOGRAD_MOMENTS:
        write_block(output, sums, at, places, block, t, channel, count, WINOGRAD_MOMENTS);
        break;
    case WINOGRAD_NORM_GRADIENT:
        write_block(output, sums, at, places, block, t, channel, count, WINOGRAD_NORM_GRADIENT);
        break;
    default:
        write_block(output, sums, at, places, block, t, channel, count, WINOGRAD_NO_SUMS);
    }
}

void KERNEL(winograd_outputs)(const struct winograd_output *output, float *sums, const float *at,
                              const struct tile_block *block, const struct tiling *t)
{
    struct tile_place places[tiles_together + 8];
    for (int tile = 0; tile < block->count; tile++) {
        places[tile] = place_of(block, tile, t);
    }
    int channel = 0;
    for (; channel + lanes <= output->channels; channel += lanes) {
        write_block_of(output, sums, at, places, block, t, channel, lanes);
    }
    if (channel < output->channels) {
        write_block_of(output, sums, at, places, block, t, channel, output->channels - channel);
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

/* The weights of input channel i for the vector of output channels at o, at the points. */
static void transform_weights(vec transformed[points], const float *weight, int i, int o, int in_channels,
                              int out_channels, int backward)
{
    const int outer = backward ? in_channels : out_channels;
    vec tap[27] = {{0}};
    for (int lane = 0; lane < lanes && o + lane < outer; lane++) {
        const size_t place =
            backward ? (size_t)i * in_channels + o + lane : (size_t)(o + lane) * in_channels + i;
        for (int k = 0; k < 27; k++) {
            tap[k][lane] = weight[place * 27 + (backward ? 26 - k : k)];
        }
    }
    weights_at_points(transformed, tap);
}

void KERNEL(winograd_weights)(factor *at, const float *weight, int in_channels, int out_channels,
                              int backward, int threads)
{
    const int inner = backward ? out_channels : in_channels, outer = backward ? in_channels : out_channels;
    const int vectors = whole_vectors(outer);
    const size_t point = winograd_weights_length(inner, outer) / points;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < inner; i += factors_together) {
        for (int v = 0; v < vectors; v++) {
            const int panel = v / panel_vectors * panel_vectors;
            const int width = vectors - panel < panel_vectors ? vectors - panel : panel_vectors;
            vec transformed[factors_together][points];
            memset(transformed, 0, sizeof transformed);
            for (int k = 0; k < factors_together && i + k < inner; k++) {
                transform_weights(transformed[k], weight, i + k, v * lanes, in_channels, out_channels,
                                  backward);
            }
            factor *to = at + (size_t)panel * whole_groups(inner) * lanes +
                         ((size_t)i * width + (v - panel) * factors_together) * lanes;
            for (int p = 0; p < points; p++) {
                vec neighbours[factors_together];
                for (int k = 0; k < factors_together; k++) {
                    neighbours[k] = transformed[k][p];
                }
                store_factors(to + p * point, factors_of(neighbours));
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
