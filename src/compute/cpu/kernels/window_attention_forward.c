#include "compute/cpu/kernels/kernels.h"

#include "compute/cpu/kernels/attention_window.h"

#include <math.h>

/* The memory of one thread. */
struct forward_work {
    struct window window;
    float *bias;          /* (tokens, keys), of the head at work */
    float *keys, *values; /* (width, keys) */
    float *queries;       /* (queries + query_tile, width) */
    float *scores;        /* (query_tile, keys) */
    float *attended;      /* (query_tile, width) */
};

static size_t work_bytes(const struct attention_sizes *z)
{
    return float_bytes((size_t)z->tokens * z->keys) + 2 * float_bytes((size_t)z->width * z->keys) +
           float_bytes((size_t)(z->tokens + query_tile) * z->width) +
           float_bytes((size_t)query_tile * z->keys) + float_bytes((size_t)query_tile * z->width);
}

static float *take(unsigned char **memory, size_t count)
{
    float *part = (float *)*memory;
    *memory += float_bytes(count);
    return part;
}

static void lay_out_work(struct forward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    work->bias = take(&memory, (size_t)z->tokens * z->keys);
    work->keys = take(&memory, (size_t)z->width * z->keys);
    work->values = take(&memory, (size_t)z->width * z->keys);
    work->queries = take(&memory, (size_t)(z->tokens + query_tile) * z->width);
    work->scores = take(&memory, (size_t)query_tile * z->keys);
    work->attended = take(&memory, (size_t)query_tile * z->width);
}

/* scores become their exponentials, relative to the largest. Returns the sum; log2_sum is the logarithm of
 * the whole sum. */
static float exponentials(float *scores, int keys, float *log2_sum)
{
    vec most = load(scores);
    for (int k = lanes; k < keys; k += lanes) {
        most = larger(most, load(scores + k));
    }
    const float largest = largest_lane(most);
    vec total = {0};
    for (int k = 0; k < keys; k += lanes) {
        const vec p = exp2_of(load(scores + k) - largest);
        store(scores + k, p);
        total += p;
    }
    const float sum = sum_of_lanes(total);
    *log2_sum = largest + log2f(sum);
    return sum;
}

static void attend_tile(float *out, float *logsumexp, struct forward_work *work, int first, int head,
                        const struct attention_shape *s, const struct attention_sizes *z)
{
    const struct window *window = &work->window;
    const float *start[query_tile];
    for (int i = 0; i < query_tile; i++) {
        start[i] = work->bias + (size_t)window->query[first + i] * z->keys;
    }
    tile_times_keys(work->scores, start, work->queries + (size_t)first * z->width, work->keys, z->width,
                    z->keys);
    if (window->regions > 1) {
        mask_tile(work->scores, window, first);
    }
    float sum[query_tile], log2_sum[query_tile];
    for (int i = 0; i < query_tile; i++) {
        sum[i] = exponentials(work->scores + (size_t)i * z->keys, z->keys, &log2_sum[i]);
    }
    tile_over_keys(work->attended, work->scores, work->values, z->width, z->keys);
    for (int i = 0; i < query_tile && first + i < window->queries; i++) {
        const size_t row = window->row[window->query[first + i]];
        for (int d = 0; d < s->head_dim; d++) {
            out[row * z->channels + head * s->head_dim + d] = work->attended[i * z->width + d] / sum[i];
        }
        logsumexp[row * s->heads + head] = log2_sum[i] * log_of_2;
    }
}

void KERNEL(window_attention_forward)(struct compute *c, float *out, float *logsumexp, const float *qkv,
                                      const float *qkv_bias, const float *bias_table,
                                      const struct attention_shape *s)
{
    struct attention_sizes z;
    if (c->status != VOCO_OK || !KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    const int threads = cpu_state(c)->threads;
    const size_t tasks = z.windows * s->heads, bytes = work_bytes(&z), row_length = 3 * (size_t)z.channels;
    unsigned char *memory = cpu_scratch(c, threads * bytes);
    if (memory == NULL) {
        return;
    }
    const float factor = log2_of_e / sqrtf((float)s->head_dim);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct forward_work work;
        lay_out_work(&work, memory + part * bytes, &z);
        int prepared = -1;
        for (size_t task = share_begin(tasks, part, threads); task < share_begin(tasks, part + 1, threads);
             task++) {
            const int head = (int)(task / z.windows), first = head * s->head_dim;
            if (head != prepared) {
                KERNEL(head_bias)(work.bias, bias_table, head, s->heads, &z);
                prepared = head;
            }
            KERNEL(cut_window)(&work.window, task % z.windows, s);
            KERNEL(gather_transposed)
            (work.keys, qkv, row_length, qkv_bias, z.channels + first, &work.window, s, z.width);
            KERNEL(gather_transposed)
            (work.values, qkv, row_length, qkv_bias, 2 * z.channels + first, &work.window, s, z.width);
            KERNEL(gather_queries)(work.queries, qkv, row_length, first, factor, &work.window, s, z.width);
            for (int query = 0; query < work.window.queries; query += query_tile) {
                attend_tile(out, logsumexp, &work, query, head, s, &z);
            }
        }
    }
}
