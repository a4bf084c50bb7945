/* Times every operation of a compute implementation on the shapes of the recipes `tiny` and `base`, forward
 * and backward: median milliseconds, GFLOP/s where products are made, GB/s where memory is all (as if every
 * element had 4 bytes).
 *
 *   bench_operations [-i cpu|reference] [-p float32|bf16] [-t threads] [-r repetitions] [-f part of a name]
 *                    [-n crops of tiny] [-b crops of base] [-c]
 *
 * -c takes the processor's time of all threads in place of the clock's: with -t 1 it is what a busy machine
 * can still measure. */
#include "compute/compute.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static clockid_t clock_id = CLOCK_MONOTONIC;

enum { tensor_count = 8, most_repetitions = 99, backward_flops = 2 };

struct bench {
    struct compute compute;
    int repetitions;
    const char *filter;
    float *tensor[tensor_count];           /* parameters and statistics ... */
    activation *activations[tensor_count]; /* ... and activations, by their place in a task */
    size_t capacity[tensor_count];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The i-th tensor of the benchmark with at least `count` small numbers. */
static float *tensor(struct bench *b, int i, size_t count)
{
    if (count > b->capacity[i]) {
        free(b->tensor[i]);
        b->tensor[i] = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
        if (b->tensor[i] == NULL) {
            fprintf(stderr, "no memory\n");
            exit(1);
        }
        b->capacity[i] = count;
    }
    unsigned state = 12345U + i;
    for (size_t k = 0; k < count; k++) {
        state = state * 1664525U + 1013904223U;
        b->tensor[i][k] = (float)(state >> 8) / (1 << 23) - 1;
    }
    return b->tensor[i];
}

/* The same as activations; the i-th tensor is used up for it. */
static activation *activations(struct bench *b, int i, size_t count)
{
    const float *values = tensor(b, i, count);
    free(b->activations[i]);
    b->activations[i] = aligned_alloc(64, (count * b->compute.activation_size + 63) / 64 * 64);
    if (b->activations[i] == NULL) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    b->compute.activations_from_reals(&b->compute, b->activations[i], values, count);
    return b->activations[i];
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct task {
    struct bench *bench;
    void (*run)(const struct task *task);
    const struct conv3d_shape *conv;
    const struct attention_shape *attention;
    size_t rows;
    int in, out;
    int residual;
    float **t;
    activation **a;
};

static void measure(const char *name, const struct task *task, double flops, double bytes)
{
    double seconds[most_repetitions];
    struct bench *b = task->bench;
    if (b->filter != NULL && strstr(name, b->filter) == NULL) {
        return;
    }
    task->run(task);
    for (int k = 0; k < b->repetitions; k++) {
        const double start = now();
        task->run(task);
        seconds[k] = now() - start;
    }
    if (compute_status(&b->compute) != VOCO_OK) {
        printf("%-52s %s\n", name, voco_error_message());
        return;
    }
    qsort(seconds, b->repetitions, sizeof *seconds, compare);
    const double median = seconds[b->repetitions / 2];
    printf("%-52s %9.3f ms", name, median * 1e3);
    if (flops > 0) {
        printf(" %8.1f GFLOP/s", flops / median * 1e-9);
    }
    if (bytes > 0) {
        printf(" %8.1f GB/s", bytes / median * 1e-9);
    }
    printf("\n");
    (void)fflush(stdout);
}

static void conv_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->conv3d_forward(c, t->a[1], t->a[0], t->t[2], NULL, t->conv);
}

static void conv_backward_data(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->conv3d_backward(c, t->a[3], NULL, NULL, t->a[1], t->a[0], t->t[2], t->conv);
}

static void conv_backward_weights(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->conv3d_backward(c, NULL, t->t[4], NULL, t->a[1], t->a[0], t->t[2], t->conv);
}

static void bench_conv(struct bench *b, int n, int side, int in, int out, int kernel, int stride)
{
    const struct conv3d_shape s = {n, side, side, side, in, out, kernel, stride};
    const size_t rows = (size_t)n * side * side * side, taps = (size_t)kernel * kernel * kernel;
    const size_t out_rows = rows / (stride * stride * stride);
    float *t[tensor_count] = {[2] = tensor(b, 2, taps * in * out), [4] = tensor(b, 4, taps * in * out)};
    activation *a[tensor_count] = {[0] = activations(b, 0, rows * in),
                                   [1] = activations(b, 1, out_rows * out),
                                   [3] = activations(b, 3, rows * in)};
    struct task task = {.bench = b, .conv = &s, .t = t, .a = a};
    const double flops = 2.0 * taps * in * out * out_rows;
    static const char *const passes[3] = {"forward", "backward data", "backward weights"};
    void (*const runs[3])(const struct task *) = {conv_forward, conv_backward_data, conv_backward_weights};
    b->compute.parameters_changed(&b->compute);
    for (int pass = 0; pass < 3; pass++) {
        char name[128];
        snprintf(name, sizeof name, "conv %d^3/%d %2d x %2d^3 %3d to %3d %s", kernel, stride, n, side, in,
                 out, passes[pass]);
        if (pass != 1 || in > 1) {
            task.run = runs[pass];
            measure(name, &task, flops, 0);
        }
    }
}

static void linear_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->linear_forward(c, t->a[1], t->a[0], t->t[2], t->t[3], t->rows, t->in, t->out);
}

static void linear_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->linear_backward(c, t->a[4], t->t[5], t->t[6], t->a[1], t->a[0], t->t[2], t->rows, t->in, t->out);
}

static void bench_linear(struct bench *b, size_t rows, int in, int out)
{
    float *t[tensor_count] = {[2] = tensor(b, 2, (size_t)in * out),
                              [3] = tensor(b, 3, out),
                              [5] = tensor(b, 5, (size_t)in * out),
                              [6] = tensor(b, 6, out)};
    activation *a[tensor_count] = {[0] = activations(b, 0, rows * in),
                                   [1] = activations(b, 1, rows * out),
                                   [4] = activations(b, 4, rows * in)};
    struct task task = {.bench = b, .rows = rows, .in = in, .out = out, .t = t, .a = a};
    const double flops = 2.0 * (double)rows * in * out;
    char name[128];
    snprintf(name, sizeof name, "linear %6zu x %4d to %4d forward", rows, in, out);
    task.run = linear_forward;
    measure(name, &task, flops, 4.0 * (double)rows * (in + out));
    snprintf(name, sizeof name, "linear %6zu x %4d to %4d backward", rows, in, out);
    task.run = linear_backward;
    measure(name, &task, backward_flops * flops, 4.0 * (double)rows * (2 * in + 2 * out));
}

/* Tensors 0 and 1 are the MLP's parameters, 2 their gradients: weight1, weight2, then what is narrow. */
static struct mlp mlp_of(const struct task *t)
{
    const size_t weights = (size_t)t->in * t->out;
    const float *narrow = t->t[0] + 2 * weights;
    return (struct mlp){.channels = t->in,
                        .hidden = t->out,
                        .weight1 = t->t[0],
                        .weight2 = t->t[0] + weights,
                        .bias1 = narrow,
                        .bias2 = narrow + t->out,
                        .norm_weight = narrow + t->out + t->in,
                        .norm_bias = narrow + t->out + 2 * (size_t)t->in};
}

static struct mlp_gradients mlp_gradients_of(const struct task *t)
{
    const size_t weights = (size_t)t->in * t->out;
    float *narrow = t->t[2] + 2 * weights;
    return (struct mlp_gradients){.weight1 = t->t[2],
                                  .weight2 = t->t[2] + weights,
                                  .bias1 = narrow,
                                  .bias2 = narrow + t->out,
                                  .norm_weight = narrow + t->out + t->in,
                                  .norm_bias = narrow + t->out + 2 * (size_t)t->in};
}

static void mlp_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    const struct mlp mlp = mlp_of(t);
    c->mlp_forward(c, t->a[5], t->a[3], &mlp, t->rows);
}

static void mlp_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    const struct mlp mlp = mlp_of(t);
    const struct mlp_gradients gradients = mlp_gradients_of(t);
    c->mlp_backward(c, t->a[5], &gradients, t->a[4], t->a[3], &mlp, t->rows);
}

/* The same as nn/swin_block.c has it of an implementation without the operation; wide is kept. */
static void mlp_forward_in_steps(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    const struct mlp m = mlp_of(t);
    c->layer_norm_forward(c, t->a[5], t->t[6], t->t[7], t->a[3], m.norm_weight, m.norm_bias, t->rows, t->in);
    c->linear_gelu_forward(c, t->a[1], t->a[2], t->a[5], m.weight1, m.bias1, t->rows, t->in, t->out);
    c->linear_add_forward(c, t->a[6], t->a[2], m.weight2, m.bias2, t->a[3], t->rows, t->out, t->in);
}

static void mlp_backward_in_steps(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    const struct mlp m = mlp_of(t);
    const struct mlp_gradients g = mlp_gradients_of(t);
    c->gelu_forward(c, t->a[2], t->a[1], t->rows * t->out);
    c->linear_gelu_backward(c, t->a[7], g.weight2, g.bias2, t->a[4], t->a[2], t->a[1], m.weight2, t->rows,
                            t->out, t->in);
    c->layer_norm_forward(c, t->a[5], t->t[6], t->t[7], t->a[3], m.norm_weight, m.norm_bias, t->rows, t->in);
    c->linear_backward(c, t->a[6], g.weight1, g.bias1, t->a[7], t->a[5], m.weight1, t->rows, t->in, t->out);
    c->layer_norm_backward(c, t->a[6], g.norm_weight, g.norm_bias, t->a[6], t->a[3], t->t[6], t->t[7],
                           m.norm_weight, t->a[4], t->rows, t->in);
}

static void bench_mlp(struct bench *b, size_t rows, int channels)
{
    const int hidden = 4 * channels;
    const size_t params = 2 * (size_t)channels * hidden + hidden + 3 * channels;
    const size_t size = rows * channels, wide = rows * hidden;
    activation *a[tensor_count] = {
        [1] = activations(b, 1, wide), [2] = activations(b, 2, wide), [3] = activations(b, 3, size),
        [4] = activations(b, 4, size), [5] = activations(b, 5, size), [6] = activations(b, 6, size),
        [7] = activations(b, 7, wide)};
    float *t[tensor_count] = {[0] = tensor(b, 0, params),
                              [2] = tensor(b, 2, params),
                              [6] = tensor(b, 6, rows),
                              [7] = tensor(b, 7, rows)};
    for (size_t k = 0; k < params; k++) {
        t[0][k] *= 0.1F; /* or GELU would get what no network has, far from zero */
    }
    static const char *const names[2][2] = {{"forward", "backward"},
                                            {"forward in steps", "backward in steps"}};
    void (*const runs[2][2])(const struct task *) = {{mlp_forward, mlp_backward},
                                                     {mlp_forward_in_steps, mlp_backward_in_steps}};
    b->compute.parameters_changed(&b->compute);
    for (int in_steps = b->compute.mlp_forward == NULL; in_steps < 2; in_steps++) {
        for (int backward = 0; backward < 2; backward++) {
            const struct task task = {.bench = b,
                                      .rows = rows,
                                      .in = channels,
                                      .out = hidden,
                                      .t = t,
                                      .a = a,
                                      .run = runs[in_steps][backward]};
            char name[128];
            snprintf(name, sizeof name, "mlp %6zu x %3d %s", rows, channels, names[in_steps][backward]);
            measure(name, &task, (1 + backward) * 4.0 * (double)wide * channels, 0);
        }
    }
}

static void attention_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->window_attention_forward(c, t->a[1], t->t[2], t->a[0], t->t[3], t->t[4], t->attention);
}

static void attention_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->window_attention_backward(c, t->a[5], t->t[6], t->t[7], t->a[1], t->a[1], t->t[2], t->a[0], t->t[3],
                                 t->t[4], t->attention);
}

static void bench_attention(struct bench *b, int n, int side, int heads, int head_dim, int odd)
{
    struct attention_shape s = {
        .n = n, .d = side, .h = side, .w = side, .heads = heads, .head_dim = head_dim};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(side, odd, &s.window[axis], &s.shift[axis]);
    }
    const size_t rows = (size_t)n * side * side * side, c = (size_t)heads * head_dim;
    float *t[tensor_count] = {[2] = tensor(b, 2, rows * heads),
                              [3] = tensor(b, 3, 3 * c),
                              [4] = tensor(b, 4, (size_t)relative_table_rows * heads),
                              [6] = tensor(b, 6, 3 * c),
                              [7] = tensor(b, 7, (size_t)relative_table_rows * heads)};
    activation *a[tensor_count] = {[0] = activations(b, 0, rows * 3 * c),
                                   [1] = activations(b, 1, rows * c),
                                   [5] = activations(b, 5, rows * 3 * c)};
    struct task task = {.bench = b, .attention = &s, .t = t, .a = a, .run = attention_forward};
    const double products = 2.0 * (double)(rows * c) * s.window[0] * s.window[1] * s.window[2];
    char name[128];
    snprintf(name, sizeof name, "attention %2d x %2d^3 %2d heads of %2d%s forward", n, side, heads, head_dim,
             odd ? " shifted" : "");
    measure(name, &task, 2 * products, 0);
    attention_forward(&task);
    task.run = attention_backward;
    snprintf(name, sizeof name, "attention %2d x %2d^3 %2d heads of %2d%s backward", n, side, heads, head_dim,
             odd ? " shifted" : "");
    measure(name, &task, 5 * products, 0);
}

static void layer_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->layer_norm_forward(c, t->a[1], t->t[2], t->t[3], t->a[0], t->t[4], t->t[4], t->rows, t->in);
}

static void layer_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->layer_norm_backward(c, t->a[5], t->t[6], t->t[7], t->a[1], t->a[0], t->t[2], t->t[3], t->t[4], NULL,
                           t->rows, t->in);
}

static void bench_layer_norm(struct bench *b, size_t rows, int channels)
{
    float *t[tensor_count] = {[2] = tensor(b, 2, rows),
                              [3] = tensor(b, 3, rows),
                              [4] = tensor(b, 4, channels),
                              [6] = tensor(b, 6, channels),
                              [7] = tensor(b, 7, channels)};
    activation *a[tensor_count] = {[0] = activations(b, 0, rows * channels),
                                   [1] = activations(b, 1, rows * channels),
                                   [5] = activations(b, 5, rows * channels)};
    struct task task = {.bench = b, .rows = rows, .in = channels, .t = t, .a = a, .run = layer_forward};
    char name[128];
    snprintf(name, sizeof name, "layer_norm %6zu x %3d forward", rows, channels);
    measure(name, &task, 0, 8.0 * (double)rows * channels);
    task.run = layer_backward;
    snprintf(name, sizeof name, "layer_norm %6zu x %3d backward", rows, channels);
    measure(name, &task, 0, 12.0 * (double)rows * channels);
}

static void instance_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->instance_norm_forward(c, t->a[1], t->t[2], t->t[3], t->a[0], t->residual ? t->a[4] : NULL, 0.01F,
                             t->out, t->rows, t->in);
}

static void instance_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->instance_norm_backward(c, t->a[5], t->residual ? t->a[6] : NULL, t->a[4], t->a[1], t->a[0], t->t[2],
                              t->t[3], 0.01F, t->out, t->rows, t->in);
}

static void bench_instance_norm(struct bench *b, int n, int side, int channels, int residual)
{
    const size_t space = (size_t)side * side * side, size = n * space * channels;
    float *t[tensor_count] = {
        [2] = tensor(b, 2, (size_t)n * channels), [3] = tensor(b, 3, (size_t)n * channels)};
    activation *a[tensor_count] = {[0] = activations(b, 0, size),
                                   [1] = activations(b, 1, size),
                                   [4] = activations(b, 4, size),
                                   [5] = activations(b, 5, size),
                                   [6] = activations(b, 6, size)};
    struct task task = {
        .bench = b, .rows = space, .in = channels, .out = n, .residual = residual, .t = t, .a = a};
    char name[128];
    snprintf(name, sizeof name, "instance_norm %2d x %2d^3 x %3d%s forward", n, side, channels,
             residual ? " residual" : "");
    task.run = instance_forward;
    measure(name, &task, 0, 4.0 * (3 + residual) * (double)size);
    snprintf(name, sizeof name, "instance_norm %2d x %2d^3 x %3d%s backward", n, side, channels,
             residual ? " residual" : "");
    task.run = instance_backward;
    measure(name, &task, 0, 4.0 * (7 + residual) * (double)size);
}

static void gelu_forward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->gelu_forward(c, t->a[1], t->a[0], t->rows);
}

static void gelu_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->gelu_backward(c, t->a[1], t->a[1], t->a[0], t->rows);
}

static void adamw(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    const struct adamw_settings settings = {.learning_rate = 1e-4,
                                            .beta1 = 0.9,
                                            .beta2 = 0.999,
                                            .epsilon = 1e-8,
                                            .weight_decay = 0.01,
                                            .step = 10};
    const double squares = 1;
    c->adamw_step(c, t->t[0], t->t[1], t->t[2], t->t[3], t->t[4], &squares, &settings, t->rows);
}

static void moving_average(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->moving_average(c, t->t[0], t->t[1], t->t[4], 0.9F, t->rows);
}

static void zero(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->zero(c, t->t[4], t->rows);
}

static void sum_of_squares(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    double sum;
    c->sum_of_squares(c, &sum, t->t[0], t->rows);
}

static void merge(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->patch_merge_forward(c, t->a[1], t->a[0], PATCH_MERGING_LEGACY, t->out, (int)t->rows, (int)t->rows,
                           (int)t->rows, t->in);
}

static void merge_backward(const struct task *t)
{
    struct compute *c = &t->bench->compute;
    c->patch_merge_backward(c, t->a[1], t->a[0], PATCH_MERGING_LEGACY, t->out, (int)t->rows, (int)t->rows,
                            (int)t->rows, t->in);
}

static void bench_elementwise(struct bench *b)
{
    const size_t count = 4 << 20;
    activation *a[tensor_count] = {activations(b, 0, count), activations(b, 1, count)};
    float *t[tensor_count] = {tensor(b, 0, count), tensor(b, 1, count), tensor(b, 2, count),
                              tensor(b, 3, count), tensor(b, 4, count)};
    struct task task = {.bench = b, .rows = count, .t = t, .a = a, .run = gelu_forward};
    measure("gelu 4 M forward", &task, 0, 8.0 * (double)count);
    task.run = gelu_backward;
    measure("gelu 4 M backward", &task, 0, 12.0 * (double)count);
    task.run = sum_of_squares;
    measure("sum_of_squares 4 M", &task, 0, 4.0 * (double)count);
    for (int k = 0; k < 2; k++) {
        const int n = k == 0 ? 22 : 1, side = k == 0 ? 24 : 32, channels = k == 0 ? 12 : 48;
        struct task merging = {
            .bench = b, .rows = side, .in = channels, .out = n, .t = t, .a = a, .run = merge};
        const double bytes = 8.0 * n * side * side * side * channels;
        measure(k == 0 ? "patch_merge 22 x 24^3 x 12 forward" : "patch_merge 1 x 32^3 x 48 forward", &merging,
                0, bytes);
        merging.run = merge_backward;
        measure(k == 0 ? "patch_merge 22 x 24^3 x 12 backward" : "patch_merge 1 x 32^3 x 48 backward",
                &merging, 0, bytes);
    }
    t[2] = tensor(b, 2, count);
    for (size_t k = 0; k < count; k++) {
        t[2][k] = t[3][k] = 1;
    }
    task.run = adamw;
    measure("adamw 4 M", &task, 0, 36.0 * (double)count);
    task.run = moving_average;
    measure("moving_average 4 M", &task, 0, 16.0 * (double)count);
    task.run = zero;
    measure("zero 4 M", &task, 0, 4.0 * (double)count);
}

static void bench_recipe(struct bench *b, int n, int roi, int feature_size)
{
    bench_conv(b, n, roi, 1, feature_size, 3, 1);
    bench_conv(b, n, roi, 1, feature_size, 1, 1);
    bench_conv(b, n, roi, 1, feature_size, 2, 2);
    bench_conv(b, n, roi, feature_size, feature_size, 3, 1);
    bench_instance_norm(b, n, roi, feature_size, 0);
    bench_instance_norm(b, n, roi, feature_size, 1);
    for (int l = 0, side = roi / 2, c = feature_size; l < 4; l++, side = (side + 1) / 2, c *= 2) {
        const size_t rows = (size_t)n * side * side * side;
        bench_conv(b, n, side, c, c, 3, 1);
        bench_instance_norm(b, n, side, c, 1);
        bench_layer_norm(b, rows, c);
        bench_linear(b, rows, c, 3 * c);
        bench_linear(b, rows, c, c);
        bench_linear(b, rows, c, 4 * c);
        bench_linear(b, rows, 4 * c, c);
        bench_linear(b, rows / 8, 8 * c, 2 * c);
        bench_mlp(b, rows, c);
        bench_attention(b, n, side, 3 << l, feature_size / 3, 0);
        bench_attention(b, n, side, 3 << l, feature_size / 3, 1);
    }
    bench_conv(b, n, (roi + 31) / 32, 16 * feature_size, 16 * feature_size, 3, 1);
}

int main(int argc, char **argv)
{
    struct bench bench = {.repetitions = 5};
    const char *name = "cpu";
    enum compute_precision precision = PRECISION_FLOAT32;
    int threads = 0, option, crops_of_tiny = 22, crops_of_base = 1;
    while ((option = getopt(argc, argv, "ci:p:t:r:f:n:b:")) != -1) {
        switch (option) {
        case 'c':
            clock_id = CLOCK_PROCESS_CPUTIME_ID;
            break;
        case 'i':
            name = optarg;
            break;
        case 'p':
            precision = strcmp(optarg, "bf16") == 0 ? PRECISION_BF16 : PRECISION_FLOAT32;
            break;
        case 't':
            threads = atoi(optarg);
            break;
        case 'r':
            bench.repetitions = atoi(optarg);
            break;
        case 'f':
            bench.filter = optarg;
            break;
        case 'n':
            crops_of_tiny = atoi(optarg);
            break;
        case 'b':
            crops_of_base = atoi(optarg);
            break;
        default:
            fprintf(stderr,
                    "usage: %s [-i implementation] [-p float32|bf16] [-t threads] [-r repetitions] [-f part "
                    "of a name] "
                    "[-n crops of tiny] [-b crops of base] [-c]\n",
                    argv[0]);
            return 2;
        }
    }
    if (bench.repetitions < 1 || bench.repetitions > most_repetitions) {
        fprintf(stderr, "1 to %d repetitions\n", most_repetitions);
        return 2;
    }
    if (compute_open(&bench.compute, name, threads, precision) != VOCO_OK) {
        fprintf(stderr, "%s\n", voco_error_message());
        return 1;
    }
    if (crops_of_tiny > 0) {
        printf("tiny, %d crops\n", crops_of_tiny);
        bench_recipe(&bench, crops_of_tiny, 48, 12);
    }
    if (crops_of_base > 0) {
        printf("base, %d crops\n", crops_of_base);
        bench_recipe(&bench, crops_of_base, 64, 48);
    }
    bench_elementwise(&bench);
    compute_close(&bench.compute);
    for (int i = 0; i < tensor_count; i++) {
        free(bench.tensor[i]);
        free(bench.activations[i]);
    }
    return 0;
}
