#include "compute/cpu/kernels/row_products.h"

#include "compute/cpu/packed_weights.h"

/* ---- weights in panels ---- */

/* Row k of the weight as a factor in vectors, its columns from o on. */
static vec weight_row(const float *weight, int k, int o, int inner, int outer, int backward)
{
    vec row = {0};
    for (int lane = 0; k < inner && lane < lanes && o + lane < outer; lane++) {
        row[lane] = backward ? weight[(size_t)k * outer + o + lane] : weight[(size_t)(o + lane) * inner + k];
    }
    return row;
}

static void fill_panels(factor *to, const float *weight, int inner, int outer, int backward, int threads)
{
    const int vectors = whole_vectors(outer);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int v = 0; v < vectors; v++) {
        const int panel = v / panel_vectors * panel_vectors;
        const int width = vectors_of_panel(panel, outer);
        factor *at = to + ((size_t)panel * whole_groups(inner) + (v - panel) * factors_together) * lanes;
        for (int k = 0; k < inner; k += factors_together, at += width * lanes * factors_together) {
            vec neighbours[factors_together];
            for (int i = 0; i < factors_together; i++) {
                neighbours[i] = weight_row(weight, k + i, v * lanes, inner, outer, backward);
            }
            store_factors(at, factors_of(neighbours));
        }
    }
}

const factor *KERNEL(weight_panels)(struct compute *c, const float *weight, int in_features, int out_features,
                                    int backward)
{
    const int inner = backward ? out_features : in_features, outer = backward ? in_features : out_features;
    int fresh;
    factor *panels =
        packed_weights(cpu_state(c)->packed, weight, backward ? PACKED_BACKWARD : PACKED_FORWARD,
                       (size_t)whole_groups(inner) * whole_vectors(outer) * lanes * sizeof *panels, &fresh);
    if (panels == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "weights of a linear layer");
    } else if (!fresh) {
        fill_panels(panels, weight, inner, outer, backward, cpu_state(c)->threads);
    }
    return panels;
}

/* ---- products with weights ---- */

/* Some rows of one panel: what registers hold. */
static ALWAYS_INLINE void product_tile(const struct row_product *p, const factor *weights, int row,
                                       int column, int vectors, int rows)
{
    const factor *inp = p->inp + row * p->inp_pitch;
    vec sum[product_sums] = {{0}};
    if (p->begin != NULL) {
        const float *begin = p->begin + row * p->begin_pitch + column;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                sum[r * vectors + v] = load(begin + r * p->begin_pitch + v * lanes);
            }
        }
    }
    add_to_tile(sum, inp, p->inp_pitch, weights, p->inner, vectors, rows);
    store_tile(p->out + row * p->out_pitch + column, p->out_pitch, sum, vectors, rows);
}

static ALWAYS_INLINE void product_panel(const struct row_product *p, const factor *weights, int column,
                                        int vectors)
{
    int row = 0;
    for (; row + rows_together <= p->rows; row += rows_together) {
        product_tile(p, weights, row, column, vectors, rows_together);
    }
    for (; row < p->rows; row += row_step) {
        product_tile(p, weights, row, column, vectors, row_step);
    }
}

void KERNEL(multiply_rows)(const struct row_product *p)
{
    const int vectors = whole_vectors(p->outer), before = p->column / lanes;
    for (int v = 0; v < vectors; v += panel_vectors) {
        const int width = vectors_of_panel(v, p->outer);
        const factor *weights =
            p->weights +
            ((size_t)(before + v) * whole_groups(p->weight_inner) + (size_t)p->first * width) * lanes;
        switch (width) {
        case 1:
            product_panel(p, weights, v * lanes, 1);
            break;
        case 2:
            product_panel(p, weights, v * lanes, 2);
            break;
        default:
            product_panel(p, weights, v * lanes, panel_vectors);
        }
    }
}

/* ---- products over rows ---- */

/* What is summed over: the rows of some pairs of matrices. */
struct summed_rows {
    const struct row_pair *pairs;
    int count, rows;
    size_t inp_pitch, dout_pitch;
};

static struct summed_rows summed_rows(const struct row_pair *pairs, int count, int rows, int inner, int outer)
{
    return (struct summed_rows){.pairs = pairs,
                                .count = count,
                                .rows = rows,
                                .inp_pitch = (size_t)whole_vectors(inner) * lanes,
                                .dout_pitch = (size_t)whole_vectors(outer) * lanes};
}

/* sums (inner, vectors), `pitch` apart, = (or with `adds` +=) the products of `inner` columns of inp from
 * column k on, and of vectors of dout from `column` on. */
static ALWAYS_INLINE void sum_tile(float *sums, size_t pitch, int adds, const struct summed_rows *s, int k,
                                   size_t column, int vectors, int inner)
{
    vec sum[product_sums] = {{0}};
    for (int p = 0; p < s->count; p++) {
        if (s->pairs[p].inp == NULL) {
            continue;
        }
        const factor *inp = s->pairs[p].inp + k * factors_together;
        const factor *dout = s->pairs[p].dout + column * factors_together;
        for (int r = 0; r < s->rows; r += factors_together) {
            factor_vec gradient[panel_vectors];
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                gradient[v] = load_factors(dout + v * lanes * factors_together);
            }
#pragma GCC unroll 8
            for (int i = 0; i < inner; i++) {
#pragma GCC unroll 3
                for (int v = 0; v < vectors; v++) {
                    sum[i * vectors + v] =
                        add_products(sum[i * vectors + v], inp + i * factors_together, gradient[v]);
                }
            }
            inp += s->inp_pitch * factors_together;
            dout += s->dout_pitch * factors_together;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < inner; i++) {
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            float *to = sums + i * pitch + v * lanes;
            if (adds) {
                sum[i * vectors + v] += load(to);
            }
            store(to, sum[i * vectors + v]);
        }
    }
}

static ALWAYS_INLINE void add_panel(float *sums, const struct summed_rows *s, size_t column, int inner,
                                    int vectors)
{
    int k = 0;
    for (; k + rows_together <= inner; k += rows_together) {
        sum_tile(sums + k * s->dout_pitch, s->dout_pitch, 1, s, k, column, vectors, rows_together);
    }
    for (; k + row_step <= inner; k += row_step) {
        sum_tile(sums + k * s->dout_pitch, s->dout_pitch, 1, s, k, column, vectors, row_step);
    }
    for (; k < inner; k++) {
        sum_tile(sums + k * s->dout_pitch, s->dout_pitch, 1, s, k, column, vectors, 1);
    }
}

void KERNEL(add_products_over_rows)(float *sums, const struct row_pair *pairs, int count, int rows, int inner,
                                    int outer)
{
    const int vectors = whole_vectors(outer);
    const struct summed_rows s = summed_rows(pairs, count, rows, inner, outer);
    for (int v = 0; v < vectors; v += panel_vectors) {
        const size_t column = (size_t)v * lanes;
        switch (vectors - v) {
        case 1:
            add_panel(sums + column, &s, column, inner, 1);
            break;
        case 2:
            add_panel(sums + column, &s, column, inner, 2);
            break;
        default:
            add_panel(sums + column, &s, column, inner, panel_vectors);
        }
    }
}

static ALWAYS_INLINE void panel_tile(float *sums, const struct summed_rows *s, int k, size_t column,
                                     int inner, int vectors)
{
    const size_t pitch = (size_t)vectors * lanes;
    if (inner - k >= rows_together) {
        sum_tile(sums, pitch, 0, s, k, column, vectors, rows_together);
    } else {
        for (; k < inner; k++, sums += pitch) {
            sum_tile(sums, pitch, 0, s, k, column, vectors, 1);
        }
    }
}

void KERNEL(panel_products_over_rows)(float *sums, const struct row_pair *pairs, int count, int rows,
                                      int inner, int outer, int k, int v)
{
    const struct summed_rows s = summed_rows(pairs, count, rows, inner, outer);
    const size_t column = (size_t)v * lanes;
    switch (vectors_of_panel(v, outer)) {
    case 1:
        panel_tile(sums, &s, k, column, inner, 1);
        break;
    case 2:
        panel_tile(sums, &s, k, column, inner, 2);
        break;
    default:
        panel_tile(sums, &s, k, column, inner, panel_vectors);
    }
}
