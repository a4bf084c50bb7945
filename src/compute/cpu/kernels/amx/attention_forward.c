#include "compute/cpu/kernels/amx/attention_tiles.h"

#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

/* Tiles: 0 a block of queries, 1 keys, 2 and 3 scores of two tiles of keys, 4 probabilities, 5 values, 6 and
 * 7 two tiles of columns of what is attended. */

/* The memory of one thread. */
struct forward_work {
    struct attention_walk walk;
    activation *queries, *keys; /* see attention_tiles.h */
    activation *values;         /* (value_tiles, blocks, 16, 16, 2): see gather_values */
    activation *probabilities;  /* (blocks, 16, block_side) */
    float *scores;              /* (2, 16, block_side) */
    float *attended;            /* (value_tiles, 16, 16) */
    float *largest, *sum;       /* (blocks * block_side): of a query's scores, and of their exponentials */
    struct attention_layout layout;
    struct exp2_table table;
};

/* Columns of channels and, behind them, one of ones: with it probabilities are summed. */
static int value_tiles_of(int head_dim)
{
    return head_dim / tile_columns + 1;
}

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t blocks = work->layout.blocks, rows = blocks * block_side;
    const size_t value_tiles = value_tiles_of(z->head_dim);
    const struct array_place places[] = {
        {&work->queries, rows * work->layout.row * sizeof(activation)},
        {&work->keys, rows * work->layout.row * sizeof(activation)},
        {&work->values, value_tiles * blocks * tile_factors * sizeof(activation)},
        {&work->probabilities, blocks * tile_factors * sizeof(activation)},
        {&work->scores, (size_t)2 * tile_rows * block_side * sizeof(float)},
        {&work->attended, value_tiles * tile_pairs * sizeof(float)},
        {&work->largest, rows * sizeof(float)},
        {&work->sum, rows * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* Tiles of pairs of the keys k and k + 16 of a block, as upper_halves leaves probabilities. */
static void gather_values(struct forward_work *work, int first, const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int blocks = work->layout.blocks, keys = cut->pattern->key_slots;
    for (int part = 0; part < value_tiles_of(z->head_dim); part++) {
        const int left = z->head_dim - part * tile_columns, count = left < tile_columns ? left : tile_columns;
        const __mmask16 present = (__mmask16)((1U << count) - 1);
        const __m512i ones =
            _mm512_maskz_set1_epi32((__mmask16)(count < tile_columns ? 1U << count : 0), 0x3F803F80);
        const size_t from = first + (size_t)part * tile_columns;
        activation *to = work->values + (size_t)part * blocks * tile_factors;
        for (int t = 0; t < keys; t += t % tile_rows == tile_rows - 1 ? tile_rows + 1 : 1) {
            const __m256i a = _mm256_maskz_loadu_epi16(present, cut->qkv[t] + from);
            const __m256i b = _mm256_maskz_loadu_epi16(present, cut->qkv[t + tile_rows] + from);
            _mm512_storeu_si512(to, _mm512_or_si512(ones, in_turns((half_vec)a, (half_vec)b)));
            to += tile_depth;
        }
    }
}

/* The scores of 16 queries and 32 keys, into tiles 2 and 3. Tile 0 is kept from one block of keys to the next
 * where it can be. */
static ALWAYS_INLINE void multiply_queries(const struct forward_work *work, int first, int block, int chunks)
{
    const activation *queries = work->queries + (size_t)first * chunks * tile_depth;
    const activation *keys = work->keys + (size_t)block * 2 * chunks * tile_factors;
    _tile_zero(2);
    _tile_zero(3);
    for (int chunk = 0; chunk < chunks; chunk++) {
        if (chunks > 1 || block == 0) {
            _tile_loadd(0, queries + (size_t)chunk * tile_depth, chunks * tile_row_bytes);
        }
        _tile_loadd(1, keys + (size_t)chunk * tile_factors, tile_row_bytes);
        _tile_dpbf16ps(2, 0, 1);
        _tile_loadd(1, keys + (size_t)(chunks + chunk) * tile_factors, tile_row_bytes);
        _tile_dpbf16ps(3, 0, 1);
    }
}

enum { score_bytes = block_side * sizeof(float) };

/* Of queries from `first` on. */
static ALWAYS_INLINE const float *bias_of_block(const struct forward_work *work, int first, int block)
{
    const struct attention_walk *walk = &work->walk;
    return walk->bias->bias + (size_t)block * walk->cut->pattern->piece[0].bias_block +
           (size_t)first * block_side;
}

/* Rows from .. to - 1 of a block of scores become probabilities, but for the division by their sum. They are
 * rounded by what is added before the lower halves are cut off. */
static ALWAYS_INLINE void take_exponentials(const struct forward_work *work, const float *scores, int first,
                                            int block, int from, int to)
{
    const struct exp2_table table = work->table;
    const float *bias = bias_of_block(work, first, block);
    const vec scale = broadcast(work->layout.score_factor);
    activation *probabilities = work->probabilities + (size_t)block * tile_factors;
#pragma GCC unroll 4
    for (int i = from; i < to; i++) {
        const float *row = bias + (size_t)i * block_side;
        const vec low = load(scores + (size_t)i * block_side) * scale + load(row);
        const vec high = load(scores + (size_t)i * block_side + lanes) * scale + load(row + lanes);
        store_factors(probabilities + (size_t)i * block_side,
                      upper_halves((__m512i)tile_exp2(low, &table), (__m512i)tile_exp2(high, &table)));
    }
}

/* Adds what a block of keys gives to tiles 6 and 7, for tiles `part` and part + 1 of values. */
static ALWAYS_INLINE void attend_block(const struct forward_work *work, int block, int part, int parts)
{
    const activation *values = work->values + ((size_t)part * work->layout.blocks + block) * tile_factors;
    before_tile_loads();
    _tile_loadd(4, work->probabilities + (size_t)block * tile_factors, tile_row_bytes);
    _tile_loadd(5, values, tile_row_bytes);
    _tile_dpbf16ps(6, 4, 5);
    if (parts > 1) {
        _tile_loadd(5, values + (size_t)work->layout.blocks * tile_factors, tile_row_bytes);
        _tile_dpbf16ps(7, 4, 5);
    }
}

static ALWAYS_INLINE void store_attended(const struct forward_work *work, int part, int parts)
{
    _tile_stored(6, work->attended + (size_t)part * tile_pairs, tile_row_bytes);
    if (parts > 1) {
        _tile_stored(7, work->attended + (size_t)(part + 1) * tile_pairs, tile_row_bytes);
    }
}

/* Where the results of a window and head go. */
struct results {
    activation *out;
    float *logsumexp;
};

/* attended / sum, of 16 queries. */
static ALWAYS_INLINE void write_rows(const struct results *results, struct forward_work *work, int first,
                                     const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const float *sums =
        work->attended + (size_t)z->head_dim / tile_columns * tile_pairs + z->head_dim % tile_columns;
    const int left = cut->pattern->piece[0].queries - first, rows = left < tile_rows ? left : tile_rows;
    for (int i = 0; i < rows; i++) {
        activation *to = results->out + cut->row[cut->pattern->key[first + i]] * z->channels +
                         work->walk.task.head * (size_t)z->head_dim;
        const float sum = sums[(size_t)i * tile_columns];
        const vec scale = broadcast(1 / sum);
        work->sum[first + i] = sum;
        for (int d = 0; d < z->head_dim; d += tile_columns) {
            const float *from = work->attended + (size_t)d * tile_rows + (size_t)i * tile_columns;
            const int count = z->head_dim - d < tile_columns ? z->head_dim - d : tile_columns;
            store_activations_part(to + d, load(from) * scale, count);
        }
    }
}

/* A share of what the next window reads, and of where this one writes. */
static ALWAYS_INLINE void fetch_share(const struct results *results, const struct forward_work *work,
                                      int step, int steps, const struct attention_sizes *z)
{
    const struct attention_walk *walk = &work->walk;
    const struct window_pattern *pattern = walk->cut->pattern;
    const struct share queries = share_of_step(pattern->piece[0].queries, step, steps);
    const struct share next = share_of_step(walk->ahead->pattern->key_slots, step, steps);
    fetch_tokens(walk->ahead, next, walk->next.head * z->head_dim, z);
    for (int k = queries.begin; k < queries.end; k++) {
        fetch(results->out + walk->cut->row[pattern->key[k]] * z->channels +
              walk->task.head * (size_t)z->head_dim);
    }
}

/* While probabilities of a block are made, tiles multiply for the next one and for the one before. */
static ALWAYS_INLINE void attend(const struct results *results, struct forward_work *work, int chunks,
                                 int parts, const struct attention_sizes *z)
{
    const struct window_pattern *pattern = work->walk.cut->pattern;
    const int queries = pattern->piece[0].queries, blocks = pattern->key_slots / block_side;
    const int steps = (queries + tile_rows - 1) / tile_rows * blocks;
    float *scores = work->scores, *next_scores = scores + tile_rows * block_side;
    int step = 0;
    before_tile_loads();
    multiply_queries(work, 0, 0, chunks);
    _tile_stored(2, scores, score_bytes);
    _tile_stored(3, scores + lanes, score_bytes);
    for (int first = 0; first < queries; first += tile_rows) {
        _tile_zero(6);
        _tile_zero(7);
        for (int block = 0; block < blocks; block++) {
            const int is_last = block + 1 == blocks;
            const int more = !is_last || first + tile_rows < queries;
            if (more) {
                multiply_queries(work, is_last ? first + tile_rows : first, is_last ? 0 : block + 1, chunks);
            }
            if (block > 0) {
                attend_block(work, block - 1, 0, parts);
            }
            fetch_share(results, work, step++, steps, z);
            take_exponentials(work, scores, first, block, 0, tile_rows / 2);
            if (more) {
                _tile_stored(2, next_scores, score_bytes);
            }
            take_exponentials(work, scores, first, block, tile_rows / 2, tile_rows);
            if (more) {
                _tile_stored(3, next_scores + lanes, score_bytes);
            }
            float *const free_scores = scores;
            scores = next_scores;
            next_scores = free_scores;
        }
        attend_block(work, blocks - 1, 0, parts);
        store_attended(work, 0, parts);
        for (int part = 2; part < parts; part += 2) {
            _tile_zero(6);
            _tile_zero(7);
            for (int block = 0; block < blocks; block++) {
                attend_block(work, block, part, parts - part);
            }
            store_attended(work, part, parts - part);
        }
        write_rows(results, work, first, z);
    }
}

/* The largest score of each query, which is then subtracted from all of them. */
static void subtract_largest(struct forward_work *work, const struct attention_sizes *z)
{
    const struct window_pattern *pattern = work->walk.cut->pattern;
    const int queries = pattern->piece[0].queries, chunks = work->layout.chunks;
    const vec scale = broadcast(work->layout.score_factor);
    for (int first = 0; first < queries; first += tile_rows) {
        vec most[tile_rows];
        for (int i = 0; i < tile_rows; i++) {
            most[i] = broadcast(absent_key);
        }
        for (int block = 0; block < pattern->key_slots / block_side; block++) {
            const float *bias = bias_of_block(work, first, block);
            before_tile_loads();
            multiply_queries(work, first, block, chunks);
            _tile_stored(2, work->scores, score_bytes);
            _tile_stored(3, work->scores + lanes, score_bytes);
            for (int i = 0; i < tile_rows; i++) {
                const float *row = bias + (size_t)i * block_side;
                const float *scores = work->scores + (size_t)i * block_side;
                most[i] = larger(most[i], larger(load(scores) * scale + load(row),
                                                 load(scores + lanes) * scale + load(row + lanes)));
            }
        }
        for (int i = 0; i < tile_rows; i++) {
            work->largest[first + i] = largest_lane(most[i]);
        }
    }
    for (int k = 0; k < queries; k += lanes) { /* sum: for the moment, the numbers of the rows */
        store(work->sum + k, load(work->largest + k) * (-1 / work->layout.score_factor));
    }
    KERNEL(set_query_numbers)(work->queries, work->sum, queries, &work->layout, z);
}

/* Whether sums of exponentials of scores, and products with them, are far from the ends of what a float holds
 * even if no score is subtracted. NaN says no. */
static int scores_are_small(const struct forward_work *work, const struct magnitudes *queries,
                            const struct magnitudes *keys)
{
    const float most_exponent = 80, of_padding = 9; /* log2 of how much of it shares a key, at most */
    vec sums = {0};
    for (int d = 0; d < most_tile_head; d += tile_depth) {
        sums = (vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)load_factors(queries->channel + d),
                                     (__m512bh)load_factors(keys->channel + d));
    }
    return sum_of_lanes(sums) * work->layout.score_factor + work->walk.table.magnitude + of_padding <=
           most_exponent;
}

static void write_logsumexp(const struct results *results, struct forward_work *work,
                            const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int queries = cut->pattern->piece[0].queries;
    for (int k = 0; k < queries; k += lanes) {
        store(work->sum + k, (load(work->largest + k) + log2_of(load(work->sum + k))) * log_of_2);
    }
    for (int k = 0; k < queries; k++) {
        results->logsumexp[cut->row[cut->pattern->key[k]] * z->heads + work->walk.task.head] = work->sum[k];
    }
}

static void attend_window(const struct results *results, struct forward_work *work, const activation *qkv,
                          const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int first = work->walk.task.head * z->head_dim;
    struct magnitudes largest_query, largest_key;
    KERNEL(gather_query_tiles)
    (work->queries, &largest_query, qkv, 3 * (size_t)z->channels, first, cut, &work->layout, z);
    KERNEL(gather_key_tiles)
    (work->keys, &largest_key, NULL, z->channels + first, 1, cut, &work->layout, z);
    gather_values(work, 2 * z->channels + first, z);
    if (scores_are_small(work, &largest_query, &largest_key)) {
        memset(work->largest, 0, (size_t)work->layout.blocks * block_side * sizeof *work->largest);
    } else {
        subtract_largest(work, z);
    }
    if (z->head_dim == 16) {
        attend(results, work, 1, 2, z);
    } else {
        attend(results, work, work->layout.chunks, value_tiles_of(z->head_dim), z);
    }
    write_logsumexp(results, work, z);
}

static void attend_share(activation *out, float *logsumexp, struct forward_work *work,
                         const struct attention_sizes *z)
{
    const unsigned before = begin_flushing();
    const struct results results = {.out = out, .logsumexp = logsumexp};
    configure_tiles(tile_depth);
    work->table = exp2_table(0x1p-8F);
    const size_t rows = (size_t)work->layout.blocks * block_side;
    memset(work->queries, 0, rows * work->layout.row * sizeof *work->queries);
    while (KERNEL(next_window)(&work->walk)) {
        attend_window(&results, work, work->walk.in->qkv, z);
    }
    _tile_release();
    end_flushing(before);
}

void KERNEL(tile_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *s)
{
    if (s->head_dim < least_tile_head) {
        KERNEL(window_attention_forward)
        (c, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    if (s->head_dim % 4 != 0 || s->head_dim > most_tile_head) {
        KERNEL(pair_attention_forward)(c, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    struct attention_sizes z;
    if (!KERNEL(tile_attention_sizes)(c, &z, s)) {
        return;
    }
    struct forward_work measured = {.layout = KERNEL(attention_layout)(&z)};
    struct attention_inputs in = {.qkv = qkv, .bias_table = bias_table, .shape = s, .sizes = &z};
    const size_t own = lay_out_work(&measured, NULL, &z);
    const int threads = cpu_state(c)->threads;
    size_t bytes;
    unsigned char *memory = KERNEL(attention_walk_memory)(c, &in, qkv_bias, own, &bytes, threads);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct forward_work work = {.layout = measured.layout};
        lay_out_work(&work, memory + part * bytes, &z);
        KERNEL(begin_walk)(&work.walk, &in, NULL, memory + part * bytes + own, part, threads);
        attend_share(out, logsumexp, &work, &z);
    }
}
