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

/* A row of dbias as it lies there becomes one of keys, with zeros behind the last token. */
static void copy_bias_row(float *row, const float *dbias, const struct attention_sizes *z)
{
    for (int k = 0; k < z->keys; k += block_keys, dbias += z->bias_block) {
        store(row + k, load(dbias));
        store(row + k + lanes, load(dbias + lanes));
    }
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
                copy_bias_row(rows[count], dbias + query * z->bias_row, z);
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

void KERNEL(write_query_gradients)(activation *dqkv, const float *dqueries, int width, float factor,
                                   int first, const struct window *window, const struct attention_sizes *z)
{
    for (int k = 0; k < window->queries; k++) {
        const float *from = dqueries + (size_t)k * width;
        activation *to = dqkv + window->row[window->query[k]] * 3 * z->channels + first;
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
}

/* Token t, columns from `begin` on, of scatter_transposed. */
static void scatter_token(activation *dqkv, double *dqkv_bias, const float *gradient, float factor, int t,
                          int begin, int first, const struct window *window, const struct attention_sizes *z)
{
    const float *from = gradient + t;
    if (window->padding[t]) {
        for (int d = begin; d < z->head_dim; d++) {
            dqkv_bias[first + d] += (double)from[(size_t)d * z->keys] * factor;
        }
        return;
    }
    activation *to = dqkv + window->row[t] * 3 * z->channels + first;
    for (int d = begin; d < z->head_dim; d++) {
        to[d] = activation_of(from[(size_t)d * z->keys] * factor);
    }
}

#if defined(__AVX512F__)
/* The same for whole vectors of tokens, of a head of whole vectors of channels; returns how many tokens. */
static int scatter_vectors(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                           int first, const struct window *window, const struct attention_sizes *z)
{
    int t = 0;
    for (; t + lanes <= z->tokens; t += lanes) {
        for (int d = 0; d < z->head_dim; d += lanes) {
            vec rows[lanes];
            for (int k = 0; k < lanes; k++) {
                rows[k] = load(gradient + (size_t)(d + k) * z->keys + t) * factor;
            }
            transpose_16(rows);
            for (int k = 0; k < lanes; k++) {
                if (!window->padding[t + k]) {
                    store_activations(dqkv + window->row[t + k] * 3 * z->channels + first + d, rows[k]);
                    continue;
                }
                float row[lanes];
                store(row, rows[k]);
                for (int half = 0; half < lanes; half += line) {
                    double_line *sums = (double_line *)(dqkv_bias + first + d + half);
                    *sums += doubles_of(row + half);
                }
            }
        }
    }
    return t;
}
#endif

void KERNEL(scatter_transposed)(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                                int first, const struct window *window, const struct attention_sizes *z)
{
    const size_t keys = z->keys;
    const int whole = z->head_dim / 4 * 4;
    int t = 0;
#if defined(__AVX512F__)
    if (z->head_dim % lanes == 0) {
        t = scatter_vectors(dqkv, dqkv_bias, gradient, factor, first, window, z);
    }
#endif
    for (; t + 4 <= z->tokens; t += 4) {
        const unsigned char *padding = window->padding + t;
        const int all_real = !(padding[0] | padding[1] | padding[2] | padding[3]);
        for (int d = 0; all_real && d < whole; d += 4) {
            const float *from = gradient + d * keys + t;
            float block[16]; /* tokens by channels */
            store_transposed(block, 4, load_quad(from), load_quad(from + keys), load_quad(from + 2 * keys),
                             load_quad(from + 3 * keys));
            for (int j = 0; j < 4; j++) {
                activation *to = dqkv + window->row[t + j] * 3 * z->channels + first + d;
                store_activation_quad(to, load_quad(block + 4 * (size_t)j) * factor);
            }
        }
        for (int j = 0; j < 4; j++) {
            scatter_token(dqkv, dqkv_bias, gradient, factor, t + j, all_real ? whole : 0, first, window, z);
        }
    }
    for (; t < z->tokens; t++) {
        scatter_token(dqkv, dqkv_bias, gradient, factor, t, 0, first, window, z);
    }
}
