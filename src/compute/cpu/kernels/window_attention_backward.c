#include "compute/cpu/kernels/attention_ahead.h"
#include "compute/cpu/kernels/attention_products.h"
#include "compute/cpu/kernels/attention_sums.h"
#include "compute/cpu/kernels/attention_window.h"
#include "compute/cpu/kernels/kernels.h"

#include <math.h>

/* What registers hold at a time: queries whose scores are made with their gradients, channels whose gradients
 * of keys and values are. */
enum { score_queries = lanes == 16 ? 4 : 2, gradient_channels = lanes == 16 ? 4 : 2 };

/* The tensors. */
struct backward_rows {
    activation *dqkv;
    const activation *dout, *out, *qkv;
    const float *logsumexp;
};

/* The memory of one thread. */
struct backward_work {
    const struct window *window;
    struct window_ahead ahead;
    float *bias, *dbias;                    /* (tokens, keys), of the head at work */
    float *keys, *values, *dkeys, *dvalues; /* (width, keys) */
    float *key_rows;                        /* (keys, width), where sums are by rows */
    float *queries, *douts, *dqueries;      /* (queries + query_tile, width) */
    float *probabilities, *dscores;         /* (query_tile, keys) */
    float *tile_bias;                       /* (query_tile, keys) */
    float *log2_sum, *dout_out;             /* (queries + query_tile) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = z->tokens + query_tile;
    const size_t matrix = (size_t)z->tokens * z->keys, columns = (size_t)z->width * z->keys;
    const size_t rows = queries * z->width, tile = (size_t)query_tile * z->keys;
    const size_t counts[] = {matrix, matrix, columns, columns, columns, columns, columns, rows,
                             rows,   rows,   tile,    tile,    tile,    queries, queries};
    float **const arrays[] = {&work->bias,      &work->dbias,    &work->keys,          &work->values,
                              &work->dkeys,     &work->dvalues,  &work->key_rows,      &work->queries,
                              &work->douts,     &work->dqueries, &work->probabilities, &work->dscores,
                              &work->tile_bias, &work->log2_sum, &work->dout_out};
    size_t bytes = 0;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        *arrays[k] = (float *)(memory + bytes);
        bytes += float_bytes(counts[k]);
    }
    return bytes;
}

/* A tile of queries at work. */
struct query_rows {
    int first;
    const float *bias[query_tile]; /* mask included */
    float *dbias[query_tile];
};

/* The probabilities of two vectors of keys from k again, from the sum that forward left: P = 2^(S - log2
 * sum). Then, with dP = dout values^T, dS = P (dP - dout . out), which the gradient of the bias takes up. For
 * score_queries queries from `from` of the tile; those behind the last have queries, dout and dS of 0. */
static ALWAYS_INLINE void softmax_backward(struct backward_work *work, const struct query_rows *tile,
                                           int from, int k, int width, int keys)
{
    const int first = tile->first + from;
    const float *queries = work->queries + (size_t)first * width,
                *douts = work->douts + (size_t)first * width;
    vec p[2 * score_queries], dp[2 * score_queries];
    for (int i = 0; i < score_queries; i++) {
        p[2 * i] = load(tile->bias[from + i] + k) - work->log2_sum[first + i];
        p[2 * i + 1] = load(tile->bias[from + i] + k + lanes) - work->log2_sum[first + i];
        dp[2 * i] = dp[2 * i + 1] = broadcast(-work->dout_out[first + i]);
    }
    for (int d = 0; d < width; d++) {
        const float *key = work->keys + (size_t)d * keys + k, *value = work->values + (size_t)d * keys + k;
        const vec key_low = load(key), key_high = load(key + lanes);
        const vec value_low = load(value), value_high = load(value + lanes);
        for (int i = 0; i < score_queries; i++) {
            const vec query = broadcast(queries[i * width + d]), dout = broadcast(douts[i * width + d]);
            p[2 * i] += query * key_low;
            p[2 * i + 1] += query * key_high;
            dp[2 * i] += dout * value_low;
            dp[2 * i + 1] += dout * value_high;
        }
    }
    raise_two_to(p, 2 * score_queries);
    for (int i = 0; i < 2 * score_queries; i++) {
        const int key = k + i % 2 * lanes;
        const size_t place = (size_t)(from + i / 2) * keys + key;
        float *dbias = tile->dbias[from + i / 2] + key;
        const vec dscore = p[i] * dp[i];
        store(work->probabilities + (size_t)(from + i / 2) * 2 * lanes + (size_t)(i % 2) * lanes, p[i]);
        store(work->dscores + place, dscore);
        store(dbias, load(dbias) + dscore);
    }
}

/* Two vectors of keys from k, gradient_channels channels from d: dkeys += queries^T dS, dvalues += douts^T P.
 */
static ALWAYS_INLINE void gradients_of_tokens(struct backward_work *work, int first, int k, int d, int width,
                                              int keys)
{
    const float *queries = work->queries + (size_t)first * width + d;
    const float *douts = work->douts + (size_t)first * width + d;
    float *dkeys = work->dkeys + (size_t)d * keys + k, *dvalues = work->dvalues + (size_t)d * keys + k;
    vec dkey[2 * gradient_channels], dvalue[2 * gradient_channels];
    for (int j = 0; j < 2 * gradient_channels; j++) {
        const size_t place = (size_t)(j / 2) * keys + (size_t)(j % 2) * lanes;
        dkey[j] = load(dkeys + place);
        dvalue[j] = load(dvalues + place);
    }
    for (int i = 0; i < query_tile; i++) {
        const float *dscore = work->dscores + (size_t)i * keys + k;
        const float *probability = work->probabilities + (size_t)i * 2 * lanes;
        const vec dscore_low = load(dscore), dscore_high = load(dscore + lanes);
        const vec probability_low = load(probability), probability_high = load(probability + lanes);
        for (int j = 0; j < gradient_channels; j++) {
            const vec query = broadcast(queries[i * width + j]), dout = broadcast(douts[i * width + j]);
            dkey[2 * j] += query * dscore_low;
            dkey[2 * j + 1] += query * dscore_high;
            dvalue[2 * j] += dout * probability_low;
            dvalue[2 * j + 1] += dout * probability_high;
        }
    }
    for (int j = 0; j < 2 * gradient_channels; j++) {
        const size_t place = (size_t)(j / 2) * keys + (size_t)(j % 2) * lanes;
        store(dkeys + place, dkey[j]);
        store(dvalues + place, dvalue[j]);
    }
}

static ALWAYS_INLINE void backward_of_tile(struct backward_work *work, const struct query_rows *tile,
                                           int from, int to, int width, int keys)
{
    float *dqueries = work->dqueries + (size_t)tile->first * width;
    for (int k = from; k < to; k += 2 * lanes) {
        fetch_ahead(&work->ahead);
        for (int i = 0; i < query_tile; i += score_queries) {
            softmax_backward(work, tile, i, k, width, keys);
        }
        for (int d = 0; d < width; d += gradient_channels) {
            gradients_of_tokens(work, tile->first, k, d, width, keys);
        }
        if (sums_by_rows(width)) {
            add_sums_by_rows(dqueries, work->dscores, work->key_rows, k, k + 2 * lanes, width, keys);
        }
    }
    if (!sums_by_rows(width)) {
        add_sums_by_columns(dqueries, work->dscores, work->keys, from, to, width, keys);
    }
}

/* What the next window reads and writes. */
static void look_ahead(struct backward_work *work, const struct backward_rows *rows,
                       const struct window *next, int head, const struct attention_sizes *z)
{
    struct window_ahead *ahead = &work->ahead;
    const size_t length = z->channels, first = (size_t)head * z->head_dim;
    const int tiles = (work->window->queries + query_tile - 1) / query_tile;
    begin_ahead(ahead, next, tiles * (z->keys / (2 * lanes)));
    for (int part = 0; part < 3; part++) {
        add_ahead(ahead, rows->qkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
        add_ahead(ahead, rows->dqkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
    }
    add_ahead(ahead, rows->dout, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->out, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->logsumexp, sizeof(float), z->heads, head, 1);
}

/* Works through the keys in chunks whose keys, values and gradients stay in the first-level cache. */
static ALWAYS_INLINE void backward_of_queries(struct backward_work *work, int width, int keys)
{
    const int vectors = (width == 16 ? 2 : 1) * 3072 / width / (2 * lanes),
              chunk = (vectors > 0 ? vectors : 1) * 2 * lanes;
    for (int from = 0; from < keys; from += chunk) {
        const int to = keys - from < chunk ? keys : from + chunk;
        for (int first = 0; first < work->window->queries; first += query_tile) {
            struct query_rows tile = {.first = first};
            bias_of_tile(tile.bias, work->tile_bias, work->bias, work->window, first, from, to, keys);
            for (int i = 0; i < query_tile; i++) {
                tile.dbias[i] = work->dbias + (size_t)work->window->query[first + i] * keys;
            }
            backward_of_tile(work, &tile, from, to, width, keys);
        }
    }
}

/* log2 of the sum of each query's exponentials, and dout . out. */
static void gather_statistics(struct backward_work *work, const struct backward_rows *rows, int head,
                              const struct attention_sizes *z)
{
    const struct window *window = work->window;
    for (int k = 0; k < window->queries + query_tile; k++) {
        const size_t row = window->row[window->query[k]];
        const activation *out = rows->out + row * z->channels + head * z->head_dim;
        const float *dout = work->douts + (size_t)k * z->width;
        quad sums = {0};
        int d = 0;
        for (; d + 4 <= z->head_dim; d += 4) {
            sums += load_quad(dout + d) * load_activation_quad(out + d);
        }
        float sum = (sums[0] + sums[2]) + (sums[1] + sums[3]);
        for (; d < z->head_dim; d++) {
            sum += dout[d] * float_of(out[d]);
        }
        work->dout_out[k] = sum;
        work->log2_sum[k] =
            k < window->queries ? rows->logsumexp[row * z->heads + head] * log2_of_e : -absent_key;
    }
}

static void backward_of_window(const struct backward_rows *rows, double *dbias, struct backward_work *work,
                               int head, const struct attention_sizes *z)
{
    const size_t columns = (size_t)z->width * z->keys;
    const int first = head * z->head_dim;
    const float factor = log2_of_e / sqrtf((float)z->head_dim);
    if (work->window->queries > 0) {
        KERNEL(gather_transposed)(work->keys, z->channels + first, work->window, z);
        KERNEL(gather_transposed)(work->values, 2 * z->channels + first, work->window, z);
        if (sums_by_rows(z->width)) {
            KERNEL(gather_tokens)(work->key_rows, z->channels + first, work->window, z);
        }
        KERNEL(gather_queries)
        (work->queries, rows->qkv, 3 * (size_t)z->channels, first, factor, work->window, z);
        KERNEL(gather_queries)(work->douts, rows->dout, z->channels, first, 1, work->window, z);
        gather_statistics(work, rows, head, z);
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
        (rows->dqkv, work->dqueries, z->width, 1 / sqrtf((float)z->head_dim), first, work->window, z);
        /* The queries carry log2(e), which the gradient of the keys must not. */
        KERNEL(scatter_transposed)
        (rows->dqkv, dbias, work->dkeys, log_of_2, z->channels + first, work->window, z);
        KERNEL(scatter_transposed)
        (rows->dqkv, dbias, work->dvalues, 1, 2 * z->channels + first, work->window, z);
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
    const struct backward_rows rows = {
        .dqkv = dqkv, .dout = dout, .out = out, .qkv = qkv, .logsumexp = logsumexp};
    struct backward_work measured;
    const size_t work_bytes = lay_out_work(&measured, NULL, &z),
                 bytes = work_bytes + attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    const size_t tasks = z.windows * s->heads;
    activation *padded_row;
    unsigned char *memory = KERNEL(attention_memory)(c, &padded_row, qkv_bias, bytes, threads, &z);
    if (memory == NULL) {
        return;
    }
    struct attention_sums sums[most_attention_threads];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work;
        struct window windows[2];
        lay_out_work(&work, memory + part * bytes, &z);
        KERNEL(begin_attention_sums)(&sums[part], memory + part * bytes + work_bytes, work.dbias, &z);
        const size_t begin = share_begin(tasks, part, threads), end = share_begin(tasks, part + 1, threads);
        struct attention_task at = {0};
        if (begin < end) {
            at = KERNEL(attention_task)(begin, &z);
            KERNEL(cut_window)(&windows[begin % 2], at.window, qkv, padded_row, s);
        }
        for (size_t task = begin; task < end; task++) {
            const int head = at.head;
            if (head != sums[part].head) {
                KERNEL(end_attention_head)(&sums[part], &z);
                KERNEL(head_bias)(work.bias, bias_table, head, &z);
                sums[part].head = head;
            }
            at = KERNEL(attention_task)(task + 1 < end ? task + 1 : task, &z);
            KERNEL(cut_window)(&windows[(task + 1) % 2], at.window, qkv, padded_row, s);
            work.window = &windows[task % 2];
            look_ahead(&work, &rows, &windows[(task + 1) % 2], at.head, &z);
            backward_of_window(&rows, sums[part].dqkv_bias, &work, head, &z);
        }
        KERNEL(end_attention_head)(&sums[part], &z);
    }
    KERNEL(reduce_attention_sums)(dqkv_bias, dbias_table, sums, threads, &z);
}
