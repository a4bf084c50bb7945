#include "compute/cpu/kernels/attention_sums.h"
#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

#include <math.h>

/* The memory of one thread. */
struct backward_work {
    struct window window;
    float *bias, *dbias; /* (tokens, keys), of the head at work; bias times log2(e) */
    void *keys, *values; /* pairs of channels */
    void *key_sums; /* the keys again: pairs of keys where the head is whole vectors wide, else columns */
    void *queries, *douts;          /* rows */
    void *query_pairs, *dout_pairs; /* ((queries + pair_tile) / 2, head_dim) pairs of queries */
    float *dkeys, *dvalues;         /* (head_dim, keys) */
    float *dqueries;                /* (queries + pair_tile, head_dim) */
    void *probabilities, *dscores;  /* (pair_tile / 2, keys) pairs of queries */
    void *dscore_rows;              /* (pair_tile, keys) */
    float *log2_sum, *dout_out;     /* (queries + pair_tile) */
    float scale;                    /* of products of queries and keys, with log2(e) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (z->tokens + 2 * pair_tile - 1) / pair_tile * pair_tile, keys = z->keys;
    const size_t matrix = z->tokens * keys * sizeof(float), head_dim = z->head_dim;
    const size_t columns = head_dim * keys, rows = queries * head_dim, tile = pair_tile * keys;
    const struct array_place places[] = {
        {&work->bias, matrix},
        {&work->dbias, matrix},
        {&work->keys, columns * sizeof(activation)},
        {&work->values, columns * sizeof(activation)},
        {&work->key_sums, columns * sizeof(activation)},
        {&work->queries, rows * sizeof(activation)},
        {&work->douts, rows * sizeof(activation)},
        {&work->query_pairs, rows * sizeof(activation)},
        {&work->dout_pairs, rows * sizeof(activation)},
        {&work->dkeys, columns * sizeof(float)},
        {&work->dvalues, columns * sizeof(float)},
        {&work->dqueries, rows * sizeof(float)},
        {&work->probabilities, tile * sizeof(activation)},
        {&work->dscores, tile * sizeof(activation)},
        {&work->dscore_rows, tile * sizeof(activation)},
        {&work->log2_sum, queries * sizeof(float)},
        {&work->dout_out, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

enum { half_tile = pair_tile / 2 };

/* Of four queries and keys k .. k + key_step - 1: the probabilities again, from the sum that forward left, P
 * = 2^(S - log2 sum), and with dP = dout values^T, dS = P (dP - dout . out), which the gradient of the bias
 * takes up. Queries behind the last have an infinite sum, and P and dS of 0. */
static ALWAYS_INLINE void softmax_backward(struct backward_work *work, int first, int half, int k,
                                           int head_dim, int masked, int keys)
{
    const activation *queries = (const activation *)work->queries + (size_t)(first + half) * head_dim;
    const activation *douts = (const activation *)work->douts + (size_t)(first + half) * head_dim;
    vec p[2 * half_tile] = {{0}}, dp[2 * half_tile];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * half_tile; i++) {
        dp[i] = broadcast(-work->dout_out[first + half + i / 2]);
    }
    const uint32_t *key = (const uint32_t *)work->keys + k, *value = (const uint32_t *)work->values + k;
    for (int d = 0; d < head_dim; d += 2, key += keys, value += keys) {
        const factor_vec key_low = _mm512_loadu_si512(key), key_high = _mm512_loadu_si512(key + lanes);
        const factor_vec value_low = _mm512_loadu_si512(value),
                         value_high = _mm512_loadu_si512(value + lanes);
#pragma GCC unroll 4
        for (int i = 0; i < half_tile; i++) {
            p[2 * i] = multiply_pairs(p[2 * i], queries + i * head_dim + d, key_low);
            p[2 * i + 1] = multiply_pairs(p[2 * i + 1], queries + i * head_dim + d, key_high);
            dp[2 * i] = multiply_pairs(dp[2 * i], douts + i * head_dim + d, value_low);
            dp[2 * i + 1] = multiply_pairs(dp[2 * i + 1], douts + i * head_dim + d, value_high);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 2 * half_tile; i++) {
        const int query = work->window.query[first + half + i / 2];
        const size_t place = (size_t)query * keys + k + (size_t)(i % 2) * lanes;
        vec score = p[i] * work->scale + (load(work->bias + place) - work->log2_sum[first + half + i / 2]);
        if (masked) {
            score = add_mask(score, work->window.region + k + i % 2 * lanes, work->window.region[query]);
        }
        p[i] = rough_exp2(score);
        dp[i] *= p[i];
        store(work->dbias + place, load(work->dbias + place) + dp[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < half_tile; i++) {
        activation *row = (activation *)work->dscore_rows + (size_t)(half + i) * keys + k;
        store_factors(row, narrow_two(dp[2 * i], dp[2 * i + 1]));
    }
#pragma GCC unroll 4
    for (int i = 0; i < half_tile; i++) { /* pair i / 2, keys in the low or the high vector */
        const int a = i / 2 * 4 + i % 2, b = a + 2;
        const size_t place = (size_t)(half / 2 + i / 2) * keys + k + (size_t)(i % 2) * lanes;
        _mm512_storeu_si512((uint32_t *)work->probabilities + place, narrow_in_turns(p[a], p[b]));
        _mm512_storeu_si512((uint32_t *)work->dscores + place, narrow_in_turns(dp[a], dp[b]));
    }
}

/* dkeys += queries^T dS, dvalues += douts^T P, for keys k .. k + key_step - 1 of a tile of queries. */
static ALWAYS_INLINE void add_key_gradients(struct backward_work *work, int first, int k, int head_dim,
                                            int keys)
{
    enum { pairs = pair_tile / 2 };
    const uint32_t *query_pairs = (const uint32_t *)work->query_pairs + (size_t)(first / 2) * head_dim;
    const uint32_t *dout_pairs = (const uint32_t *)work->dout_pairs + (size_t)(first / 2) * head_dim;
    factor_vec p[2 * pairs], ds[2 * pairs];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * pairs; i++) {
        const size_t place = (size_t)(i / 2) * keys + k + (size_t)(i % 2) * lanes;
        p[i] = _mm512_loadu_si512((const uint32_t *)work->probabilities + place);
        ds[i] = _mm512_loadu_si512((const uint32_t *)work->dscores + place);
    }
    float *dkey = work->dkeys + k, *dvalue = work->dvalues + k;
    for (int d = 0; d < head_dim; d++, dkey += keys, dvalue += keys) {
        vec dkey_low = load(dkey), dkey_high = load(dkey + lanes);
        vec dvalue_low = load(dvalue), dvalue_high = load(dvalue + lanes);
#pragma GCC unroll 4
        for (int i = 0; i < pairs; i++) {
            dkey_low = multiply_pairs(dkey_low, query_pairs + i * head_dim + d, ds[2 * i]);
            dkey_high = multiply_pairs(dkey_high, query_pairs + i * head_dim + d, ds[2 * i + 1]);
            dvalue_low = multiply_pairs(dvalue_low, dout_pairs + i * head_dim + d, p[2 * i]);
            dvalue_high = multiply_pairs(dvalue_high, dout_pairs + i * head_dim + d, p[2 * i + 1]);
        }
        store(dkey, dkey_low);
        store(dkey + lanes, dkey_high);
        store(dvalue, dvalue_low);
        store(dvalue + lanes, dvalue_high);
    }
}

/* dqueries += dS keys over keys from .. to - 1, lanes are channels. */
static ALWAYS_INLINE void add_query_vectors(struct backward_work *work, int first, int from, int to,
                                            int head_dim, int keys)
{
    const activation *dscores = work->dscore_rows;
    for (int d = 0; d < head_dim; d += lanes) {
        float *dqueries = work->dqueries + (size_t)first * head_dim + d;
        const uint32_t *key = (const uint32_t *)work->key_sums + (size_t)(from / 2) * head_dim + d;
        vec sums[pair_tile];
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            sums[i] = load(dqueries + (size_t)i * head_dim);
        }
        for (int k = from; k < to; k += 2, key += head_dim) {
            const factor_vec pairs = _mm512_loadu_si512(key);
#pragma GCC unroll 8
            for (int i = 0; i < pair_tile; i++) {
                sums[i] = multiply_pairs(sums[i], dscores + (size_t)i * keys + k, pairs);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            store(dqueries + (size_t)i * head_dim, sums[i]);
        }
    }
}

/* The same where lanes are keys: four channels of four queries at a time. */
static ALWAYS_INLINE void add_query_columns(struct backward_work *work, int first, int from, int to,
                                            int head_dim, int keys)
{
    for (int i = 0; i < pair_tile; i += 4) {
        const activation *dscores = (const activation *)work->dscore_rows + (size_t)i * keys;
        for (int d = 0; d < head_dim; d += 4) {
            const activation *key = (const activation *)work->key_sums + (size_t)d * keys;
            vec products[16] = {{0}};
            for (int k = from; k < to; k += key_step) {
#pragma GCC unroll 16
                for (int j = 0; j < 16; j++) {
                    products[j] = (vec)_mm512_dpbf16_ps(
                        (__m512)products[j], (__m512bh)load_factors(dscores + j / 4 * (size_t)keys + k),
                        (__m512bh)load_factors(key + j % 4 * (size_t)keys + k));
                }
            }
            float sums[16];
            sums_of_16(sums, products);
            for (int j = 0; j < 4; j++) {
                float *dquery = work->dqueries + (size_t)(first + i + j) * head_dim + d;
                store_quad(dquery, load_quad(dquery) + load_quad(sums + 4 * (size_t)j));
            }
        }
    }
}

/* Works through the keys in chunks whose keys, values and gradients stay in the first-level cache. */
static ALWAYS_INLINE void backward_of_queries(struct backward_work *work, int head_dim, int keys)
{
    const int steps = 1536 / head_dim / key_step, chunk = (steps > 0 ? steps : 1) * key_step;
    for (int from = 0; from < keys; from += chunk) {
        const int to = keys - from < chunk ? keys : from + chunk;
        for (int first = 0; first < work->window.queries; first += pair_tile) {
            for (int k = from; k < to; k += key_step) {
                for (int half = 0; half < pair_tile; half += half_tile) {
                    if (work->window.masked) {
                        softmax_backward(work, first, half, k, head_dim, 1, keys);
                    } else {
                        softmax_backward(work, first, half, k, head_dim, 0, keys);
                    }
                }
                add_key_gradients(work, first, k, head_dim, keys);
            }
            if (head_dim % lanes == 0) {
                add_query_vectors(work, first, from, to, head_dim, keys);
            } else {
                add_query_columns(work, first, from, to, head_dim, keys);
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
    const activation *dout = work->douts;
    for (int k = 0; k < window->queries + pair_tile; k++, dout += z->head_dim) {
        const size_t row = window->row[window->query[k]];
        const activation *out = upstream->out + row * z->channels + head * z->head_dim;
        float sum = 0;
        for (int d = 0; d < z->head_dim; d++) {
            sum += float_of(dout[d]) * float_of(out[d]);
        }
        work->dout_out[k] = sum;
        work->log2_sum[k] =
            k < window->queries ? upstream->logsumexp[row * z->heads + head] * log2_of_e : -absent_key;
    }
}

/* Rows two by two, as pairs. */
static void pair_rows(void *pairs, const void *rows, int count, int length)
{
    const activation *from = rows;
    uint32_t *to = pairs;
    for (int k = 0; k < count; k += 2, from += 2 * (size_t)length, to += length) {
        for (int d = 0; d < length; d++) {
            to[d] = from[d].bits | (uint32_t)from[length + d].bits << 16;
        }
    }
}

static void gather(struct backward_work *work, const activation *qkv, const struct upstream *upstream,
                   int head, const struct attention_sizes *z)
{
    const int first = head * z->head_dim, rows = (work->window.queries + pair_tile) / 2 * 2;
    KERNEL(gather_channel_pairs)(work->keys, z->channels + first, &work->window, z);
    KERNEL(gather_channel_pairs)(work->values, 2 * z->channels + first, &work->window, z);
    if (z->head_dim % lanes == 0) {
        KERNEL(gather_key_pairs)(work->key_sums, z->channels + first, &work->window, z);
    } else {
        KERNEL(gather_columns)(work->key_sums, z->channels + first, &work->window, z);
    }
    KERNEL(gather_rows)(work->queries, qkv, 3 * (size_t)z->channels, first, &work->window, z);
    KERNEL(gather_rows)(work->douts, upstream->dout, z->channels, first, &work->window, z);
    pair_rows(work->query_pairs, work->queries, rows, z->head_dim);
    pair_rows(work->dout_pairs, work->douts, rows, z->head_dim);
    gather_statistics(work, upstream, head, z);
}

static void backward_of_window(activation *dqkv, double *dbias, struct backward_work *work,
                               const activation *qkv, const struct upstream *upstream, int head,
                               const struct attention_sizes *z)
{
    if (work->window.queries == 0) {
        return;
    }
    const size_t columns = (size_t)z->head_dim * z->keys;
    const int first = head * z->head_dim;
    const float scale = 1 / sqrtf((float)z->head_dim);
    gather(work, qkv, upstream, head, z);
    memset(work->dqueries, 0, (size_t)(work->window.queries + pair_tile) * z->head_dim * sizeof(float));
    memset(work->dkeys, 0, columns * sizeof(float));
    memset(work->dvalues, 0, columns * sizeof(float));
    if (z->keys == whole_window_keys && z->head_dim == 4) {
        backward_of_queries(work, 4, whole_window_keys);
    } else if (z->keys == whole_window_keys && z->head_dim == 16) {
        backward_of_queries(work, 16, whole_window_keys);
    } else {
        backward_of_queries(work, z->head_dim, z->keys);
    }
    for (int k = 0; k < work->window.queries; k++) {
        KERNEL(write_scaled_row)
        (dqkv + work->window.row[work->window.query[k]] * 3 * z->channels + first,
         work->dqueries + (size_t)k * z->head_dim, scale, z);
    }
    const struct token_slots slots = {work->window.row, work->window.padding, z->tokens};
    KERNEL(scatter_transposed)(dqkv, dbias, work->dkeys, scale, z->channels + first, &slots, z);
    KERNEL(scatter_transposed)(dqkv, dbias, work->dvalues, 1, 2 * z->channels + first, &slots, z);
}

void KERNEL(pair_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *s)
{
    if (s->head_dim % 4 != 0) {
        KERNEL(window_attention_backward)
        (c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    struct attention_sizes z;
    if (!KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    const struct upstream upstream = {.dout = dout, .out = out, .logsumexp = logsumexp};
    struct backward_work measured;
    const size_t work_bytes = lay_out_work(&measured, NULL, &z), sums_bytes = attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    const size_t tasks = z.windows * s->heads, bytes = work_bytes + sums_bytes;
    activation *padded_row;
    unsigned char *memory = KERNEL(attention_memory)(c, &padded_row, qkv_bias, threads * bytes, &z);
    if (memory == NULL) {
        return;
    }
    struct attention_sums sums[most_attention_threads];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work = {.scale = log2_of_e / sqrtf((float)s->head_dim)};
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
