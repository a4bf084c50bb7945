#include "compute/cpu/kernels/kernels.h"

#include "compute/cpu/kernels/attention_window.h"

#include <math.h>
#include <stdint.h>

/* The memory of one thread. */
struct backward_work {
    struct window window;
    float *bias, *dbias;                    /* (tokens, keys), of the head at work */
    float *keys, *values, *dkeys, *dvalues; /* (width, keys) */
    float *queries, *douts;                 /* (queries + query_tile, width) */
    float *probabilities, *dscores;         /* (query_tile, keys) */
    float *dqueries;                        /* (query_tile, width) */
};

/* Gradients of parameters that one thread has gathered. */
struct thread_sums {
    double *dtable; /* (heads, 2197) */
    double *dbias;  /* (3 channels) */
};

static size_t work_bytes(const struct attention_sizes *z)
{
    return 2 * float_bytes((size_t)z->tokens * z->keys) + 4 * float_bytes((size_t)z->width * z->keys) +
           2 * float_bytes((size_t)(z->tokens + query_tile) * z->width) +
           2 * float_bytes((size_t)query_tile * z->keys) + float_bytes((size_t)query_tile * z->width);
}

static float *take(unsigned char **memory, size_t count)
{
    float *part = (float *)*memory;
    *memory += float_bytes(count);
    return part;
}

static void lay_out_work(struct backward_work *work, unsigned char *memory, const struct attention_sizes *z)
{
    work->bias = take(&memory, (size_t)z->tokens * z->keys);
    work->dbias = take(&memory, (size_t)z->tokens * z->keys);
    work->keys = take(&memory, (size_t)z->width * z->keys);
    work->values = take(&memory, (size_t)z->width * z->keys);
    work->dkeys = take(&memory, (size_t)z->width * z->keys);
    work->dvalues = take(&memory, (size_t)z->width * z->keys);
    work->queries = take(&memory, (size_t)(z->tokens + query_tile) * z->width);
    work->douts = take(&memory, (size_t)(z->tokens + query_tile) * z->width);
    work->probabilities = take(&memory, (size_t)query_tile * z->keys);
    work->dscores = take(&memory, (size_t)query_tile * z->keys);
    work->dqueries = take(&memory, (size_t)query_tile * z->width);
}

/* probabilities = 2^(scores - log2 of their sum); dscores = probabilities (dprobabilities - dout . out),
 * which the gradient of the bias takes up. */
static void softmax_backward(float *probabilities, float *dscores, float *dbias, float log2_sum,
                             float dout_out, int keys)
{
    for (int k = 0; k < keys; k += lanes) {
        const vec p = exp2_of(load(probabilities + k) - log2_sum);
        const vec dscore = p * (load(dscores + k) - dout_out);
        store(probabilities + k, p);
        store(dscores + k, dscore);
        store(dbias + k, load(dbias + k) + dscore);
    }
}

/* dkeys (width, keys) += queries (4, width)^T dscores (4, keys) */
static void add_outer_products(float *dkeys, const float *queries, const float *dscores, int width, int keys)
{
    for (int k = 0; k < keys; k += lanes) {
        vec row[query_tile];
        for (int i = 0; i < query_tile; i++) {
            row[i] = load(dscores + (size_t)i * keys + k);
        }
        for (int d = 0; d < width; d++) {
            vec sum = load(dkeys + (size_t)d * keys + k);
            for (int i = 0; i < query_tile; i++) {
                sum += queries[i * width + d] * row[i];
            }
            store(dkeys + (size_t)d * keys + k, sum);
        }
    }
}

/* What backward reads besides qkv. */
struct upstream {
    const float *dout, *out, *logsumexp;
};

static void backward_of_tile(float *dqkv, struct backward_work *work, const struct upstream *upstream,
                             int first, int head, const struct attention_shape *s,
                             const struct attention_sizes *z)
{
    const struct window *window = &work->window;
    const float *queries = work->queries + (size_t)first * z->width;
    const float *douts = work->douts + (size_t)first * z->width;
    const float scale = 1 / sqrtf((float)s->head_dim);
    const float *start[query_tile];
    for (int i = 0; i < query_tile; i++) {
        start[i] = work->bias + (size_t)window->query[first + i] * z->keys;
    }
    tile_times_keys(work->probabilities, start, queries, work->keys, z->width, z->keys);
    if (window->regions > 1) {
        mask_tile(work->probabilities, window, first);
    }
    tile_times_keys(work->dscores, NULL, douts, work->values, z->width, z->keys);
    const int count = window->queries - first < query_tile ? window->queries - first : query_tile;
    for (int i = 0; i < count; i++) {
        const int query = window->query[first + i];
        const float *out = upstream->out + window->row[query] * z->channels + head * s->head_dim;
        float dout_out = 0;
        for (int d = 0; d < s->head_dim; d++) {
            dout_out += douts[i * z->width + d] * out[d];
        }
        softmax_backward(work->probabilities + (size_t)i * z->keys, work->dscores + (size_t)i * z->keys,
                         work->dbias + (size_t)query * z->keys,
                         upstream->logsumexp[window->row[query] * s->heads + head] * log2_of_e, dout_out,
                         z->keys);
    }
    const size_t absent = (size_t)(query_tile - count) * z->keys;
    memset(work->probabilities + (size_t)count * z->keys, 0, absent * sizeof(float));
    memset(work->dscores + (size_t)count * z->keys, 0, absent * sizeof(float));
    add_outer_products(work->dkeys, queries, work->dscores, z->width, z->keys);
    add_outer_products(work->dvalues, douts, work->probabilities, z->width, z->keys);
    tile_over_keys(work->dqueries, work->dscores, work->keys, z->width, z->keys);
    for (int i = 0; i < count; i++) {
        float *to = dqkv + window->row[window->query[first + i]] * 3 * z->channels + head * s->head_dim;
        for (int d = 0; d < s->head_dim; d++) {
            to[d] = work->dqueries[i * z->width + d] * scale;
        }
    }
}

/* Columns first .. first + head_dim - 1 of real tokens are written, those of padded ones added to dbias. */
static void scatter_transposed(float *dqkv, double *dbias, const float *gradient, float factor, int first,
                               const struct window *window, const struct attention_shape *s,
                               const struct attention_sizes *z)
{
    for (int t = 0; t < window->tokens; t++) {
        const float *from = gradient + t;
        if (window->row[t] == SIZE_MAX) {
            for (int d = 0; d < s->head_dim; d++) {
                dbias[first + d] += (double)from[(size_t)d * z->keys] * factor;
            }
            continue;
        }
        float *to = dqkv + window->row[t] * 3 * z->channels + first;
        for (int d = 0; d < s->head_dim; d++) {
            to[d] = from[(size_t)d * z->keys] * factor;
        }
    }
}

static void backward_of_window(float *dqkv, double *dbias, struct backward_work *work, const float *qkv,
                               const float *qkv_bias, const struct upstream *upstream, int head,
                               const struct attention_shape *s, const struct attention_sizes *z)
{
    const size_t row_length = 3 * (size_t)z->channels, block = (size_t)z->width * z->keys;
    const int first = head * s->head_dim;
    const float factor = log2_of_e / sqrtf((float)s->head_dim);
    KERNEL(gather_transposed)
    (work->keys, qkv, row_length, qkv_bias, z->channels + first, &work->window, s, z->width);
    KERNEL(gather_transposed)
    (work->values, qkv, row_length, qkv_bias, 2 * z->channels + first, &work->window, s, z->width);
    KERNEL(gather_queries)(work->queries, qkv, row_length, first, factor, &work->window, s, z->width);
    KERNEL(gather_queries)(work->douts, upstream->dout, z->channels, first, 1, &work->window, s, z->width);
    memset(work->dkeys, 0, block * sizeof(float));
    memset(work->dvalues, 0, block * sizeof(float));
    for (int query = 0; query < work->window.queries; query += query_tile) {
        backward_of_tile(dqkv, work, upstream, query, head, s, z);
    }
    /* The queries carry log2(e), which the gradient of the keys must not. */
    scatter_transposed(dqkv, dbias, work->dkeys, log_of_2, z->channels + first, &work->window, s, z);
    scatter_transposed(dqkv, dbias, work->dvalues, 1, 2 * z->channels + first, &work->window, s, z);
}

static void reduce_sums(float *dqkv_bias, float *dbias_table, const struct thread_sums *sums, int threads,
                        int heads, int channels)
{
    for (int k = 0; k < 3 * channels; k++) {
        double sum = 0;
        for (int part = 0; part < threads; part++) {
            sum += sums[part].dbias[k];
        }
        dqkv_bias[k] += (float)sum;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < relative_table_rows; row++) {
        for (int head = 0; head < heads; head++) {
            double sum = 0;
            for (int part = 0; part < threads; part++) {
                sum += sums[part].dtable[(size_t)head * relative_table_rows + row];
            }
            dbias_table[(size_t)row * heads + head] += (float)sum;
        }
    }
}

void KERNEL(window_attention_backward)(struct compute *c, float *dqkv, float *dqkv_bias, float *dbias_table,
                                       const float *dout, const float *out, const float *logsumexp,
                                       const float *qkv, const float *qkv_bias, const float *bias_table,
                                       const struct attention_shape *s)
{
    enum { most_threads = 256 };
    struct attention_sizes z;
    if (c->status != VOCO_OK || !KERNEL(attention_sizes)(c, &z, s)) {
        return;
    }
    const struct upstream upstream = {.dout = dout, .out = out, .logsumexp = logsumexp};
    const int threads = cpu_state(c)->threads < most_threads ? cpu_state(c)->threads : most_threads;
    const size_t tasks = z.windows * s->heads, matrix = (size_t)z.tokens * z.keys;
    const size_t table = (size_t)s->heads * relative_table_rows, sums_length = table + 3 * (size_t)z.channels;
    const size_t bytes = work_bytes(&z) + float_bytes(2 * sums_length);
    unsigned char *memory = cpu_scratch(c, threads * bytes);
    if (memory == NULL) {
        return;
    }
    struct thread_sums sums[most_threads];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        struct backward_work work;
        lay_out_work(&work, memory + part * bytes, &z);
        sums[part].dtable = (double *)(memory + part * bytes + work_bytes(&z));
        sums[part].dbias = sums[part].dtable + table;
        memset(sums[part].dtable, 0, sums_length * sizeof(double));
        int prepared = -1;
        for (size_t task = share_begin(tasks, part, threads); task < share_begin(tasks, part + 1, threads);
             task++) {
            const int head = (int)(task / z.windows);
            if (head != prepared) {
                if (prepared >= 0) {
                    KERNEL(add_table_gradient)
                    (sums[part].dtable + (size_t)prepared * relative_table_rows, work.dbias, &z);
                }
                KERNEL(head_bias)(work.bias, bias_table, head, s->heads, &z);
                memset(work.dbias, 0, matrix * sizeof(float));
                prepared = head;
            }
            KERNEL(cut_window)(&work.window, task % z.windows, s);
            backward_of_window(dqkv, sums[part].dbias, &work, qkv, qkv_bias, &upstream, head, s, &z);
        }
        if (prepared >= 0) {
            KERNEL(add_table_gradient)
            (sums[part].dtable + (size_t)prepared * relative_table_rows, work.dbias, &z);
        }
    }
    reduce_sums(dqkv_bias, dbias_table, sums, threads, s->heads, z.channels);
}
