#include "compute/cpu/kernels/attention_ahead.h"
#include "compute/cpu/kernels/attention_products.h"
#include "compute/cpu/kernels/attention_window.h"
#include "compute/cpu/kernels/kernels.h"

#include <math.h>

/* For a window and head, in base 2: S = Q K^T + bias, and what a query attends is sum_k 2^S V / sum_k 2^S. A
 * tile of queries goes block by block through a chunk of keys: S in registers (8 queries by two vectors of
 * keys), its exponentials into the first-level cache and their sums; then exponentials times values, with the
 * channels in lanes where a head has whole vectors of them. Such heads take chunks of keys whose keys and
 * values stay in the first-level cache, others all keys at once.
 *
 * Exponentials are of scores as they are, or less their largest where a query's sum leaves these bounds. */
static const float least_sum = 0x1p-16F, largest_sum = 0x1p48F;

/* Of keys and of values in the first-level cache, where sums are by rows. */
enum { chunk_floats = 2048 };

/* The tensors. */
struct forward_rows {
    activation *out;
    float *logsumexp;
    const activation *qkv;
};

/* The memory of one thread. */
struct forward_work {
    const struct window *window;
    struct window_ahead ahead;
    size_t bias_block; /* of the sizes */
    float *bias;       /* of the head at work, in the order of order_bias */
    struct score_terms *terms;
    float *keys, *values;      /* (width, keys), but values (keys, width) where sums are by rows */
    float *queries, *attended; /* (queries + query_tile, width) */
    float *exponentials;       /* (query_tile, chunk of keys) */
    float *lane_sums;          /* (queries + query_tile, lanes): of exponentials */
    float *offset, *sum;       /* (queries + query_tile): sum of exponentials of the scores less offset */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (z->tokens + query_tile + lanes - 1) / lanes * lanes;
    const size_t columns = (size_t)z->width * z->keys * sizeof(float);
    const struct array_place places[] = {
        {&work->bias, (size_t)z->tokens * z->keys * sizeof(float)},
        {&work->terms, sizeof *work->terms},
        {&work->keys, columns},
        {&work->values, columns},
        {&work->queries, queries * z->width * sizeof(float)},
        {&work->attended, queries * z->width * sizeof(float)},
        {&work->exponentials, (size_t)query_tile * z->keys * sizeof(float)},
        {&work->lane_sums, queries * sizeof(vec)},
        {&work->offset, queries * sizeof(float)},
        {&work->sum, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* What the compiler knows. */
struct kind {
    int width, keys, masked;
    int offset; /* whether scores are less work->offset */
};

/* low and high = the scores of a tile of queries and the block of keys from k. */
static ALWAYS_INLINE void score(vec low[query_tile], vec high[query_tile], const struct forward_work *work,
                                int tile, int k, struct kind kind)
{
    const float *bias_block = work->bias + (size_t)(k / block_keys) * work->bias_block;
    for (int i = 0; i < query_tile; i++) {
        const float *bias = bias_block + work->terms->bias[tile + i];
        low[i] = load(bias);
        high[i] = load(bias + lanes);
        if (kind.masked) {
            const float *mask = work->terms->mask[0] + work->terms->region[tile + i] + k;
            low[i] += load(mask);
            high[i] += load(mask + lanes);
        }
        if (kind.offset) {
            low[i] -= work->offset[tile + i];
            high[i] -= work->offset[tile + i];
        }
    }
    add_products(low, high, work->queries + (size_t)tile * kind.width, work->keys + k, kind.width, kind.keys);
}

/* exponentials = 2^scores of a tile of queries and the keys from .. to - 1, which the sums take up. */
static ALWAYS_INLINE void raise_scores(struct forward_work *work, int tile, int from, int to, int chunk,
                                       struct kind kind)
{
    vec sum[query_tile];
    for (int i = 0; i < query_tile; i++) {
        sum[i] = from > 0 ? load(work->lane_sums + (size_t)(tile + i) * lanes) : (vec){0};
    }
    for (int k = from; k < to; k += block_keys) {
        vec low[query_tile], high[query_tile];
        fetch_ahead(&work->ahead);
        score(low, high, work, tile, k, kind);
        raise_two_to(low, query_tile);
        raise_two_to(high, query_tile);
        for (int i = 0; i < query_tile; i++) {
            float *exponentials = work->exponentials + (size_t)i * chunk + k - from;
            store(exponentials, low[i]);
            store(exponentials + lanes, high[i]);
            sum[i] += low[i] + high[i];
        }
    }
    for (int i = 0; i < query_tile; i++) {
        store(work->lane_sums + (size_t)(tile + i) * lanes, sum[i]);
    }
}

/* A tile of queries and the keys from .. to - 1. */
static ALWAYS_INLINE void attend_tile(struct forward_work *work, int tile, int from, int to, int chunk,
                                      struct kind kind)
{
    float *attended = work->attended + (size_t)tile * kind.width;
    raise_scores(work, tile, from, to, chunk, kind);
    if (sums_by_rows(kind.width)) {
        add_sums_by_rows(attended, work->exponentials, work->values + (size_t)from * kind.width, kind.width,
                         to - from, chunk, from > 0);
    } else {
        sums_by_columns(attended, work->exponentials, work->values, kind.width, kind.keys);
    }
}

/* Chunk by chunk of keys, which with its values stays in the first-level cache. */
static ALWAYS_INLINE void attend(struct forward_work *work, struct kind kind)
{
    const int blocks = chunk_floats / block_keys / kind.width, most = (blocks > 0 ? blocks : 1) * block_keys;
    const int chunk = most < kind.keys && sums_by_rows(kind.width) ? most : kind.keys;
    for (int from = 0; from < kind.keys; from += chunk) {
        const int to = kind.keys - from < chunk ? kind.keys : from + chunk;
        for (int tile = 0; tile < work->window->queries; tile += query_tile) {
            attend_tile(work, tile, from, to, chunk, kind);
        }
    }
}

/* Once more, with scores less the largest one of each query. */
static void attend_with_offsets(struct forward_work *work, int tile, struct kind kind)
{
    vec most[query_tile];
    for (int i = 0; i < query_tile; i++) {
        most[i] = broadcast(absent_key);
    }
    for (int k = 0; k < kind.keys; k += block_keys) {
        vec low[query_tile], high[query_tile];
        score(low, high, work, tile, k, kind);
        for (int i = 0; i < query_tile; i++) {
            most[i] = larger(most[i], larger(low[i], high[i]));
        }
    }
    for (int i = 0; i < query_tile; i++) {
        work->offset[tile + i] = largest_lane(most[i]);
    }
    kind.offset = 1;
    attend_tile(work, tile, 0, kind.keys, kind.keys, kind);
}

/* The sum of a tile's exponentials. Returns whether all are in bounds. */
static int add_lanes(struct forward_work *work, int tile)
{
    int in_bounds = 1;
    for (int i = tile; i < tile + query_tile; i++) {
        const float sum = sum_of_lanes(load(work->lane_sums + (size_t)i * lanes));
        work->sum[i] = sum;
        in_bounds &= sum >= least_sum && sum <= largest_sum;
    }
    return in_bounds;
}

static void attend_all(struct forward_work *work, const struct attention_sizes *z)
{
    const int whole = z->keys == whole_window_keys, masked = work->window->masked;
    struct kind kind = {.width = z->width, .keys = z->keys, .masked = masked};
    memset(work->offset, 0, (size_t)(work->window->queries + query_tile) * sizeof(float));
    if (whole && z->width == 4 && !masked) {
        attend(work, (struct kind){.width = 4, .keys = whole_window_keys});
    } else if (whole && z->width == 4) {
        attend(work, (struct kind){.width = 4, .keys = whole_window_keys, .masked = 1});
    } else if (whole && z->width == 16 && !masked) {
        attend(work, (struct kind){.width = 16, .keys = whole_window_keys});
    } else if (whole && z->width == 16) {
        attend(work, (struct kind){.width = 16, .keys = whole_window_keys, .masked = 1});
    } else {
        attend(work, kind);
    }
    for (int tile = 0; tile < work->window->queries; tile += query_tile) {
        if (!add_lanes(work, tile)) {
            attend_with_offsets(work, tile, kind);
            add_lanes(work, tile);
        }
    }
}

/* What the next window reads and writes. */
static void look_ahead(struct forward_work *work, const struct forward_rows *rows, const struct window *next,
                       int head, const struct attention_sizes *z)
{
    struct window_ahead *ahead = &work->ahead;
    const size_t length = z->channels, first = (size_t)head * z->head_dim;
    const int tiles = (work->window->queries + query_tile - 1) / query_tile;
    begin_ahead(ahead, next, tiles * (z->keys / block_keys));
    for (int part = 0; part < 3; part++) {
        add_ahead(ahead, rows->qkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
    }
    add_ahead(ahead, rows->out, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->logsumexp, sizeof(float), z->heads, head, 1);
}

static void write_results(const struct forward_rows *rows, struct forward_work *work, int head,
                          const struct attention_sizes *z)
{
    const struct window *window = work->window;
    for (int k = 0; k < window->queries; k += lanes) {
        const vec sum = load(work->sum + k);
        store(work->offset + k, (load(work->offset + k) + log2_of(sum)) * log_of_2);
        store(work->sum + k, 1 / sum);
    }
    for (int k = 0; k < window->queries; k++) {
        const size_t row = window->row[window->query[k]];
        const float *attended = work->attended + (size_t)k * z->width;
        activation *to = rows->out + row * z->channels + head * z->head_dim;
        int d = 0;
        for (; d + lanes <= z->head_dim; d += lanes) {
            store_activations(to + d, load(attended + d) * work->sum[k]);
        }
        for (; d + 4 <= z->head_dim; d += 4) {
            store_activation_quad(to + d, load_quad(attended + d) * work->sum[k]);
        }
        for (; d < z->head_dim; d++) {
            to[d] = activation_of(attended[d] * work->sum[k]);
        }
        rows->logsumexp[row * z->heads + head] = work->offset[k];
    }
}

static void attend_window(const struct forward_rows *rows, struct forward_work *work, int head,
                          const struct attention_sizes *z)
{
    const int first = head * z->head_dim;
    const float factor = log2_of_e / sqrtf((float)z->head_dim);
    if (work->window->queries == 0) {
        return;
    }
    KERNEL(lay_out_terms)(work->terms, work->window, z);
    KERNEL(gather_transposed)(work->keys, z->channels + first, work->window, z);
    if (sums_by_rows(z->width)) {
        KERNEL(gather_tokens)(work->values, 2 * z->channels + first, work->window, z);
    } else {
        KERNEL(gather_transposed)(work->values, 2 * z->channels + first, work->window, z);
    }
    KERNEL(gather_queries)(work->queries, rows->qkv, 3 * (size_t)z->channels, first, factor, work->window, z);
    attend_all(work, z);
    write_results(rows, work, head, z);
}

void KERNEL(window_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                      const activation *qkv, const float *qkv_bias, const float *bias_table,
                                      const struct attention_shape *s)
{
    struct attention_sizes z;
    if (!KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    order_bias(&z);
    struct forward_work measured;
    const size_t bytes = lay_out_work(&measured, NULL, &z);
    const int threads = cpu_state(c)->threads;
    const size_t tasks = z.windows * s->heads;
    activation *padded_row;
    unsigned char *memory = KERNEL(attention_memory)(c, &padded_row, qkv_bias, bytes, threads, &z);
    if (memory == NULL) {
        return;
    }
    const struct forward_rows rows = {.out = out, .logsumexp = logsumexp, .qkv = qkv};
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct forward_work work;
        struct window windows[2];
        lay_out_work(&work, memory + part * bytes, &z);
        work.bias_block = z.bias_block;
        int prepared = -1;
        const size_t begin = share_begin(tasks, part, threads), end = share_begin(tasks, part + 1, threads);
        struct attention_task at = {0};
        if (begin < end) {
            at = KERNEL(attention_task)(begin, &z);
            KERNEL(cut_window)(&windows[begin % 2], at.window, qkv, padded_row, s);
        }
        for (size_t task = begin; task < end; task++) {
            const int head = at.head;
            if (head != prepared) {
                KERNEL(head_bias)(work.bias, bias_table, head, &z);
                prepared = head;
            }
            at = KERNEL(attention_task)(task + 1 < end ? task + 1 : task, &z);
            KERNEL(cut_window)(&windows[(task + 1) % 2], at.window, qkv, padded_row, s);
            work.window = &windows[task % 2];
            look_ahead(&work, &rows, &windows[(task + 1) % 2], at.head, &z);
            attend_window(&rows, &work, head, &z);
        }
    }
}
