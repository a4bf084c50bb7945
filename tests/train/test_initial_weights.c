/* Weights to begin with: the run's encoder is that of the file, bit for bit or in the run's order of patch
 * merging; what does not fit is refused with what would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/philox.h"
#include "train/initial_weights.h"
#include "train/network_file.h"
#include "train/scratch_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { roi = 48, embedding_size = 72 };

static const struct model_config small = {3, roi, 16, PATCH_MERGING_FIXED};
static const struct network_file plain = {
    .config = {3, roi, 16, PATCH_MERGING_FIXED}, .prefix = "", .with_metadata = 1};

static char file_name[scratch_path_size];
static char said[8192];

static void remember(enum log_level level, const char *line, void *context)
{
    (void)level;
    (void)context;
    const size_t used = strlen(said);
    (void)snprintf(said + used, sizeof said - used, "%s\n", line);
}

static int set_up(void **state)
{
    const int made = scratch_folder_make(state);
    (void)scratch_path(file_name, "weights");
    log_set_sink(remember, NULL);
    return made;
}

static void embed(float embedding[embedding_size], const struct model_config *config, const float *params)
{
    const struct random_key key = {.seed = 3, .purpose = RANDOM_TEST};
    struct model model;
    struct compute compute;
    struct arena arena;
    float *crop = malloc((size_t)roi * roi * roi * sizeof *crop);
    assert_non_null(crop);
    for (uint32_t i = 0; i < roi * roi * roi; i++) {
        crop[i] = random_uniform(&key, i);
    }
    assert_int_equal(model_create(&model, config), VOCO_OK);
    assert_int_equal(compute_open(&compute, "cpu", 2, PRECISION_FLOAT32), VOCO_OK);
    assert_int_equal(arena_open(&arena, (size_t)4 << 30), VOCO_OK);
    assert_int_equal(encoder_forward(&model, &compute, &arena, params, embedding, crop, 1, NULL), VOCO_OK);
    arena_close(&arena);
    compute_close(&compute);
    model_free(&model);
    free(crop);
}

/* Loads the file into parameters drawn from seed 50; free them. */
static float *begin(const struct model_config *config, int partial)
{
    struct model model;
    said[0] = '\0';
    assert_int_equal(model_create(&model, config), VOCO_OK);
    float *params = calloc(model.table.total, sizeof *params);
    assert_non_null(params);
    parameters_initialise(params, &model.table, 50);
    assert_int_equal(initial_weights_check(file_name, partial, config), VOCO_OK);
    if (initial_weights_load(params, &model, file_name, partial) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    model_free(&model);
    return params;
}

static void assert_refused(const struct model_config *config, int partial, const char *words)
{
    assert_int_equal(initial_weights_check(file_name, partial, config), VOCO_BAD_INPUT);
    if (strstr(voco_error_message(), words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", voco_error_message(), words);
    }
}

static void the_whole_network_is_the_files(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    network_file_write(file_name, &plain, params);
    float *found = begin(&small, 0);
    assert_memory_equal(found, params, table.total * sizeof *params);
    assert_non_null(strstr(said, "begins with 149 of 149 tensors"));
    assert_null(strstr(said, "drawn anew"));
    free(found);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void an_encoder_alone_leaves_the_projectors_as_drawn(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    float *drawn = calloc(table.total, sizeof *drawn);
    parameters_initialise(drawn, &table, 50);
    struct network_file file = plain;
    file.format = TENSOR_FILE_PT;
    file.space = NAMES_MONAI;
    file.with_metadata = 0;
    file.extra = "decoder1.weight";
    network_file_write(file_name, &file, params);
    const struct model_config legacy = {3, roi, 16, PATCH_MERGING_LEGACY};
    float *found = begin(&legacy, 0);
    assert_memory_equal(found, params, table.backbone * sizeof *params);
    assert_memory_equal(found + table.backbone, drawn + table.backbone,
                        (table.total - table.backbone) * sizeof *params);
    assert_non_null(strstr(said, "begins with 137 of 149 tensors"));
    assert_non_null(strstr(said, "patch merging legacy, which it does not say"));
    assert_non_null(strstr(said, "drawn anew: student.layer1.0.weight"));
    assert_non_null(strstr(said, "drawn anew: 2 more"));
    assert_non_null(strstr(said, "not used: decoder1.weight"));
    float expected[embedding_size];
    float embedding[embedding_size];
    embed(expected, &legacy, params);
    embed(embedding, &legacy, found);
    assert_memory_equal(embedding, expected, sizeof embedding);
    assert_refused(&small, 0, "--patch-merging legacy begins a run in its order (which it does not say");
    free(found);
    free(drawn);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void another_order_gives_the_same_embeddings(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    network_file_write(file_name, &plain, params);
    const struct model_config v2 = {3, roi, 16, PATCH_MERGING_V2};
    float *found = begin(&v2, 0);
    float expected[embedding_size];
    float embedding[embedding_size];
    embed(expected, &small, params);
    embed(embedding, &v2, found);
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < embedding_size; i++) {
        difference += pow((double)embedding[i] - (double)expected[i], 2);
        norm += pow((double)expected[i], 2);
    }
    assert_true(sqrt(difference / norm) < 1e-5);
    assert_non_null(strstr(said, "rewritten"));
    free(found);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void other_sizes_say_what_would_fit(void **state)
{
    (void)state;
    static const struct {
        int feature_size;
        const char *words;
    } cases[] = {{12, "its feature size is 12, the run's 3; --recipe tiny would fit"},
                 {6, "a recipe with feature_size: 6 would fit"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct network_file file = plain;
        struct parameter_table table;
        file.config.feature_size = cases[i].feature_size;
        float *params = network_draw(&table, &file.config, 1);
        network_file_write(file_name, &file, params);
        assert_refused(&small, 1, cases[i].words);
        free(params);
        parameter_table_free(&table);
    }
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    struct network_file file = plain;
    file.in_channels = 2;
    network_file_write(file_name, &file, params);
    assert_refused(&small, 1, "takes images of 2 channels, pre-training has images of 1");
    network_file_write(file_name, &plain, params);
    const struct model_config wide = {3, roi, 17, PATCH_MERGING_FIXED};
    assert_refused(&wide, 0, "projectors are 16 wide, the run's 17; a recipe with projector: 16 would fit");
    float *found = begin(&wide, 1);
    assert_memory_equal(found, params, table.backbone * sizeof *params);
    assert_non_null(strstr(said, "begins with 137 of 149"));
    free(found);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void a_part_is_taken_only_where_that_is_asked_for(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    struct network_file file = plain;
    file.without = "layers2c";
    network_file_write(file_name, &file, params);
    assert_refused(&small, 0,
                   "lacks 2 of 137 tensors, such as backbone.swinViT.layers2c.0.layer.conv1.conv.weight; "
                   "--init-partial draws them anew");
    float *found = begin(&small, 1);
    const struct parameter *p = parameter_find(&table, "backbone.encoder10.layer.conv2.conv.weight");
    assert_memory_equal(found + p->offset, params + p->offset, p->count * sizeof *params);
    p = parameter_find(&table, "backbone.swinViT.layers2c.0.layer.conv2.conv.weight");
    assert_memory_not_equal(found + p->offset, params + p->offset, p->count * sizeof *params);
    assert_non_null(strstr(said, "drawn anew: backbone.swinViT.layers2c.0.layer.conv2.conv.weight"));
    free(found);
    file = plain;
    file.without = "teacher.layer2";
    network_file_write(file_name, &file, params);
    assert_refused(&small, 0, "lacks 2 of 6 tensors, such as teacher.layer2.0.weight");
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole_network_is_the_files),
        cmocka_unit_test(an_encoder_alone_leaves_the_projectors_as_drawn),
        cmocka_unit_test(another_order_gives_the_same_embeddings),
        cmocka_unit_test(other_sizes_say_what_would_fit),
        cmocka_unit_test(a_part_is_taken_only_where_that_is_asked_for),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_folder_remove);
}
