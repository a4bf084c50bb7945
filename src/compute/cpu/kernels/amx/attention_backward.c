#include "compute/cpu/kernels/amx/attention_backward.h"

#include "compute/cpu/kernels/amx/transpose_pairs.h"
#include "compute/cpu/kernels/attention_sums.h"
#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct backward_work *work, unsigned char *memory)
{
    const size_t rows = (size_t)work->layout.blocks * block_side;
    const size_t channels = (size_t)work->layout.channel_tiles * tile_columns;
    const size_t whole = rows * work->layout.row * sizeof(activation);
    const size_t sums = rows * channels * sizeof(float);
    const size_t block = (size_t)turns * block_pairs;
    const struct array_place places[] = {
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

/* The numbers of queries: minus the logarithm of their sums, as part of a product, and minus dout . out. */
static void gather_statistics(struct backward_work *work, const struct upstream *upstream,
                              const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const struct window_pattern *pattern = cut->pattern;
    const int head = work->walk.task.head;
    const float scale = -log2_of_e / work->layout.score_factor;
    for (int first = 0; first < pattern->query_slots; first += lanes) {
        vec products[lanes];
        for (int k = 0; k < lanes; k++) {
            products[k] = (vec){0};
            if (pattern->key[first + k] == no_token) {
                work->logsumexp[first + k] = absent_key;
                continue;
            }
            const size_t row = cut->row[pattern->key[first + k]];
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
static void pair_queries(activation *pairs, const activation *rows, int blocks,
                         const struct attention_layout *layout)
{
    for (int block = 0; block < blocks; block++) {
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

static void gather(struct backward_work *work, const struct upstream *upstream,
                   const struct attention_sizes *z)
{
    const struct attention_layout *layout = &work->layout;
    const struct cut_window *cut = work->walk.cut;
    const activation *qkv = work->walk.in->qkv;
    const int first = work->walk.task.head * z->head_dim, count = cut->pattern->query_slots;
    struct magnitudes unused;
    KERNEL(gather_query_tiles)
    (work->queries, &unused, qkv, 3 * (size_t)z->channels, first, cut, layout, z);
    KERNEL(gather_query_tiles)
    (work->douts, &unused, upstream->dout, z->channels, first, cut, layout, z);
    KERNEL(gather_key_tiles)
    (work->keys, &unused, &work->single, z->channels + first, 1, cut, layout, z);
    KERNEL(gather_key_tiles)
    (work->values, &unused, NULL, 2 * z->channels + first, 0, cut, layout, z);
    pair_queries(work->query_pairs, work->queries, count / block_side, layout);
    pair_queries(work->dout_pairs, work->douts, count / block_side, layout);
    gather_statistics(work, upstream, z);
    KERNEL(set_query_numbers)(work->queries, work->logsumexp, count, layout, z);
    KERNEL(set_query_numbers)(work->douts, work->dout_out, count, layout, z);
}

static void write_query_gradients(const struct gradients *gradients, const struct backward_work *work,
                                  float scale, int first, const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    for (int k = 0; k < cut->pattern->piece[0].queries; k++) {
        activation *to = gradients->dqkv + cut->row[cut->pattern->key[k]] * 3 * z->channels + first;
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
    const struct cut_window *cut = work->walk.cut;
    const struct window_pattern *pattern = cut->pattern;
    for (int tile = 0; tile * tile_rows < pattern->key_slots; tile++) {
        for (int d = 0; d < z->head_dim; d += tile_columns) {
            const int left = z->head_dim - d, count = left < tile_columns ? left : tile_columns;
            const float *from = sums_at(work, sums, tile / block_tiles, tile % block_tiles, d / lanes);
            __m512i in[tile_rows], out[tile_rows];
#pragma GCC unroll 16
            for (int k = 0; k < tile_rows; k++) {
                in[k] = _mm512_loadu_si512(from + (size_t)k * tile_columns);
            }
            transpose_pairs(out, in);
            for (int k = 0; k < tile_rows; k++) {
                const int t = tile * tile_rows + k;
                const vec gradient = (vec)out[k] * scale;
                if (pattern->kind[t] == REAL_TOKEN) {
                    store_activations_part(gradients->dqkv + cut->row[t] * 3 * z->channels + first + d,
                                           gradient, count);
                }
                for (int j = 0; pattern->kind[t] == PADDING && j < count; j++) {
                    gradients->dqkv_bias[first + d + j] += gradient[j];
                }
            }
        }
    }
}

static void backward_of_window(const struct gradients *gradients, struct backward_work *work,
                               const struct upstream *upstream, const struct attention_sizes *z)
{
    const size_t sums =
        (size_t)work->walk.cut->pattern->query_slots * work->layout.channel_tiles * tile_columns;
    const int first = work->walk.task.head * z->head_dim;
    const float scale = 1 / sqrtf((float)z->head_dim);
    gather(work, upstream, z);
    memset(work->dqueries, 0, sums * sizeof *work->dqueries);
    if (work->layout.channel_tiles == 1 && work->layout.chunks == 1) {
        KERNEL(gradients_of_narrow_head)(gradients, upstream, work, z);
    } else {
        KERNEL(gradients_of_wide_head)(work);
    }
    write_query_gradients(gradients, work, scale, first, z);
    write_key_gradients(gradients, work, work->dkeys, scale, z->channels + first, z);
    write_key_gradients(gradients, work, work->dvalues, 1, 2 * z->channels + first, z);
}

static void backward_of_share(activation *dqkv, struct backward_work *work, const struct upstream *upstream,
                              const struct attention_sizes *z)
{
    const unsigned before = begin_flushing();
    const size_t row_bytes = (size_t)work->layout.blocks * block_side * work->layout.row * sizeof(activation);
    const struct gradients gradients = {dqkv, work->walk.sums->dqkv_bias};
    configure_tiles(tile_depth);
    work->table = exp2_table(0);
    memset(work->queries, 0, row_bytes);
    memset(work->douts, 0, row_bytes);
    while (KERNEL(next_window)(&work->walk)) {
        backward_of_window(&gradients, work, upstream, z);
    }
    _tile_release();
    end_flushing(before);
}

void KERNEL(tile_attention_backward)(struct compute *c, activation *dqkv, float *dqkv_bias,
                                     float *dbias_table, const activation *dout, const activation *out,
                                     const float *logsumexp, const activation *qkv, const float *qkv_bias,
                                     const float *bias_table, const struct attention_shape *s)
{
    if (s->head_dim < least_tile_head) {
        KERNEL(window_attention_backward)
        (c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    if (s->head_dim % 4 != 0 || s->head_dim > most_tile_head) {
        KERNEL(pair_attention_backward)
        (c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    struct attention_sizes z;
    if (!KERNEL(tile_attention_sizes)(c, &z, s)) {
        return;
    }
    struct backward_work measured = {.layout = KERNEL(attention_layout)(&z)};
    struct attention_inputs in = {.qkv = qkv, .bias_table = bias_table, .shape = s, .sizes = &z};
    const size_t arrays = lay_out_work(&measured, NULL), own = arrays + attention_sums_bytes(&z);
    const int threads = attention_threads(c);
    size_t bytes;
    unsigned char *memory = KERNEL(attention_walk_memory)(c, &in, qkv_bias, own, &bytes, threads);
    if (memory == NULL) {
        return;
    }
    struct attention_sums sums[most_attention_threads];
    const struct upstream upstream = {dout, out, logsumexp};
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work = {.layout = measured.layout};
        unsigned char *mine = memory + part * bytes;
        lay_out_work(&work, mine);
        KERNEL(begin_attention_sums)(&sums[part], mine + arrays, &z);
        KERNEL(begin_walk)(&work.walk, &in, &sums[part], mine + own, part, threads);
        backward_of_share(dqkv, &work, &upstream, &z);
    }
    KERNEL(reduce_attention_sums)(dqkv_bias, dbias_table, sums, threads, &z);
}
