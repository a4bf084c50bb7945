/* What the cuda implementation asks cuBLASLt and cuDNN for in float32 and in TF32 (stand-ins for them on the
 * processor: libraries/libraries_on_host.h), and how far TF32 leads from the reference. With the argument
 * "encoder": the whole encoder and a projector in TF32, which takes a while. */
#include "compute/cuda_agreement.h"
#include "compute/tensors.h"
#include "gpu/encoder_pass.h"
#include "libraries/libraries_on_host.h"
#include "open_cuda_on_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void open_with_libraries(struct compute *c, enum compute_precision precision)
{
    open_cuda_on_host(c, precision);
    open_libraries_on_host(c);
}

static void close_with_libraries(struct compute *c)
{
    close_libraries_on_host(c);
    compute_close(c);
}

static void count_anew(void)
{
    const int truncates = libraries_on_host.truncates;
    libraries_on_host = (struct libraries_on_host){.truncates = truncates};
}

/* A convolution and a linear layer, forward and backward; what they wrote. */
static void convolve_and_multiply(struct compute *c, const void *shape, struct results *r)
{
    static const struct conv3d_shape grid = {1, 4, 3, 5, 8, 6, 3, 1};
    enum { rows = 9, in = 8, out = 12, voxels = 4 * 3 * 5, weights = 6 * 8 * 27 };
    (void)shape;
    activation *x = given_activations(r, random_tensor(1, voxels * 8, 1), voxels * 8);
    activation *dy = given_activations(r, random_tensor(2, voxels * 6, 1), voxels * 6);
    real *kernel = given_reals(r, random_tensor(3, weights, 1), weights);
    activation *tokens = given_activations(r, random_tensor(4, rows * in, 1), rows * in);
    activation *dtokens = given_activations(r, random_tensor(5, rows * out, 1), rows * out);
    real *weight = given_reals(r, random_tensor(6, in * out, 1), in * out);
    activation *y = new_activations(r, "y", voxels * 6, 77);
    activation *dx = new_activations(r, "dx", voxels * 8, 77);
    real *dkernel = new_sum(r, "dkernel", weights);
    activation *multiplied = new_activations(r, "multiplied", rows * out, 77);
    activation *dinp = new_activations(r, "dinp", rows * in, 77);
    real *dweight = new_sum(r, "dweight", in * out);
    c->conv3d_forward(c, y, x, kernel, NULL, &grid);
    c->conv3d_backward(c, dx, dkernel, NULL, dy, x, kernel, &grid);
    c->linear_forward(c, multiplied, tokens, weight, NULL, rows, in, out);
    c->linear_backward(c, dinp, dweight, NULL, dtokens, tokens, weight, rows, in, out);
}

static void run_on(struct compute *c, struct results *r)
{
    count_anew();
    compute_results(c, convolve_and_multiply, NULL, 0, r);
}

static void run_and_forget(struct compute *c)
{
    struct results r;
    run_on(c, &r);
    free_results(&r);
}

static char *choices_of(struct compute *c)
{
    char *text = c->choices(c);
    assert_non_null(text);
    return text;
}

static int lines_in(const char *text)
{
    int count = 0;
    for (; *text != '\0'; text++) {
        count += *text == '\n';
    }
    return count;
}

/* Every choice of a text turned from the first way to the second. */
static char *with_second_ways(const char *text)
{
    char *turned = strdup(text);
    assert_non_null(turned);
    for (char *at = strchr(turned, '\n'); (at = strstr(at, " 0\n")) != NULL;) {
        at[1] = '1';
    }
    return turned;
}

/* The first test: what a process has chosen it keeps. */
static void choices_of_float32_are_not_taken_for_tf32(void **state)
{
    struct compute float32, tf32;
    enum choices_taken taken;
    (void)state;
    open_with_libraries(&float32, PRECISION_FLOAT32);
    open_with_libraries(&tf32, PRECISION_TF32);
    run_and_forget(&float32);
    char *exact = choices_of(&float32);
    assert_true(lines_in(exact) == 1 + 3 + 3);

    char *second = with_second_ways(exact);
    assert_int_equal(tf32.take_choices(&tf32, second, &taken), VOCO_OK);
    assert_int_equal(taken, CHOICES_NEW);
    run_and_forget(&tf32);
    assert_int_equal(libraries_on_host.algorithm[1], 0);
    char *both = choices_of(&tf32);
    assert_int_equal(lines_in(both), 1 + 2 * (3 + 3)); /* all was measured anew */
    assert_memory_equal(both, second, strlen(second));
    assert_int_equal(tf32.take_choices(&tf32, both, &taken), VOCO_OK);
    assert_int_equal(taken, CHOICES_KNOWN);

    /* And the other way round: what float32 computes with is float32's. */
    assert_int_equal(float32.take_choices(&float32, exact, &taken), VOCO_OK);
    assert_int_equal(float32.take_choices(&float32, second, &taken), VOCO_OK); /* which forgets plans */
    run_and_forget(&float32);
    assert_int_equal(libraries_on_host.algorithm[0], 1);
    assert_int_equal(libraries_on_host.products[1], 0);
    assert_int_equal(float32.take_choices(&float32, exact, &taken), VOCO_OK); /* for the tests that follow */
    free(exact);
    free(second);
    free(both);
    close_with_libraries(&float32);
    close_with_libraries(&tf32);
}

static void float32_asks_for_exact_ways_only(void **state)
{
    struct compute float32, reference;
    struct results found, expected;
    double worst[results_max] = {0};
    (void)state;
    open_with_libraries(&float32, PRECISION_FLOAT32);
    open_implementation(&reference, "reference", 1);
    assert_ptr_equal(float32.full, &float32);
    run_on(&float32, &found);
    assert_true(libraries_on_host.products[0] >= 3);
    assert_int_equal(libraries_on_host.products[1], 0);
    for (int engine = 0; engine < convolution_engines; engine++) {
        assert_true((libraries_on_host.convolutions[engine] > 0) == (engine == ENGINE_EXACT));
    }
    compute_results(&reference, convolve_and_multiply, NULL, 0, &expected);
    raise_differences(worst, &found, &expected);
    assert_null(beyond_tolerance(worst, &expected, &(struct tolerance){1e-6, 1e-6}));
    free_results(&found);
    free_results(&expected);
    compute_close(&reference);
    close_with_libraries(&float32);
}

static void tf32_asks_for_tensor_cores_that_round_to_it(void **state)
{
    struct compute tf32, float32;
    struct results rounded, exact;
    double worst[results_max] = {0};
    (void)state;
    open_with_libraries(&tf32, PRECISION_TF32);
    open_with_libraries(&float32, PRECISION_FLOAT32);
    run_on(&tf32, &rounded);
    assert_int_equal(libraries_on_host.products[0], 0);
    assert_true(libraries_on_host.products[1] >= 3);
    for (int engine = 0; engine < convolution_engines; engine++) {
        const int may_run = engine == ENGINE_ON_TENSOR_CORES || engine == ENGINE_EXACT;
        assert_true(may_run || libraries_on_host.convolutions[engine] == 0);
    }
    assert_true(libraries_on_host.convolutions[ENGINE_ON_TENSOR_CORES] >= 3);
    run_on(&float32, &exact);
    raise_differences(worst, &rounded, &exact);
    for (int i = 0; i < exact.count; i++) {
        assert_true(worst[i] > 1e-5);
    }
    free_results(&rounded);
    free_results(&exact);
    close_with_libraries(&float32);
    close_with_libraries(&tf32);
}

static void what_stays_in_full_precision_is_exact(void **state)
{
    struct compute tf32;
    (void)state;
    open_with_libraries(&tf32, PRECISION_TF32);
    assert_int_equal(tf32.activation_size, sizeof(float));
    assert_ptr_not_equal(tf32.full, &tf32);
    assert_int_equal(tf32.full->precision, PRECISION_FLOAT32);
    run_and_forget(tf32.full);
    assert_int_equal(libraries_on_host.products[1], 0);
    assert_int_equal(libraries_on_host.convolutions[ENGINE_ON_TENSOR_CORES], 0);
    close_with_libraries(&tf32);
}

static void operations_agree_with_the_reference(void **state)
{
    static const char *const families[] = {"conv", "linear", "mlp"};
    struct compute float32, tf32;
    const double max_work = 2e6;
    (void)state;
    open_with_libraries(&float32, PRECISION_FLOAT32);
    open_with_libraries(&tf32, PRECISION_TF32);
    for (int truncates = 0; truncates < 2; truncates++) {
        libraries_on_host.truncates = truncates;
        printf("TF32 by %s\n", truncates ? "cutting off" : "rounding");
        for (size_t k = 0; k < sizeof families / sizeof families[0]; k++) {
            struct compute *exact = truncates ? NULL : &float32;
            assert_int_equal(count_disagreements(exact, NULL, &tf32, families[k], max_work), 0);
        }
    }
    libraries_on_host.truncates = 0;
    close_with_libraries(&float32);
    close_with_libraries(&tf32);
}

/* Bounds as in tests/gpu/test_encoder_on_cuda.c, of what test_encoder_on_host.c allows bf16; the projector's
 * are those of float32. */
static int pass_through_encoder(void)
{
    static const struct allowed allowed = {6.3e-3, 0.3, 1, 1e-5, 1e-3};
    const struct model_config config = {3, 48, 16, PATCH_MERGING_FIXED};
    enum { n = 2 };
    struct compute reference, tf32;
    struct pass expected, found;
    int wrong = 0;
    open_implementation(&reference, "reference", 1);
    open_with_libraries(&tf32, PRECISION_TF32);
    pass_through(&expected, &reference, &config, n);
    for (int truncates = 0; truncates < 2; truncates++) {
        libraries_on_host.truncates = truncates;
        pass_through(&found, &tf32, &config, n);
        project_same_embeddings(&expected, &reference, &config, n, &found);
        wrong += compare(truncates ? "in TF32, cut off" : "in TF32", &found, &expected, &allowed);
        free_pass(&found);
    }
    free_pass(&expected);
    close_with_libraries(&tf32);
    compute_close(&reference);
    return wrong;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_of_float32_are_not_taken_for_tf32),
        cmocka_unit_test(float32_asks_for_exact_ways_only),
        cmocka_unit_test(tf32_asks_for_tensor_cores_that_round_to_it),
        cmocka_unit_test(what_stays_in_full_precision_is_exact),
        cmocka_unit_test(operations_agree_with_the_reference),
    };
    if (argc > 1 && strcmp(argv[1], "encoder") == 0) {
        return pass_through_encoder();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
