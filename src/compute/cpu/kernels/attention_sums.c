#include "compute/cpu/kernels/attention_sums.h"

void KERNEL(begin_attention_sums)(struct attention_sums *sums, void *memory, float *dbias,
                                  const struct attention_sizes *z)
{
    *sums = (struct attention_sums){.head = -1, .dbias = dbias, .dtable = memory};
    sums->dqkv_bias = sums->dtable + (size_t)z->heads * relative_table_rows;
    memset(memory, 0, attention_sums_bytes(z));
    memset(dbias, 0, (size_t)z->tokens * z->keys * sizeof *dbias);
}

static void add_table_gradient(double *dtable, const float *dbias, const struct attention_sizes *z)
{
    enum { run = relative_table_window }; /* keys along an axis, whose rows of the table follow each other */
    double column[relative_table_rows] = {0};
    for (int query = 0; query < z->tokens; query++) {
        double *to = column + relative_table_rows - 1 - first_table_row(query);
        const float *from = dbias + (size_t)query * z->keys;
        int key = 0;
        for (; key + run <= z->tokens; key += run) {
            double *sums = to + offset_in_table(key);
            for (int k = 0; k < run; k++) {
                sums[k] += from[key + k];
            }
        }
        for (; key < z->tokens; key++) {
            to[offset_in_table(key)] += from[key];
        }
    }
    for (int row = 0; row < relative_table_rows; row++) {
        dtable[row] += column[relative_table_rows - 1 - row];
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

void KERNEL(scatter_transposed)(activation *dqkv, double *dqkv_bias, const float *gradient, float factor,
                                int first, const struct window *window, const struct attention_sizes *z)
{
    const size_t keys = z->keys;
    const int whole = z->head_dim / 4 * 4;
    int t = 0;
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
