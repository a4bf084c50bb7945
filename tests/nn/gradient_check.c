#include "nn/gradient_check.h"

#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double step = 1e-6;
static const double tolerance = 1e-6;
static const size_t arena_bytes = (size_t)64 << 20;

size_t add_segment(struct checked_layer *checked, const char *name, size_t count)
{
    assert_true(checked->segment_count < most_segments);
    const size_t offset = checked->params;
    checked->segments[checked->segment_count++] = (struct segment){name, offset, count};
    checked->params += count;
    return offset;
}

static real *random_array(size_t count, uint64_t stream, double scale)
{
    const struct random_key key = {.seed = 11, .step = stream, .purpose = RANDOM_TEST};
    real *array = malloc((count + 1) * sizeof *array);
    assert_non_null(array);
    for (size_t i = 0; i < count; i++) {
        array[i] = (real)(scale * (double)random_normal(&key, (uint32_t)i));
    }
    return array;
}

struct check {
    const struct checked_layer *checked;
    struct compute compute;
    struct arena arena;
    struct layer_run run;
    real *inp, *params;
    real *out;     /* of the pass that kept */
    real *weights; /* loss = sum of weights x out */
    real *passing; /* out of passes that keep nothing */
};

static double loss(struct check *k)
{
    k->checked->forward(k->checked->layer, &k->run, as_activations(k->passing), as_activations(k->inp));
    assert_false(k->arena.exhausted);
    assert_int_equal(arena_mark(&k->arena).used, 0);
    double sum = 0;
    for (size_t i = 0; i < k->checked->out; i++) {
        sum += (double)k->weights[i] * (double)k->passing[i];
    }
    return sum;
}

/* array: the elements to vary, a part of k->inp or k->params. */
static void compare(struct check *k, const char *name, real *array, const real *gradient, size_t count)
{
    const size_t most = 500;
    double scale = 0;
    for (size_t i = 0; i < count; i++) {
        scale = fmax(scale, fabs((double)gradient[i]));
    }
    assert_true(scale > 1e-9);
    double worst = 0;
    size_t reached = 0;
    for (size_t i = 0; i < count; i++) {
        /* All elements of a small array; of a large one, of which most may get no gradient, some of those and
         * more of the others. */
        const int chosen =
            gradient[i] != 0 ? reached++ % (1 + count / 2000) == 0 : i % (1 + count / 100) == 0;
        if (!chosen && count > most) {
            continue;
        }
        const real value = array[i];
        array[i] = value + (real)step;
        const double above = loss(k);
        array[i] = value - (real)step;
        const double below = loss(k);
        array[i] = value;
        worst = fmax(worst, fabs((above - below) / (2 * step) - (double)gradient[i]) / scale);
    }
    if (worst > tolerance) {
        print_error("gradient of %s: off by %.2e of its largest element\n", name, worst);
    }
    assert_true(worst <= tolerance);
}

static void check_exhaustion(struct check *k, real *dinp, real *dout)
{
    const size_t needed = k->arena.peak;
    for (size_t share = 0; share < 16; share++) {
        struct arena small = k->arena;
        small.capacity = needed * share / 16;
        struct layer_run run = k->run;
        run.arena = &small;
        k->checked->backward(k->checked->layer, &run, as_activations(k->out), as_activations(dinp),
                             as_activations(dout), as_activations(k->inp));
        assert_true(small.exhausted);
        assert_int_equal(arena_mark(&small).used, 0);
    }
}

static void run_checks(struct check *k)
{
    const struct checked_layer *checked = k->checked;
    real *dinp = checked->without_dinp ? NULL : random_array(checked->inp, 5, 1);
    real *dout = random_array(checked->out, 4, 1);
    real *grads = random_array(checked->params, 6, 1);
    real *before = random_array(checked->params, 6, 1);

    (void)loss(k);
    k->run.grads = grads;
    checked->backward(checked->layer, &k->run, as_activations(k->out), as_activations(dinp),
                      as_activations(dout), as_activations(k->inp));
    assert_false(k->arena.exhausted);
    assert_int_equal(arena_mark(&k->arena).used, 0);
    assert_memory_equal(k->out, k->passing, checked->out * sizeof(real));

    for (size_t i = 0; i < checked->params; i++) {
        grads[i] -= before[i];
    }
    if (dinp != NULL) {
        compare(k, "inp", k->inp, dinp, checked->inp);
    }
    for (int s = 0; s < checked->segment_count; s++) {
        const struct segment *segment = &checked->segments[s];
        compare(k, segment->name, k->params + segment->offset, grads + segment->offset, segment->count);
    }
    check_exhaustion(k, dinp, dout);
    assert_int_equal(compute_status(&k->compute), VOCO_OK);
    free(dinp);
    free(dout);
    free(grads);
    free(before);
}

void check_gradients(const struct checked_layer *checked)
{
    struct check k = {.checked = checked};
    assert_int_equal(compute_open(&k.compute, "reference", 1, PRECISION_FLOAT32), VOCO_OK);
    if (checked->without_fusions) {
        k.compute.mlp_forward = NULL;
        k.compute.mlp_backward = NULL;
        k.compute.mlp_fits = NULL;
        k.compute.normed_linear_forward = NULL;
        k.compute.normed_linear_backward = NULL;
        k.compute.normed_linear_fits = NULL;
    }
    k.compute.separate_memory = checked->on_device;
    assert_int_equal(arena_open(&k.arena, arena_bytes), VOCO_OK);
    k.inp = random_array(checked->inp, 1, 1);
    k.params = random_array(checked->params, 2, 0.5);
    k.out = random_array(checked->out, 3, 1);
    k.weights = random_array(checked->out, 4, 1);
    k.passing = random_array(checked->out, 7, 1);
    k.run = (struct layer_run){.compute = &k.compute, .arena = &k.arena, .params = k.params};
    run_checks(&k);
    free(k.inp);
    free(k.params);
    free(k.out);
    free(k.weights);
    free(k.passing);
    arena_close(&k.arena);
    compute_close(&k.compute);
}
