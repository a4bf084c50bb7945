#include "compute/cpu/kernels/amx/tile_convolution.h"

/* The weight of a tap between two channels of the convolution at work. */
struct weight_view {
    const float *weight;
    int in_channels, backward;
};

static float weight_at(const struct weight_view *view, int outer, int inner, int tap)
{
    const size_t out = view->backward ? inner : outer, in = view->backward ? outer : inner;
    return view->weight[(out * view->in_channels + in) * 27 + (view->backward ? 26 - tap : tap)];
}

/* One tile of outer channels. */
static void fill_tiles(activation *to, const struct weight_view *view, int first, int inner, int outer)
{
    for (int place = 0; place < run_places; place++) {
        for (int k = 0; k < run_steps(inner) * tile_depth; k++) {
            activation *pair = to + (size_t)(k / tile_depth) * tile_elements +
                               (size_t)(k % tile_depth / 2) * 2 * tile_columns + k % 2;
            for (int column = 0; column < tile_columns; column++) {
                const int present = k < plane_taps * inner && first + column < outer;
                pair[2 * column] = activation_of(
                    present ? weight_at(view, first + column, k % inner, place * plane_taps + k / inner) : 0);
            }
        }
        to += (size_t)run_steps(inner) * tile_elements;
    }
}

void KERNEL(tile_weights)(activation *to, const float *weight, int in_channels, int out_channels,
                          int backward, int threads)
{
    const struct weight_view view = {.weight = weight, .in_channels = in_channels, .backward = backward};
    const int inner = backward ? out_channels : in_channels, outer = backward ? in_channels : out_channels;
    const size_t length = tile_weights_length(inner, 1);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int tile = 0; tile < channel_tiles(outer); tile++) {
        fill_tiles(to + tile * length, &view, tile * tile_columns, inner, outer);
    }
}
