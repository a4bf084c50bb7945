#include "compute/cpu/kernels/attention_window.h"
#include "compute/cpu/kernels/kernels.h"

#include <math.h>

/* The memory of one thread. */
struct forward_work {
    struct window window;
    float *bias;               /* (tokens, keys), of the head at work */
    float *keys, *values;      /* (width, keys) */
    float *queries, *attended; /* (queries + query_tile, width) */
    float *scores;             /* (query_tile, keys) */
    float *largest, *sum;      /* (queries + query_tile): of a query's scores, and of their exponentials */
};

/* Points the arrays into memory; returns the bytes they take. */
static size_t lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    const size_t queries = (z->tokens + query_tile + lanes - 1) / lanes * lanes;
    const size_t counts[] = {(size_t)z->tokens * z->keys,
                             (size_t)z->width * z->keys,
                             (size_t)z->width * z->keys,
                             queries * z->width,
                             queries * z->width,
                             (size_t)query_tile * z->keys,
                             queries,
                             queries};
    float **const arrays[] = {&work->bias,     &work->keys,   &work->values,  &work->queries,
                              &work->attended, &work->scores, &work->largest, &work->sum};
    size_t bytes = 0;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        *arrays[k] = (float *)(memory + bytes);
        bytes += float_bytes(counts[k]);
    }
    return bytes;
}

/* scores = bias + queries keys, and the largest of each row. */
static ALWAYS_INLINE void score_tile(struct forward_work *work, int first, int width, int masked, int keys)
{
    const float *queries = work->queries + (size_t)first * width;
    const float *bias[query_tile];
    int32_t own[query_tile];
    vec most[query_tile];
    for (int i = 0; i < query_tile; i++) {
        const int query = work->window.query[first + i];
        bias[i] = work->bias + (size_t)query * keys;
        own[i] = work->window.region[query];
        most[i] = broadcast(absent_key);
    }
    for (int k = 0; k < keys; k += 2 * lanes) {
        vec low[query_tile], high[query_tile];
        for (int i = 0; i < query_tile; i++) {
            low[i] = load(bias[i] + k);
            high[i] = load(bias[i] + k + lanes);
            if (masked) {
                low[i] = add_mask(low[i], work->window.region + k, own[i]);
                high[i] = add_mask(high[i], work->window.region + k + lanes, own[i]);
            }
        }
        for (int d = 0; d < width; d++) {
            const float *from = work->keys + (size_t)d * keys + k;
            const vec key_low = load(from), key_high = load(from + lanes);
            for (int i = 0; i < query_tile; i++) {
                low[i] += queries[i * width + d] * key_low;
                high[i] += queries[i * width + d] * key_high;
            }
        }
        for (int i = 0; i < query_tile; i++) {
            store(work->scores + (size_t)i * keys + k, low[i]);
            store(work->scores + (size_t)i * keys + k + lanes, high[i]);
            most[i] = larger(most[i], larger(low[i], high[i]));
        }
    }
    for (int i = 0; i < query_tile; i++) {
        work->largest[first + i] = largest_lane(most[i]);
    }
}

/* attended columns d .. d + 3 = probabilities values^T. At d = 0 the scores become probabilities on the way,
 * but for the division by their sum. */
static ALWAYS_INLINE void attend_columns(struct forward_work *work, int first, int d, int width, int keys)
{
    vec products[16] = {{0}}, total[query_tile] = {{0}};
    const float *values = work->values + (size_t)d * keys;
    for (int k = 0; k < keys; k += lanes) {
        const vec v0 = load(values + k), v1 = load(values + keys + k);
        const vec v2 = load(values + 2 * (size_t)keys + k), v3 = load(values + 3 * (size_t)keys + k);
        for (int i = 0; i < query_tile; i++) {
            float *score = work->scores + (size_t)i * keys + k;
            vec p = load(score);
            if (d == 0) {
                p = exp2_of(p - work->largest[first + i]);
                total[i] += p;
                if (width > 4) {
                    store(score, p);
                }
            }
            products[4 * i] += p * v0;
            products[4 * i + 1] += p * v1;
            products[4 * i + 2] += p * v2;
            products[4 * i + 3] += p * v3;
        }
    }
    float sums[16];
    sums_of_16(sums, products);
    for (int i = 0; i < query_tile; i++) {
        if (d == 0) {
            work->sum[first + i] = sum_of_lanes(total[i]);
        }
        store_quad(work->attended + (size_t)(first + i) * width + d,
                   load_quad(sums + 4 * (size_t)i) * (1 / work->sum[first + i]));
    }
}

static ALWAYS_INLINE void attend(struct forward_work *work, int width, int keys)
{
    for (int first = 0; first < work->window.queries; first += query_tile) {
        if (work->window.masked) {
            score_tile(work, first, width, 1, keys);
        } else {
            score_tile(work, first, width, 0, keys);
        }
        attend_columns(work, first, 0, width, keys);
        for (int d = 4; d < width; d += 4) {
            attend_columns(work, first, d, width, keys);
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
        activation *to = out + row * z->channels + head * z->head_dim;
        for (int d = 0; d < z->head_dim; d++) {
            to[d] = activation_of(work->attended[(size_t)k * z->width + d]);
        }
        logsumexp[row * z->heads + head] = work->sum[k];
    }
}

static void attend_window(activation *out, float *logsumexp, struct forward_work *work, const activation *qkv,
                          int head, const struct attention_sizes *z)
{
    const int first = head * z->head_dim;
    const float factor = log2_of_e / sqrtf((float)z->head_dim);
    KERNEL(gather_transposed)(work->keys, z->channels + first, &work->window, z);
    KERNEL(gather_transposed)(work->values, 2 * z->channels + first, &work->window, z);
    KERNEL(gather_queries)(work->queries, qkv, 3 * (size_t)z->channels, first, factor, &work->window, z);
    if (z->keys == whole_window_keys && z->width == 4) {
        attend(work, 4, whole_window_keys);
    } else if (z->keys == whole_window_keys && z->width == 16) {
        attend(work, 16, whole_window_keys);
    } else {
        attend(work, z->width, z->keys);
    }
    write_results(out, logsumexp, work, head, z);
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
    const size_t row_length = 3 * (size_t)z.channels, row_bytes = float_bytes(row_length);
    activation *padded_row = cpu_scratch(c, row_bytes + threads * bytes);
    if (padded_row == NULL) {
        return;
    }
    activations_of(padded_row, qkv_bias, row_length);
    unsigned char *memory = (unsigned char *)padded_row + row_bytes;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct forward_work work;
        lay_out_work(&work, memory + part * bytes, &z);
        int prepared = -1;
        const size_t end = share_begin(tasks, part + 1, threads);
        for (size_t task = share_begin(tasks, part, threads); task < end; task++) {
            const struct attention_task at = KERNEL(attention_task)(task, &z);
            const int head = at.head;
            if (head != prepared) {
                KERNEL(head_bias)(work.bias, bias_table, head, &z);
                prepared = head;
            }
            KERNEL(cut_window)(&work.window, at.window, qkv, padded_row, s);
            attend_window(out, logsumexp, &work, qkv, head, &z);
        }
    }
}
