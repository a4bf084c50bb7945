/* Times the first stage's MLP in bf16 (compute/cuda/mlp.cuh) on the GPU, by warps' products and, on Hopper,
 * by warpgroups', and holds the latter against the former (-DVOCO_BENCH=ON; build/bench/bench_mlp_cuda
 * [ROWS]). Ends with status 1 where they differ. */
#include "timed_kernels.cuh"

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/memory.cuh"
#include "compute/cuda/mlp.cuh"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

struct results {
    bf16 *out, *dx;
    float *partial;
};

struct arrays {
    size_t rows, size, blocks;
    bf16 *x, *dout, *weight1, *weight2;
    float *bias1, *bias2;
    mlp_factors factors;
    results by_warps, by_warpgroups, again;
};

template <typename T> static T *filled(compute *c, size_t count, float scale, unsigned seed)
{
    T *array = (T *)c->allocate(c, count * sizeof(T));
    launch(c, fill<T>, dim3(1024), dim3(256), 0, array, count, scale, 0.0f, seed);
    return array;
}

static void open_results(compute *c, const arrays *a, results *r)
{
    r->out = filled<bf16>(c, a->size, 1, 9);
    r->dx = filled<bf16>(c, a->size, 1, 9);
    r->partial = filled<float>(c, a->blocks * mlp_sums, 1, 9);
}

static void open_arrays(compute *c, arrays *a, size_t rows)
{
    a->rows = rows;
    a->size = rows * normed_channels;
    a->blocks = mlp_backward_blocks(c, rows);
    a->x = filled<bf16>(c, a->size, 2, 1);
    a->dout = filled<bf16>(c, a->size, 1, 2);
    a->weight1 = filled<bf16>(c, mlp_weights, 0.4f, 3);
    a->weight2 = filled<bf16>(c, mlp_weights, 0.2f, 4);
    a->bias1 = filled<float>(c, mlp_hidden, 0.5f, 5);
    a->bias2 = filled<float>(c, normed_channels, 0.5f, 6);
    a->factors = mlp_factors{a->weight1, a->weight2, a->bias1, a->bias2};
    open_results(c, a, &a->by_warps);
    open_results(c, a, &a->by_warpgroups);
    open_results(c, a, &a->again);
}

static void close_arrays(compute *c, arrays *a)
{
    cuda_wait(c);
    void *all[] = {a->x, a->dout, a->weight1, a->weight2, a->bias1, a->bias2};
    for (void *one : all) {
        c->release(c, one);
    }
    for (results *r : {&a->by_warps, &a->by_warpgroups, &a->again}) {
        c->release(c, r->out);
        c->release(c, r->dx);
        c->release(c, r->partial);
    }
}

/* ---- whether they agree ---- */

static int bad = 0;

template <typename T> static std::vector<T> on_host(compute *c, const T *x, size_t count)
{
    std::vector<T> result(count);
    cuda_to_host(c, result.data(), x, count * sizeof(T));
    cuda_wait(c);
    return result;
}

static double value_of(bf16 x)
{
    const unsigned bits = (unsigned)x.bits << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double value_of(float x)
{
    return x;
}

template <typename T>
static void compare(compute *c, const char *what, const T *found, const T *again, const T *expected,
                    size_t count, size_t blocks)
{
    const std::vector<T> f = on_host(c, found, count * blocks), e = on_host(c, expected, count * blocks);
    const std::vector<T> twice = on_host(c, again, count * blocks);
    double error = 0, size = 0;
    for (size_t k = 0; k < count; k++) {
        double difference = 0, sum = 0; /* over the blocks, which divide rows alike */
        for (size_t block = 0; block < blocks; block++) {
            difference += value_of(f[block * count + k]) - value_of(e[block * count + k]);
            sum += value_of(e[block * count + k]);
        }
        error += difference * difference;
        size += sum * sum;
    }
    const int same = memcmp(f.data(), twice.data(), count * blocks * sizeof(T)) == 0;
    const int wrong = !(sqrt(error / size) <= 4e-3) || !same;
    bad += wrong;
    printf("  %-10s %.1e%s%s\n", what, sqrt(error / size), same ? "" : " OTHER BITS", wrong ? " WRONG" : "");
}

static void run_by_warpgroups(compute *c, arrays *a, results *r)
{
    mlp_rows_forward_by_warpgroups(c, r->out, a->x, &a->factors, a->rows);
    mlp_rows_backward_by_warpgroups(c, r->dx, r->partial, a->dout, a->x, &a->factors, a->rows);
}

static void check(compute *c, size_t rows)
{
    arrays a;
    open_arrays(c, &a, rows);
    printf("%zu rows\n", rows);
    mlp_rows_forward(c, a.by_warps.out, a.x, &a.factors, rows);
    mlp_rows_backward(c, a.by_warps.dx, a.by_warps.partial, a.dout, a.x, &a.factors, rows);
    run_by_warpgroups(c, &a, &a.by_warpgroups);
    run_by_warpgroups(c, &a, &a.again);
    const results &found = a.by_warpgroups, &again = a.again, &expected = a.by_warps;
    compare(c, "out", found.out, again.out, expected.out, a.size, 1);
    compare(c, "dx", found.dx, again.dx, expected.dx, a.size, 1);
    compare(c, "gradients", found.partial, again.partial, expected.partial, mlp_sums, a.blocks);
    close_arrays(c, &a);
}

/* ---- how long they take ---- */

template <typename F>
static void print_time(compute *c, const arrays *a, const char *what, int products, int passes, F run)
{
    const double ms = time_of(c, run), flops = 2.0 * products * mlp_weights * (double)a->rows;
    printf("  %-26s %7.3f ms  %6.1f TFLOP/s  %5.2f TB/s\n", what, ms, flops / ms * 1e-9,
           2.0 * passes * (double)a->size / ms * 1e-9);
}

static void time_rows(compute *c, size_t rows, int hopper)
{
    arrays a;
    open_arrays(c, &a, rows);
    const results *r = &a.by_warps;
    printf("%zu rows\n", rows);
    print_time(c, &a, "forward, by warps", 2, 2, [&] { mlp_rows_forward(c, r->out, a.x, &a.factors, rows); });
    print_time(c, &a, "backward, by warps", 5, 3,
               [&] { mlp_rows_backward(c, r->dx, r->partial, a.dout, a.x, &a.factors, rows); });
    if (hopper) {
        print_time(c, &a, "forward, by warpgroups", 2, 2,
                   [&] { mlp_rows_forward_by_warpgroups(c, r->out, a.x, &a.factors, rows); });
        print_time(c, &a, "backward, by warpgroups", 5, 3, [&] {
            mlp_rows_backward_by_warpgroups(c, r->dx, r->partial, a.dout, a.x, &a.factors, rows);
        });
    }
    close_arrays(c, &a);
}

int main(int argc, char **argv)
{
    struct compute c;
    if (compute_open(&c, "cuda", 0, PRECISION_BF16) != VOCO_OK) {
        printf("skipped: %s\n", voco_error_message());
        return 77;
    }
    const int hopper = cuda_state(&c)->major == 9;
    for (size_t rows : {(size_t)1, (size_t)1000, (size_t)100003}) {
        if (hopper) {
            check(&c, rows);
        }
    }
    time_rows(&c, argc > 1 ? strtoull(argv[1], NULL, 10) : (size_t)44 << 15, hopper);
    printf(bad || c.status != VOCO_OK ? "WRONG: %d %s\n" : "all right\n", bad, c.message);
    const int failed = bad || c.status != VOCO_OK;
    compute_close(&c);
    return failed;
}
