#include "compute/cpu/kernels/parts/part_weights.h"

#include "compute/cpu/kernels/parts/part_rows.h"
#include "compute/cpu/packed_weights.h"

/* The weight between two features of the product at work; zero behind the last ones. */
struct weight_view {
    const float *weight; /* (out_features, in_features) */
    int in_features, inner, outer, backward;
};

static float weight_at(const struct weight_view *w, int inner, int outer)
{
    if (inner >= w->inner || outer >= w->outer) {
        return 0;
    }
    return w->backward ? w->weight[(size_t)inner * w->in_features + outer]
                       : w->weight[(size_t)outer * w->in_features + inner];
}

/* The parts of two rows of a step, k and k + 1, for 16 columns. */
static void weight_pair(__m512i pair[part_count], const struct weight_view *w, int k, int first)
{
    float a[tile_columns], b[tile_columns];
    for (int column = 0; column < tile_columns; column++) {
        a[column] = weight_at(w, k, first + column);
        b[column] = weight_at(w, k + 1, first + column);
    }
    const struct parts upper = parts_of(_mm512_loadu_ps(a)), lower = parts_of(_mm512_loadu_ps(b));
    for (int p = 0; p < part_count; p++) {
        pair[p] = parts_in_turns(&upper, &lower, p);
    }
}

/* A pair of rows of a half step: where it lies in the upper and the lower halves of tiles. */
static void store_half_pair(part *upper, const __m512i pair[part_count])
{
    part *lower = upper + tile_length / 2;
    _mm512_storeu_si512(upper, pair[0]);
#if KERNEL_BF16
    _mm512_storeu_si512(lower, _mm512_setzero_si512());
#else
    _mm512_storeu_si512(lower, pair[0]);
    _mm512_storeu_si512(upper + tile_length, pair[1]);
    _mm512_storeu_si512(lower + tile_length, pair[1]);
    _mm512_storeu_si512(upper + 2 * tile_length, pair[0]);
    _mm512_storeu_si512(lower + 2 * tile_length, pair[2]);
#endif
}

static void pack_columns(part *to, const struct weight_view *w, int first)
{
    enum { pair_length = 2 * tile_columns };
    __m512i pair[part_count];
    for (int step = 0; step < whole_steps(w->inner); step++, to += (size_t)part_count * tile_length) {
        for (int k = 0; k < tile_depth; k += 2) {
            weight_pair(pair, w, step * tile_depth + k, first);
            for (int p = 0; p < part_count; p++) {
                _mm512_storeu_si512(to + p * tile_length + k / 2 * pair_length, pair[p]);
            }
        }
    }
    for (int k = 0; k < half_depth && has_half_step(w->inner); k += 2) {
        weight_pair(pair, w, whole_steps(w->inner) * tile_depth + k, first);
        store_half_pair(to + k / 2 * pair_length, pair);
    }
}

const part *KERNEL(part_weights)(struct compute *c, const float *weight, int in_features, int out_features,
                                 int backward)
{
    const struct weight_view view = {.weight = weight,
                                     .in_features = in_features,
                                     .inner = backward ? out_features : in_features,
                                     .outer = backward ? in_features : out_features,
                                     .backward = backward};
    const int tiles = tiles_of(view.outer);
    const size_t length = column_length(view.inner);
    int fresh;
    part *packed = packed_weights(cpu_state(c)->packed, weight, backward ? PACKED_BACKWARD : PACKED_FORWARD,
                                  tiles * length * sizeof *packed, &fresh);
    if (packed == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "weights of a linear layer");
        return NULL;
    }
    if (!fresh) {
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
        for (int tile = 0; tile < tiles; tile++) {
            pack_columns(packed + tile * length, &view, tile * tile_columns);
        }
    }
    return packed;
}
