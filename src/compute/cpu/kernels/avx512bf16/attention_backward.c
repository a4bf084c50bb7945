#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

#include <math.h>

/* The memory of one thread. */
struct backward_work {
    struct attention_walk walk;
    void *keys, *values; /* pairs of channels */
    void *key_sums; /* the keys again: pairs of keys where the head is whole vectors wide, else columns */
    void *queries, *douts;          /* rows */
    void *query_pairs, *dout_pairs; /* (slots / 2, head_dim) pairs of queries */
    float *dkeys, *dvalues;         /* (head_dim, pitch) */
    float *dqueries;                /* (slots of queries, head_dim) */
    void *probabilities, *dscores;  /* (pair_tile / 2, pitch) pairs of queries */
    void *dscore_rows;              /* (pair_tile, pitch) */
    float *log2_sum, *dout_out;     /* (slots of queries) */
    float scale;                    /* of products of queries and keys, with log2(e) */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = most_query_slots, head_dim = z->head_dim;
    const size_t columns = head_dim * z->pitch, rows = queries * head_dim, tile = pair_tile * z->pitch;
    const struct array_place places[] = {
        {&work->keys, columns * sizeof(activation)},       {&work->values, columns * sizeof(activation)},
        {&work->key_sums, columns * sizeof(activation)},   {&work->queries, rows * sizeof(activation)},
        {&work->douts, rows * sizeof(activation)},         {&work->query_pairs, rows * sizeof(activation)},
        {&work->dout_pairs, rows * sizeof(activation)},    {&work->dkeys, columns * sizeof(float)},
        {&work->dvalues, columns * sizeof(float)},         {&work->dqueries, rows * sizeof(float)},
        {&work->probabilities, tile * sizeof(activation)}, {&work->dscores, tile * sizeof(activation)},
        {&work->dscore_rows, tile * sizeof(activation)},   {&work->log2_sum, queries * sizeof(float)},
        {&work->dout_out, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

enum { half_tile = pair_tile / 2 };

/* Of four queries and keys k .. k + key_step - 1: the probabilities again, from the sum that forward left, P
 * = 2^(S - log2 sum), and with dP = dout values^T, dS = P (dP - dout . out), which the gradient of the bias
 * takes up. Queries behind the last have an infinite sum, and P and dS of 0. */
static ALWAYS_INLINE void softmax_backward(struct backward_work *work, const struct piece *piece, int query,
                                           int half, int k, int head_dim, int masked, int pitch)
{
    const struct attention_walk *walk = &work->walk;
    const int first = piece->first_query + query, slot = piece->first_key + k;
    const size_t row = piece->bias + (size_t)(query + half) * piece->keys + k;
    const float *bias = walk->bias->bias + row;
    float *dbias = walk->bias->dbias + row;
    const activation *queries = (const activation *)work->queries + (size_t)(first + half) * head_dim;
    const activation *douts = (const activation *)work->douts + (size_t)(first + half) * head_dim;
    vec p[2 * half_tile] = {{0}}, dp[2 * half_tile];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * half_tile; i++) {
        dp[i] = broadcast(-work->dout_out[first + half + i / 2]);
    }
    const uint32_t *key = (const uint32_t *)work->keys + slot, *value = (const uint32_t *)work->values + slot;
    for (int d = 0; d < head_dim; d += 2, key += pitch, value += pitch) {
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
        const int of = first + half + i / 2;
        const size_t place = (size_t)(i / 2) * piece->keys + (size_t)(i % 2) * lanes;
        vec score = p[i] * work->scale + (load(bias + place) - work->log2_sum[of]);
        if (masked) {
            score += load(walk->masks->mask[0] + walk->masks->row[of] + k + (size_t)(i % 2) * lanes);
        }
        p[i] = rough_exp2(score);
        dp[i] *= p[i];
        store(dbias + place, load(dbias + place) + dp[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < half_tile; i++) {
        activation *dscores = (activation *)work->dscore_rows + (size_t)(half + i) * pitch + k;
        store_factors(dscores, narrow_two(dp[2 * i], dp[2 * i + 1]));
    }
#pragma GCC unroll 4
    for (int i = 0; i < half_tile; i++) { /* pair i / 2, keys in the low or the high vector */
        const int a = i / 2 * 4 + i % 2, b = a + 2;
        const size_t place = (size_t)(half / 2 + i / 2) * pitch + k + (size_t)(i % 2) * lanes;
        _mm512_storeu_si512((uint32_t *)work->probabilities + place, narrow_in_turns(p[a], p[b]));
        _mm512_storeu_si512((uint32_t *)work->dscores + place, narrow_in_turns(dp[a], dp[b]));
    }
}

/* dkeys += queries^T dS, dvalues += douts^T P, for keys k .. k + key_step - 1 of a tile of queries. */
static ALWAYS_INLINE void add_key_gradients(struct backward_work *work, const struct piece *piece, int query,
                                            int k, int head_dim, int pitch)
{
    enum { pairs = pair_tile / 2 };
    const int first = piece->first_query + query, slot = piece->first_key + k;
    const uint32_t *query_pairs = (const uint32_t *)work->query_pairs + (size_t)(first / 2) * head_dim;
    const uint32_t *dout_pairs = (const uint32_t *)work->dout_pairs + (size_t)(first / 2) * head_dim;
    factor_vec p[2 * pairs], ds[2 * pairs];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * pairs; i++) {
        const size_t place = (size_t)(i / 2) * pitch + k + (size_t)(i % 2) * lanes;
        p[i] = _mm512_loadu_si512((const uint32_t *)work->probabilities + place);
        ds[i] = _mm512_loadu_si512((const uint32_t *)work->dscores + place);
    }
    float *dkey = work->dkeys + slot, *dvalue = work->dvalues + slot;
    for (int d = 0; d < head_dim; d++, dkey += pitch, dvalue += pitch) {
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
static ALWAYS_INLINE void add_query_vectors(struct backward_work *work, const struct piece *piece, int query,
                                            int from, int to, int head_dim, int pitch)
{
    const activation *dscores = work->dscore_rows;
    const int first = piece->first_query + query, slot = piece->first_key + from;
    for (int d = 0; d < head_dim; d += lanes) {
        float *dqueries = work->dqueries + (size_t)first * head_dim + d;
        const uint32_t *key = (const uint32_t *)work->key_sums + (size_t)(slot / 2) * head_dim + d;
        vec sums[pair_tile];
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            sums[i] = load(dqueries + (size_t)i * head_dim);
        }
        for (int k = from; k < to; k += 2, key += head_dim) {
            const factor_vec pairs = _mm512_loadu_si512(key);
#pragma GCC unroll 8
            for (int i = 0; i < pair_tile; i++) {
                sums[i] = multiply_pairs(sums[i], dscores + (size_t)i * pitch + k, pairs);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            store(dqueries + (size_t)i * head_dim, sums[i]);
        }
    }
}

/* The same where lanes are keys: four channels of four queries at a time. */
static ALWAYS_INLINE void add_query_columns(struct backward_work *work, const struct piece *piece, int query,
                                            int from, int to, int head_dim, int pitch)
{
    const int first = piece->first_query + query;
    for (int i = 0; i < pair_tile; i += 4) {
        const activation *dscores = (const activation *)work->dscore_rows + (size_t)i * pitch;
        for (int d = 0; d < head_dim; d += 4) {
            const activation *key = (const activation *)work->key_sums + (size_t)d * pitch + piece->first_key;
            vec products[16] = {{0}};
            for (int k = from; k < to; k += key_step) {
#pragma GCC unroll 16
                for (int j = 0; j < 16; j++) {
                    products[j] = (vec)_mm512_dpbf16_ps(
                        (__m512)products[j], (__m512bh)load_factors(dscores + j / 4 * (size_t)pitch + k),
                        (__m512bh)load_factors(key + j % 4 * (size_t)pitch + k));
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
static ALWAYS_INLINE void backward_of_piece(struct backward_work *work, const struct piece *piece,
                                            int head_dim, int pitch)
{
    const int steps = 1536 / head_dim / key_step, chunk = (steps > 0 ? steps : 1) * key_step;
    const int keys = piece->keys;
    for (int from = 0; from < keys; from += chunk) {
        const int to = keys - from < chunk ? keys : from + chunk;
        for (int query = 0; query < piece->queries; query += pair_tile) {
            for (int k = from; k < to; k += key_step) {
                for (int half = 0; half < pair_tile; half += half_tile) {
                    if (work->walk.masks != NULL) {
                        softmax_backward(work, piece, query, half, k, head_dim, 1, pitch);
                    } else {
                        softmax_backward(work, piece, query, half, k, head_dim, 0, pitch);
                    }
                }
                add_key_gradients(work, piece, query, k, head_dim, pitch);
            }
            if (head_dim % lanes == 0) {
                add_query_vectors(work, piece, query, from, to, head_dim, pitch);
            } else {
                add_query_columns(work, piece, query, from, to, head_dim, pitch);
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
static void gather_statistics(struct backward_work *work, const struct upstream *upstream,
                              const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const size_t head = work->walk.task.head;
    const activation *dout = work->douts;
    for (int k = 0; k < cut->pattern->query_slots; k++, dout += z->head_dim) {
        const int key = cut->pattern->key[k];
        float sum = 0;
        if (key == no_token) {
            work->dout_out[k] = 0;
            work->log2_sum[k] = -absent_key;
            continue;
        }
        const activation *out = upstream->out + cut->row[key] * z->channels + head * z->head_dim;
        for (int d = 0; d < z->head_dim; d++) {
            sum += float_of(dout[d]) * float_of(out[d]);
        }
        work->dout_out[k] = sum;
        work->log2_sum[k] = upstream->logsumexp[cut->row[key] * z->heads + head] * log2_of_e;
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

static void gather(struct backward_work *work, const struct upstream *upstream, int first,
                   const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int slots = cut->pattern->query_slots;
    KERNEL(gather_channel_pairs)(work->keys, z->channels + first, cut, z);
    KERNEL(gather_channel_pairs)(work->values, 2 * z->channels + first, cut, z);
    if (z->head_dim % lanes == 0) {
        KERNEL(gather_key_pairs)(work->key_sums, z->channels + first, cut, z);
    } else {
        KERNEL(gather_columns)(work->key_sums, z->channels + first, cut, z);
    }
    KERNEL(gather_rows)(work->queries, work->walk.in->qkv, 3 * (size_t)z->channels, first, cut, z);
    KERNEL(gather_rows)(work->douts, upstream->dout, z->channels, first, cut, z);
    pair_rows(work->query_pairs, work->queries, slots, z->head_dim);
    pair_rows(work->dout_pairs, work->douts, slots, z->head_dim);
    gather_statistics(work, upstream, z);
    memset(work->dqueries, 0, (size_t)slots * z->head_dim * sizeof(float));
    for (int d = 0; d < z->head_dim; d++) {
        memset(work->dkeys + d * z->pitch, 0, cut->pattern->key_slots * sizeof(float));
        memset(work->dvalues + d * z->pitch, 0, cut->pattern->key_slots * sizeof(float));
    }
}

static void backward_of_window(activation *dqkv, struct backward_work *work, const struct upstream *upstream,
                               const struct attention_sizes *z)
{
    const struct attention_walk *walk = &work->walk;
    const struct window_pattern *pattern = walk->cut->pattern;
    const int first = walk->task.head * z->head_dim;
    const float scale = 1 / sqrtf((float)z->head_dim);
    const struct window_gradients gradients = {work->dqueries, work->dkeys, work->dvalues,
                                               .query_factor = scale, .key_factor = scale};
    gather(work, upstream, first, z);
    for (int k = 0; k < pattern->pieces; k++) {
        const struct piece *piece = &pattern->piece[k];
        if (z->head_dim == 4) {
            backward_of_piece(work, piece, 4, most_key_slots);
        } else if (z->head_dim == 16) {
            backward_of_piece(work, piece, 16, most_key_slots);
        } else {
            backward_of_piece(work, piece, z->head_dim, most_key_slots);
        }
    }
    KERNEL(write_window_gradients)(dqkv, walk->sums, &gradients, first, walk->cut, z);
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
    if (!KERNEL(pair_attention_sizes)(c, &z, s)) {
        return;
    }
    const struct upstream upstream = {.dout = dout, .out = out, .logsumexp = logsumexp};
    struct backward_work measured;
    struct attention_inputs in = {.qkv = qkv, .bias_table = bias_table, .shape = s, .sizes = &z};
    const size_t arrays = lay_out_work(&measured, NULL, &z), own = arrays + attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    size_t bytes;
    unsigned char *memory = KERNEL(attention_walk_memory)(c, &in, qkv_bias, own, &bytes, threads);
    if (memory == NULL) {
        return;
    }
    struct attention_sums sums[most_attention_threads];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work = {.scale = log2_of_e / sqrtf((float)s->head_dim)};
        unsigned char *mine = memory + part * bytes;
        lay_out_work(&work, mine, &z);
        KERNEL(begin_attention_sums)(&sums[part], mine + arrays, &z);
        KERNEL(begin_walk)(&work.walk, &in, &sums[part], mine + own, part, threads);
        while (KERNEL(next_window)(&work.walk)) {
            backward_of_window(dqkv, &work, &upstream, &z);
        }
    }
    KERNEL(reduce_attention_sums)(dqkv_bias, dbias_table, sums, threads, &z);
}
