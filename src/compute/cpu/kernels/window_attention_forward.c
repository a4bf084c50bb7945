#include "compute/cpu/kernels/attention_ahead.h"
#include "compute/cpu/kernels/attention_products.h"
#include "compute/cpu/kernels/attention_window.h"
#include "compute/cpu/kernels/kernels.h"

#include <math.h>

/* Exponentials are of scores as they are, or less their largest where a query's sum leaves these bounds. */
static const float least_sum = 0x1p-16F, largest_sum = 0x1p48F;

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
    float *bias;               /* (tokens, keys), of the head at work */
    float *keys, *values;      /* (width, keys), but values (keys, width) where sums are by rows */
    float *queries, *attended; /* (queries + query_tile, width) */
    float *exponentials;       /* (query_tile, keys) */
    float *tile_bias;          /* (query_tile, keys) */
    float *offset, *sum;       /* (queries + query_tile): sum of exponentials of the scores less offset */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (z->tokens + query_tile + lanes - 1) / lanes * lanes;
    const size_t tile = (size_t)query_tile * z->keys;
    const size_t counts[] = {(size_t)z->tokens * z->keys,
                             (size_t)z->width * z->keys,
                             (size_t)z->width * z->keys,
                             queries * z->width,
                             queries * z->width,
                             tile,
                             tile,
                             queries,
                             queries};
    float **const arrays[] = {&work->bias,      &work->keys,     &work->values,
                              &work->queries,   &work->attended, &work->exponentials,
                              &work->tile_bias, &work->offset,   &work->sum};
    size_t bytes = 0;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        *arrays[k] = (float *)(memory + bytes);
        bytes += float_bytes(counts[k]);
    }
    return bytes;
}

static ALWAYS_INLINE void load_bias(vec low[query_tile], vec high[query_tile],
                                    const float *const bias[query_tile], int k)
{
    for (int i = 0; i < query_tile; i++) {
        low[i] = load(bias[i] + k);
        high[i] = load(bias[i] + k + lanes);
    }
}

/* exponentials = 2^(bias + queries keys), and the sum of each row. Returns whether all sums are in bounds. */
static ALWAYS_INLINE int raise_scores(struct forward_work *work, const float *const bias[query_tile],
                                      int first, int width, int keys)
{
    const float *queries = work->queries + (size_t)first * width;
    vec sum[query_tile] = {{0}};
    for (int k = 0; k < keys; k += 2 * lanes) {
        vec low[query_tile], high[query_tile];
        fetch_ahead(&work->ahead);
        load_bias(low, high, bias, k);
        add_scores(low, high, queries, work->keys + k, width, keys);
        raise_two_to(low, query_tile);
        raise_two_to(high, query_tile);
        for (int i = 0; i < query_tile; i++) {
            store(work->exponentials + (size_t)i * keys + k, low[i]);
            store(work->exponentials + (size_t)i * keys + k + lanes, high[i]);
            sum[i] += low[i] + high[i];
        }
    }
    int in_bounds = 1;
    for (int i = 0; i < query_tile; i++) {
        const float total = sum_of_lanes(sum[i]);
        work->sum[first + i] = total;
        in_bounds &= total >= least_sum && total <= largest_sum;
    }
    return in_bounds;
}

/* Takes each query's largest score off its bias, into tile_bias. */
static void take_off_largest(struct forward_work *work, const float *bias[query_tile], int first, int width,
                             int keys)
{
    const float *queries = work->queries + (size_t)first * width;
    vec most[query_tile];
    for (int i = 0; i < query_tile; i++) {
        most[i] = broadcast(absent_key);
    }
    for (int k = 0; k < keys; k += 2 * lanes) {
        vec low[query_tile], high[query_tile];
        load_bias(low, high, bias, k);
        add_scores(low, high, queries, work->keys + k, width, keys);
        for (int i = 0; i < query_tile; i++) {
            most[i] = larger(most[i], larger(low[i], high[i]));
        }
    }
    for (int i = 0; i < query_tile; i++) {
        float *copy = work->tile_bias + (size_t)i * keys;
        const float offset = largest_lane(most[i]);
        for (int k = 0; k < keys; k += lanes) {
            store(copy + k, load(bias[i] + k) - offset);
        }
        bias[i] = copy;
        work->offset[first + i] = offset;
    }
}

/* What the next window reads and writes. */
static void look_ahead(struct forward_work *work, const struct forward_rows *rows, const struct window *next,
                       int head, const struct attention_sizes *z)
{
    struct window_ahead *ahead = &work->ahead;
    const size_t length = z->channels, first = (size_t)head * z->head_dim;
    const int tiles = (work->window->queries + query_tile - 1) / query_tile;
    begin_ahead(ahead, next, tiles * (z->keys / (2 * lanes)));
    for (int part = 0; part < 3; part++) {
        add_ahead(ahead, rows->qkv, sizeof(activation), 3 * length, part * length + first, z->head_dim);
    }
    add_ahead(ahead, rows->out, sizeof(activation), length, first, z->head_dim);
    add_ahead(ahead, rows->logsumexp, sizeof(float), z->heads, head, 1);
}

static ALWAYS_INLINE void attend(struct forward_work *work, int width, int keys)
{
    for (int first = 0; first < work->window->queries; first += query_tile) {
        const float *bias[query_tile];
        bias_of_tile(bias, work->tile_bias, work->bias, work->window, first, 0, keys, keys);
        if (!raise_scores(work, bias, first, width, keys)) {
            take_off_largest(work, bias, first, width, keys);
            raise_scores(work, bias, first, width, keys);
        }
        add_sums(work->attended + (size_t)first * width, work->exponentials, work->values, 0, keys, width,
                 keys);
    }
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
    const size_t queries = (size_t)work->window->queries + query_tile;
    KERNEL(gather_transposed)(work->keys, z->channels + first, work->window, z);
    if (sums_by_rows(z->width)) {
        KERNEL(gather_tokens)(work->values, 2 * z->channels + first, work->window, z);
    } else {
        KERNEL(gather_transposed)(work->values, 2 * z->channels + first, work->window, z);
    }
    KERNEL(gather_queries)(work->queries, rows->qkv, 3 * (size_t)z->channels, first, factor, work->window, z);
    memset(work->attended, 0, queries * z->width * sizeof *work->attended);
    memset(work->offset, 0, queries * sizeof *work->offset);
    if (z->keys == whole_window_keys && z->width == 4) {
        attend(work, 4, whole_window_keys);
    } else if (z->keys == whole_window_keys && z->width == 16) {
        attend(work, 16, whole_window_keys);
    } else {
        attend(work, z->width, z->keys);
    }
    write_results(rows, work, head, z);
}

void KERNEL(window_attention_forward)(struct compute *c, activation *out, float *logsumexp,
                                      const activation *qkv, const float *qkv_bias, const float *bias_table,
                                      const struct attention_shape *s)
{
    struct attention_sizes z;
    if (c->status != VOCO_OK || !KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
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
