#include "compute/cpu/kernels/attention_sums.h"

void KERNEL(begin_attention_sums)(struct attention_sums *sums, void *memory, const struct attention_sizes *z)
{
    memset(memory, 0, attention_sums_bytes(z));
    *sums = (struct attention_sums){.head = -1, .lines = memory};
    sums->dtable = (double *)(sums->lines + (size_t)relative_table_window * line_distances);
    sums->dqkv_bias = sums->dtable + (size_t)z->heads * relative_table_rows;
}

void KERNEL(end_attention_head)(struct attention_sums *sums)
{
    if (sums->head < 0) {
        return;
    }
    double *dtable = sums->dtable + (size_t)sums->head * relative_table_rows;
    for (int x = 0; x < relative_table_window; x++) {
        double_line *lines = sums->lines + (size_t)x * line_distances;
        for (int distance = 0; distance < line_distances; distance++) {
            /* Of the key in the first place; the rows of the others come before it. */
            double *const to =
                dtable + (line_distances - 1 - distance) * table_side + relative_table_window - 1 + x;
            for (int key = 0; key < relative_table_window; key++) {
                to[-key] += lines[distance][key];
            }
        }
    }
    memset(sums->lines, 0, (size_t)relative_table_window * line_distances * sizeof *sums->lines);
}

void KERNEL(reduce_attention_sums)(float *dqkv_bias, float *dbias_table, const struct attention_sums *sums,
                                   int threads, const struct attention_sizes *z)
{
    for (int k = 0; k < 3 * z->channels; k++) {
        double sum = 0;
        for (int part = 0; part < threads; part++) {
            sum += sums[part].dqkv_bias[k];
        }
        dqkv_bias[k] += (float)sum;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < relative_table_rows; row++) {
        for (int head = 0; head < z->heads; head++) {
            double sum = 0;
            for (int part = 0; part < threads; part++) {
                sum += sums[part].dtable[(size_t)head * relative_table_rows + row];
            }
            dbias_table[(size_t)row * z->heads + head] += (float)sum;
        }
    }
}

void KERNEL(write_scaled_row)(activation *to, const float *from, float factor,
                              const struct attention_sizes *z)
{
    int d = 0;
    for (; d + lanes <= z->head_dim; d += lanes) {
        store_activations(to + d, load(from + d) * factor);
    }
    for (; d + 4 <= z->head_dim; d += 4) {
        store_activation_quad(to + d, load_quad(from + d) * factor);
    }
    for (; d < z->head_dim; d++) {
        to[d] = activation_of(from[d] * factor);
    }
}

/* Slot t, columns from `begin` on, of scatter_transposed. */
static void scatter_token(activation *dqkv, double *dqkv_bias, const float *gradient, float factor, int t,
                          int begin, int first, const struct cut_window *cut, const struct attention_sizes *z)
{
    const float *from = gradient + t;
    if (cut->pattern->kind[t] == PADDING) {
        for (int d = begin; d < z->head_dim; d++) {
            dqkv_bias[first + d] += (double)from[d * z->pitch] * factor;
        }
    } else if (cut->pattern->kind[t] == REAL_TOKEN) {
        activation *to = dqkv + cut->row[t] * 3 * z->channels + first;
        for (int d = begin; d < z->head_dim; d++) {
            to[d] = activation_of(from[d * z->pitch] * factor);
        }
    }
}

#if defined(__AVX512F__)
/* A vector of the channels of padding. */
static void add_padding(double *dqkv_bias, vec gradient)
{
    float row[lanes];
    store(row, gradient);
    for (int half = 0; half < lanes; half += line_keys) {
        *(double_line *)(dqkv_bias + half) +=
            __builtin_convertvector(*(const float_line *)(row + half), double_line);
    }
}

/* The same for whole vectors of slots, of a head of whole vectors of channels; returns how many slots. */
static int scatter_vectors(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                           int first, const struct cut_window *cut, const struct attention_sizes *z)
{
    int t = 0;
    for (; t + lanes <= cut->pattern->key_slots; t += lanes) {
        for (int d = 0; d < z->head_dim; d += lanes) {
            vec rows[lanes];
            for (int k = 0; k < lanes; k++) {
                rows[k] = load(gradient + (d + k) * z->pitch + t) * factor;
            }
            transpose_16(rows);
            for (int k = 0; k < lanes; k++) {
                if (cut->pattern->kind[t + k] == REAL_TOKEN) {
                    store_activations(dqkv + cut->row[t + k] * 3 * z->channels + first + d, rows[k]);
                } else if (cut->pattern->kind[t + k] == PADDING) {
                    add_padding(dqkv_bias + first + d, rows[k]);
                }
            }
        }
    }
    return t;
}
#endif

/* Columns of keys or of values. */
static void scatter_transposed(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                               int first, const struct cut_window *cut, const struct attention_sizes *z)
{
    const size_t pitch = z->pitch;
    const int whole = z->head_dim / 4 * 4;
    int t = 0;
#if defined(__AVX512F__)
    if (z->head_dim % lanes == 0) {
        t = scatter_vectors(dqkv, dqkv_bias, gradient, factor, first, cut, z);
    }
#endif
    for (; t < cut->pattern->key_slots; t += 4) {
        const unsigned char *kind = cut->pattern->kind + t;
        for (int d = 0; d < whole; d += 4) {
            const float *from = gradient + d * pitch + t;
            float block[16]; /* tokens by channels */
            store_transposed(block, 4, load_quad(from), load_quad(from + pitch), load_quad(from + 2 * pitch),
                             load_quad(from + 3 * pitch));
            for (int j = 0; j < 4; j++) {
                if (kind[j] == REAL_TOKEN) {
                    activation *to = dqkv + cut->row[t + j] * 3 * z->channels + first + d;
                    store_activation_quad(to, load_quad(block + 4 * (size_t)j) * factor);
                }
            }
        }
        for (int j = 0; j < 4; j++) {
            const int begin = kind[j] == REAL_TOKEN ? whole : 0;
            scatter_token(dqkv, dqkv_bias, gradient, factor, t + j, begin, first, cut, z);
        }
    }
}

void KERNEL(write_window_gradients)(activation *dqkv, const struct attention_sums *sums,
                                    const struct window_gradients *g, int first, const struct cut_window *cut,
                                    const struct attention_sizes *z)
{
    const struct window_pattern *p = cut->pattern;
    for (int k = 0; k < p->query_slots; k++) {
        if (p->key[k] != no_token) {
            KERNEL(write_scaled_row)
            (dqkv + cut->row[p->key[k]] * 3 * z->channels + first, g->dqueries + (size_t)k * z->width,
             g->query_factor, z);
        }
    }
    scatter_transposed(dqkv, sums->dqkv_bias, g->dkeys, g->key_factor, z->channels + first, cut, z);
    scatter_transposed(dqkv, sums->dqkv_bias, g->dvalues, 1, 2 * z->channels + first, cut, z);
}
