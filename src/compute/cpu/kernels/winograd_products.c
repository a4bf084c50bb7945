#include "compute/cpu/kernels/winograd.h"

/* out (rows, vectors) = the sum over the taps of inp (rows, inner) weights (inner, vectors): what registers
 * hold. */
static ALWAYS_INLINE void product_tile(float *out, size_t out_pitch, const factor *const inp[depth_taps],
                                       size_t place, size_t inp_pitch, const factor *weights, int inner,
                                       int vectors, int rows)
{
    const size_t depth = (size_t)whole_groups(inner) * vectors * lanes;
    vec sum[product_sums] = {{0}};
    for (int z = 0; z < depth_taps; z++, weights += depth) {
        if (inp[z] == NULL) {
            continue;
        }
        add_to_tile(sum, inp[z] + place, inp_pitch, weights, inner, vectors, rows);
    }
    store_tile(out, out_pitch, sum, vectors, rows);
}

static ALWAYS_INLINE void product_panel(float *out, size_t out_pitch, const factor *const inp[depth_taps],
                                        size_t inp_pitch, const factor *weights, int rows, int inner,
                                        int vectors)
{
    int r = 0;
    for (; r + rows_together <= rows; r += rows_together) {
        product_tile(out + r * out_pitch, out_pitch, inp, r * inp_pitch, inp_pitch, weights, inner, vectors,
                     rows_together);
    }
    for (; r < rows; r += row_step) {
        product_tile(out + r * out_pitch, out_pitch, inp, r * inp_pitch, inp_pitch, weights, inner, vectors,
                     row_step);
    }
}

void KERNEL(winograd_product)(float *out, const factor *const inp[depth_taps], const factor *weights,
                              int rows, int inner, int outer)
{
    const int vectors = whole_vectors(outer);
    const size_t out_pitch = (size_t)vectors * lanes, inp_pitch = (size_t)whole_vectors(inner) * lanes;
    for (int v = 0; v < vectors; v += panel_vectors) {
        const factor *panel = weights + (size_t)v * depth_taps * whole_groups(inner) * lanes;
        float *to = out + v * lanes;
        switch (vectors - v) {
        case 1:
            product_panel(to, out_pitch, inp, inp_pitch, panel, rows, inner, 1);
            break;
        case 2:
            product_panel(to, out_pitch, inp, inp_pitch, panel, rows, inner, 2);
            break;
        default:
            product_panel(to, out_pitch, inp, inp_pitch, panel, rows, inner, panel_vectors);
        }
    }
}
