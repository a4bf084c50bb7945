#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

#include <math.h>

/* The memory of one thread. */
struct forward_work {
    struct window window;
    float *bias;          /* (tokens, keys), of the head at work, times log2(e) */
    void *keys;           /* pairs of channels */
    void *values;         /* pairs of keys where the head is whole vectors wide, else columns */
    void *queries;        /* rows */
    void *probabilities;  /* (pair_tile, keys) */
    float *attended;      /* (queries + pair_tile, head_dim) */
    float *scores;        /* (pair_tile, keys) */
    float *largest, *sum; /* (queries + pair_tile): of a query's scores, and of their exponentials */
    float scale;          /* of products of queries and keys */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (z->tokens + pair_tile + lanes - 1) / lanes * lanes, keys = z->keys;
    const size_t columns = z->head_dim * keys * sizeof(activation), rows = queries * z->head_dim;
    const struct array_place places[] = {
        {&work->bias, z->tokens * keys * sizeof(float)},
        {&work->keys, columns},
        {&work->values, columns},
        {&work->queries, rows * sizeof(activation)},
        {&work->probabilities, pair_tile * keys * sizeof(activation)},
        {&work->attended, rows * sizeof(float)},
        {&work->scores, pair_tile * keys * sizeof(float)},
        {&work->largest, queries * sizeof(float)},
        {&work->sum, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* scores = bias + scale queries keys, and the largest of each row. */
static ALWAYS_INLINE void score_tile(struct forward_work *work, int first, int head_dim, int masked, int keys)
{
    const activation *queries = (const activation *)work->queries + (size_t)first * head_dim;
    const float *bias[pair_tile];
    int32_t own[pair_tile];
    vec most[pair_tile];
#pragma GCC unroll 8
    for (int i = 0; i < pair_tile; i++) {
        const int query = work->window.query[first + i];
        bias[i] = work->bias + (size_t)query * keys;
        own[i] = work->window.region[query];
        most[i] = broadcast(absent_key);
    }
    for (int k = 0; k < keys; k += key_step) {
        vec low[pair_tile] = {{0}}, high[pair_tile] = {{0}};
        const uint32_t *from = (const uint32_t *)work->keys + k;
        for (int d = 0; d < head_dim; d += 2, from += keys) {
            const factor_vec key_low = _mm512_loadu_si512(from), key_high = _mm512_loadu_si512(from + lanes);
#pragma GCC unroll 8
            for (int i = 0; i < pair_tile; i++) {
                low[i] = multiply_pairs(low[i], queries + i * head_dim + d, key_low);
                high[i] = multiply_pairs(high[i], queries + i * head_dim + d, key_high);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            vec first_half = low[i] * work->scale + load(bias[i] + k);
            vec second_half = high[i] * work->scale + load(bias[i] + k + lanes);
            if (masked) {
                first_half = add_mask(first_half, work->window.region + k, own[i]);
                second_half = add_mask(second_half, work->window.region + k + lanes, own[i]);
            }
            store(work->scores + (size_t)i * keys + k, first_half);
            store(work->scores + (size_t)i * keys + k + lanes, second_half);
            most[i] = larger(most[i], larger(first_half, second_half));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < pair_tile; i++) {
        work->largest[first + i] = largest_lane(most[i]);
    }
}

/* Scores become probabilities, but for the division by their sum. */
static ALWAYS_INLINE void exponentials(struct forward_work *work, int first, int keys)
{
    activation *probabilities = work->probabilities;
    for (int i = 0; i < pair_tile; i++) {
        const float *scores = work->scores + (size_t)i * keys;
        const vec largest = broadcast(work->largest[first + i]);
        vec total = {0}, other_total = {0};
        for (int k = 0; k < keys; k += key_step) {
            const vec low = rough_exp2(load(scores + k) - largest);
            const vec high = rough_exp2(load(scores + k + lanes) - largest);
            total += low;
            other_total += high;
            store_factors(probabilities + (size_t)i * keys + k, narrow_two(low, high));
        }
        work->sum[first + i] = sum_of_lanes(total + other_total);
    }
}

/* attended = probabilities values / sum, lanes are channels. */
static ALWAYS_INLINE void attend_vectors(struct forward_work *work, int first, int head_dim, int keys)
{
    const activation *probabilities = work->probabilities;
    for (int d = 0; d < head_dim; d += lanes) {
        vec sums[pair_tile] = {{0}};
        const uint32_t *values = (const uint32_t *)work->values + d;
        for (int k = 0; k < keys; k += 2, values += head_dim) {
            const factor_vec pairs = _mm512_loadu_si512(values);
#pragma GCC unroll 8
            for (int i = 0; i < pair_tile; i++) {
                sums[i] = multiply_pairs(sums[i], probabilities + (size_t)i * keys + k, pairs);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < pair_tile; i++) {
            store(work->attended + (size_t)(first + i) * head_dim + d, sums[i] * (1 / work->sum[first + i]));
        }
    }
}

/* The same where lanes are keys: four channels of four queries at a time. */
static ALWAYS_INLINE void attend_columns(struct forward_work *work, int first, int head_dim, int keys)
{
    for (int i = 0; i < pair_tile; i += 4) {
        const activation *probabilities = (const activation *)work->probabilities + (size_t)i * keys;
        for (int d = 0; d < head_dim; d += 4) {
            const activation *values = (const activation *)work->values + (size_t)d * keys;
            vec products[16] = {{0}};
            for (int k = 0; k < keys; k += key_step) {
#pragma GCC unroll 16
                for (int j = 0; j < 16; j++) {
                    products[j] = (vec)_mm512_dpbf16_ps(
                        (__m512)products[j], (__m512bh)load_factors(probabilities + j / 4 * (size_t)keys + k),
                        (__m512bh)load_factors(values + j % 4 * (size_t)keys + k));
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

static ALWAYS_INLINE void attend(struct forward_work *work, int head_dim, int keys)
{
    for (int first = 0; first < work->window.queries; first += pair_tile) {
        if (work->window.masked) {
            score_tile(work, first, head_dim, 1, keys);
        } else {
            score_tile(work, first, head_dim, 0, keys);
        }
        exponentials(work, first, keys);
        if (head_dim % lanes == 0) {
            attend_vectors(work, first, head_dim, keys);
        } else {
            attend_columns(work, first, head_dim, keys);
        }
    }
}

static void write_results(activation *out, float *logsumexp, struct forward_work *work, int head,
                          const struct attention_sizes *z)
{
    const struct window *window = &work->window;
    for (int k = 0; k < window->queries; k += lanes) {
        store(work->sum + k, (load(work->largest + k) + log2_of(load(work->sum + k))) * log_of_2);
    }
    for (int k = 0; k < window->queries; k++) {
        const size_t row = window->row[window->query[k]];
        activations_of(out + row * z->channels + head * z->head_dim, work->attended + (size_t)k * z->head_dim,
                       z->head_dim);
        logsumexp[row * z->heads + head] = work->sum[k];
    }
}

static void attend_window(activation *out, float *logsumexp, struct forward_work *work, const activation *qkv,
                          int head, const struct attention_sizes *z)
{
    const int first = head * z->head_dim;
    KERNEL(gather_channel_pairs)(work->keys, z->channels + first, &work->window, z);
    if (z->head_dim % lanes == 0) {
        KERNEL(gather_key_pairs)(work->values, 2 * z->channels + first, &work->window, z);
    } else {
        KERNEL(gather_columns)(work->values, 2 * z->channels + first, &work->window, z);
    }
    KERNEL(gather_rows)(work->queries, qkv, 3 * (size_t)z->channels, first, &work->window, z);
    if (z->keys == whole_window_keys && z->head_dim == 4) {
        attend(work, 4, whole_window_keys);
    } else if (z->keys == whole_window_keys && z->head_dim == 16) {
        attend(work, 16, whole_window_keys);
    } else {
        attend(work, z->head_dim, z->keys);
    }
    write_results(out, logsumexp, work, head, z);
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
    if (!KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    struct forward_work measured;
    const size_t bytes = lay_out_work(&measured, NULL, &z);
    const int threads = cpu_state(c)->threads;
    const size_t tasks = z.windows * s->heads;
    activation *padded_row;
    unsigned char *memory = KERNEL(attention_memory)(c, &padded_row, qkv_bias, threads * bytes, &z);
    if (memory == NULL) {
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct forward_work work = {.scale = log2_of_e / sqrtf((float)s->head_dim)};
        lay_out_work(&work, memory + part * bytes, &z);
        int prepared = -1;
        const size_t end = share_begin(tasks, part + 1, threads);
        for (size_t task = share_begin(tasks, part, threads); task < end; task++) {
            const struct attention_task at = KERNEL(attention_task)(task, &z);
            if (at.head != prepared) {
                KERNEL(head_bias)(work.bias, bias_table, at.head, &z);
                prepared = at.head;
            }
            KERNEL(cut_window)(&work.window, at.window, qkv, padded_row, s);
            attend_window(out, logsumexp, &work, qkv, at.head, &z);
        }
    }
}
