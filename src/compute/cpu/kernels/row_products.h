/* Matrix products whose sums registers hold: some rows of a few vectors at a time. Of the two factors one
 * comes in vectors, of the other single elements are multiplied with these (factor.h). */
#ifndef COMPUTE_CPU_KERNELS_ROW_PRODUCTS_H
#define COMPUTE_CPU_KERNELS_ROW_PRODUCTS_H

#include "compute/cpu/kernels/factor.h"
#include "compute/cpu/kernels/kernels.h"

enum {
    panel_vectors = 3, /* columns of a matrix product that registers hold sums of ... */
#if defined(__AVX512F__)
    rows_together = 8, /* ... and rows; those of a product are rounded up to half as many */
#else
    rows_together = 4,
#endif
    row_step = 4,
    product_sums = rows_together * panel_vectors,
};

static inline int whole_vectors(int channels)
{
    return (channels + lanes - 1) / lanes;
}

/* What registers hold of a product: sum (rows, vectors) += inp (rows, inner) times a panel of weights (inner,
 * vectors), with factors_together neighbours along inner in each lane. */
static ALWAYS_INLINE void add_to_tile(vec sum[product_sums], const factor *inp, size_t inp_pitch,
                                      const factor *weights, int inner, int vectors, int rows)
{
    for (int k = 0; k < inner; k += factors_together, weights += vectors * lanes * factors_together) {
        factor_vec weight[panel_vectors];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            weight[v] = load_factors(weights + v * lanes * factors_together);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                sum[r * vectors + v] = add_products(sum[r * vectors + v], inp + r * inp_pitch + k, weight[v]);
            }
        }
    }
}

static ALWAYS_INLINE void store_tile(float *out, size_t out_pitch, const vec sum[product_sums], int vectors,
                                     int rows)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            store(out + r * out_pitch + v * lanes, sum[r * vectors + v]);
        }
    }
}

/* Rows of two matrices that are multiplied over them; inp NULL: zeros. */
struct row_pair {
    const factor *inp, *dout;
};

/* sums (inner, outer) += inp^T dout over the rows of all pairs, all with rows of whole vectors, those of inp
 * and dout in turns (rows_in_turns). */
void KERNEL(add_products_over_rows)(float *sums, const struct row_pair *pairs, int count, int rows, int inner,
                                    int outer);

/* The same of some columns: of rows_together columns of inp, or as many as are left, from k on, and of the
 * panel of dout that begins with vector v. sums (columns of inp, vectors of the panel) are written. */
void KERNEL(panel_products_over_rows)(float *sums, const struct row_pair *pairs, int count, int rows,
                                      int inner, int outer, int k, int v);
static inline int vectors_of_panel(int v, int outer)
{
    const int left = whole_vectors(outer) - v;
    return left < panel_vectors ? left : panel_vectors;
}

/* A linear layer's weight (out_features, in_features) as the factor in vectors, in panels of panel_vectors:
 * (panels, inner, vectors of the panel), with factors_together neighbours along inner in each lane and zeros
 * behind the last one. inner is in_features, outer out_features, or the other way round for the layer's
 * backward pass. Kept until weights change; NULL where there is no memory, which is then c's status. */
const factor *KERNEL(weight_panels)(struct compute *c, const float *weight, int in_features, int out_features,
                                    int backward);

/* out (rows, outer) = begin + inp (rows, inner) times a weight in panels. */
struct row_product {
    float *out; /* rows of out_pitch floats; written in whole vectors */
    size_t out_pitch;
    const float *begin; /* what sums begin at: whole vectors, may be out; NULL: zeros */
    size_t begin_pitch; /* 0: the same for all rows */
    const factor *inp;  /* rows of inp_pitch factors */
    size_t inp_pitch;
    const factor *weights;
    int weight_inner;  /* of the weight, whose rows from `first` on are multiplied */
    int first;         /* a multiple of factors_together */
    int rows;          /* rounded up to row_step */
    int inner;         /* rounded up to factors_together: what inp has there is finite */
    int column, outer; /* columns from `column` on, which begins a panel */
};
void KERNEL(multiply_rows)(const struct row_product *product);

#endif
