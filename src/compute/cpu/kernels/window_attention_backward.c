#include "compute/cpu/kernels/attention_ahead.h"
#include "compute/cpu/kernels/attention_products.h"
#include "compute/cpu/kernels/attention_sums.h"
#include "compute/cpu/kernels/attention_window.h"
#include "compute/cpu/kernels/kernels.h"

#include <math.h>

/* For a window and head, P = softmax(S), S = Q K^T + bias, is made again from what forward left; then
 *
 *     dP = dO V^T, dS = P (dP - dO . O), dV = P^T dO, dK = dS^T Q, dQ = dS K, and dbias += dS.
 *
 * Heads of whole vectors of channels go block by block of keys, and in it group by group of queries:
 *   tile of queries   S and P (8 queries by two vectors of keys, in registers), dP and dS, dQ += dS K
 *   group of tiles    dK and dV += (8 channels by two vectors of keys, in registers), dbias += dS
 * Bias and dbias lie by blocks, so that they are read in order. P and dS of a group stay in the first-level
 * cache, as do K, V, dK and dV of the block. A group is that large because accumulators which are stored all
 * together hold the processor up.
 *
 * Heads of four channels have all of a window in the first-level cache, and S, dS and the sums of dQ of four
 * queries in registers; others go tile by tile of queries through all keys. */

/* The queries of a group, channels of a product of columns. */
enum { group_queries = 48, product_channels = lanes == 16 ? 8 : 4 };

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
    size_t bias_block;   /* of the sizes */
    float *bias, *dbias; /* of the head at work, in the order of order_bias */
    struct score_terms *terms;
    float *keys, *values, *dkeys, *dvalues; /* (width, keys) */
    float *key_rows;                        /* (keys, width), where sums are by rows */
    float *queries, *douts, *dqueries;      /* (queries + query_tile, width) */
    float *probabilities;                   /* (group_queries, block_keys) */
    float *dscores;                         /* the same where sums are by rows, else (query_tile, keys) */
    float *log2_sum, *minus_dout_out;       /* (queries + query_tile) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = z->tokens + query_tile, rows = queries * z->width * sizeof(float);
    const size_t matrix = (size_t)z->tokens * z->keys * sizeof(float);
    const size_t columns = (size_t)z->width * z->keys * sizeof(float);
    const struct array_place places[] = {
        {&work->bias, matrix},
        {&work->dbias, matrix},
        {&work->terms, sizeof *work->terms},
        {&work->keys, columns},
        {&work->values, columns},
        {&work->dkeys, columns},
        {&work->dvalues, columns},
        {&work->key_rows, columns},
        {&work->queries, rows},
        {&work->douts, rows},
        {&work->dqueries, rows},
        {&work->probabilities, (size_t)group_queries * block_keys * sizeof(float)},
        {&work->dscores, ((size_t)group_queries * block_keys + (size_t)query_tile * z->keys) * sizeof(float)},
        {&work->log2_sum, queries * sizeof(float)},
        {&work->minus_dout_out, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* What the compiler knows. */
struct kind {
    int width, keys, masked;
};

/* From a query's dS to the next one's, and the dS of a block from k on. */
static ALWAYS_INLINE int dscore_row(struct kind kind)
{
    return sums_by_rows(kind.width) ? block_keys : kind.keys;
}

static ALWAYS_INLINE float *dscores_of(const struct backward_work *work, int k, struct kind kind)
{
    return sums_by_rows(kind.width) ? work->dscores : work->dscores + k;
}

/* The probabilities of a tile of queries and the block of keys from k again, from the sum that forward left:
 * P = 2^(S - log2 sum). They become rows `at` and following. */
static ALWAYS_INLINE void softmax_again(struct backward_work *work, int tile, int k, int at, struct kind kind)
{
    const float *bias_block = work->bias + (size_t)(k / block_keys) * work->bias_block;
    vec low[query_tile], high[query_tile];
    for (int i = 0; i < query_tile; i++) {
        const float *bias = bias_block + work->terms->bias[tile + i];
        low[i] = load(bias) - work->log2_sum[tile + i];
        high[i] = load(bias + lanes) - work->log2_sum[tile + i];
        if (kind.masked) {
            const float *mask = work->terms->mask[0] + work->terms->region[tile + i] + k;
            low[i] += load(mask);
            high[i] += load(mask + lanes);
        }
    }
    add_products(low, high, work->queries + (size_t)tile * kind.width, work->keys + k, kind.width, kind.keys);
    raise_two_to(low, query_tile);
    raise_two_to(high, query_tile);
    for (int i = 0; i < query_tile; i++) {
        float *probabilities = work->probabilities + (size_t)(at + i) * block_keys;
        store(probabilities, low[i]);
        store(probabilities + lanes, high[i]);
    }
}

/* With dP = dout values^T, dS = P (dP - dout . out). Queries behind the last have queries, dout and dS of 0.
 */
static ALWAYS_INLINE void softmax_backward(struct backward_work *work, int tile, int k, int at,
                                           struct kind kind)
{
    vec low[query_tile], high[query_tile];
    for (int i = 0; i < query_tile; i++) {
        low[i] = high[i] = broadcast(work->minus_dout_out[tile + i]);
    }
    add_products(low, high, work->douts + (size_t)tile * kind.width, work->values + k, kind.width, kind.keys);
    for (int i = 0; i < query_tile; i++) {
        const float *p = work->probabilities + (size_t)(at + i) * block_keys;
        float *dscores = dscores_of(work, k, kind) + (size_t)(at + i) * dscore_row(kind);
        store(dscores, load(p) * low[i]);
        store(dscores + lanes, load(p + lanes) * high[i]);
    }
}

/* Rows of queries or of their gradients, and what they are multiplied by: P or dS. */
struct product {
    const float *rows; /* (queries, width) */
    const float *factors;
    int factor_row;
    float *dbias; /* takes up the factors, unless NULL: row k from place[k] on */
    const int *place;
};

/* A block of `channels` columns += rows^T factors, of `queries` queries. */
static ALWAYS_INLINE void add_product(float *columns, const struct product *product, int queries,
                                      int channels, struct kind kind)
{
    vec low[product_channels], high[product_channels];
    for (int j = 0; j < channels; j++) {
        low[j] = load(columns + (size_t)j * kind.keys);
        high[j] = load(columns + (size_t)j * kind.keys + lanes);
    }
    for (int i = 0; i < queries; i++) {
        const float *factors = product->factors + (size_t)i * product->factor_row;
        const vec factor_low = in_register(load(factors)), factor_high = in_register(load(factors + lanes));
        if (product->dbias != NULL) {
            float *dbias = product->dbias + product->place[i];
            store(dbias, load(dbias) + factor_low);
            store(dbias + lanes, load(dbias + lanes) + factor_high);
        }
        for (int j = 0; j < channels; j++) {
            const vec row = broadcast(product->rows[i * kind.width + j]);
            low[j] += row * factor_low;
            high[j] += row * factor_high;
        }
    }
    for (int j = 0; j < channels; j++) {
        store(columns + (size_t)j * kind.keys, low[j]);
        store(columns + (size_t)j * kind.keys + lanes, high[j]);
    }
}

/* `queries` queries from `first` on and a block of keys: dkeys += queries^T dS, dvalues += douts^T P, and
 * dbias += dS. */
static ALWAYS_INLINE void gradients_of_tokens(struct backward_work *work, int first, int k, int queries,
                                              struct kind kind)
{
    for (int d = 0; d < kind.width; d += product_channels) {
        const int left = kind.width - d, channels = left < product_channels ? 4 : product_channels;
        const size_t column = (size_t)d * kind.keys + k, row = (size_t)first * kind.width + d;
        struct product dkeys = {.rows = work->queries + row,
                                .factors = dscores_of(work, k, kind),
                                .factor_row = dscore_row(kind)};
        const struct product dvalues = {
            .rows = work->douts + row, .factors = work->probabilities, .factor_row = block_keys};
        if (d == 0) {
            dkeys.dbias = work->dbias + (size_t)(k / block_keys) * work->bias_block;
            dkeys.place = work->terms->bias + first;
            add_product(work->dkeys + column, &dkeys, queries, channels, kind);
        } else {
            add_product(work->dkeys + column, &dkeys, queries, channels, kind);
        }
        add_product(work->dvalues + column, &dvalues, queries, channels, kind);
    }
}

static ALWAYS_INLINE void backward_by_rows(struct backward_work *work, struct kind kind)
{
    const int queries = work->window->queries;
    for (int k = 0; k < kind.keys; k += block_keys) {
        const float *key_rows = work->key_rows + (size_t)k * kind.width;
        for (int group = 0; group < queries; group += group_queries) {
            int at = 0;
            for (; at < group_queries && group + at < queries; at += query_tile) {
                const int tile = group + at;
                fetch_ahead(&work->ahead);
                softmax_again(work, tile, k, at, kind);
                softmax_backward(work, tile, k, at, kind);
                add_sums_by_rows(work->dqueries + (size_t)tile * kind.width,
                                 work->dscores + (size_t)at * block_keys, key_rows, kind.width, block_keys,
                                 block_keys, k > 0);
            }
            gradients_of_tokens(work, group, k, at, kind);
        }
    }
}

static ALWAYS_INLINE void backward_by_columns(struct backward_work *work, struct kind kind)
{
    for (int tile = 0; tile < work->window->queries; tile += query_tile) {
        for (int k = 0; k < kind.keys; k += block_keys) {
            fetch_ahead(&work->ahead);
            softmax_again(work, tile, k, 0, kind);
            softmax_backward(work, tile, k, 0, kind);
            gradients_of_tokens(work, tile, k, query_tile, kind);
        }
        sums_by_columns(work->dqueries + (size_t)tile * kind.width, work->dscores, work->keys, kind.width,
                        kind.keys);
    }
}

/* Heads of four channels. */
enum { few_channels = 4 };

/* Four queries of a narrow head. */
struct narrow_tile {
    const float *queries, *douts; /* (4, 4) */
    const float *log2_sum, *minus_dout_out;
    const float *bias[few_channels], *mask[few_channels];
    float *dbias[few_channels];
};

static void cut_narrow_tile(struct narrow_tile *tile, const struct backward_work *work, int first)
{
    *tile = (struct narrow_tile){.queries = work->queries + (size_t)first * few_channels,
                                 .douts = work->douts + (size_t)first * few_channels,
                                 .log2_sum = work->log2_sum + first,
                                 .minus_dout_out = work->minus_dout_out + first};
    for (int i = 0; i < few_channels; i++) {
        tile->bias[i] = work->bias + work->terms->bias[first + i];
        tile->dbias[i] = work->dbias + work->terms->bias[first + i];
        if (work->window->masked) {
            tile->mask[i] = work->terms->mask[0] + work->terms->region[first + i];
        }
    }
}

/* sums[i] += the channels of row i times a vector of columns. */
static ALWAYS_INLINE void add_narrow_products(vec sums[few_channels], const float *rows, const float *columns,
                                              int keys)
{
    for (int d = 0; d < few_channels; d++) {
        const vec column = in_register(load(columns + (size_t)d * keys));
        for (int i = 0; i < few_channels; i++) {
            sums[i] += rows[i * few_channels + d] * column;
        }
    }
}

/* A vector of columns += rows^T factors. */
static ALWAYS_INLINE void add_narrow_columns(float *columns, const float *rows,
                                             const vec factors[few_channels], int keys)
{
    for (int d = 0; d < few_channels; d++) {
        vec sum = load(columns + (size_t)d * keys);
        for (int i = 0; i < few_channels; i++) {
            sum += rows[i * few_channels + d] * factors[i];
        }
        store(columns + (size_t)d * keys, sum);
    }
}

/* A vector of keys from k on; dquery is summed over all of them. */
static ALWAYS_INLINE void backward_of_keys(struct backward_work *work, const struct narrow_tile *tile,
                                           vec dquery[few_channels * few_channels], int k, int keys,
                                           int masked)
{
    /* Not kept in registers, which sums and scores need. */
    const float *queries = unforeseen(tile->queries), *douts = unforeseen(tile->douts);
    vec p[few_channels], ds[few_channels];
    for (int i = 0; i < few_channels; i++) {
        p[i] = load(tile->bias[i] + k) - tile->log2_sum[i];
        ds[i] = broadcast(tile->minus_dout_out[i]);
        if (masked) {
            p[i] += load(tile->mask[i] + k);
        }
    }
    add_narrow_products(p, queries, work->keys + k, keys);
    add_narrow_products(ds, douts, work->values + k, keys);
    raise_two_to(p, few_channels);
    for (int i = 0; i < few_channels; i++) {
        ds[i] *= p[i];
    }
    add_narrow_columns(work->dvalues + k, douts, p, keys);
    add_narrow_columns(work->dkeys + k, queries, ds, keys);
    for (int d = 0; d < few_channels; d++) {
        const vec key = in_register(load(work->keys + (size_t)d * keys + k));
        for (int i = 0; i < few_channels; i++) {
            dquery[i * few_channels + d] += ds[i] * key;
        }
        store(tile->dbias[d] + k, load(tile->dbias[d] + k) + ds[d]);
    }
}

static ALWAYS_INLINE void backward_of_narrow_head(struct backward_work *work, int keys, int masked)
{
    for (int first = 0; first < work->window->queries; first += few_channels) {
        struct narrow_tile tile;
        vec dquery[few_channels * few_channels] = {{0}};
        cut_narrow_tile(&tile, work, first);
        for (int k = 0; k < keys; k += lanes) {
            if (k % (2 * block_keys) == 0) {
                fetch_ahead(&work->ahead);
            }
            backward_of_keys(work, &tile, dquery, k, keys, masked);
        }
        sums_of_16(work->dqueries + (size_t)first * few_channels, dquery);
    }
}

/* Whether the sums of a narrow head fit registers. */
static inline int narrow_head_fits(int width)
{
    return lanes == 16 && width == few_channels;
}

static ALWAYS_INLINE void backward_of_kind(struct backward_work *work, struct kind kind)
{
    if (narrow_head_fits(kind.width)) {
        backward_of_narrow_head(work, kind.keys, kind.masked);
    } else if (sums_by_rows(kind.width)) {
        backward_by_rows(work, kind);
    } else {
        backward_by_columns(work, kind);
    }
}

static void backward_of_queries(struct backward_work *work, const struct attention_sizes *z)
{
    const int whole = z->keys == whole_window_keys, masked = work->window->masked;
    if (whole && z->width == 4 && !masked) {
        backward_of_kind(work, (struct kind){.width = 4, .keys = whole_window_keys});
    } else if (whole && z->width == 4) {
        backward_of_kind(work, (struct kind){.width = 4, .keys = whole_window_keys, .masked = 1});
    } else if (whole && z->width == 16 && !masked) {
        backward_of_kind(work, (struct kind){.width = 16, .keys = whole_window_keys});
    } else if (whole && z->width == 16) {
        backward_of_kind(work, (struct kind){.width = 16, .keys = whole_window_keys, .masked = 1});
    } else {
        backward_of_kind(work, (struct kind){.width = z->width, .keys = z->keys, .masked = masked});
    }
}

/* What the next window reads and writes. */
static void look_ahead(struct backward_work *work, const struct backward_rows *rows,
                       const struct window *next, int head, const struct attention_sizes *z)
{
    struct window_ahead *ahead = &work->ahead;
    const size_t length = z->channels, first = (size_t)head * z->head_dim;
    const int steps = (work->window->queries + query_tile - 1) / query_tile;
    begin_ahead(ahead, next, steps * (z->keys / (2 * lanes)));
    for (int part = 0; part < 3; part++) {
        add_ahead(ahead, rows->qkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
        add_ahead(ahead, rows->dqkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
    }
    add_ahead(ahead, rows->dout, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->out, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->logsumexp, sizeof(float), z->heads, head, 1);
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
        work->minus_dout_out[k] = -sum;
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
        KERNEL(lay_out_terms)(work->terms, work->window, z);
        KERNEL(gather_transposed)(work->keys, z->channels + first, work->window, z);
        KERNEL(gather_transposed)(work->values, 2 * z->channels + first, work->window, z);
        if (sums_by_rows(z->width)) {
            KERNEL(gather_tokens)(work->key_rows, z->channels + first, work->window, z);
        }
        KERNEL(gather_queries)
        (work->queries, rows->qkv, 3 * (size_t)z->channels, first, factor, work->window, z);
        KERNEL(gather_queries)(work->douts, rows->dout, z->channels, first, 1, work->window, z);
        gather_statistics(work, rows, head, z);
        memset(work->dkeys, 0, columns * sizeof(float));
        memset(work->dvalues, 0, columns * sizeof(float));
        backward_of_queries(work, z);
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
    if (!KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    const struct backward_rows rows = {
        .dqkv = dqkv, .dout = dout, .out = out, .qkv = qkv, .logsumexp = logsumexp};
    order_bias(&z);
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
        work.bias_block = z.bias_block;
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
