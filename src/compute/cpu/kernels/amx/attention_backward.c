#include "compute/cpu/kernels/amx/attention_tiles.h"

#include "compute/cpu/kernels/amx/transpose_pairs.h"
#include "compute/cpu/kernels/attention_sums.h"
#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

/* Tiles: 0 and 1 gradients of two tiles of keys, 2 and 3 of values, channels by keys, which stay while a
 * block of keys meets all queries; 4 .. 7 what is at work.
 *
 * Probabilities and gradients of scores lie as pairs of the queries k and k + 16 of a block, by keys. As
 * right factors they give the gradients of keys and values. As left ones, with keys beside zeros to the
 * right, they give those of the queries k and of the queries k + 16. */

enum { turns = 2, block_tiles = block_side / tile_rows, block_pairs = block_side * block_side };

/* The memory of one thread. */
struct backward_work {
    struct tile_window windows[2]; /* the one at work and the next one, in turns */
    const struct tile_window *window, *next;
    int head, next_head;
    float *bias_rows;            /* (tokens, keys) */
    float *bias, *dbias;         /* see tile_bias */
    activation *queries, *douts; /* rows, see attention_tiles.h */
    activation *keys, *values;   /* tiles, ditto */
    struct single_keys single;   /* keys */
    activation *query_pairs,
        *dout_pairs;                /* (blocks, channel_tiles, 16, 16, 2): pairs of queries by channels */
    float *dkeys, *dvalues;         /* (blocks, 2, channel_tiles, 16, 16): channels by keys */
    float *dqueries;                /* (blocks, 2, channel_tiles, 16, 16): queries by channels */
    float *scores, *dprobabilities; /* (turns, block_side, block_side) */
    activation *probabilities, *dscores; /* (turns, 2, 16, 16, 2): pairs of queries by keys */
    float *logsumexp, *dout_out;         /* numbers of queries, see attention_tiles.h */
    struct attention_layout layout;
    struct exp2_table table;
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t rows = (size_t)work->layout.blocks * block_side;
    const size_t channels = (size_t)work->layout.channel_tiles * tile_columns;
    const size_t whole = rows * work->layout.row * sizeof(activation);
    const size_t sums = rows * channels * sizeof(float), bias = tile_bias_length(z) * sizeof(float);
    const size_t block = (size_t)turns * block_pairs;
    const struct array_place places[] = {
        {&work->bias_rows, (size_t)z->tokens * z->keys * sizeof(float)},
        {&work->bias, bias},
        {&work->dbias, bias},
        {&work->queries, whole},
        {&work->douts, whole},
        {&work->keys, whole},
        {&work->values, whole},
        {&work->single.low, 2 * rows * channels * sizeof(activation)},
        {&work->single.high, 2 * rows * channels * sizeof(activation)},
        {&work->query_pairs, rows * channels * sizeof(activation)},
        {&work->dout_pairs, rows * channels * sizeof(activation)},
        {&work->dkeys, sums},
        {&work->dvalues, sums},
        {&work->dqueries, sums},
        {&work->scores, block * sizeof(float)},
        {&work->dprobabilities, block * sizeof(float)},
        {&work->probabilities, block * sizeof(activation)},
        {&work->dscores, block * sizeof(activation)},
        {&work->logsumexp, rows * sizeof(float)},
        {&work->dout_out, rows * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* What backward reads besides qkv. */
struct upstream {
    const activation *dout, *out;
    const float *logsumexp;
};

/* Where gradients of a window go. */
struct gradients {
    activation *dqkv;
    double *dqkv_bias; /* takes up those of padded tokens */
};

/* What all threads read. */
struct backward_inputs {
    const activation *qkv, *padded_row;
    const float *bias_table;
    const struct attention_shape *shape;
    struct upstream upstream;
};

/* A share of what the next window reads, and of where this one writes. */
static ALWAYS_INLINE void fetch_share(const struct gradients *gradients, const struct upstream *upstream,
                                      const struct backward_work *work, int step, int steps,
                                      const struct attention_sizes *z)
{
    const struct window *next = &work->next->window, *window = &work->window->window;
    const size_t first = (size_t)work->next_head * z->head_dim, channels = z->channels;
    const struct share next_queries = share_of_step(next->queries, step, steps);
    const struct share queries = share_of_step(window->queries, step, steps);
    fetch_tokens(work->next, share_of_step(z->tokens, step, steps), (int)first, z);
    for (int k = next_queries.begin; k < next_queries.end; k++) {
        const size_t row = next->row[next->query[k]];
        fetch(upstream->dout + row * channels + first);
        fetch(upstream->out + row * channels + first);
    }
    for (int k = queries.begin; k < queries.end; k++) {
        activation *to =
            gradients->dqkv + 3 * window->row[window->query[k]] * channels + work->head * (size_t)z->head_dim;
        fetch(to);
        fetch(to + channels);
        fetch(to + 2 * channels);
    }
}

/* Where products are at: a block of queries, one of keys, and the half of the memory that is theirs. */
struct place {
    int query_block, key_block, turn;
};

enum { product_bytes = block_side * sizeof(float) };

/* Products of 16 rows and 32 keys, into tiles 6 and 7. */
static ALWAYS_INLINE void multiply_rows(const activation *rows, const activation *keys,
                                        const struct place *at, int half, int chunks)
{
    const activation *a =
        rows + (size_t)(at->query_block * block_tiles + half) * tile_rows * chunks * tile_depth;
    const activation *b = keys + (size_t)at->key_block * block_tiles * chunks * tile_factors;
    _tile_zero(6);
    _tile_zero(7);
    for (int chunk = 0; chunk < chunks; chunk++, a += tile_depth, b += tile_factors) {
        _tile_loadd(4, a, chunks * tile_row_bytes);
        _tile_loadd(5, b, tile_row_bytes);
        _tile_dpbf16ps(6, 4, 5);
        _tile_loadd(5, b + (size_t)chunks * tile_factors, tile_row_bytes);
        _tile_dpbf16ps(7, 4, 5);
    }
}

static ALWAYS_INLINE void store_products(float *products, const struct place *at, int half)
{
    float *to = products + (size_t)at->turn * block_pairs + (size_t)half * tile_rows * block_side;
    _tile_stored(6, to, product_bytes);
    _tile_stored(7, to + lanes, product_bytes);
}

/* Adds the product of pairs of queries, channels by queries, and of factors of a block to the sums in two
 * tiles. */
#define ADD_KEY_SUMS(low_tile, high_tile, pairs, factors)                                                    \
    do {                                                                                                     \
        _tile_loadd(4, pairs, tile_row_bytes);                                                               \
        _tile_loadd(5, factors, tile_row_bytes);                                                             \
        _tile_dpbf16ps(low_tile, 4, 5);                                                                      \
        _tile_loadd(5, (factors) + tile_factors, tile_row_bytes);                                            \
        _tile_dpbf16ps(high_tile, 4, 5);                                                                     \
    } while (0)

static ALWAYS_INLINE const activation *factors_at(const activation *factors, const struct place *at)
{
    return factors + (size_t)at->turn * block_pairs;
}

/* Adds dscores keys to the sums of 16 queries in a tile, which it loads. */
#define ADD_QUERY_SUMS(tile, sums, dscores, keys, key_pitch)                                                 \
    do {                                                                                                     \
        _tile_loadd(tile, sums, tile_row_bytes);                                                             \
        _tile_loadd(4, dscores, tile_row_bytes);                                                             \
        _tile_loadd(5, keys, tile_row_bytes);                                                                \
        _tile_dpbf16ps(tile, 4, 5);                                                                          \
        _tile_loadd(4, (dscores) + tile_factors, tile_row_bytes);                                            \
        _tile_loadd(5, (keys) + (key_pitch), tile_row_bytes);                                                \
        _tile_dpbf16ps(tile, 4, 5);                                                                          \
    } while (0)

/* Of queries `from` .. to - 1 and as many 16 later of a block, with all its keys: the probabilities again,
 * from the logarithm of their sum that forward left, P = 2^(S - log2 sum), and dS = P (dP - dout . out),
 * which the gradient of the bias takes up. */
static ALWAYS_INLINE void softmax_backward(const struct backward_work *work, const struct place *at, int from,
                                           int to, const struct attention_sizes *z)
{
    const size_t block = (size_t)at->key_block * (z->tokens + 1) * block_side;
    const int *bias_row = work->window->bias_row + (size_t)at->query_block * block_side;
    const float *scores = work->scores + (size_t)at->turn * block_pairs;
    const float *dprobabilities = work->dprobabilities + (size_t)at->turn * block_pairs;
    activation *probabilities = work->probabilities + (size_t)at->turn * block_pairs;
    activation *dscores = work->dscores + (size_t)at->turn * block_pairs;
    const struct exp2_table table = work->table;
    const vec scale = broadcast(work->layout.score_factor);
#pragma GCC unroll 2
    for (int i = from; i < to; i++) {
        vec p[4], ds[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) { /* query i or i + 16, keys of the first or the second vector */
            const size_t row = i + (size_t)(k / 2) * tile_rows, place = row * block_side + k % 2 * lanes;
            const size_t bias = block + bias_row[row] + k % 2 * lanes;
            p[k] = tile_exp2(load(scores + place) * scale + load(work->bias + bias), &table);
            ds[k] = p[k] * load(dprobabilities + place);
            store(work->dbias + bias, load(work->dbias + bias) + ds[k]);
        }
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            const size_t place = (size_t)k * tile_factors + (size_t)i * tile_depth;
            store_factors(probabilities + place, rounded_halves(p[k], p[2 + k]));
            store_factors(dscores + place, rounded_halves(ds[k], ds[2 + k]));
        }
    }
}

/* Tile of pairs of queries. */
static ALWAYS_INLINE const activation *pairs_at(const struct backward_work *work, const activation *pairs,
                                                const struct place *at, int part)
{
    return pairs + (size_t)(at->query_block * work->layout.channel_tiles + part) * tile_factors;
}

/* One of 16 queries' sums. */
static ALWAYS_INLINE float *sums_at(const struct backward_work *work, float *sums, int block, int half,
                                    int part)
{
    return sums + (size_t)((block * block_tiles + half) * work->layout.channel_tiles + part) * tile_pairs;
}

static ALWAYS_INLINE const activation *single_at(const struct backward_work *work, const activation *keys,
                                                 int block, int part)
{
    return keys + (size_t)(block * block_tiles * work->layout.channel_tiles + part) * tile_factors;
}

/* Softmax of the block `at`, while tiles multiply for the block `next` and take up the gradients of the block
 * `before`, where there are such. Heads of one tile of channels. */
static ALWAYS_INLINE void pass_block(struct backward_work *work, const struct place *before,
                                     const struct place *at, const struct place *next, int chunks,
                                     const struct attention_sizes *z)
{
    enum { step = tile_rows / 8 };
    if (next != NULL) {
        multiply_rows(work->queries, work->keys, next, 0, chunks);
    }
    softmax_backward(work, at, 0, step, z);
    if (next != NULL) {
        store_products(work->scores, next, 0);
        multiply_rows(work->queries, work->keys, next, 1, chunks);
    }
    softmax_backward(work, at, step, 2 * step, z);
    if (next != NULL) {
        store_products(work->scores, next, 1);
        multiply_rows(work->douts, work->values, next, 0, chunks);
    }
    softmax_backward(work, at, 2 * step, 3 * step, z);
    if (next != NULL) {
        store_products(work->dprobabilities, next, 0);
        multiply_rows(work->douts, work->values, next, 1, chunks);
    }
    softmax_backward(work, at, 3 * step, 4 * step, z);
    if (next != NULL) {
        store_products(work->dprobabilities, next, 1);
    }
    if (before != NULL) {
        before_tile_loads();
        ADD_KEY_SUMS(2, 3, pairs_at(work, work->dout_pairs, before, 0),
                     factors_at(work->probabilities, before));
    }
    softmax_backward(work, at, 4 * step, 5 * step, z);
    if (before != NULL) {
        ADD_KEY_SUMS(0, 1, pairs_at(work, work->query_pairs, before, 0), factors_at(work->dscores, before));
    }
    softmax_backward(work, at, 5 * step, 6 * step, z);
    if (before != NULL) {
        ADD_QUERY_SUMS(6, sums_at(work, work->dqueries, before->query_block, 0, 0),
                       factors_at(work->dscores, before),
                       single_at(work, work->single.low, before->key_block, 0), tile_factors);
    }
    softmax_backward(work, at, 6 * step, 7 * step, z);
    if (before != NULL) {
        _tile_stored(6, sums_at(work, work->dqueries, before->query_block, 0, 0), tile_row_bytes);
        ADD_QUERY_SUMS(7, sums_at(work, work->dqueries, before->query_block, 1, 0),
                       factors_at(work->dscores, before),
                       single_at(work, work->single.high, before->key_block, 0), tile_factors);
    }
    softmax_backward(work, at, 7 * step, 8 * step, z);
    if (before != NULL) {
        _tile_stored(7, sums_at(work, work->dqueries, before->query_block, 1, 0), tile_row_bytes);
    }
}

static ALWAYS_INLINE void multiply_block(const struct backward_work *work, const struct place *at, int chunks)
{
    before_tile_loads();
    for (int half = 0; half < block_tiles; half++) {
        multiply_rows(work->queries, work->keys, at, half, chunks);
        store_products(work->scores, at, half);
        multiply_rows(work->douts, work->values, at, half, chunks);
        store_products(work->dprobabilities, at, half);
    }
}

/* Gradients of a block whose dscores are there; those of keys and values into tiles 0 .. 3. */
static ALWAYS_INLINE void add_query_sums(const struct backward_work *work, const struct place *at, int part)
{
    const activation *dscores = factors_at(work->dscores, at);
    const size_t key_pitch = (size_t)work->layout.channel_tiles * tile_factors;
    float *first = sums_at(work, work->dqueries, at->query_block, 0, part);
    float *second = sums_at(work, work->dqueries, at->query_block, 1, part);
    before_tile_loads();
    ADD_QUERY_SUMS(6, first, dscores, single_at(work, work->single.low, at->key_block, part), key_pitch);
    ADD_QUERY_SUMS(7, second, dscores, single_at(work, work->single.high, at->key_block, part), key_pitch);
    _tile_stored(6, first, tile_row_bytes);
    _tile_stored(7, second, tile_row_bytes);
}

/* Heads of one tile of channels: blocks overlap. */
static ALWAYS_INLINE void backward_of_narrow_head(const struct gradients *gradients,
                                                  const struct upstream *upstream, struct backward_work *work,
                                                  int chunks, const struct attention_sizes *z)
{
    const int blocks = work->layout.blocks,
              query_blocks = (work->window->window.queries + block_side - 1) / block_side;
    struct place at = {0, 0, 0};
    multiply_block(work, &at, chunks);
    for (int key_block = 0; key_block < blocks; key_block++) {
        struct place before = at;
        zero_sums();
        for (int query_block = 0; query_block < query_blocks; query_block++) {
            const int is_last = query_block + 1 == query_blocks;
            const struct place next = {is_last ? 0 : query_block + 1, is_last ? key_block + 1 : key_block,
                                       1 - at.turn};
            fetch_share(gradients, upstream, work, key_block * query_blocks + query_block,
                        blocks * query_blocks, z);
            pass_block(work, query_block > 0 ? &before : NULL, &at, next.key_block < blocks ? &next : NULL,
                       chunks, z);
            before = at;
            at = next;
        }
        before_tile_loads();
        ADD_KEY_SUMS(2, 3, pairs_at(work, work->dout_pairs, &before, 0),
                     factors_at(work->probabilities, &before));
        ADD_KEY_SUMS(0, 1, pairs_at(work, work->query_pairs, &before, 0), factors_at(work->dscores, &before));
        _tile_stored(2, sums_at(work, work->dvalues, key_block, 0, 0), tile_row_bytes);
        _tile_stored(3, sums_at(work, work->dvalues, key_block, 1, 0), tile_row_bytes);
        add_query_sums(work, &before, 0);
        _tile_stored(0, sums_at(work, work->dkeys, key_block, 0, 0), tile_row_bytes);
        _tile_stored(1, sums_at(work, work->dkeys, key_block, 1, 0), tile_row_bytes);
    }
}

/* The gradients of a block's keys, or values, in memory. */
static void add_key_sums(const struct backward_work *work, float *sums, const activation *pairs,
                         const activation *factors, const struct place *at, int part)
{
    float *first = sums_at(work, sums, at->key_block, 0, part),
          *second = sums_at(work, sums, at->key_block, 1, part);
    _tile_loadd(0, first, tile_row_bytes);
    _tile_loadd(1, second, tile_row_bytes);
    ADD_KEY_SUMS(0, 1, pairs_at(work, pairs, at, part), factors_at(factors, at));
    _tile_stored(0, first, tile_row_bytes);
    _tile_stored(1, second, tile_row_bytes);
}

/* Any head: all gradients are summed in memory. */
static void backward_of_wide_head(struct backward_work *work, const struct attention_sizes *z)
{
    const int blocks = work->layout.blocks, chunks = work->layout.chunks;
    const size_t sums = (size_t)blocks * block_side * work->layout.channel_tiles * tile_columns;
    memset(work->dkeys, 0, sums * sizeof *work->dkeys);
    memset(work->dvalues, 0, sums * sizeof *work->dvalues);
    for (int key_block = 0; key_block < blocks; key_block++) {
        for (int query_block = 0; query_block * block_side < work->window->window.queries; query_block++) {
            const struct place at = {query_block, key_block, 0};
            multiply_block(work, &at, chunks);
            softmax_backward(work, &at, 0, tile_rows, z);
            before_tile_loads();
            for (int part = 0; part < work->layout.channel_tiles; part++) {
                add_key_sums(work, work->dvalues, work->dout_pairs, work->probabilities, &at, part);
                add_key_sums(work, work->dkeys, work->query_pairs, work->dscores, &at, part);
                add_query_sums(work, &at, part);
            }
        }
    }
}

/* The numbers of queries: minus the logarithm of their sums, as part of a product, and minus dout . out. */
static void gather_statistics(struct backward_work *work, const struct upstream *upstream, int head,
                              const struct attention_sizes *z)
{
    const struct window *window = &work->window->window;
    const float scale = -log2_of_e / work->layout.score_factor;
    for (int first = 0; first < work->layout.blocks * block_side; first += lanes) {
        vec products[lanes];
        for (int k = 0; k < lanes; k++) {
            products[k] = (vec){0};
            if (first + k >= window->queries) {
                work->logsumexp[first + k] = absent_key;
                continue;
            }
            const size_t row = window->row[window->query[first + k]];
            const size_t place = row * z->channels + head * (size_t)z->head_dim;
            for (int d = 0; d < z->head_dim; d += tile_depth) {
                const int left = z->head_dim - d;
                const __mmask32 present = left < tile_depth ? (1U << left) - 1 : ~0U;
                products[k] = (vec)_mm512_dpbf16_ps(
                    (__m512)products[k],
                    (__m512bh)_mm512_maskz_loadu_epi16(present, upstream->dout + place + d),
                    (__m512bh)_mm512_maskz_loadu_epi16(present, upstream->out + place + d));
            }
            work->logsumexp[first + k] = upstream->logsumexp[row * z->heads + head] * scale;
        }
        sums_of_16(work->dout_out + first, products);
        store(work->dout_out + first, -load(work->dout_out + first));
    }
}

/* Tiles of pairs of the queries k and k + 16 of each block, by channels. */
static void pair_queries(activation *pairs, const activation *rows, const struct attention_layout *layout)
{
    for (int block = 0; block < layout->blocks; block++) {
        const activation *from = rows + (size_t)block * block_side * layout->row;
        for (int part = 0; part < layout->channel_tiles;
             part++, pairs += tile_factors, from += tile_columns) {
            __m512i in[tile_rows], out[tile_rows];
#pragma GCC unroll 16
            for (int k = 0; k < tile_rows; k++) {
                const activation *first = from + (size_t)k * layout->row;
                in[k] = in_turns(*(const unaligned_half_vec *)first,
                                 *(const unaligned_half_vec *)(first + (size_t)tile_rows * layout->row));
            }
            transpose_pairs(out, in);
#pragma GCC unroll 16
            for (int k = 0; k < tile_rows; k++) {
                _mm512_storeu_si512(pairs + (size_t)k * tile_depth, out[k]);
            }
        }
    }
}

static void gather(struct backward_work *work, const activation *qkv, const struct upstream *upstream,
                   int head, const struct attention_sizes *z)
{
    const struct attention_layout *layout = &work->layout;
    const int first = head * z->head_dim, count = layout->blocks * block_side;
    struct magnitudes unused;
    KERNEL(gather_query_tiles)
    (work->queries, &unused, qkv, 3 * (size_t)z->channels, first, work->window, layout, z);
    KERNEL(gather_query_tiles)
    (work->douts, &unused, upstream->dout, z->channels, first, work->window, layout, z);
    KERNEL(gather_key_tiles)
    (work->keys, &unused, &work->single, z->channels + first, 1, work->window, layout, z);
    KERNEL(gather_key_tiles)
    (work->values, &unused, NULL, 2 * z->channels + first, 0, work->window, layout, z);
    pair_queries(work->query_pairs, work->queries, layout);
    pair_queries(work->dout_pairs, work->douts, layout);
    gather_statistics(work, upstream, head, z);
    KERNEL(set_query_numbers)(work->queries, work->logsumexp, count, layout, z);
    KERNEL(set_query_numbers)(work->douts, work->dout_out, count, layout, z);
}

static void write_query_gradients(const struct gradients *gradients, const struct backward_work *work,
                                  float scale, int first, const struct attention_sizes *z)
{
    const struct window *window = &work->window->window;
    for (int k = 0; k < window->queries; k++) {
        activation *to = gradients->dqkv + window->row[window->query[k]] * 3 * z->channels + first;
        for (int d = 0; d < z->head_dim; d += tile_columns) {
            const int left = z->head_dim - d, count = left < tile_columns ? left : tile_columns;
            const float *from =
                sums_at(work, work->dqueries, k / block_side, k / tile_rows % block_tiles, d / lanes);
            store_activations_part(to + d, load(from + (size_t)(k % tile_rows) * tile_columns) * scale,
                                   count);
        }
    }
}

/* Gradients of keys or values, from column `first` on. */
static void write_key_gradients(const struct gradients *gradients, const struct backward_work *work,
                                float *sums, float scale, int first, const struct attention_sizes *z)
{
    const struct window *window = &work->window->window;
    for (int tile = 0; tile * tile_rows < z->tokens; tile++) {
        for (int d = 0; d < z->head_dim; d += tile_columns) {
            const int left = z->head_dim - d, count = left < tile_columns ? left : tile_columns;
            const float *from = sums_at(work, sums, tile / block_tiles, tile % block_tiles, d / lanes);
            __m512i in[tile_rows], out[tile_rows];
#pragma GCC unroll 16
            for (int k = 0; k < tile_rows; k++) {
                in[k] = _mm512_loadu_si512(from + (size_t)k * tile_columns);
            }
            transpose_pairs(out, in);
            for (int k = 0; k < tile_rows && tile * tile_rows + k < z->tokens; k++) {
                const int t = tile * tile_rows + k;
                const vec gradient = (vec)out[k] * scale;
                if (!window->padding[t]) {
                    store_activations_part(gradients->dqkv + window->row[t] * 3 * z->channels + first + d,
                                           gradient, count);
                    continue;
                }
                for (int j = 0; j < count; j++) {
                    gradients->dqkv_bias[first + d + j] += gradient[j];
                }
            }
        }
    }
}

static void backward_of_window(const struct gradients *gradients, struct backward_work *work,
                               const activation *qkv, const struct upstream *upstream, int head,
                               const struct attention_sizes *z)
{
    if (work->window->window.queries == 0) {
        return;
    }
    const size_t sums = (size_t)work->layout.blocks * block_side * work->layout.channel_tiles * tile_columns;
    const int first = head * z->head_dim;
    const float scale = 1 / sqrtf((float)z->head_dim);
    gather(work, qkv, upstream, head, z);
    memset(work->dqueries, 0, sums * sizeof *work->dqueries);
    if (work->layout.channel_tiles == 1 && work->layout.chunks == 1) {
        backward_of_narrow_head(gradients, upstream, work, 1, z);
    } else {
        backward_of_wide_head(work, z);
    }
    write_query_gradients(gradients, work, scale, first, z);
    write_key_gradients(gradients, work, work->dkeys, scale, z->channels + first, z);
    write_key_gradients(gradients, work, work->dvalues, 1, 2 * z->channels + first, z);
}

/* Adds the gradient of the head's bias to those of the table. */
static void end_head(struct attention_sums *sums, struct backward_work *work, const struct attention_sizes *z)
{
    const float *from = work->dbias;
    for (int key = 0; key < z->keys; key += block_side, from += block_side) {
        for (int query = 0; query < z->tokens; query++, from += block_side) {
            memcpy(sums->dbias + (size_t)query * z->keys + key, from, block_side * sizeof *from);
        }
    }
    memset(work->dbias, 0, tile_bias_length(z) * sizeof *work->dbias);
    KERNEL(end_attention_head)(sums, z);
}

/* Of the last task, the next one is itself. */
static void cut_next(struct backward_work *work, size_t task, const struct backward_inputs *in,
                     const struct attention_sizes *z)
{
    const struct attention_task at = KERNEL(attention_task)(task, z);
    struct tile_window *next = &work->windows[work->window == work->windows];
    KERNEL(cut_tile_window)(next, at.window, in->qkv, in->padded_row, in->shape, z);
    work->next = next;
    work->next_head = at.head;
}

static void backward_of_share(activation *dqkv, struct attention_sums *sums, struct backward_work *work,
                              size_t begin, size_t end, const struct backward_inputs *in,
                              const struct attention_sizes *z)
{
    const unsigned before = begin_flushing();
    const size_t row_bytes = (size_t)work->layout.blocks * block_side * work->layout.row * sizeof(activation);
    const struct gradients gradients = {dqkv, sums->dqkv_bias};
    configure_tiles(tile_depth);
    work->table = exp2_table(0);
    memset(work->queries, 0, row_bytes);
    memset(work->douts, 0, row_bytes);
    memset(work->dbias, 0, tile_bias_length(z) * sizeof *work->dbias);
    if (begin < end) {
        cut_next(work, begin, in, z);
    }
    for (size_t task = begin; task < end; task++) {
        work->head = work->next_head;
        if (work->head != sums->head) {
            end_head(sums, work, z);
            KERNEL(tile_bias)(work->bias, work->bias_rows, in->bias_table, work->head, z);
            memset(work->bias_rows, 0, (size_t)z->tokens * z->keys * sizeof *work->bias_rows);
            sums->head = work->head;
        }
        work->window = work->next;
        if (task + 1 < end) {
            cut_next(work, task + 1, in, z);
        }
        backward_of_window(&gradients, work, in->qkv, &in->upstream, work->head, z);
    }
    end_head(sums, work, z);
    _tile_release();
    end_flushing(before);
}

void KERNEL(tile_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *s)
{
    if (s->head_dim % 4 != 0 || s->head_dim > most_tile_head) {
        KERNEL(pair_attention_backward)
        (c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    struct attention_sizes z;
    if (!KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    struct backward_work measured = {.layout = KERNEL(attention_layout)(&z)};
    const size_t work_bytes = lay_out_work(&measured, NULL, &z), sums_bytes = attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    const size_t tasks = z.windows * s->heads, bytes = work_bytes + sums_bytes;
    activation *padded_row;
    unsigned char *memory = KERNEL(attention_memory)(c, &padded_row, qkv_bias, bytes, threads, &z);
    if (memory == NULL) {
        return;
    }
    struct attention_sums sums[most_attention_threads];
    const struct backward_inputs in = {qkv, padded_row, bias_table, s, {dout, out, logsumexp}};
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work = {.layout = measured.layout};
        lay_out_work(&work, memory + part * bytes, &z);
        KERNEL(begin_attention_sums)(&sums[part], memory + part * bytes + work_bytes, work.bias_rows, &z);
        backward_of_share(dqkv, &sums[part], &work, share_begin(tasks, part, threads),
                          share_begin(tasks, part + 1, threads), &in, &z);
    }
    KERNEL(reduce_attention_sums)(dqkv_bias, dbias_table, sums, threads, &z);
}
