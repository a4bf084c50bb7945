/* Times window attention in bf16 on the GPU in the shapes of the network, and holds it against the plain
 * kernels
 * (-DVOCO_BENCH=ON; build/bench/bench_attention_cuda). Ends with status 1 where one is wrong. */
#include "timed_kernels.cuh"

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/memory.cuh"
#include "compute/cuda/window_attention.cuh"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <vector>

/* sums: of squares of the difference, and of what is expected. */
template <typename T>
static __global__ void add_squares(double *sums, const T *found, const T *expected, size_t count)
{
    double error = 0, size = 0;
    for (size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x; k < count;
         k += (size_t)gridDim.x * blockDim.x) {
        const double e = to_float(expected[k]), f = to_float(found[k]);
        error += (f - e) * (f - e);
        size += e * e;
    }
    error = warp_sum(error);
    size = warp_sum(size);
    if (threadIdx.x % warp_size == 0) {
        atomicAdd(&sums[0], error);
        atomicAdd(&sums[1], size);
    }
}

/* What an operation gives. */
struct results {
    bf16 *out, *dqkv;
    float *logsumexp, *dqkv_bias, *dbias_table;
};

struct arrays {
    attention_shape shape;
    size_t tokens, channels, table;
    bf16 *qkv, *dout;
    float *qkv_bias, *bias_table;
    results expected, found, again;
    double *sums;
};

static int bad = 0;

template <typename T> static T *allocate(compute *c, size_t count)
{
    return (T *)c->allocate(c, count * sizeof(T));
}

static void open_results(compute *c, const arrays *a, results *r)
{
    r->out = allocate<bf16>(c, a->tokens * a->channels);
    r->dqkv = allocate<bf16>(c, a->tokens * 3 * a->channels);
    r->logsumexp = allocate<float>(c, a->tokens * a->shape.heads);
    r->dqkv_bias = allocate<float>(c, 3 * a->channels);
    r->dbias_table = allocate<float>(c, a->table);
    launch(c, fill<bf16>, dim3(1024), dim3(256), 0, r->dqkv, a->tokens * 3 * a->channels, 1.0f, 0.0f, 9u);
}

static void close_results(compute *c, results *r)
{
    void *all[] = {r->out, r->dqkv, r->logsumexp, r->dqkv_bias, r->dbias_table};
    for (void *one : all) {
        c->release(c, one);
    }
}

static void open_arrays(compute *c, arrays *a, const attention_shape &shape)
{
    a->shape = shape;
    a->tokens = (size_t)shape.n * shape.d * shape.h * shape.w;
    a->channels = (size_t)shape.heads * shape.head_dim;
    a->table = (size_t)relative_table_rows * shape.heads;
    a->qkv = allocate<bf16>(c, a->tokens * 3 * a->channels);
    a->dout = allocate<bf16>(c, a->tokens * a->channels);
    a->qkv_bias = allocate<float>(c, 3 * a->channels);
    a->bias_table = allocate<float>(c, a->table);
    a->sums = allocate<double>(c, 2);
    launch(c, fill<bf16>, dim3(1024), dim3(256), 0, a->qkv, a->tokens * 3 * a->channels, 2.0f, 0.0f, 1u);
    launch(c, fill<bf16>, dim3(1024), dim3(256), 0, a->dout, a->tokens * a->channels, 1.0f, 0.0f, 2u);
    launch(c, fill<float>, dim3(16), dim3(256), 0, a->qkv_bias, 3 * a->channels, 2.0f, 0.0f, 3u);
    launch(c, fill<float>, dim3(16), dim3(256), 0, a->bias_table, a->table, 1.0f, 0.0f, 4u);
    open_results(c, a, &a->expected);
    open_results(c, a, &a->found);
    open_results(c, a, &a->again);
}

static void close_arrays(compute *c, arrays *a)
{
    cuda_wait(c);
    close_results(c, &a->expected);
    close_results(c, &a->found);
    close_results(c, &a->again);
    void *all[] = {a->qkv, a->dout, a->qkv_bias, a->bias_table, a->sums};
    for (void *one : all) {
        c->release(c, one);
    }
}

typedef void forward(compute *c, activation *out, float *logsumexp, const activation *qkv,
                     const float *qkv_bias, const float *bias_table, const attention_shape *shape);
typedef void backward(compute *c, activation *dqkv, float *dqkv_bias, float *dbias_table,
                      const activation *dout, const activation *out, const float *logsumexp,
                      const activation *qkv, const float *qkv_bias, const float *bias_table,
                      const attention_shape *shape);

static void run_forward(compute *c, const arrays *a, const results *r, forward *operation)
{
    operation(c, (activation *)r->out, r->logsumexp, (activation *)a->qkv, a->qkv_bias, a->bias_table,
              &a->shape);
}

static void run_backward(compute *c, const arrays *a, const results *r, backward *operation)
{
    operation(c, (activation *)r->dqkv, r->dqkv_bias, r->dbias_table, (activation *)a->dout,
              (activation *)r->out, r->logsumexp, (activation *)a->qkv, a->qkv_bias, a->bias_table,
              &a->shape);
}

static void run_both(compute *c, const arrays *a, const results *r, forward *f, backward *b)
{
    cuda_fill_zero(c, r->dqkv_bias, 3 * a->channels * sizeof(float));
    cuda_fill_zero(c, r->dbias_table, a->table * sizeof(float));
    run_forward(c, a, r, f);
    run_backward(c, a, r, b);
}

template <typename T>
static double difference(compute *c, const arrays *a, const T *found, const T *expected, size_t count)
{
    double sums[2];
    cuda_fill_zero(c, a->sums, sizeof sums);
    launch(c, add_squares<T>, dim3(1024), dim3(256), 0, a->sums, found, expected, count);
    cuda_to_host(c, sums, a->sums, sizeof sums);
    cuda_wait(c);
    return sums[1] > 0 ? sqrt(sums[0] / sums[1]) : sqrt(sums[0]);
}

template <typename T>
static void compare(compute *c, const arrays *a, const char *what, const T *found, const T *again,
                    const T *expected, size_t count, double most)
{
    const double error = difference(c, a, found, expected, count),
                 change = difference(c, a, again, found, count);
    const int wrong = !(error <= most) || change != 0;
    bad += wrong;
    printf("  %s %.1e%s%s", what, error, change == 0 ? "" : " CHANGES", wrong ? " WRONG" : "");
}

static void check(compute *c, const arrays *a, forward *f, backward *b)
{
    const results *x = &a->found, *y = &a->again, *e = &a->expected;
    run_both(c, a, x, f, b);
    run_both(c, a, y, f, b);
    compare(c, a, "out", x->out, y->out, e->out, a->tokens * a->channels, 1e-2);
    compare(c, a, "logsumexp", x->logsumexp, y->logsumexp, e->logsumexp, a->tokens * a->shape.heads, 1e-3);
    compare(c, a, "dqkv", x->dqkv, y->dqkv, e->dqkv, a->tokens * 3 * a->channels, 1e-2);
    compare(c, a, "dqkv_bias", x->dqkv_bias, y->dqkv_bias, e->dqkv_bias, 3 * a->channels, 4e-3);
    compare(c, a, "dbias_table", x->dbias_table, y->dbias_table, e->dbias_table, a->table, 4e-3);
    printf("\n");
}

static const struct {
    const char *name;
    forward *run;
} forwards[] = {{"forward", cuda_window_attention_forward}};

static const struct {
    const char *name;
    backward *run;
} backwards[] = {{"backward", cuda_window_attention_backward}};

static void bench(compute *c, const attention_shape &shape)
{
    arrays a;
    open_arrays(c, &a, shape);
    printf("%d x %d x %d x %d, %d heads of %d, shift %d\n", shape.n, shape.d, shape.h, shape.w, shape.heads,
           shape.head_dim, shape.shift[0]);
    run_both(c, &a, &a.expected, plain_window_attention_forward, plain_window_attention_backward);
    check(c, &a, forwards[0].run, backwards[0].run);
    for (const auto &f : forwards) {
        printf("  %-24s %8.3f ms\n", f.name, time_of(c, [&] { run_forward(c, &a, &a.found, f.run); }));
    }
    for (const auto &b : backwards) {
        printf("  %-24s %8.3f ms\n", b.name, time_of(c, [&] { run_backward(c, &a, &a.found, b.run); }));
    }
    fflush(stdout);
    close_arrays(c, &a);
}

int main(void)
{
    struct compute c;
    if (compute_open(&c, "cuda", 0, PRECISION_BF16) != VOCO_OK) {
        printf("skipped: %s\n", voco_error_message());
        return 77;
    }
    printf("compute capability %d.%d, %d multiprocessors\n", cuda_state(&c)->major, cuda_state(&c)->minor,
           cuda_state(&c)->multiprocessors);
    for (int shift = 0; shift <= 3; shift += 3) {
        bench(&c, attention_shape{44, 32, 32, 32, 3, 16, {7, 7, 7}, {shift, shift, shift}});
        bench(&c, attention_shape{44, 16, 16, 16, 6, 16, {7, 7, 7}, {shift, shift, shift}});
        bench(&c, attention_shape{44, 8, 8, 8, 12, 16, {7, 7, 7}, {shift, shift, shift}});
    }
    bench(&c, attention_shape{44, 4, 4, 4, 24, 16, {4, 4, 4}, {0, 0, 0}});
    for (int channels = 32; channels <= 64; channels *= 2) { /* heads of large and of huge */
        for (int shift = 0; shift <= 3; shift += 3) {
            bench(&c, attention_shape{11, 32, 32, 32, 3, channels, {7, 7, 7}, {shift, shift, shift}});
            bench(&c, attention_shape{11, 16, 16, 16, 6, channels, {7, 7, 7}, {shift, shift, shift}});
            bench(&c, attention_shape{11, 8, 8, 8, 12, channels, {7, 7, 7}, {shift, shift, shift}});
        }
        bench(&c, attention_shape{11, 4, 4, 4, 24, channels, {4, 4, 4}, {0, 0, 0}});
    }
    for (int channels = 16; channels <= 64; channels *= 2) {
        bench(&c, attention_shape{3, 9, 6, 11, 2, channels, {7, 6, 7}, {3, 0, 3}});
    }
    printf(bad || c.status != VOCO_OK ? "WRONG: %d %s\n" : "all right\n", bad, c.message);
    const int failed = bad || c.status != VOCO_OK;
    compute_close(&c);
    return failed;
}
