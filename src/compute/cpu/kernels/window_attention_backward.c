#include "compute/cpu/kernels/attention_ahead.h"
#include "compute/cpu/kernels/attention_products.h"
#include "compute/cpu/kernels/attention_walk.h"
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
    struct attention_walk walk;
    struct window_ahead ahead;
    float *keys, *values, *dkeys, *dvalues; /* (width, pitch), one behind the other */
    float *key_rows;                        /* (slots, width), where sums are by rows */
    float *queries, *douts, *dqueries;      /* (query slots, width) */
    float *probabilities;                   /* (group_queries, block_keys) */
    float *dscores;                         /* the same where sums are by rows, else (query_tile, pitch) */
    float *log2_sum, *minus_dout_out;       /* (query slots) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t rows = (size_t)most_query_slots * z->width * sizeof(float);
    const size_t columns = z->width * z->pitch * sizeof(float);
    const struct array_place places[] = {
        {&work->keys, columns},
        {&work->values, columns},
        {&work->dkeys, columns},
        {&work->dvalues, columns},
        {&work->key_rows, columns},
        {&work->queries, rows},
        {&work->douts, rows},
        {&work->dqueries, rows},
        {&work->probabilities, (size_t)group_queries * block_keys * sizeof(float)},
        {&work->dscores, (group_queries * block_keys + query_tile * z->pitch) * sizeof(float)},
        {&work->log2_sum, most_query_slots * sizeof(float)},
        {&work->minus_dout_out, most_query_slots * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* What the compiler knows. */
struct kind {
    int width, pitch, masked;
};

/* From a query's dS to the next one's, and the dS of a block from k on. */
static ALWAYS_INLINE int dscore_row(struct kind kind)
{
    return attention_by_rows(kind.width) ? block_keys : kind.pitch;
}

static ALWAYS_INLINE float *dscores_of(const struct backward_work *work, int k, struct kind kind)
{
    return attention_by_rows(kind.width) ? work->dscores : work->dscores + k;
}

/* A tile of queries and a block of keys; tile and k are counted from the first ones of the piece. */
struct block {
    const struct piece *piece;
    int tile, k;
};

static ALWAYS_INLINE int query_slot(const struct block *b)
{
    return b->piece->first_query + b->tile;
}

static ALWAYS_INLINE int key_slot(const struct block *b)
{
    return b->piece->first_key + b->k;
}

/* From a query's bias to the next one's. */
static ALWAYS_INLINE size_t bias_row(const struct piece *piece, struct kind kind)
{
    return attention_by_rows(kind.width) ? block_keys : piece->keys;
}

/* Where the block is in bias and dbias. */
static ALWAYS_INLINE size_t bias_place(const struct block *b, struct kind kind)
{
    return b->piece->bias + (size_t)(b->k / block_keys) * b->piece->bias_block +
           b->tile * bias_row(b->piece, kind);
}

/* The probabilities of a block again, from the sum that forward left: P = 2^(S - log2 sum). They become rows
 * `at` and following. */
static ALWAYS_INLINE void softmax_again(struct backward_work *work, const struct block *b, int at,
                                        struct kind kind)
{
    const struct attention_walk *walk = &work->walk;
    const float *from = walk->bias->bias + bias_place(b, kind);
    const int slot = query_slot(b);
    vec low[query_tile], high[query_tile];
    for (int i = 0; i < query_tile; i++) {
        const float *bias = from + i * bias_row(b->piece, kind);
        low[i] = load(bias) - work->log2_sum[slot + i];
        high[i] = load(bias + lanes) - work->log2_sum[slot + i];
        if (kind.masked) {
            const float *mask = walk->masks->mask[0] + walk->masks->row[slot + i] + b->k;
            low[i] += load(mask);
            high[i] += load(mask + lanes);
        }
    }
    add_products(low, high, work->queries + (size_t)slot * kind.width, work->keys + key_slot(b), kind.width,
                 kind.pitch);
    raise_two_to(low, query_tile);
    raise_two_to(high, query_tile);
    for (int i = 0; i < query_tile; i++) {
        float *probabilities = work->probabilities + (size_t)(at + i) * block_keys;
        store(probabilities, low[i]);
        store(probabilities + lanes, high[i]);
    }
}

/* With dP = dout values^T, dS = P (dP - dout . out). Absent queries have queries, dout and dS of 0. */
static ALWAYS_INLINE void softmax_backward(struct backward_work *work, const struct block *b, int at,
                                           struct kind kind)
{
    const int slot = query_slot(b);
    vec low[query_tile], high[query_tile];
    for (int i = 0; i < query_tile; i++) {
        low[i] = high[i] = broadcast(work->minus_dout_out[slot + i]);
    }
    add_products(low, high, work->douts + (size_t)slot * kind.width, work->values + key_slot(b), kind.width,
                 kind.pitch);
    for (int i = 0; i < query_tile; i++) {
        const float *p = work->probabilities + (size_t)(at + i) * block_keys;
        float *dscores = dscores_of(work, b->k, kind) + (size_t)(at + i) * dscore_row(kind);
        store(dscores, load(p) * low[i]);
        store(dscores + lanes, load(p + lanes) * high[i]);
    }
}

/* Rows of queries or of their gradients, and what they are multiplied by: P or dS. */
struct product {
    const float *rows; /* (queries, width) */
    const float *factors;
    int factor_row;
    float *dbias;    /* takes up the factors, unless NULL */
    size_t bias_row; /* from a row of it to the next one */
};

/* A block of `channels` columns += rows^T factors, of `queries` queries. */
static ALWAYS_INLINE void add_product(float *columns, const struct product *product, int queries,
                                      int channels, struct kind kind)
{
    vec low[product_channels], high[product_channels];
    for (int j = 0; j < channels; j++) {
        low[j] = load(columns + (size_t)j * kind.pitch);
        high[j] = load(columns + (size_t)j * kind.pitch + lanes);
    }
    for (int i = 0; i < queries; i++) {
        const float *factors = product->factors + (size_t)i * product->factor_row;
        const vec factor_low = in_register(load(factors)), factor_high = in_register(load(factors + lanes));
        if (product->dbias != NULL) {
            float *dbias = product->dbias + i * product->bias_row;
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
        store(columns + (size_t)j * kind.pitch, low[j]);
        store(columns + (size_t)j * kind.pitch + lanes, high[j]);
    }
}

/* `queries` queries from the block's on and its keys: dkeys += queries^T dS, dvalues += douts^T P, and
 * dbias += dS. */
static ALWAYS_INLINE void gradients_of_tokens(struct backward_work *work, const struct block *b, int queries,
                                              struct kind kind)
{
    const int slot = query_slot(b);
    for (int d = 0; d < kind.width; d += product_channels) {
        const int left = kind.width - d, channels = left < product_channels ? 4 : product_channels;
        const size_t column = (size_t)d * kind.pitch + key_slot(b), row = (size_t)slot * kind.width + d;
        struct product dkeys = {.rows = work->queries + row,
                                .factors = dscores_of(work, b->k, kind),
                                .factor_row = dscore_row(kind)};
        const struct product dvalues = {
            .rows = work->douts + row, .factors = work->probabilities, .factor_row = block_keys};
        if (d == 0) {
            dkeys.dbias = work->walk.bias->dbias + bias_place(b, kind);
            dkeys.bias_row = bias_row(b->piece, kind);
            add_product(work->dkeys + column, &dkeys, queries, channels, kind);
        } else {
            add_product(work->dkeys + column, &dkeys, queries, channels, kind);
        }
        add_product(work->dvalues + column, &dvalues, queries, channels, kind);
    }
}

static ALWAYS_INLINE void backward_by_rows(struct backward_work *work, const struct piece *piece,
                                           struct kind kind)
{
    for (int k = 0; k < piece->keys; k += block_keys) {
        const float *key_rows = work->key_rows + (size_t)(piece->first_key + k) * kind.width;
        for (int group = 0; group < piece->queries; group += group_queries) {
            int at = 0;
            for (; at < group_queries && group + at < piece->queries; at += query_tile) {
                const struct block block = {piece, group + at, k};
                fetch_ahead(&work->ahead);
                softmax_again(work, &block, at, kind);
                softmax_backward(work, &block, at, kind);
                add_sums_by_rows(work->dqueries + (size_t)query_slot(&block) * kind.width,
                                 work->dscores + (size_t)at * block_keys, key_rows, kind.width, block_keys,
                                 block_keys, k > 0);
            }
            const struct block first = {piece, group, k};
            gradients_of_tokens(work, &first, at, kind);
        }
    }
}

static ALWAYS_INLINE void backward_by_columns(struct backward_work *work, const struct piece *piece,
                                              struct kind kind)
{
    for (int tile = 0; tile < piece->queries; tile += query_tile) {
        for (int k = 0; k < piece->keys; k += block_keys) {
            const struct block block = {piece, tile, k};
            fetch_ahead(&work->ahead);
            softmax_again(work, &block, 0, kind);
            softmax_backward(work, &block, 0, kind);
            gradients_of_tokens(work, &block, query_tile, kind);
        }
        sums_by_columns(work->dqueries + (size_t)(piece->first_query + tile) * kind.width, work->dscores,
                        work->keys + piece->first_key, kind.width, piece->keys, kind.pitch);
    }
}

/* Heads of four channels. */
enum { few_channels = 4 };

/* Four queries of a narrow head. */
struct narrow_tile {
    const float *queries, *douts; /* (4, 4) */
    const float *log2_sum, *minus_dout_out;
    const float *bias;
    float *dbias;
    const float *mask[few_channels];
};

static void cut_narrow_tile(struct narrow_tile *tile, const struct backward_work *work,
                            const struct piece *piece, int query, int masked)
{
    const struct attention_walk *walk = &work->walk;
    const int first = piece->first_query + query;
    const size_t bias = piece->bias + (size_t)query * piece->keys;
    *tile = (struct narrow_tile){.queries = work->queries + (size_t)first * few_channels,
                                 .douts = work->douts + (size_t)first * few_channels,
                                 .log2_sum = work->log2_sum + first,
                                 .minus_dout_out = work->minus_dout_out + first,
                                 .bias = walk->bias->bias + bias,
                                 .dbias = walk->bias->dbias + bias};
    for (int i = 0; masked && i < few_channels; i++) {
        tile->mask[i] = walk->masks->mask[0] + walk->masks->row[first + i];
    }
}

/* sums[i] += the channels of row i times a vector of columns. */
static ALWAYS_INLINE void add_narrow_products(vec sums[few_channels], const float *rows, const float *columns,
                                              int pitch)
{
    for (int d = 0; d < few_channels; d++) {
        const vec column = in_register(load(columns + (size_t)d * pitch));
        for (int i = 0; i < few_channels; i++) {
            sums[i] += rows[i * few_channels + d] * column;
        }
    }
}

/* A vector of columns += rows^T factors. */
static ALWAYS_INLINE void add_narrow_columns(float *columns, const float *rows,
                                             const vec factors[few_channels], int pitch)
{
    for (int d = 0; d < few_channels; d++) {
        vec sum = load(columns + (size_t)d * pitch);
        for (int i = 0; i < few_channels; i++) {
            sum += rows[i * few_channels + d] * factors[i];
        }
        store(columns + (size_t)d * pitch, sum);
    }
}

/* A vector of keys, the piece's from k on; dquery is summed over all of them. columns: of the piece's keys,
 * and behind them of its values, dkeys and dvalues. */
static ALWAYS_INLINE void backward_of_keys(float *columns, const struct narrow_tile *tile,
                                           vec dquery[few_channels * few_channels], size_t bias_row, int k,
                                           struct kind kind)
{
    /* Not kept in registers, which sums and scores need. */
    const float *queries = unforeseen(tile->queries), *douts = unforeseen(tile->douts);
    const int pitch = kind.pitch, next = few_channels * pitch;
    float *keys = columns + k, *values = keys + next, *dkeys = values + next, *dvalues = dkeys + next;
    vec p[few_channels], ds[few_channels];
    for (int i = 0; i < few_channels; i++) {
        p[i] = load(tile->bias + i * bias_row + k) - tile->log2_sum[i];
        ds[i] = broadcast(tile->minus_dout_out[i]);
        if (kind.masked) {
            p[i] += load(tile->mask[i] + k);
        }
    }
    add_narrow_products(p, queries, keys, pitch);
    add_narrow_products(ds, douts, values, pitch);
    raise_two_to(p, few_channels);
    for (int i = 0; i < few_channels; i++) {
        ds[i] *= p[i];
    }
    add_narrow_columns(dvalues, douts, p, pitch);
    add_narrow_columns(dkeys, queries, ds, pitch);
    for (int d = 0; d < few_channels; d++) {
        const vec key = in_register(load(keys + (size_t)d * pitch));
        float *dbias = tile->dbias + d * bias_row + k;
        for (int i = 0; i < few_channels; i++) {
            dquery[i * few_channels + d] += ds[i] * key;
        }
        store(dbias, load(dbias) + ds[d]);
    }
}

static ALWAYS_INLINE void backward_of_narrow_head(struct backward_work *work, const struct piece *piece,
                                                  struct kind kind)
{
    float *columns = work->keys + piece->first_key;
    const int keys = piece->keys, end = piece->tokens; /* behind which dS is zero */
    for (int query = 0; query < piece->queries; query += few_channels) {
        struct narrow_tile tile;
        vec dquery[few_channels * few_channels] = {{0}};
        cut_narrow_tile(&tile, work, piece, query, kind.masked);
        for (int k = 0; k < end; k += lanes) {
            if (k % (2 * block_keys) == 0) {
                fetch_ahead(&work->ahead);
            }
            backward_of_keys(columns, &tile, dquery, keys, k, kind);
        }
        sums_of_16(work->dqueries + (size_t)(piece->first_query + query) * few_channels, dquery);
    }
}

/* Whether the sums of a narrow head fit registers. */
static inline int narrow_head_fits(int width)
{
    return lanes == 16 && width == few_channels;
}

static ALWAYS_INLINE void backward_of_kind(struct backward_work *work, const struct piece *piece,
                                           struct kind kind)
{
    if (narrow_head_fits(kind.width)) {
        backward_of_narrow_head(work, piece, kind);
    } else if (attention_by_rows(kind.width)) {
        backward_by_rows(work, piece, kind);
    } else {
        backward_by_columns(work, piece, kind);
    }
}

static void backward_of_piece(struct backward_work *work, const struct piece *piece,
                              const struct attention_sizes *z)
{
    const int masked = work->walk.masks != NULL;
    if (z->width == 4 && !masked) {
        backward_of_kind(work, piece, (struct kind){.width = 4, .pitch = most_key_slots});
    } else if (z->width == 16 && !masked) {
        backward_of_kind(work, piece, (struct kind){.width = 16, .pitch = most_key_slots});
    } else {
        backward_of_kind(work, piece,
                         (struct kind){.width = z->width, .pitch = most_key_slots, .masked = masked});
    }
}

/* What the next window reads and writes. */
static void look_ahead(struct backward_work *work, const struct backward_rows *rows,
                       const struct attention_sizes *z)
{
    struct window_ahead *ahead = &work->ahead;
    const size_t length = z->channels, head = work->walk.next.head, first = head * z->head_dim;
    begin_ahead(ahead, work->walk.ahead, work->walk.cut->pattern);
    for (int part = 0; part < 3; part++) {
        add_ahead(ahead, rows->qkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
        add_ahead(ahead, rows->dqkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
    }
    add_ahead(ahead, rows->dout, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->out, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->logsumexp, sizeof(float), z->heads, head, 1);
}

/* log2 of the sum of each query's exponentials, and dout . out. */
static void gather_statistics(struct backward_work *work, const struct backward_rows *rows,
                              const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const size_t head = work->walk.task.head;
    for (int k = 0; k < cut->pattern->query_slots; k++) {
        const int key = cut->pattern->key[k];
        if (key == no_token) {
            work->minus_dout_out[k] = 0;
            work->log2_sum[k] = -absent_key;
            continue;
        }
        const activation *out = rows->out + cut->row[key] * z->channels + head * z->head_dim;
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
        work->log2_sum[k] = rows->logsumexp[cut->row[key] * z->heads + head] * log2_of_e;
    }
}

static void gather(struct backward_work *work, const struct backward_rows *rows, int first,
                   const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const float factor = log2_of_e / sqrtf((float)z->head_dim);
    KERNEL(gather_key_columns)(work->keys, z->channels + first, cut, z);
    KERNEL(gather_key_columns)(work->values, 2 * z->channels + first, cut, z);
    if (attention_by_rows(z->width)) {
        KERNEL(gather_key_rows)(work->key_rows, z->channels + first, cut, z);
    }
    KERNEL(gather_query_rows)(work->queries, rows->qkv, 3 * (size_t)z->channels, first, factor, cut, z);
    KERNEL(gather_query_rows)(work->douts, rows->dout, z->channels, first, 1, cut, z);
    gather_statistics(work, rows, z);
    for (int d = 0; d < z->width; d++) {
        memset(work->dkeys + d * z->pitch, 0, cut->pattern->key_slots * sizeof(float));
        memset(work->dvalues + d * z->pitch, 0, cut->pattern->key_slots * sizeof(float));
    }
}

static void backward_of_window(const struct backward_rows *rows, struct backward_work *work,
                               const struct attention_sizes *z)
{
    const struct attention_walk *walk = &work->walk;
    const struct window_pattern *pattern = walk->cut->pattern;
    const int first = walk->task.head * z->head_dim;
    const struct window_gradients gradients = {
        .dqueries = work->dqueries,
        .dkeys = work->dkeys,
        .dvalues = work->dvalues,
        .query_factor = 1 / sqrtf((float)z->head_dim),
        .key_factor = log_of_2}; /* the queries carry log2(e), which the gradient of the keys must not */
    gather(work, rows, first, z);
    look_ahead(work, rows, z);
    for (int k = 0; k < pattern->pieces; k++) {
        backward_of_piece(work, &pattern->piece[k], z);
    }
    KERNEL(write_window_gradients)(rows->dqkv, walk->sums, &gradients, first, walk->cut, z);
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
    struct backward_work measured;
    struct attention_inputs in = {.qkv = qkv, .bias_table = bias_table, .shape = s, .sizes = &z};
    const size_t arrays = lay_out_work(&measured, NULL, &z), own = arrays + attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    size_t bytes;
    unsigned char *memory = KERNEL(attention_walk_memory)(c, &in, qkv_bias, own, &bytes, threads);
    if (memory == NULL) {
        return;
    }
    const struct backward_rows rows = {
        .dqkv = dqkv, .dout = dout, .out = out, .qkv = qkv, .logsumexp = logsumexp};
    struct attention_sums sums[most_attention_threads];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work;
        unsigned char *mine = memory + part * bytes;
        lay_out_work(&work, mine, &z);
        KERNEL(begin_attention_sums)(&sums[part], mine + arrays, &z);
        KERNEL(begin_walk)(&work.walk, &in, &sums[part], mine + own, part, threads);
        while (KERNEL(next_window)(&work.walk)) {
            backward_of_window(&rows, &work, &z);
        }
    }
    KERNEL(reduce_attention_sums)(dqkv_bias, dbias_table, sums, threads, &z);
}
