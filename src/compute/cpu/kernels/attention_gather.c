#include "compute/cpu/kernels/attention_pieces.h"

#if defined(__AVX512F__)
/* The part of gather_key_columns that is whole vectors of channels. */
static void gather_vectors(float *result, int first, const struct cut_window *cut,
                           const struct attention_sizes *z)
{
    for (int t = 0; t < cut->pattern->key_slots; t += lanes) {
        for (int d = 0; d + lanes <= z->head_dim; d += lanes) {
            vec rows[lanes];
            for (int k = 0; k < lanes; k++) {
                rows[k] = load_activations(cut->qkv[t + k] + first + d);
            }
            transpose_16(rows);
            for (int k = 0; k < lanes; k++) {
                store(result + (size_t)(d + k) * z->pitch + t, rows[k]);
            }
        }
    }
}
#endif

void KERNEL(gather_key_columns)(float *result, int first, const struct cut_window *cut,
                                const struct attention_sizes *z)
{
    const size_t pitch = z->pitch;
    const int slots = cut->pattern->key_slots;
    int d = 0;
#if defined(__AVX512F__)
    gather_vectors(result, first, cut, z);
    d = z->head_dim / lanes * lanes;
#endif
    for (; d < z->width; d += 4) {
        float *to = result + d * pitch;
        if (d + 4 <= z->head_dim) {
            for (int t = 0; t < slots; t += 4) {
                const activation *const *rows = cut->qkv + t;
                store_transposed(to + t, pitch, load_activation_quad(rows[0] + first + d),
                                 load_activation_quad(rows[1] + first + d),
                                 load_activation_quad(rows[2] + first + d),
                                 load_activation_quad(rows[3] + first + d));
            }
            continue;
        }
        for (int j = d; j < d + 4; j++, to += pitch) {
            for (int t = 0; t < slots; t++) {
                to[t] = j < z->head_dim ? float_of(cut->qkv[t][first + j]) : 0;
            }
        }
    }
}

/* One row of a head's channels, times factor, and zeros up to width. */
static inline void gather_row(float *to, const activation *from, float factor,
                              const struct attention_sizes *z)
{
    int d = 0;
    for (; d + lanes <= z->head_dim; d += lanes) {
        store(to + d, load_activations(from + d) * factor);
    }
    for (; d + 4 <= z->head_dim; d += 4) {
        store_quad(to + d, load_activation_quad(from + d) * factor);
    }
    for (; d < z->width; d++) {
        to[d] = d < z->head_dim ? float_of(from[d]) * factor : 0;
    }
}

void KERNEL(gather_key_rows)(float *result, int first, const struct cut_window *cut,
                             const struct attention_sizes *z)
{
    for (int t = 0; t < cut->pattern->key_slots; t++) {
        gather_row(result + (size_t)t * z->width, cut->qkv[t] + first, 1, z);
    }
}

void KERNEL(gather_query_rows)(float *result, const activation *rows, size_t row_length, int first,
                               float factor, const struct cut_window *cut, const struct attention_sizes *z)
{
    const struct window_pattern *p = cut->pattern;
    for (int k = 0; k < p->query_slots; k++, result += z->width) {
        if (p->key[k] == no_token) {
            memset(result, 0, z->width * sizeof *result);
        } else {
            gather_row(result, rows + cut->row[p->key[k]] * row_length + first, factor, z);
        }
    }
}
