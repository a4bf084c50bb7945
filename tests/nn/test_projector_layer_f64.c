/* The projector's Linear, BatchNorm, ReLU against finite differences. */
#include "nn/projector_layer.h"

#include "nn/gradient_check.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct case_of_layer {
    struct linear linear;
    int n;
};

static void forward(const void *layer, const struct layer_run *run, activation *out, const activation *inp)
{
    const struct case_of_layer *it = layer;
    struct projector_layer_activations kept;
    const struct arena_mark mark = arena_mark(run->arena);
    projector_layer_keep(run, &it->linear, it->n, &kept);
    projector_layer_forward(run, &it->linear, inp, it->n, &kept);
    if (!run->arena->exhausted) {
        memcpy(out, kept.out, (size_t)it->n * (size_t)it->linear.out_features * sizeof(real));
    }
    arena_release(run->arena, mark);
}

static void backward(const void *layer, const struct layer_run *run, activation *out, activation *dinp,
                     activation *dout, const activation *inp)
{
    const struct case_of_layer *it = layer;
    struct projector_layer_activations kept;
    const struct arena_mark mark = arena_mark(run->arena);
    projector_layer_keep(run, &it->linear, it->n, &kept);
    projector_layer_forward(run, &it->linear, inp, it->n, &kept);
    if (!run->arena->exhausted) {
        memcpy(out, kept.out, (size_t)it->n * (size_t)it->linear.out_features * sizeof(real));
    }
    projector_layer_backward(run, &it->linear, dinp, dout, inp, it->n, &kept);
    arena_release(run->arena, mark);
}

/* The bias has an exact gradient of zero, because the norm follows it: it is not in the list. */
static void linear_norm_and_relu(void **state)
{
    (void)state;
    struct case_of_layer it = {.linear = {.in_features = 5, .out_features = 6}, .n = 7};
    struct checked_layer checked = {.forward = forward, .backward = backward, .layer = &it};
    checked.inp = 7 * 5;
    checked.out = 7 * 6;
    it.linear.weight = add_segment(&checked, "weight", 5 * 6);
    it.linear.bias = checked.params;
    checked.params += 6;
    check_gradients(&checked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_norm_and_relu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
