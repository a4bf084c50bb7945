/* Weights on their way to the points, and their gradient on its way back. */
#include "compute/cpu/kernels/winograd_points.h"

static void weights_at_points(vec at[points], const vec tap[plane_taps])
{
    vec along_x[3 * point_side];
    for (int y = 0; y < 3; y++) {
        weight_transform(along_x + y * point_side, 1, tap + 3 * y, 1);
    }
    for (int k = 0; k < point_side; k++) {
        weight_transform(at + k, point_side, along_x + k, point_side);
    }
}

/* The weights of input channel i for the vector of output channels at o, at the points of the taps along d.
 */
static void transform_weights(vec transformed[depth_taps][points], const float *weight, int i, int o,
                              int in_channels, int out_channels, int backward)
{
    const int outer = backward ? in_channels : out_channels;
    vec tap[taps] = {{0}};
    for (int lane = 0; lane < lanes && o + lane < outer; lane++) {
        const size_t place =
            backward ? (size_t)i * in_channels + o + lane : (size_t)(o + lane) * in_channels + i;
        for (int k = 0; k < taps; k++) {
            tap[k][lane] = weight[place * taps + (backward ? taps - 1 - k : k)];
        }
    }
    for (int z = 0; z < depth_taps; z++) {
        weights_at_points(transformed[z], tap + z * plane_taps);
    }
}

/* The weights of factors_together input channels from i on, for a vector of output channels, at the points.
 */
static void pack_weights(factor *to, size_t point, size_t depth, const vec transformed[][depth_taps][points])
{
    for (int p = 0; p < points; p++) {
        for (int z = 0; z < depth_taps; z++) {
            vec neighbours[factors_together];
            for (int k = 0; k < factors_together; k++) {
                neighbours[k] = transformed[k][z][p];
            }
            store_factors(to + p * point + z * depth, factors_of(neighbours));
        }
    }
}

void KERNEL(winograd_weights)(factor *at, const float *weight, int in_channels, int out_channels,
                              int backward, int threads)
{
    const int inner = backward ? out_channels : in_channels, outer = backward ? in_channels : out_channels;
    const int vectors = whole_vectors(outer);
    const size_t whole = whole_groups(inner), point = winograd_weights_length(inner, outer) / points;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < inner; i += factors_together) {
        for (int v = 0; v < vectors; v++) {
            const int panel = v / panel_vectors * panel_vectors;
            const int width = vectors_of_panel(panel, outer);
            vec transformed[factors_together][depth_taps][points];
            memset(transformed, 0, sizeof transformed);
            for (int k = 0; k < factors_together && i + k < inner; k++) {
                transform_weights(transformed[k], weight, i + k, v * lanes, in_channels, out_channels,
                                  backward);
            }
            factor *to = at + panel * depth_taps * whole * lanes +
                         ((size_t)i * width + (v - panel) * factors_together) * lanes;
            pack_weights(to, point, whole * width * lanes, transformed);
        }
    }
}

static void taps_of_points(vec tap[plane_taps], const vec at[points])
{
    vec along_y[3 * point_side];
    for (int k = 0; k < point_side; k++) {
        tap_transform(along_y + k, point_side, at + k, point_side);
    }
    for (int y = 0; y < 3; y++) {
        tap_transform(tap + 3 * y, 1, along_y + y * point_side, 1);
    }
}

void KERNEL(winograd_add_taps)(float *dweight, size_t next, int count, const float *at,
                               const struct sums_at_points *layout)
{
    vec tap[taps];
    for (int z = 0; z < depth_taps; z++, at += layout->depth) {
        vec sums[points];
        for (int p = 0; p < points; p++) {
            sums[p] = load(at + p * layout->point);
            for (int part = 1; part < layout->parts; part++) {
                sums[p] += load(at + p * layout->point + part * layout->part);
            }
        }
        taps_of_points(tap + z * plane_taps, sums);
    }
    for (int lane = 0; lane < count; lane++, dweight += next) {
        for (int k = 0; k < taps; k++) {
            dweight[k] += tap[k][lane];
        }
    }
}

void KERNEL(winograd_add_weight_gradient)(float *dweight, const float *at, size_t stride, int parts,
                                          int in_channels, int out_channels, int threads)
{
    const int vectors = whole_vectors(out_channels);
    const size_t depth = (size_t)in_channels * vectors * lanes;
    const struct sums_at_points layout = {
        .point = depth_taps * depth, .depth = depth, .part = stride, .parts = parts};
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < in_channels; i++) {
        for (int v = 0; v < vectors; v++) {
            const int left = out_channels - v * lanes, count = left < lanes ? left : lanes;
            KERNEL(winograd_add_taps)
            (dweight + ((size_t)v * lanes * in_channels + i) * taps, (size_t)in_channels * taps, count,
             at + ((size_t)i * vectors + v) * lanes, &layout);
        }
    }
}
