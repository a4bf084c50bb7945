#include "compute/cpu/kernels/attention_sums.h"

void KERNEL(begin_attention_sums)(struct attention_sums *sums, void *memory, float *dbias,
                                  const struct attention_sizes *z)
{
    *sums = (struct attention_sums){.head = -1, .dbias = dbias, .dtable = memory};
    sums->dqkv_bias = sums->dtable + (size_t)z->heads * relative_table_rows;
    memset(memory, 0, attention_sums_bytes(z));
    memset(dbias, 0, (size_t)z->tokens * z->keys * sizeof *dbias);
}

enum {
    side = relative_table_window, /* keys along an axis */
    steps = 2 * side - 1,         /* from a token to another along an axis: 1 - side .. side - 1 */
    line = 8,                     /* `side` neighbouring keys, and one more that counts for nothing */
};

typedef float float_line __attribute__((vector_size(line * sizeof(float)), may_alias, aligned(4)));
typedef double double_line __attribute__((vector_size(line * sizeof(double)), may_alias, aligned(8)));

static inline double_line doubles_of(const float *from)
{
#if defined(__AVX512F__)
    return (double_line)_mm512_cvtps_pd(_mm256_loadu_ps(from));
#else
    return __builtin_convertvector(*(const float_line *)from, double_line);
#endif
}

/* A row of dbias with zeros behind the last token. */
static void copy_bias_row(float *row, const float *dbias, const struct attention_sizes *z)
{
    memcpy(row, dbias, z->tokens * sizeof *row);
    memset(row + z->tokens, 0, (size_t)(z->keys - z->tokens + line) * sizeof *row);
}

/* Queries in the same place along the last axis have their lines of keys in the same lanes: one vector takes
 * up all lines that are as far from their queries along the other two axes. Several rows together, as a
 * processor waits where it loads what it has just stored in other pieces. */
static void add_table_gradient(double *dtable, const float *dbias, const struct attention_sizes *z)
{
    int far[side * side]; /* how far the first key of a line is from token 0 */
    for (int k = 0; k < side * side; k++) {
        far[k] = offset_in_table(k * side) / steps;
    }
    const int reach = far[(z->tokens - 1) / side], none = steps * steps / 2; /* the place of no distance */
    for (int x = 0; x < side && x < z->tokens; x++) {
        double_line sums[steps * steps];
        memset(sums + none - reach, 0, (2 * (size_t)reach + 1) * sizeof *sums);
        for (int first = x; first < z->tokens; first += side * side) {
            float rows[side][whole_window_keys + line];
            int count = 0;
            for (int query = first; query < z->tokens && count < side; query += side, count++) {
                copy_bias_row(rows[count], dbias + (size_t)query * z->keys, z);
            }
            for (int i = 0; i < count; i++) {
                double_line *const own = sums + none - far[first / side + i];
                for (int k = 0; k * side < z->tokens; k++) {
                    own[far[k]] += doubles_of(rows[i] + (size_t)k * side);
                }
            }
        }
        for (int distance = none - reach; distance <= none + reach; distance++) {
            /* Of the key in the first place; the rows of the others come before it. */
            double *const to = dtable + (steps * steps - 1 - distance) * steps + side - 1 + x;
            for (int key = 0; key < side; key++) {
                to[-key] += sums[distance][key];
            }
        }
    }
}

void KERNEL(end_attention_head)(struct attention_sums *sums, const struct attention_sizes *z)
{
    if (sums->head >= 0) {
        add_table_gradient(sums->dtable + (size_t)sums->head * relative_table_rows, sums->dbias, z);
        memset(sums->dbias, 0, (size_t)z->tokens * z->keys * sizeof *sums->dbias);
    }
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
                          int begin, int first, const struct token_slots *slots,
                          const struct attention_sizes *z)
{
    const float *from = gradient + t;
    if (slots->kind[t] == PADDING) {
        for (int d = begin; d < z->head_dim; d++) {
            dqkv_bias[first + d] += (double)from[d * z->pitch] * factor;
        }
    } else if (slots->kind[t] == REAL_TOKEN) {
        activation *to = dqkv + slots->row[t] * 3 * z->channels + first;
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
    for (int half = 0; half < lanes; half += line) {
        *(double_line *)(dqkv_bias + half) += doubles_of(row + half);
    }
}

/* The same for whole vectors of slots, of a head of whole vectors of channels; returns how many slots. */
static int scatter_vectors(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                           int first, const struct token_slots *slots, const struct attention_sizes *z)
{
    int t = 0;
    for (; t + lanes <= slots->count; t += lanes) {
        for (int d = 0; d < z->head_dim; d += lanes) {
            vec rows[lanes];
            for (int k = 0; k < lanes; k++) {
                rows[k] = load(gradient + (d + k) * z->pitch + t) * factor;
            }
            transpose_16(rows);
            for (int k = 0; k < lanes; k++) {
                if (slots->kind[t + k] == REAL_TOKEN) {
                    store_activations(dqkv + slots->row[t + k] * 3 * z->channels + first + d, rows[k]);
                } else if (slots->kind[t + k] == PADDING) {
                    add_padding(dqkv_bias + first + d, rows[k]);
                }
            }
        }
    }
    return t;
}
#endif

void KERNEL(scatter_transposed)(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                                int first, const struct token_slots *slots, const struct attention_sizes *z)
{
    const size_t pitch = z->pitch;
    const int whole = z->head_dim / 4 * 4;
    int t = 0;
#if defined(__AVX512F__)
    if (z->head_dim % lanes == 0) {
        t = scatter_vectors(dqkv, dqkv_bias, gradient, factor, first, slots, z);
    }
#endif
    for (; t + 4 <= slots->count; t += 4) {
        const unsigned char *kind = slots->kind + t;
        const int all_real = (kind[0] | kind[1] | kind[2] | kind[3]) == REAL_TOKEN;
        for (int d = 0; all_real && d < whole; d += 4) {
            const float *from = gradient + d * pitch + t;
            float block[16]; /* tokens by channels */
            store_transposed(block, 4, load_quad(from), load_quad(from + pitch), load_quad(from + 2 * pitch),
                             load_quad(from + 3 * pitch));
            for (int j = 0; j < 4; j++) {
                activation *to = dqkv + slots->row[t + j] * 3 * z->channels + first + d;
                store_activation_quad(to, load_quad(block + 4 * (size_t)j) * factor);
            }
        }
        for (int j = 0; j < 4; j++) {
            scatter_token(dqkv, dqkv_bias, gradient, factor, t + j, all_real ? whole : 0, first, slots, z);
        }
    }
    for (; t < slots->count; t++) {
        scatter_token(dqkv, dqkv_bias, gradient, factor, t, 0, first, slots, z);
    }
}
