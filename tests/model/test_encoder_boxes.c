/* Boxes that are no crops of R^3, and the levels before they are pooled. (Against MONAI:
 * tools/interop/check_encode.py.) */
#include "base/philox.h"
#include "model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct model_config config = {6, 48, 16, PATCH_MERGING_FIXED};
static const int cube[3] = {48, 48, 48}, odd[3] = {48, 80, 64};

struct network {
    struct model model;
    struct compute compute;
    struct arena arena;
    float *params;
};

static void open_network(struct network *net, const char *implementation)
{
    assert_int_equal(model_create(&net->model, &config), VOCO_OK);
    assert_int_equal(compute_open(&net->compute, implementation, 2, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(arena_open(&net->arena, (size_t)2 << 30), VOCO_OK);
    net->params = malloc(net->model.table.total * sizeof *net->params);
    assert_non_null(net->params);
    parameters_initialise(net->params, &net->model.table, 5);
}

static void close_network(struct network *net)
{
    free(net->params);
    arena_close(&net->arena);
    compute_close(&net->compute);
    model_free(&net->model);
}

static float *random_box(const int size[3], int n)
{
    const struct random_key key = {.seed = 3, .purpose = RANDOM_TEST};
    const size_t count = (size_t)n * (size_t)size[0] * (size_t)size[1] * (size_t)size[2];
    float *box = calloc(count, sizeof *box);
    assert_non_null(box);
    for (size_t i = 0; i < count; i++) {
        box[i] = random_uniform(&key, (uint32_t)i) + (i % 997 < 400 ? 0.5F : 0.0F);
    }
    return box;
}

static void a_cube_of_the_crops_size_is_a_crop(void **state)
{
    struct network net;
    float crop[144], box[144];
    float *voxels = random_box(cube, 1);
    open_network(&net, *state);
    assert_int_equal(encoder_forward(&net.model, &net.compute, &net.arena, net.params, crop, voxels, 1, NULL),
                     VOCO_OK);
    assert_int_equal(
        encoder_box_forward(&net.model, &net.compute, &net.arena, net.params, box, voxels, 1, cube), VOCO_OK);
    assert_memory_equal(crop, box, sizeof box);
    free(voxels);
    close_network(&net);
}

/* The mean over the tokens of what a level gives is its part of the embedding. */
static void a_level_is_what_its_pool_averages(void **state)
{
    static const int strides[encoder_levels] = {1, 2, 4, 8, 32},
                     channels[encoder_levels] = {6, 6, 12, 24, 96};
    static const int columns[encoder_levels] = {0, 6, 12, 24, 48};
    struct network net;
    float embedding[144];
    float *voxels = random_box(odd, 1);
    float *features = malloc((size_t)6 * 48 * 80 * 64 * sizeof *features);
    assert_non_null(features);
    open_network(&net, *state);
    assert_int_equal(
        encoder_box_forward(&net.model, &net.compute, &net.arena, net.params, embedding, voxels, 1, odd),
        VOCO_OK);
    for (int level = 0; level < encoder_levels; level++) {
        const struct encoder_level part = encoder_level_of(&config, level);
        assert_int_equal(part.stride, strides[level]);
        assert_int_equal(part.channels, channels[level]);
        assert_int_equal(part.column, columns[level]);
        size_t tokens = 1;
        for (int axis = 0; axis < 3; axis++) {
            tokens *= (size_t)((odd[axis] + part.stride - 1) / part.stride);
        }
        assert_int_equal(encoder_box_features(&net.model, &net.compute, &net.arena, net.params, features,
                                              level, voxels, odd),
                         VOCO_OK);
        assert_int_equal(net.arena.used, 0);
        for (int ch = 0; ch < part.channels; ch++) {
            double sum = 0, size = 0;
            for (size_t t = 0; t < tokens; t++) {
                const double value = (double)features[t * (size_t)part.channels + (size_t)ch];
                sum += value;
                size += fabs(value);
            }
            const double error = fabs(sum / (double)tokens - (double)embedding[part.column + ch]);
            assert_true(size > 0);
            assert_true(error <= 2e-5 * size / (double)tokens + 1e-7);
        }
    }
    free(features);
    free(voxels);
    close_network(&net);
}

static void the_implementations_agree_on_a_box(void **state)
{
    (void)state;
    struct network nets[2];
    float embedding[2][144];
    float *voxels = random_box(odd, 1);
    double difference = 0, norm = 0;
    for (int i = 0; i < 2; i++) {
        open_network(&nets[i], i == 0 ? "reference" : "cpu");
        assert_int_equal(encoder_box_forward(&nets[i].model, &nets[i].compute, &nets[i].arena, nets[i].params,
                                             embedding[i], voxels, 1, odd),
                         VOCO_OK);
        close_network(&nets[i]);
    }
    for (int i = 0; i < 144; i++) {
        difference += pow((double)embedding[0][i] - (double)embedding[1][i], 2);
        norm += pow((double)embedding[0][i], 2);
    }
    assert_true(sqrt(difference / norm) < 1e-5);
    free(voxels);
}

static void other_sizes_are_refused(void **state)
{
    (void)state;
    static const int wrong[][3] = {
        {32, 48, 48}, {48, 50, 48}, {48, 48, 0}, {48, 48, -48}, {1024, 1024, 1024}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(encoder_box_check(wrong[i]), VOCO_BAD_INPUT);
    }
    assert_int_equal(encoder_box_check(odd), VOCO_OK);
    assert_non_null(strstr(voco_error_message(), "1024 x 1024 x 1024"));
}

int main(void)
{
    static char reference[] = "reference";
    static char cpu[] = "cpu";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_cube_of_the_crops_size_is_a_crop, cpu),
        cmocka_unit_test_prestate(a_level_is_what_its_pool_averages, reference),
        cmocka_unit_test_prestate(a_level_is_what_its_pool_averages, cpu),
        cmocka_unit_test(the_implementations_agree_on_a_box),
        cmocka_unit_test(other_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
