#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

#include <math.h>

/* The memory of one thread. */
struct forward_work {
    struct attention_walk walk;
    void *keys;           /* pairs of channels */
    void *values;         /* pairs of keys where the head is whole vectors wide, else columns */
    void *queries;        /* rows */
    void *probabilities;  /* (pair_tile, pitch) */
    float *attended;      /* (slots of queries, head_dim) */
    float *scores;        /* (pair_tile, pitch) */
    float *largest, *sum; /* (slots of queries): of a query's scores, and of their exponentials */
    float scale;          /* of products of queries and keys */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (most_query_slots + lanes - 1) / lanes * lanes, pitch = z->pitch;
    const size_t columns = z->head_dim * pitch * sizeof(activation), rows = queries * z->head_dim;
    const struct array_place places[] = {
        {&work->keys, columns},
        {&work->values, columns},
        {&work->queries, rows * sizeof(activation)},
        {&work->probabilities, pair_tile * pitch * sizeof(activation)},
        {&work->attended, rows * sizeof(float)},
        {&work->scores, pair_tile * pitch * sizeof(float)},
        {&work->largest, queries * sizeof(float)},
        {&work->sum, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* A tile of queries of a piece, counted from its first one. */
struct tile {
    const struct piece *piece;
    int query;
};

static ALWAYS_INLINE int first_slot(const struct tile *tile)
{
    return tile->piece->first_query + tile->query;
}

/* scores = bias + scale queries keys, and the largest of each row. */
static ALWAYS_INLINE void score_tile(struct forward_work *work, const struct tile *tile, int head_dim,
                                     int masked, int pitch)
{
    const struct attention_walk *walk = &work->walk;
    const int first = first_slot(tile), keys = tile->piece->keys;
    const activation *queries = (const activation *)work->queries + (size_t)first * head_dim;
    const float *bias = walk->bias->bias + tile->piece->bias + (size_t)tile->query * keys;
    vec most[pair_tile];
#pragma GCC unroll 8
    for (int i = 0; i < pair_tile; i++) {
        most[i] = broadcast(absent_key);
    }
    for (int k = 0; k < keys; k += key_step) {
        vec low[pair_tile] = {{0}}, high[pair_tile] = {{0}};
        const uint32_t *from = (const uint32_t *)work->keys + tile->piece->first_key + k;
        for (int d = 0; d < head_dim; d += 2, from += pitch) {
            const factor_vec key_low = _mm512_loadu_si512(from), key_high = _mm512_loadu_si512(from + lanes);
#pragma GCC unroll 8
            for (int i = 0; i < pair_tile; i++) {
                low[i] = multiply_pairs(low[i], queries + i * head_dim + d, key_low);
                high[i] = multiply_pairs(high[i], queries + i * head_dim + d, key_high);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            const float *row = bias + (size_t)i * keys + k;
            vec first_half = low[i] * work->scale + load(row);
            vec second_half = high[i] * work->scale + load(row + lanes);
            if (masked) {
                const float *mask = walk->masks->mask[0] + walk->masks->row[first + i] + k;
                first_half += load(mask);
                second_half += load(mask + lanes);
            }
            store(work->scores + (size_t)i * pitch + k, first_half);
            store(work->scores + (size_t)i * pitch + k + lanes, second_half);
            most[i] = larger(most[i], larger(first_half, second_half));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < pair_tile; i++) {
        work->largest[first + i] = largest_lane(most[i]);
    }
}

/* Scores become probabilities, but for the division by their sum. */
static ALWAYS_INLINE void exponentials(struct forward_work *work, int first, int keys, int pitch)
{
    activation *probabilities = work->probabilities;
    for (int i = 0; i < pair_tile; i++) {
        const float *scores = work->scores + (size_t)i * pitch;
        const vec largest = broadcast(work->largest[first + i]);
        vec total = {0}, other_total = {0};
        for (int k = 0; k < keys; k += key_step) {
            const vec low = rough_exp2(load(scores + k) - largest);
            const vec high = rough_exp2(load(scores + k + lanes) - largest);
            total += low;
            other_total += high;
            store_factors(probabilities + (size_t)i * pitch + k, narrow_two(low, high));
        }
        work->sum[first + i] = sum_of_lanes(total + other_total);
    }
}

/* attended = probabilities values / sum, lanes are channels. */
static ALWAYS_INLINE void attend_vectors(struct forward_work *work, const struct tile *tile, int head_dim,
                                         int pitch)
{
    const activation *probabilities = work->probabilities;
    const int first = first_slot(tile), keys = tile->piece->keys;
    for (int d = 0; d < head_dim; d += lanes) {
        vec sums[pair_tile] = {{0}};
        const uint32_t *values =
            (const uint32_t *)work->values + (size_t)(tile->piece->first_key / 2) * head_dim + d;
        for (int k = 0; k < keys; k += 2, values += head_dim) {
            const factor_vec pairs = _mm512_loadu_si512(values);
#pragma GCC unroll 8
            for (int i = 0; i < pair_tile; i++) {
                sums[i] = multiply_pairs(sums[i], probabilities + (size_t)i * pitch + k, pairs);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            store(work->attended + (size_t)(first + i) * head_dim + d, sums[i] * (1 / work->sum[first + i]));
        }
    }
}

/* The same where lanes are keys: four channels of four queries at a time. */
static ALWAYS_INLINE void attend_columns(struct forward_work *work, const struct tile *tile, int head_dim,
                                         int pitch)
{
    const int first = first_slot(tile), keys = tile->piece->keys;
    for (int i = 0; i < pair_tile; i += 4) {
        const activation *probabilities = (const activation *)work->probabilities + (size_t)i * pitch;
        for (int d = 0; d < head_dim; d += 4) {
            const activation *values =
                (const activation *)work->values + (size_t)d * pitch + tile->piece->first_key;
            vec products[16] = {{0}};
            for (int k = 0; k < keys; k += key_step) {
#pragma GCC unroll 16
                for (int j = 0; j < 16; j++) {
                    products[j] = (vec)_mm512_dpbf16_ps(
                        (__m512)products[j],
                        (__m512bh)load_factors(probabilities + j / 4 * (size_t)pitch + k),
                        (__m512bh)load_factors(values + j % 4 * (size_t)pitch + k));
                }
            }
            float sums[16];
            sums_of_16(sums, products);
            for (int j = 0; j < 4; j++) {
                store_quad(work->attended + (size_t)(first + i + j) * head_dim + d,
                           load_quad(sums + 4 * (size_t)j) * (1 / work->sum[first + i + j]));
            }
        }
    }
}

static ALWAYS_INLINE void attend(struct forward_work *work, const struct piece *piece, int head_dim,
                                 int pitch)
{
    for (int query = 0; query < piece->queries; query += pair_tile) {
        const struct tile tile = {piece, query};
        if (work->walk.masks != NULL) {
            score_tile(work, &tile, head_dim, 1, pitch);
        } else {
            score_tile(work, &tile, head_dim, 0, pitch);
        }
        exponentials(work, first_slot(&tile), piece->keys, pitch);
        if (head_dim % lanes == 0) {
            attend_vectors(work, &tile, head_dim, pitch);
        } else {
            attend_columns(work, &tile, head_dim, pitch);
        }
    }
}

static void write_results(activation *out, float *logsumexp, struct forward_work *work,
                          const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int head = work->walk.task.head, slots = cut->pattern->query_slots;
    for (int k = 0; k < slots; k += lanes) {
        store(work->sum + k, (load(work->largest + k) + log2_of(load(work->sum + k))) * log_of_2);
    }
    for (int k = 0; k < slots; k++) {
        if (cut->pattern->key[k] == no_token) {
            continue;
        }
        const size_t row = cut->row[cut->pattern->key[k]];
        activations_of(out + row * z->channels + (size_t)head * z->head_dim,
                       work->attended + (size_t)k * z->head_dim, z->head_dim);
        logsumexp[row * z->heads + head] = work->sum[k];
    }
}

static void attend_window(activation *out, float *logsumexp, struct forward_work *work,
                          const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int first = work->walk.task.head * z->head_dim;
    KERNEL(gather_channel_pairs)(work->keys, z->channels + first, cut, z);
    if (z->head_dim % lanes == 0) {
        KERNEL(gather_key_pairs)(work->values, 2 * z->channels + first, cut, z);
    } else {
        KERNEL(gather_columns)(work->values, 2 * z->channels + first, cut, z);
    }
    KERNEL(gather_rows)(work->queries, work->walk.in->qkv, 3 * (size_t)z->channels, first, cut, z);
    for (int k = 0; k < cut->pattern->pieces; k++) {
        const struct piece *piece = &cut->pattern->piece[k];
        if (z->head_dim == 4) {
            attend(work, piece, 4, most_key_slots);
        } else if (z->head_dim == 16) {
            attend(work, piece, 16, most_key_slots);
        } else {
            attend(work, piece, z->head_dim, most_key_slots);
        }
    }
    write_results(out, logsumexp, work, z);
}

void KERNEL(pair_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                    const activation *qkv, const float *qkv_bias, const float *bias_table,
                                    const struct attention_shape *s)
{
    if (s->head_dim % 4 != 0) {
        KERNEL(window_attention_forward)(c, out, logsumexp, qkv, qkv_bias, bias_table, s);
        return;
    }
    struct attention_sizes z;
    if (!KERNEL(pair_attention_sizes)(c, &z, s)) {
        return;
    }
    struct forward_work measured;
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
        struct forward_work work = {.scale = log2_of_e / sqrtf((float)s->head_dim)};
        lay_out_work(&work, memory + part * bytes, &z);
        KERNEL(begin_walk)(&work.walk, &in, NULL, memory + part * bytes + own, part, threads);
        while (KERNEL(next_window)(&work.walk)) {
            attend_window(out, logsumexp, &work, &z);
        }
    }
}
