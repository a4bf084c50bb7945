#include "compute/cpu/kernels/attention_sums.h"
#include "compute/cpu/kernels/attention_window.h"
#include "compute/cpu/kernels/kernels.h"

#include <math.h>

/* The memory of one thread. */
struct backward_work {
    struct window window;
    float *bias, *dbias;                    /* (tokens, keys), of the head at work */
    float *keys, *values, *dkeys, *dvalues; /* (width, keys) */
    float *queries, *douts, *dqueries;      /* (queries + query_tile, width) */
    float *probabilities, *dscores;         /* (query_tile, keys) */
    float *log2_sum, *dout_out;             /* (queries + query_tile) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = z->tokens + query_tile;
    const size_t matrix = (size_t)z->tokens * z->keys, columns = (size_t)z->width * z->keys;
    const size_t rows = queries * z->width, tile = (size_t)query_tile * z->keys;
    const size_t counts[] = {matrix, matrix, columns, columns, columns, columns, rows,
                             rows,   rows,   tile,    tile,    queries, queries};
    float **const arrays[] = {&work->bias,     &work->dbias,         &work->keys,    &work->values,
                              &work->dkeys,    &work->dvalues,       &work->queries, &work->douts,
                              &work->dqueries, &work->probabilities, &work->dscores, &work->log2_sum,
                              &work->dout_out};
    size_t bytes = 0;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        *arrays[k] = (float *)(memory + bytes);
        bytes += float_bytes(counts[k]);
    }
    return bytes;
}

/* The probabilities of keys from .. to - 1 again, from the sum that forward left: P = 2^(S - log2 sum). Then,
 * with dP = dout values^T, dS = P (dP - dout . out), which the gradient of the bias takes up. Queries behind
 * `last` have an infinite sum, and P and dS of 0. */
static ALWAYS_INLINE void softmax_backward(struct backward_work *work, int first, int count, int from, int to,
                                           int width, int masked, int keys)
{
    const float *queries = work->queries + (size_t)first * width,
                *douts = work->douts + (size_t)first * width;
    for (int k = from; k < to; k += 2 * lanes) {
        vec p[2 * query_tile], dp[2 * query_tile];
        for (int i = 0; i < query_tile; i++) {
            const int query = work->window.query[first + i];
            const float *bias = work->bias + (size_t)query * keys + k;
            p[2 * i] = load(bias) - work->log2_sum[first + i];
            p[2 * i + 1] = load(bias + lanes) - work->log2_sum[first + i];
            if (masked) {
                const int32_t own = work->window.region[query];
                p[2 * i] = add_mask(p[2 * i], work->window.region + k, own);
                p[2 * i + 1] = add_mask(p[2 * i + 1], work->window.region + k + lanes, own);
            }
            dp[2 * i] = dp[2 * i + 1] = broadcast(-work->dout_out[first + i]);
        }
        for (int d = 0; d < width; d++) {
            const float *key = work->keys + (size_t)d * keys + k,
                        *value = work->values + (size_t)d * keys + k;
            for (int i = 0; i < query_tile; i++) {
                p[2 * i] += queries[i * width + d] * load(key);
                p[2 * i + 1] += queries[i * width + d] * load(key + lanes);
                dp[2 * i] += douts[i * width + d] * load(value);
                dp[2 * i + 1] += douts[i * width + d] * load(value + lanes);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < 2 * query_tile; i++) {
            const size_t place = (size_t)(i / 2) * keys + k + (size_t)(i % 2) * lanes;
            const vec probability = exp2_of(p[i]);
            store(work->probabilities + place, probability);
            store(work->dscores + place, probability * dp[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        float *dbias = work->dbias + (size_t)work->window.query[first + i] * keys;
        for (int k = from; k < to; k += lanes) {
            store(dbias + k, load(dbias + k) + load(work->dscores + (size_t)i * keys + k));
        }
    }
}

/* Columns d .. d + 3, over keys from .. to - 1: dqueries += dS keys^T, dkeys += queries^T dS, dvalues +=
 * douts^T P. */
static ALWAYS_INLINE void products_backward(struct backward_work *work, int first, int from, int to, int d,
                                            int width, int keys)
{
    const float *restrict key = work->keys + (size_t)d * keys;
    const float *restrict dscores = work->dscores, *restrict probabilities = work->probabilities;
    float *restrict dkey = work->dkeys + (size_t)d * keys, *restrict dvalue =
                                                               work->dvalues + (size_t)d * keys;
    float query[16], dout[16]; /* by query and column */
    for (int i = 0; i < query_tile; i++) {
        store_quad(query + 4 * (size_t)i, load_quad(work->queries + (size_t)(first + i) * width + d));
        store_quad(dout + 4 * (size_t)i, load_quad(work->douts + (size_t)(first + i) * width + d));
    }
    vec products[16] = {{0}};
    for (int k = from; k < to; k += lanes) {
        vec dscore[query_tile], probability[query_tile];
        for (int i = 0; i < query_tile; i++) {
            dscore[i] = load(dscores + (size_t)i * keys + k);
            probability[i] = load(probabilities + (size_t)i * keys + k);
        }
        for (int j = 0; j < 4; j++) {
            const size_t place = (size_t)j * keys + k;
            const vec column = load(key + place);
            vec dkey_sum = load(dkey + place), dvalue_sum = load(dvalue + place);
            for (int i = 0; i < query_tile; i++) {
                products[4 * i + j] += dscore[i] * column;
                dkey_sum += query[4 * i + j] * dscore[i];
                dvalue_sum += dout[4 * i + j] * probability[i];
            }
            store(dkey + place, dkey_sum);
            store(dvalue + place, dvalue_sum);
        }
    }
    float sums[16];
    sums_of_16(sums, products);
    for (int i = 0; i < query_tile; i++) {
        float *dquery = work->dqueries + (size_t)(first + i) * width + d;
        store_quad(dquery, load_quad(dquery) + load_quad(sums + 4 * (size_t)i));
    }
}

/* Works through the keys in chunks whose keys, values and gradients stay in the first-level cache. */
static ALWAYS_INLINE void backward_of_queries(struct backward_work *work, int width, int keys)
{
    const int vectors = 1536 / width / (2 * lanes), chunk = (vectors > 0 ? vectors : 1) * 2 * lanes;
    for (int from = 0; from < keys; from += chunk) {
        const int to = keys - from < chunk ? keys : from + chunk;
        for (int first = 0; first < work->window.queries; first += query_tile) {
            const int left = work->window.queries - first, count = left < query_tile ? left : query_tile;
            if (work->window.masked) {
                softmax_backward(work, first, count, from, to, width, 1, keys);
            } else {
                softmax_backward(work, first, count, from, to, width, 0, keys);
            }
            for (int d = 0; d < width; d += 4) {
                products_backward(work, first, from, to, d, width, keys);
            }
        }
    }
}

/* What backward reads besides qkv. */
struct upstream {
    const activation *dout, *out;
    const float *logsumexp;
};

/* log2 of the sum of each query's exponentials, and dout . out. */
static void gather_statistics(struct backward_work *work, const struct upstream *upstream, int head,
                              const struct attention_sizes *z)
{
    const struct window *window = &work->window;
    for (int k = 0; k < window->queries + query_tile; k++) {
        const size_t row = window->row[window->query[k]];
        const activation *out = upstream->out + row * z->channels + head * z->head_dim;
        float sum = 0;
        for (int d = 0; d < z->head_dim; d++) {
            sum += work->douts[(size_t)k * z->width + d] * float_of(out[d]);
        }
        work->dout_out[k] = sum;
        work->log2_sum[k] =
            k < window->queries ? upstream->logsumexp[row * z->heads + head] * log2_of_e : -absent_key;
    }
}

static void backward_of_window(activation *dqkv, double *dbias, struct backward_work *work,
                               const activation *qkv, const struct upstream *upstream, int head,
                               const struct attention_sizes *z)
{
    const size_t columns = (size_t)z->width * z->keys;
    const int first = head * z->head_dim;
    const float factor = log2_of_e / sqrtf((float)z->head_dim);
    if (work->window.queries > 0) {
        KERNEL(gather_transposed)(work->keys, z->channels + first, &work->window, z);
        KERNEL(gather_transposed)(work->values, 2 * z->channels + first, &work->window, z);
        KERNEL(gather_queries)(work->queries, qkv, 3 * (size_t)z->channels, first, factor, &work->window, z);
        KERNEL(gather_queries)(work->douts, upstream->dout, z->channels, first, 1, &work->window, z);
        gather_statistics(work, upstream, head, z);
        memset(work->dqueries, 0, (size_t)(z->tokens + query_tile) * z->width * sizeof(float));
        memset(work->dkeys, 0, columns * sizeof(float));
        memset(work->dvalues, 0, columns * sizeof(float));
        if (z->keys == whole_window_keys && z->width == 4) {
            backward_of_queries(work, 4, whole_window_keys);
        } else if (z->keys == whole_window_keys && z->width == 16) {
            backward_of_queries(work, 16, whole_window_keys);
        } else {
            backward_of_queries(work, z->width, z->keys);
        }
        KERNEL(write_query_gradients)
        (dqkv, work->dqueries, z->width, 1 / sqrtf((float)z->head_dim), first, &work->window, z);
        /* The queries carry log2(e), which the gradient of the keys must not. */
        KERNEL(scatter_transposed)(dqkv, dbias, work->dkeys, log_of_2, z->channels + first, &work->window, z);
        KERNEL(scatter_transposed)(dqkv, dbias, work->dvalues, 1, 2 * z->channels + first, &work->window, z);
    }
}

void KERNEL(window_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                       float *dbias_table, const activation *dout, const activation *out,
                                       const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                       const float *bias_table, const struct attention_shape *s)
{
    struct attention_sizes z;
    if (c->status != VOCO_OK || !KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    const struct upstream upstream = {.dout = dout, .out = out, .logsumexp = logsumexp};
    struct backward_work measured;
    const size_t work_bytes = lay_out_work(&measured, NULL, &z),
                 bytes = work_bytes + attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    const size_t tasks = z.windows * s->heads;
    const size_t row_length = 3 * (size_t)z.channels, row_bytes = float_bytes(row_length);
    activation *padded_row = cpu_scratch(c, row_bytes + threads * bytes);
    if (padded_row == NULL) {
        return;
    }
    activations_of(padded_row, qkv_bias, row_length);
    unsigned char *memory = (unsigned char *)padded_row + row_bytes;
    struct attention_sums sums[most_attention_threads];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work;
        lay_out_work(&work, memory + part * bytes, &z);
        KERNEL(begin_attention_sums)(&sums[part], memory + part * bytes + work_bytes, work.dbias, &z);
        for (size_t task = share_begin(tasks, part, threads); task < share_begin(tasks, part + 1, threads);
             task++) {
            const struct attention_task at = KERNEL(attention_task)(task, &z);
            if (at.head != sums[part].head) {
                KERNEL(end_attention_head)(&sums[part], &z);
                KERNEL(head_bias)(work.bias, bias_table, at.head, &z);
                sums[part].head = at.head;
            }
            KERNEL(cut_window)(&work.window, at.window, qkv, padded_row, s);
            backward_of_window(dqkv, sums[part].dqkv_bias, &work, qkv, &upstream, at.head, &z);
        }
        KERNEL(end_attention_head)(&sums[part], &z);
    }
    KERNEL(reduce_attention_sums)(dqkv_bias, dbias_table, sums, threads, &z);
}
