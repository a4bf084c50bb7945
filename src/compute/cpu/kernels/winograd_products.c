#include "compute/cpu/kernels/winograd.h"

/* out (rows, vectors) = inp (rows, inner) weights (inner, vectors): what registers hold. */
static ALWAYS_INLINE void product_tile(float *out, size_t out_pitch, const float *inp, size_t inp_pitch,
                                       const float *weights, int inner, int vectors, int rows)
{
    vec sum[product_sums] = {{0}};
    for (int k = 0; k < inner; k++, weights += vectors * lanes) {
        vec weight[panel_vectors];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            weight[v] = load(weights + v * lanes);
        }
#pragma GCC unroll 24
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                sum[r * vectors + v] += inp[r * inp_pitch + k] * weight[v];
            }
        }
    }
#pragma GCC unroll 24
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            store(out + r * out_pitch + v * lanes, sum[r * vectors + v]);
        }
    }
}

static ALWAYS_INLINE void product_panel(float *out, size_t out_pitch, const float *inp, size_t inp_pitch,
                                        const float *weights, int rows, int inner, int vectors)
{
    const int together = product_sums / vectors;
    for (int r = 0; r < rows; r += together) {
        product_tile(out + r * out_pitch, out_pitch, inp + r * inp_pitch, inp_pitch, weights, inner, vectors,
                     together);
    }
}

void KERNEL(winograd_product)(float *out, const float *inp, const float *weights, int rows, int inner,
                              int outer)
{
    const int vectors = whole_vectors(outer);
    const size_t out_pitch = (size_t)vectors * lanes, inp_pitch = (size_t)whole_vectors(inner) * lanes;
    for (int v = 0; v < vectors; v += panel_vectors) {
        const float *panel = weights + (size_t)v * inner * lanes;
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

static ALWAYS_INLINE void add_tile(float *sums, const float *inp, size_t inp_pitch, const float *dout,
                                   size_t pitch, int rows, int vectors, int inner)
{
    vec sum[product_sums] = {{0}};
    for (int r = 0; r < rows; r++, inp += inp_pitch, dout += pitch) {
        vec gradient[panel_vectors];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            gradient[v] = load(dout + v * lanes);
        }
#pragma GCC unroll 24
        for (int k = 0; k < inner; k++) {
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                sum[k * vectors + v] += inp[k] * gradient[v];
            }
        }
    }
#pragma GCC unroll 24
    for (int k = 0; k < inner; k++) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            float *to = sums + k * pitch + v * lanes;
            store(to, load(to) + sum[k * vectors + v]);
        }
    }
}

static ALWAYS_INLINE void add_panel(float *sums, const float *inp, size_t inp_pitch, const float *dout,
                                    size_t pitch, int rows, int inner, int vectors)
{
    const int together = product_sums / vectors, few = 4;
    int k = 0;
    for (; k + together <= inner; k += together) {
        add_tile(sums + k * pitch, inp + k, inp_pitch, dout, pitch, rows, vectors, together);
    }
    for (; k + few <= inner; k += few) {
        add_tile(sums + k * pitch, inp + k, inp_pitch, dout, pitch, rows, vectors, few);
    }
    for (; k < inner; k++) {
        add_tile(sums + k * pitch, inp + k, inp_pitch, dout, pitch, rows, vectors, 1);
    }
}

void KERNEL(winograd_add_products)(float *sums, const float *inp, const float *dout, int rows, int inner,
                                   int outer)
{
    const int vectors = whole_vectors(outer);
    const size_t pitch = (size_t)vectors * lanes, inp_pitch = (size_t)whole_vectors(inner) * lanes;
    for (int v = 0; v < vectors; v += panel_vectors) {
        const size_t column = (size_t)v * lanes;
        switch (vectors - v) {
        case 1:
            add_panel(sums + column, inp, inp_pitch, dout + column, pitch, rows, inner, 1);
            break;
        case 2:
            add_panel(sums + column, inp, inp_pitch, dout + column, pitch, rows, inner, 2);
            break;
        default:
            add_panel(sums + column, inp, inp_pitch, dout + column, pitch, rows, inner, panel_vectors);
        }
    }
}
