/* Orders of patch merging: permuted weights in the other order give the same embeddings, and between legacy
 * and the others only mergings that do not depend on their input do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"
#include "model/input_channels.h"
#include "model/model.h"
#include "model/patch_merging_order.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { channels = 3, roi = 48, embedding_size = 24 * channels };

/* Parameters in which norms before mergings are not trivial; the table is the same for every order. */
static float *draw_parameters(struct parameter_table *table)
{
    const struct model_config config = {channels, roi, 16, PATCH_MERGING_FIXED};
    assert_int_equal(parameter_table_create(table, &config), VOCO_OK);
    float *params = calloc(table->total, sizeof *params);
    assert_non_null(params);
    parameters_initialise(params, table, 5);
    const struct random_key key = {.seed = 8, .purpose = RANDOM_TEST};
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        for (size_t j = 0; is_patch_merging_parameter(p) && j < p->count; j++) {
            params[p->offset + j] += random_uniform(&key, (uint32_t)(p->offset + j)) - 0.5F;
        }
    }
    return params;
}

static void embed(float embedding[embedding_size], const float *params, enum patch_merging order)
{
    const struct model_config config = {channels, roi, 16, order};
    const struct random_key key = {.seed = 3, .purpose = RANDOM_TEST};
    struct model model;
    struct compute compute;
    struct arena arena;
    float *crop = malloc((size_t)roi * roi * roi * sizeof *crop);
    assert_non_null(crop);
    for (uint32_t i = 0; i < roi * roi * roi; i++) {
        crop[i] = random_uniform(&key, i);
    }
    assert_int_equal(model_create(&model, &config), VOCO_OK);
    assert_int_equal(compute_open(&compute, "cpu", 2, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(arena_open(&arena, (size_t)4 << 30), VOCO_OK);
    assert_int_equal(encoder_forward(&model, &compute, &arena, params, embedding, crop, 1, NULL), VOCO_OK);
    arena_close(&arena);
    compute_close(&compute);
    model_free(&model);
    free(crop);
}

static double distance(const float *found, const float *expected)
{
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < embedding_size; i++) {
        difference += pow((double)found[i] - (double)expected[i], 2);
        norm += pow((double)expected[i], 2);
    }
    return sqrt(difference / norm);
}

static void permute_all(float *params, const struct parameter_table *table, enum patch_merging from,
                        enum patch_merging to)
{
    int permuted = 0;
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        if (is_patch_merging_parameter(p)) {
            const size_t row = (size_t)p->shape[p->rank - 1];
            patch_merging_permute(params + p->offset, p->count / row, row / 8, sizeof *params, from, to);
            permuted++;
        }
    }
    assert_int_equal(permuted, 12);
}

static void permuted_weights_give_the_same_embeddings(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = draw_parameters(&table);
    float fixed[embedding_size];
    float v2[embedding_size];
    float unpermuted[embedding_size];
    embed(fixed, params, PATCH_MERGING_FIXED);
    embed(unpermuted, params, PATCH_MERGING_V2);
    permute_all(params, &table, PATCH_MERGING_FIXED, PATCH_MERGING_V2);
    embed(v2, params, PATCH_MERGING_V2);
    assert_true(distance(v2, fixed) < 1e-5);
    assert_true(distance(unpermuted, fixed) > 1e-3); /* the order does matter */
    permute_all(params, &table, PATCH_MERGING_V2, PATCH_MERGING_FIXED);
    struct parameter_table again;
    float *drawn = draw_parameters(&again);
    assert_memory_equal(params, drawn, table.total * sizeof *params);
    free(drawn);
    free(params);
    parameter_table_free(&again);
    parameter_table_free(&table);
}

/* Each element says which neighbour, row and channel it belongs to. */
static unsigned char mark(enum patch_merging order, int row, int j, int channel)
{
    int offset[3];
    patch_merging_offset(order, j, offset);
    return (unsigned char)(row * 40 + (offset[0] * 4 + offset[1] * 2 + offset[2]) * 5 + channel);
}

static void blocks_move_whole_for_every_size_of_element(void **state)
{
    (void)state;
    enum { rows = 3, block = 5 };
    static const size_t sizes[] = {1, 2, 4, 8};
    for (size_t s = 0; s < 4; s++) {
        unsigned char values[rows * 8 * block * 8];
        const size_t size = sizes[s];
        for (int i = 0; i < rows * 8 * block; i++) {
            memset(values + (size_t)i * size, mark(PATCH_MERGING_V2, i / 40, i / block % 8, i % block), size);
        }
        patch_merging_permute(values, rows, block, size, PATCH_MERGING_V2, PATCH_MERGING_FIXED);
        for (int i = 0; i < rows * 8 * block; i++) {
            const unsigned char expected = mark(PATCH_MERGING_FIXED, i / 40, i / block % 8, i % block);
            for (size_t byte = 0; byte < size; byte++) {
                assert_int_equal(values[(size_t)i * size + byte], expected);
            }
        }
    }
}

static void only_orders_without_repeats_permute(void **state)
{
    (void)state;
    assert_true(patch_merging_orders_permute(PATCH_MERGING_FIXED, PATCH_MERGING_V2));
    assert_true(patch_merging_orders_permute(PATCH_MERGING_V2, PATCH_MERGING_FIXED));
    assert_true(patch_merging_orders_permute(PATCH_MERGING_LEGACY, PATCH_MERGING_LEGACY));
    assert_false(patch_merging_orders_permute(PATCH_MERGING_LEGACY, PATCH_MERGING_FIXED));
    assert_false(patch_merging_orders_permute(PATCH_MERGING_V2, PATCH_MERGING_LEGACY));
}

/* The merging of a stage in the flat buffer. */
static float *merging(float *params, const struct parameter_table *table, int stage, const char *name)
{
    char own[parameter_name_size];
    (void)snprintf(own, sizeof own, "backbone.swinViT.layers%d.0.downsample.%s", stage + 1, name);
    return params + parameter_find(table, own)->offset;
}

/* Makes every merging constant: rows of W gamma are c but for what `paired` allows the legacy order. */
static void make_constant(float *params, const struct parameter_table *table, int paired)
{
    for (int stage = 0; stage < 4; stage++) {
        const int c = channels << stage;
        float *reduction = merging(params, table, stage, "reduction.weight");
        float *norm = merging(params, table, stage, "norm.weight");
        for (int i = 0; i < 8 * c; i++) {
            norm[i] = 0.5F;
        }
        for (int row = 0; row < 2 * c; row++) {
            for (int i = 0; i < 8 * c; i++) {
                const int block = i / c;
                const float tilt = (float)(i % 3) * 0.25F;
                reduction[row * 8 * c + i] = (float)row;
                if (paired && (block == 2 || block == 3)) {
                    reduction[row * 8 * c + i] += tilt; /* 010 and 001, first time */
                } else if (paired && (block == 5 || block == 6)) {
                    reduction[row * 8 * c + i] -= (float)((i - 3 * c) % 3) * 0.25F; /* and second */
                }
            }
        }
    }
}

static enum merging_function function_of(float *params, const struct parameter_table *table, int stage,
                                         enum patch_merging order)
{
    return patch_merging_function(merging(params, table, stage, "reduction.weight"),
                                  merging(params, table, stage, "norm.weight"), channels << stage, order);
}

static void trained_mergings_vary(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = draw_parameters(&table);
    for (int order = PATCH_MERGING_LEGACY; order <= PATCH_MERGING_V2; order++) {
        assert_int_equal(function_of(params, &table, 1, (enum patch_merging)order), MERGING_VARIES);
    }
    make_constant(params, &table, 1);
    merging(params, &table, 2, "reduction.weight")[17] += 0.001F; /* a single weight is enough */
    assert_int_equal(function_of(params, &table, 2, PATCH_MERGING_LEGACY), MERGING_VARIES);
    merging(params, &table, 1, "norm.weight")[3] = NAN;
    assert_int_equal(function_of(params, &table, 1, PATCH_MERGING_LEGACY), MERGING_VARIES);
    free(params);
    parameter_table_free(&table);
}

static void constant_mergings_give_the_same_embeddings_in_every_order(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = draw_parameters(&table);
    float legacy[embedding_size];
    float fixed[embedding_size];
    make_constant(params, &table, 0);
    for (int stage = 0; stage < 4; stage++) {
        assert_int_equal(function_of(params, &table, stage, PATCH_MERGING_LEGACY), MERGING_CONSTANT_ALWAYS);
        assert_int_equal(function_of(params, &table, stage, PATCH_MERGING_V2), MERGING_CONSTANT_ALWAYS);
    }
    embed(legacy, params, PATCH_MERGING_LEGACY);
    embed(fixed, params, PATCH_MERGING_FIXED);
    assert_true(distance(fixed, legacy) < 1e-3); /* the input's rounding passes instance norms of constants */
    free(params);
    parameter_table_free(&table);
}

static void what_only_legacy_adds_up_is_constant_in_legacy_only(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = draw_parameters(&table);
    make_constant(params, &table, 1);
    for (int stage = 0; stage < 4; stage++) {
        assert_int_equal(function_of(params, &table, stage, PATCH_MERGING_LEGACY), MERGING_CONSTANT);
        assert_int_equal(function_of(params, &table, stage, PATCH_MERGING_FIXED), MERGING_VARIES);
    }
    free(params);
    parameter_table_free(&table);
}

/* The oracle: a layer that sums over channels and taps. */
static void repeated_layers_give_the_same_sums_on_equal_channels(void **state)
{
    (void)state;
    enum { outputs = 3, taps = 27, most = 5 };
    float weight[outputs * taps];
    float image[taps];
    const struct random_key key = {.seed = 4, .purpose = RANDOM_TEST};
    for (uint32_t i = 0; i < outputs * taps; i++) {
        weight[i] = random_uniform(&key, i) - 0.5F;
    }
    for (uint32_t i = 0; i < taps; i++) {
        image[i] = random_uniform(&key, 1000 + i);
    }
    for (int n = 1; n <= most; n++) {
        float repeated[outputs * most * taps];
        repeat_input_channel(repeated, weight, outputs, taps, n);
        for (int o = 0; o < outputs; o++) {
            double expected = 0;
            double found = 0;
            for (int tap = 0; tap < taps; tap++) {
                expected += (double)weight[o * taps + tap] * (double)image[tap];
                for (int channel = 0; channel < n; channel++) {
                    found += (double)repeated[(o * n + channel) * taps + tap] * (double)image[tap];
                }
            }
            assert_true(fabs(found - expected) < 1e-6);
        }
    }
}

static void three_weights_read_the_image(void **state)
{
    (void)state;
    const struct model_config config = {channels, roi, 16, PATCH_MERGING_FIXED};
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&table, &config), VOCO_OK);
    int count = 0;
    for (int i = 0; i < table.count; i++) {
        const struct parameter *p = &table.entries[i];
        const int expected = p->rank == 5 && p->shape[1] == 1;
        assert_int_equal(reads_the_image(p), expected);
        count += expected;
    }
    assert_int_equal(count, 3);
    parameter_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permuted_weights_give_the_same_embeddings),
        cmocka_unit_test(blocks_move_whole_for_every_size_of_element),
        cmocka_unit_test(only_orders_without_repeats_permute),
        cmocka_unit_test(trained_mergings_vary),
        cmocka_unit_test(constant_mergings_give_the_same_embeddings_in_every_order),
        cmocka_unit_test(what_only_legacy_adds_up_is_constant_in_legacy_only),
        cmocka_unit_test(repeated_layers_give_the_same_sums_on_equal_channels),
        cmocka_unit_test(three_weights_read_the_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
