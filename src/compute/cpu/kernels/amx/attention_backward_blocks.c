#include "compute/cpu/kernels/amx/attention_backward.h"

/* Tiles: 0 and 1 gradients of two tiles of keys, 2 and 3 of values, channels by keys, which stay while a
 * block of keys meets all queries; 4 .. 7 what is at work. */

/* A share of what the next window reads, and of where this one writes. */
static ALWAYS_INLINE void fetch_share(const struct gradients *gradients, const struct upstream *upstream,
                                      const struct backward_work *work, int step, int steps,
                                      const struct attention_sizes *z)
{
    const struct attention_walk *walk = &work->walk;
    const struct cut_window *next = walk->ahead, *cut = walk->cut;
    const size_t first = (size_t)walk->next.head * z->head_dim, channels = z->channels;
    const struct share next_queries =
        share_of_step(next->pattern->pieces > 0 ? next->pattern->piece[0].queries : 0, step, steps);
    const struct share queries = share_of_step(cut->pattern->piece[0].queries, step, steps);
    fetch_tokens(next, share_of_step(next->pattern->key_slots, step, steps), (int)first, z);
    for (int k = next_queries.begin; k < next_queries.end; k++) {
        const size_t row = next->row[next->pattern->key[k]];
        fetch(upstream->dout + row * channels + first);
        fetch(upstream->out + row * channels + first);
    }
    for (int k = queries.begin; k < queries.end; k++) {
        activation *to = gradients->dqkv + 3 * cut->row[cut->pattern->key[k]] * channels +
                         walk->task.head * (size_t)z->head_dim;
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
                                           int to)
{
    const struct attention_walk *walk = &work->walk;
    const size_t block = (size_t)at->key_block * walk->cut->pattern->piece[0].bias_block +
                         (size_t)at->query_block * block_pairs;
    const float *biases = walk->bias->bias + block;
    float *dbiases = walk->bias->dbias + block;
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
            p[k] = tile_exp2(load(scores + place) * scale + load(biases + place), &table);
            ds[k] = p[k] * load(dprobabilities + place);
            store(dbiases + place, load(dbiases + place) + ds[k]);
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

static ALWAYS_INLINE const activation *single_at(const struct backward_work *work, const activation *keys,
                                                 int block, int part)
{
    return keys + (size_t)(block * block_tiles * work->layout.channel_tiles + part) * tile_factors;
}

/* Softmax of the block `at`, while tiles multiply for the block `next` and take up the gradients of the block
 * `before`, where there are such. Heads of one tile of channels. */
static ALWAYS_INLINE void pass_block(struct backward_work *work, const struct place *before,
                                     const struct place *at, const struct place *next, int chunks)
{
    enum { step = tile_rows / 8 };
    if (next != NULL) {
        multiply_rows(work->queries, work->keys, next, 0, chunks);
    }
    softmax_backward(work, at, 0, step);
    if (next != NULL) {
        store_products(work->scores, next, 0);
        multiply_rows(work->queries, work->keys, next, 1, chunks);
    }
    softmax_backward(work, at, step, 2 * step);
    if (next != NULL) {
        store_products(work->scores, next, 1);
        multiply_rows(work->douts, work->values, next, 0, chunks);
    }
    softmax_backward(work, at, 2 * step, 3 * step);
    if (next != NULL) {
        store_products(work->dprobabilities, next, 0);
        multiply_rows(work->douts, work->values, next, 1, chunks);
    }
    softmax_backward(work, at, 3 * step, 4 * step);
    if (next != NULL) {
        store_products(work->dprobabilities, next, 1);
    }
    if (before != NULL) {
        before_tile_loads();
        ADD_KEY_SUMS(2, 3, pairs_at(work, work->dout_pairs, before, 0),
                     factors_at(work->probabilities, before));
    }
    softmax_backward(work, at, 4 * step, 5 * step);
    if (before != NULL) {
        ADD_KEY_SUMS(0, 1, pairs_at(work, work->query_pairs, before, 0), factors_at(work->dscores, before));
    }
    softmax_backward(work, at, 5 * step, 6 * step);
    if (before != NULL) {
        ADD_QUERY_SUMS(6, sums_at(work, work->dqueries, before->query_block, 0, 0),
                       factors_at(work->dscores, before),
                       single_at(work, work->single.low, before->key_block, 0), tile_factors);
    }
    softmax_backward(work, at, 6 * step, 7 * step);
    if (before != NULL) {
        _tile_stored(6, sums_at(work, work->dqueries, before->query_block, 0, 0), tile_row_bytes);
        ADD_QUERY_SUMS(7, sums_at(work, work->dqueries, before->query_block, 1, 0),
                       factors_at(work->dscores, before),
                       single_at(work, work->single.high, before->key_block, 0), tile_factors);
    }
    softmax_backward(work, at, 7 * step, 8 * step);
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
void KERNEL(gradients_of_narrow_head)(const struct gradients *gradients, const struct upstream *upstream,
                                      struct backward_work *work, const struct attention_sizes *z)
{
    enum { chunks = 1 };
    const struct window_pattern *pattern = work->walk.cut->pattern;
    const int blocks = pattern->key_slots / block_side, query_blocks = pattern->query_slots / block_side;
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
                       chunks);
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
void KERNEL(gradients_of_wide_head)(struct backward_work *work)
{
    const struct window_pattern *pattern = work->walk.cut->pattern;
    const int blocks = pattern->key_slots / block_side, chunks = work->layout.chunks;
    const size_t sums = (size_t)blocks * block_side * work->layout.channel_tiles * tile_columns;
    memset(work->dkeys, 0, sums * sizeof *work->dkeys);
    memset(work->dvalues, 0, sums * sizeof *work->dvalues);
    for (int key_block = 0; key_block < blocks; key_block++) {
        for (int query_block = 0; query_block * block_side < pattern->query_slots; query_block++) {
            const struct place at = {query_block, key_block, 0};
            multiply_block(work, &at, chunks);
            softmax_backward(work, &at, 0, tile_rows);
            before_tile_loads();
            for (int part = 0; part < work->layout.channel_tiles; part++) {
                add_key_sums(work, work->dvalues, work->dout_pairs, work->probabilities, &at, part);
                add_key_sums(work, work->dkeys, work->query_pairs, work->dscores, &at, part);
                add_query_sums(work, &at, part);
            }
        }
    }
}
