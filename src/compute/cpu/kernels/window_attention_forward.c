#include "compute/cpu/kernels/attention_ahead.h"
#include "compute/cpu/kernels/attention_products.h"
#include "compute/cpu/kernels/attention_walk.h"
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
    struct attention_walk walk;
    struct window_ahead ahead;
    float *keys, *values;      /* (width, pitch), but values (slots, width) where sums are by rows */
    float *queries, *attended; /* (query slots, width) */
    float *exponentials;       /* (query_tile, pitch) */
    float *lane_sums;          /* (query slots, lanes): of exponentials */
    float *offset, *sum;       /* (query slots): sum of exponentials of the scores less offset */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (most_query_slots + lanes - 1) / lanes * lanes;
    const size_t columns = z->width * z->pitch * sizeof(float);
    const struct array_place places[] = {
        {&work->keys, columns},
        {&work->values, columns},
        {&work->queries, queries * z->width * sizeof(float)},
        {&work->attended, queries * z->width * sizeof(float)},
        {&work->exponentials, query_tile * z->pitch * sizeof(float)},
        {&work->lane_sums, queries * sizeof(vec)},
        {&work->offset, queries * sizeof(float)},
        {&work->sum, queries * sizeof(float)},
    };
    return lay_out_arrays(places, sizeof places / sizeof *places, memory);
}

/* What the compiler knows. */
struct kind {
    int width, pitch, masked;
    int offset; /* whether scores are less work->offset */
};

/* low and high = the scores of a tile of queries and the block of keys from k, both counted from the first
 * one of the piece. */
static ALWAYS_INLINE void score(vec low[query_tile], vec high[query_tile], const struct forward_work *work,
                                const struct piece *piece, int tile, int k, struct kind kind)
{
    const struct attention_walk *walk = &work->walk;
    const size_t bias_row = attention_by_rows(kind.width) ? block_keys : piece->keys;
    const float *rows = walk->bias->bias + piece->bias + (size_t)(k / block_keys) * piece->bias_block;
    const int slot = piece->first_query + tile;
    for (int i = 0; i < query_tile; i++) {
        const float *bias = rows + (tile + i) * bias_row;
        low[i] = load(bias);
        high[i] = load(bias + lanes);
        if (kind.masked) {
            const float *mask = walk->masks->mask[0] + walk->masks->row[slot + i] + k;
            low[i] += load(mask);
            high[i] += load(mask + lanes);
        }
        if (kind.offset) {
            low[i] -= work->offset[slot + i];
            high[i] -= work->offset[slot + i];
        }
    }
    add_products(low, high, work->queries + (size_t)slot * kind.width, work->keys + piece->first_key + k,
                 kind.width, kind.pitch);
}

/* exponentials = 2^scores of a tile of queries and the keys from .. to - 1, which the sums take up. */
static ALWAYS_INLINE void raise_scores(struct forward_work *work, const struct piece *piece, int tile,
                                       int from, int to, struct kind kind)
{
    float *lane_sums = work->lane_sums + (size_t)(piece->first_query + tile) * lanes;
    vec sum[query_tile];
    for (int i = 0; i < query_tile; i++) {
        sum[i] = from > 0 ? load(lane_sums + (size_t)i * lanes) : (vec){0};
    }
    for (int k = from; k < to; k += block_keys) {
        vec low[query_tile], high[query_tile];
        fetch_ahead(&work->ahead);
        score(low, high, work, piece, tile, k, kind);
        raise_two_to(low, query_tile);
        raise_two_to(high, query_tile);
        for (int i = 0; i < query_tile; i++) {
            float *exponentials = work->exponentials + (size_t)i * kind.pitch + k - from;
            store(exponentials, low[i]);
            store(exponentials + lanes, high[i]);
            sum[i] += low[i] + high[i];
        }
    }
    for (int i = 0; i < query_tile; i++) {
        store(lane_sums + (size_t)i * lanes, sum[i]);
    }
}

/* A tile of queries and the keys from .. to - 1. */
static ALWAYS_INLINE void attend_tile(struct forward_work *work, const struct piece *piece, int tile,
                                      int from, int to, struct kind kind)
{
    float *attended = work->attended + (size_t)(piece->first_query + tile) * kind.width;
    const int first = piece->first_key + from;
    raise_scores(work, piece, tile, from, to, kind);
    if (attention_by_rows(kind.width)) {
        add_sums_by_rows(attended, work->exponentials, work->values + (size_t)first * kind.width, kind.width,
                         to - from, kind.pitch, from > 0);
    } else {
        sums_by_columns(attended, work->exponentials, work->values + first, kind.width, to - from,
                        kind.pitch);
    }
}

/* Chunk by chunk of keys, which with its values stays in the first-level cache. */
static ALWAYS_INLINE void attend(struct forward_work *work, const struct piece *piece, struct kind kind)
{
    const int blocks = chunk_floats / block_keys / kind.width, most = (blocks > 0 ? blocks : 1) * block_keys;
    const int keys = piece->keys, chunk = attention_by_rows(kind.width) ? most : keys;
    for (int from = 0; from < keys; from += chunk) {
        const int to = keys - from < chunk ? keys : from + chunk;
        for (int tile = 0; tile < piece->queries; tile += query_tile) {
            attend_tile(work, piece, tile, from, to, kind);
        }
    }
}

/* Once more, with scores less the largest one of each query. */
static void attend_with_offsets(struct forward_work *work, const struct piece *piece, int tile,
                                struct kind kind)
{
    vec most[query_tile];
    for (int i = 0; i < query_tile; i++) {
        most[i] = broadcast(absent_key);
    }
    for (int k = 0; k < piece->keys; k += block_keys) {
        vec low[query_tile], high[query_tile];
        score(low, high, work, piece, tile, k, kind);
        for (int i = 0; i < query_tile; i++) {
            most[i] = larger(most[i], larger(low[i], high[i]));
        }
    }
    for (int i = 0; i < query_tile; i++) {
        work->offset[piece->first_query + tile + i] = largest_lane(most[i]);
    }
    kind.offset = 1;
    attend_tile(work, piece, tile, 0, piece->keys, kind);
}

/* The sums of the exponentials of a tile of queries. Returns whether all are in bounds. */
static int add_lanes(struct forward_work *work, int first)
{
    int in_bounds = 1;
    for (int i = first; i < first + query_tile; i++) {
        const float sum = sum_of_lanes(load(work->lane_sums + (size_t)i * lanes));
        work->sum[i] = sum;
        in_bounds &= sum >= least_sum && sum <= largest_sum;
    }
    return in_bounds;
}

static void attend_piece(struct forward_work *work, const struct piece *piece,
                         const struct attention_sizes *z)
{
    const int masked = work->walk.masks != NULL;
    const struct kind kind = {.width = z->width, .pitch = most_key_slots, .masked = masked};
    if (z->width == 4 && !masked) {
        attend(work, piece, (struct kind){.width = 4, .pitch = most_key_slots});
    } else if (z->width == 16 && !masked) {
        attend(work, piece, (struct kind){.width = 16, .pitch = most_key_slots});
    } else {
        attend(work, piece, kind);
    }
    for (int tile = 0; tile < piece->queries; tile += query_tile) {
        if (!add_lanes(work, piece->first_query + tile)) {
            attend_with_offsets(work, piece, tile, kind);
            add_lanes(work, piece->first_query + tile);
        }
    }
}

/* What the next window reads and writes. */
static void look_ahead(struct forward_work *work, const struct forward_rows *rows,
                       const struct attention_sizes *z)
{
    struct window_ahead *ahead = &work->ahead;
    const size_t length = z->channels, head = work->walk.next.head, first = head * z->head_dim;
    begin_ahead(ahead, work->walk.ahead, work->walk.cut->pattern);
    for (int part = 0; part < 3; part++) {
        add_ahead(ahead, rows->qkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
    }
    add_ahead(ahead, rows->out, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->logsumexp, sizeof(float), z->heads, head, 1);
}

static void write_results(const struct forward_rows *rows, struct forward_work *work,
                          const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int head = work->walk.task.head, slots = cut->pattern->query_slots;
    for (int k = 0; k < slots; k += lanes) {
        const vec sum = load(work->sum + k);
        store(work->offset + k, (load(work->offset + k) + log2_of(sum)) * log_of_2);
        store(work->sum + k, 1 / sum);
    }
    for (int k = 0; k < slots; k++) {
        const int key = cut->pattern->key[k];
        if (key == no_token) {
            continue;
        }
        const size_t row = cut->row[key];
        KERNEL(write_scaled_row)
        (rows->out + row * z->channels + (size_t)head * z->head_dim, work->attended + (size_t)k * z->width,
         work->sum[k], z);
        rows->logsumexp[row * z->heads + head] = work->offset[k];
    }
}

static void gather(struct forward_work *work, const struct forward_rows *rows,
                   const struct attention_sizes *z)
{
    const struct cut_window *cut = work->walk.cut;
    const int first = work->walk.task.head * z->head_dim;
    const float factor = log2_of_e / sqrtf((float)z->head_dim);
    KERNEL(gather_key_columns)(work->keys, z->channels + first, cut, z);
    if (attention_by_rows(z->width)) {
        KERNEL(gather_key_rows)(work->values, 2 * z->channels + first, cut, z);
    } else {
        KERNEL(gather_key_columns)(work->values, 2 * z->channels + first, cut, z);
    }
    KERNEL(gather_query_rows)(work->queries, rows->qkv, 3 * (size_t)z->channels, first, factor, cut, z);
}

static void attend_window(const struct forward_rows *rows, struct forward_work *work,
                          const struct attention_sizes *z)
{
    const struct window_pattern *pattern = work->walk.cut->pattern;
    gather(work, rows, z);
    look_ahead(work, rows, z);
    memset(work->offset, 0, pattern->query_slots * sizeof(float));
    for (int k = 0; k < pattern->pieces; k++) {
        attend_piece(work, &pattern->piece[k], z);
    }
    write_results(rows, work, z);
}

void KERNEL(window_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                      const activation *qkv, const float *qkv_bias, const float *bias_table,
                                      const struct attention_shape *s)
{
    struct attention_sizes z;
    if (!KERNEL(attention_sizes)(c, &z, s)) {
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
    const struct forward_rows rows = {.out = out, .logsumexp = logsumexp, .qkv = qkv};
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct forward_work work;
        unsigned char *mine = memory + part * bytes;
        lay_out_work(&work, mine, &z);
        KERNEL(begin_walk)(&work.walk, &in, NULL, mine + own, part, threads);
        while (KERNEL(next_window)(&work.walk)) {
            attend_window(&rows, &work, &z);
        }
    }
}
