/* Conversions: there and back every bit is the same; whatever others put around the names is recognised, and
 * what is ambiguous, unknown or would be another function is refused in one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/checkpoint.h"
#include "train/conversion.h"
#include "train/network_file.h"
#include "train/scratch_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct model_config small = {3, 48, 16, PATCH_MERGING_FIXED};
static const struct network_file plain = {.config = {3, 48, 16, PATCH_MERGING_FIXED}, .prefix = ""};

static char in[scratch_path_size];
static char out[scratch_path_size];
static char back[scratch_path_size];

static int name_files(void **state)
{
    const int made = scratch_folder_make(state);
    (void)scratch_path(in, "in");
    (void)scratch_path(out, "out");
    (void)scratch_path(back, "back");
    return made;
}

static void convert(const char *from, const char *to, const struct conversion_options *options,
                    enum tensor_file_format format)
{
    struct conversion conversion;
    if (conversion_open(&conversion, from, options) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    assert_int_equal(conversion_write(&conversion, to, format), VOCO_OK);
    conversion_close(&conversion);
}

/* The conversion is refused, with these words, and leaves nothing. */
static void assert_refused(const char *from, const struct conversion_options *options, const char *words)
{
    struct conversion conversion;
    const int files = scratch_files();
    const enum voco_status status = conversion_open(&conversion, from, options);
    assert_true(status == VOCO_BAD_INPUT || status == VOCO_UNSUPPORTED);
    if (strstr(voco_error_message(), words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", voco_error_message(), words);
    }
    assert_int_equal(scratch_files(), files);
    conversion_close(&conversion); /* harmless */
}

static void assert_same_bytes(const char *a, const char *b)
{
    long size_a = 0;
    long size_b = 0;
    char *bytes_a = scratch_read(a, &size_a);
    char *bytes_b = scratch_read(b, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(bytes_a, bytes_b, (size_t)size_a);
    free(bytes_a);
    free(bytes_b);
}

/* Every parameter of the groups up to `last` is in the file, bit for bit. */
static void assert_holds(const char *path, const float *params, enum parameter_group last)
{
    struct stored_network stored;
    if (stored_network_open(&stored, path, NULL) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    for (int i = 0; i < stored.table.count; i++) {
        const struct parameter *p = &stored.table.entries[i];
        if (p->group > last) {
            assert_null(stored.parameters[i]);
            continue;
        }
        assert_non_null(stored.parameters[i]);
        float *values = malloc(p->count * sizeof *values);
        assert_int_equal(stored_network_read_floats(&stored, i, values), VOCO_OK);
        assert_memory_equal(values, params + p->offset, p->count * sizeof *values);
        free(values);
    }
    stored_network_close(&stored);
}

/* A training checkpoint in which every number is another one. */
static void save_checkpoint(const char *path, const struct model_config *config)
{
    struct model model;
    struct training_state state;
    struct recipe recipe;
    recipe_default(&recipe);
    recipe.model = *config;
    recipe.seed = 9007199254740993; /* no double */
    recipe.learning_rate = 0.1 + 0.2;
    assert_int_equal(recipe_check(&recipe), VOCO_OK);
    assert_int_equal(model_create(&model, config), VOCO_OK);
    assert_int_equal(training_state_create(&state, &model.table), VOCO_OK);
    real *const moments[] = {state.exp_avg, state.exp_avg_sq, state.max_exp_avg_sq};
    parameters_initialise(state.params, &model.table, 3);
    for (int m = 0; m < 3; m++) {
        for (size_t j = 0; j < model.table.trained; j++) {
            moments[m][j] = (real)((double)j * 0.3 + m);
        }
    }
    state.step = 41;
    state.optimizer_step = 40;
    assert_int_equal(checkpoint_save(path, &model, &state, &recipe), VOCO_OK);
    training_state_free(&state);
    model_free(&model);
}

/* ---- there and back ---- */

static void a_training_checkpoint_comes_back_from_pt_byte_for_byte(void **state)
{
    (void)state;
    const struct conversion_options as_it_is = {0};
    save_checkpoint(in, &small);
    convert(in, out, &as_it_is, TENSOR_FILE_PT);
    convert(out, back, &as_it_is, TENSOR_FILE_SAFETENSORS);
    assert_same_bytes(in, back);
    convert(out, in, &as_it_is, TENSOR_FILE_PT); /* .pt to .pt, too */
    assert_same_bytes(in, out);
    scratch_empty();
}

static void a_training_checkpoint_comes_back_from_the_other_order(void **state)
{
    (void)state;
    save_checkpoint(in, &small);
    convert(in, out, &(struct conversion_options){.merging = "v2"}, TENSOR_FILE_SAFETENSORS);
    struct checkpoint checkpoint;
    assert_int_equal(checkpoint_open(&checkpoint, out), VOCO_OK); /* recipe and metadata agree */
    assert_true(checkpoint.resumable && checkpoint.step == 41);
    assert_int_equal(checkpoint.recipe.model.patch_merging, PATCH_MERGING_V2);
    checkpoint_close(&checkpoint);
    convert(out, back, &(struct conversion_options){.merging = "fixed"}, TENSOR_FILE_SAFETENSORS);
    assert_same_bytes(in, back);
    scratch_empty();
}

static void every_name_space_and_format_comes_back_bit_for_bit(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    for (int format = TENSOR_FILE_SAFETENSORS; format <= TENSOR_FILE_PT; format++) {
        for (int space = NAMES_VOCO; space <= NAMES_MONAI; space++) {
            struct network_file file = plain;
            file.space = (enum name_space)space;
            file.format = (enum tensor_file_format)format;
            const enum parameter_group last = space == NAMES_VOCO ? GROUP_TEACHER : GROUP_BACKBONE;
            network_file_write(in, &file, params);
            assert_holds(in, params, last);
            convert(in, out, &(struct conversion_options){.names = "voco"}, TENSOR_FILE_PT);
            assert_holds(out, params, last);
            convert(out, back, &(struct conversion_options){.names = "monai"}, TENSOR_FILE_SAFETENSORS);
            assert_holds(back, params, GROUP_BACKBONE);
        }
    }
    /* What MONAI expects is there and nothing else. */
    struct safetensors monai;
    assert_int_equal(safetensors_open(&monai, back), VOCO_OK);
    assert_int_equal(monai.count, 137 + 8);
    assert_non_null(safetensors_find(&monai, "encoder10.layer.conv2.conv.weight"));
    const struct safetensors_tensor *index =
        safetensors_find(&monai, "swinViT.layers4.0.blocks.1.attn.relative_position_index");
    assert_non_null(index);
    assert_true(index->type == SAFETENSORS_I64 && index->shape[0] == 343 && index->shape[1] == 343);
    assert_string_equal(safetensors_metadata(&monai, "format"), "pt");
    assert_string_equal(safetensors_metadata(&monai, "patch_merging"), "legacy");
    safetensors_close(&monai);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void other_types_are_kept(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 2);
    struct network_file file = plain;
    file.bf16 = 1;
    file.with_metadata = 1;
    network_file_write(in, &file, params);
    convert(in, out, &(struct conversion_options){.merging = "v2"}, TENSOR_FILE_PT);
    convert(out, back, &(struct conversion_options){.merging = "fixed"}, TENSOR_FILE_SAFETENSORS);
    struct safetensors a;
    struct safetensors b;
    assert_int_equal(safetensors_open(&a, in), VOCO_OK);
    assert_int_equal(safetensors_open(&b, back), VOCO_OK);
    for (size_t i = 0; i < a.count; i++) {
        const struct safetensors_tensor *tensor = safetensors_find(&b, a.tensors[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->type, SAFETENSORS_BF16);
        unsigned char *x = malloc(tensor->bytes);
        unsigned char *y = malloc(tensor->bytes);
        assert_int_equal(safetensors_read(&a, &a.tensors[i], x), VOCO_OK);
        assert_int_equal(safetensors_read(&b, tensor, y), VOCO_OK);
        assert_memory_equal(x, y, tensor->bytes);
        free(x);
        free(y);
    }
    safetensors_close(&a);
    safetensors_close(&b);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

/* ---- recognising ---- */

static void wrappers_and_old_spellings_are_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *prefix;
        enum name_space space;
    } cases[] = {
        {"module.", NAMES_VOCO},
        {"state_dict.", NAMES_VOCO},
        {"state_dict.module.", NAMES_MONAI},
        {"model.", NAMES_MONAI},
        {"network_weights.", NAMES_MONAI},
        {"student.", NAMES_VOCO},
        {"student.module.", NAMES_MONAI},
    };
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct network_file file = plain;
        file.format = i % 2 == 0 ? TENSOR_FILE_PT : TENSOR_FILE_SAFETENSORS;
        file.prefix = cases[i].prefix;
        file.space = cases[i].space;
        file.old_spelling = (int)(i % 3 == 0);
        file.with_buffers = (int)(i % 2);
        network_file_write(in, &file, params);
        struct stored_network stored;
        assert_int_equal(stored_network_open(&stored, in, NULL), VOCO_OK);
        assert_string_equal(stored.prefix, cases[i].prefix);
        assert_int_equal(stored.space, cases[i].space);
        assert_int_equal(stored.unexpected_count, 0);
        assert_int_equal(stored.config.feature_size, 3);
        assert_int_equal(stored.config.projector, cases[i].space == NAMES_VOCO ? 16 : 0);
        assert_false(stored.says_patch_merging);
        assert_int_equal(stored.config.patch_merging, PATCH_MERGING_LEGACY);
        stored_network_close(&stored);
        assert_holds(in, params, cases[i].space == NAMES_VOCO ? GROUP_TEACHER : GROUP_BACKBONE);
    }
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

/* Words of dicts, of modules, both spellings, both formats; and the name that a file was published under says
 * nothing about its format. */
static void every_combination_of_words_around_the_network_is_recognised(void **state)
{
    (void)state;
    static const char *const dicts[] = {"",     "state_dict.",       "model.",   "model.state_dict.",
                                        "net.", "model_state_dict.", "network.", "network_weights."};
    static const char *const modules[] = {"",         "module.",         "module.module.",
                                          "student.", "module.student.", "student.backbone."};
    char published[scratch_path_size];
    (void)scratch_path(published, "VoCo_B_SSL_head.pt");
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    for (size_t i = 0; i < 8 * 6; i++) {
        const char *module = modules[i / 8];
        char prefix[64];
        (void)snprintf(prefix, sizeof prefix, "%s%s", dicts[i % 8], module);
        struct network_file file = plain;
        file.format = (i + i / 8) % 2 == 0 ? TENSOR_FILE_PT : TENSOR_FILE_SAFETENSORS;
        file.prefix = prefix;
        file.space = NAMES_MONAI;
        file.old_spelling = (int)(i % 3 == 0);
        file.with_buffers = (int)(i % 2);
        network_file_write(published, &file, params);
        struct stored_network stored;
        if (stored_network_open(&stored, published, NULL) != VOCO_OK) {
            fail_msg("%s: %s", prefix, voco_error_message());
        }
        const int with_backbone = strstr(module, "backbone.") != NULL; /* which is voco's own word */
        assert_int_equal(stored.space, with_backbone ? NAMES_VOCO : NAMES_MONAI);
        assert_int_equal(strlen(stored.prefix), strlen(prefix) - (with_backbone ? strlen("backbone.") : 0));
        assert_int_equal(stored.unexpected_count, 0);
        stored_network_close(&stored);
        assert_holds(published, params, GROUP_BACKBONE);
    }
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void what_is_ambiguous_or_unknown_is_said(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    const struct conversion_options none = {0};
    struct network_file file = plain;
    file.space = NAMES_MONAI;
    file.prefix = "student.";
    file.second = "teacher.";
    network_file_write(in, &file, params);
    assert_refused(in, &none,
                   "several encoders, behind \"student.\" (monai names, 137 tensors), \"teacher.\"");
    convert(in, out, &(struct conversion_options){.prefix = "teacher."}, TENSOR_FILE_SAFETENSORS);
    assert_holds(out, params, GROUP_BACKBONE);
    assert_refused(in, &(struct conversion_options){.prefix = "techer."}, "behind the prefix \"techer.\"");
    file.prefix = "mine.";
    file.second = NULL;
    network_file_write(in, &file, params);
    assert_refused(in, &none, "begin with \"mine.\", which may mean anything; --prefix mine.");
    convert(in, out, &(struct conversion_options){.prefix = "mine."}, TENSOR_FILE_SAFETENSORS);
    assert_holds(out, params, GROUP_BACKBONE);
    file.prefix = "";
    file.second = "module."; /* the same names twice, in one network's place */
    network_file_write(in, &file, params);
    assert_refused(in, &none, "several encoders");
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void what_is_unexpected_or_missing_is_listed(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    struct network_file file = plain;
    file.space = NAMES_MONAI;
    file.extra = "decoder1.conv.weight";
    network_file_write(in, &file, params);
    struct conversion conversion;
    assert_int_equal(conversion_open(&conversion, in, &(struct conversion_options){.names = "voco"}),
                     VOCO_OK);
    assert_int_equal(conversion.loaded, 137);
    assert_int_equal(conversion.unexpected_count, 1);
    assert_string_equal(conversion.unexpected[0], "decoder1.conv.weight");
    assert_int_equal(conversion.missing_count, 12);
    assert_string_equal(conversion.missing[0], "student.layer1.0.weight");
    assert_true(conversion.order_assumed);
    conversion_close(&conversion);
    file.without = "encoder2";
    network_file_write(in, &file, params);
    assert_refused(in, &(struct conversion_options){0},
                   "lacks 2 of 137 tensors, such as backbone.encoder2.layer.conv1.conv.weight; --partial");
    assert_int_equal(conversion_open(&conversion, in, &(struct conversion_options){.partial = 1}), VOCO_OK);
    assert_int_equal(conversion.missing_count, 2);
    assert_string_equal(conversion.missing[1], "encoder2.layer.conv2.conv.weight");
    assert_int_equal(conversion_write(&conversion, out, TENSOR_FILE_PT), VOCO_OK);
    conversion_close(&conversion);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

/* ---- refusing ---- */

static void other_networks_are_refused(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    const struct conversion_options none = {0};
    struct network_file file = plain;
    file.extra = "backbone.swinViT.layers3.0.blocks.2.norm1.weight";
    network_file_write(in, &file, params);
    assert_refused(in, &none, "blocks.2.norm1.weight\" belongs to a Swin transformer of another form");
    file = plain;
    file.with_buffers = file.wrong_buffers = 1;
    network_file_write(in, &file, params);
    assert_refused(in, &none, "is not the index of a window of 7^3");
    file = plain;
    file.without = "encoder4.layer.conv1";
    file.extra = "backbone.encoder4.layer.conv1.conv.weight";
    network_file_write(in, &file, params);
    assert_refused(
        in, &none,
        "\"backbone.encoder4.layer.conv1.conv.weight\" is [2]; in a network of feature size 3 it is [12, "
        "12, 3, 3, 3]");
    file = plain;
    file.without = "patch_embed";
    network_file_write(in, &file, params);
    assert_refused(in, &none, "patch embedding");
    file = plain;
    file.without = "backbone";
    network_file_write(in, &file, params);
    assert_refused(in, &none, "none of its 12 tensors has a name of the encoder");
    file = plain;
    file.extra = "backbone.swin_vit.patch_embed.proj.bias";
    network_file_write(in, &file, params);
    assert_refused(in, &none, "are the same parameter");
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    for (int format = TENSOR_FILE_SAFETENSORS; format <= TENSOR_FILE_PT; format++) {
        struct network_file file = plain;
        file.format = (enum tensor_file_format)format;
        network_file_write(in, &file, params);
        long size = 0;
        char *bytes = scratch_read(in, &size);
        scratch_write(in, bytes, (unsigned long)size / 2);
        assert_refused(in, &(struct conversion_options){0}, in);
        free(bytes);
    }
    scratch_write(in, "no tensors at all", 17);
    assert_refused(in, &(struct conversion_options){0}, "neither a safetensors file nor a .pt file");
    /* A checksum is seen when the tensor is read: nothing appears. */
    struct network_file file = plain;
    file.format = TENSOR_FILE_PT;
    network_file_write(in, &file, params);
    long size = 0;
    char *bytes = scratch_read(in, &size);
    bytes[size / 2] ^= 1;
    scratch_write(in, bytes, (unsigned long)size);
    struct conversion conversion;
    assert_int_equal(conversion_open(&conversion, in, &(struct conversion_options){0}), VOCO_OK);
    const int files = scratch_files();
    assert_int_equal(conversion_write(&conversion, out, TENSOR_FILE_SAFETENSORS), VOCO_BAD_INPUT);
    assert_int_equal(scratch_files(), files);
    conversion_close(&conversion);
    free(bytes);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void a_checkpoint_without_all_moments_is_not_called_one(void **state)
{
    (void)state;
    save_checkpoint(in, &small);
    struct safetensors file;
    struct safetensors_writer *writer = NULL;
    assert_int_equal(safetensors_open(&file, in), VOCO_OK);
    assert_int_equal(safetensors_writer_open(&writer, out), VOCO_OK);
    for (size_t i = 0; i < file.metadata_count; i++) {
        (void)safetensors_writer_metadata(writer, file.metadata[i].key, file.metadata[i].value);
    }
    for (int values = 0; values <= 1; values++) {
        for (size_t i = 0; i < file.count - 1; i++) { /* all but the last moment */
            const struct safetensors_tensor *tensor = &file.tensors[i];
            void *bytes = malloc(tensor->bytes);
            assert_int_equal(safetensors_read(&file, tensor, bytes), VOCO_OK);
            (void)(values ? safetensors_writer_put(writer, bytes)
                          : safetensors_writer_declare(writer, tensor->name, tensor->type, tensor->rank,
                                                       tensor->shape));
            free(bytes);
        }
    }
    assert_int_equal(safetensors_writer_commit(writer), VOCO_OK);
    safetensors_close(&file);
    assert_refused(out, &(struct conversion_options){0},
                   "moments are not all there as float32; --weights-only");
    convert(out, back, &(struct conversion_options){.weights_only = 1}, TENSOR_FILE_PT);
    struct stored_network stored;
    assert_int_equal(stored_network_open(&stored, back, NULL), VOCO_OK);
    assert_false(stored.is_checkpoint);
    assert_int_equal(stored.config.patch_merging, PATCH_MERGING_FIXED);
    char room[stored_network_text_size];
    assert_string_equal(stored_network_metadata(&stored, "step", room), "41");
    stored_network_close(&stored);
    scratch_empty();
}

/* ---- orders and channels ---- */

static void legacy_weights_stay_legacy(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    network_file_write(in, &plain, params); /* does not say its order */
    assert_refused(in, &(struct conversion_options){.merging = "fixed"},
                   "no weights make the same function of fixed: legacy reads two of the 8 neighbours twice");
    assert_refused(in, &(struct conversion_options){.merging = "v2"}, "--trained-with says otherwise");
    convert(in, out, &(struct conversion_options){.merging = "v2", .trained_with = "fixed"},
            TENSOR_FILE_SAFETENSORS);
    assert_refused(out, &(struct conversion_options){.merging = "legacy"}, "is v2, and no weights");
    assert_refused(out, &(struct conversion_options){.trained_with = "fixed"}, "patch merging v2, not fixed");
    assert_refused(in, &(struct conversion_options){.merging = "fixd"}, "no patch merging order is called");
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void a_constant_legacy_merging_can_be_fixed(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    float *norm = NULL;
    for (int stage = 1; stage <= 4; stage++) {
        char own[parameter_name_size];
        (void)snprintf(own, sizeof own, "backbone.swinViT.layers%d.0.downsample.reduction.weight", stage);
        const struct parameter *p = parameter_find(&table, own);
        memset(params + p->offset, 0, p->count * sizeof *params);
    }
    /* In stage 1: constant only as legacy adds up, so that its norm must become 0. */
    const struct parameter *p = parameter_find(&table, "backbone.swinViT.layers1.0.downsample.norm.weight");
    norm = params + p->offset;
    for (size_t i = 0; i < p->count; i++) {
        norm[i] = 1;
    }
    p = parameter_find(&table, "backbone.swinViT.layers1.0.downsample.reduction.weight");
    params[p->offset + 2 * 3] = 0.25F; /* block 2 and block 5 are both 010 */
    params[p->offset + 5 * 3] = -0.25F;
    network_file_write(in, &plain, params);
    convert(in, out, &(struct conversion_options){.merging = "fixed"}, TENSOR_FILE_SAFETENSORS);
    memset(norm, 0, 24 * sizeof *norm);
    assert_holds(out, params, GROUP_TEACHER);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

static void first_layers_are_given_channels(void **state)
{
    (void)state;
    struct parameter_table table;
    float *params = network_draw(&table, &small, 1);
    network_file_write(in, &plain, params);
    convert(in, out, &(struct conversion_options){.names = "monai", .in_channels = 3}, TENSOR_FILE_PT);
    struct conversion conversion;
    assert_int_equal(conversion_open(&conversion, in, &(struct conversion_options){.in_channels = 3}),
                     VOCO_OK);
    assert_int_equal(conversion.reshaped_count, 3);
    conversion_close(&conversion);
    struct stored_network stored;
    assert_int_equal(stored_network_open(&stored, out, NULL), VOCO_OK);
    assert_int_equal(stored.in_channels, 3);
    const struct parameter *p = parameter_find(&stored.table, "backbone.encoder1.layer.conv1.conv.weight");
    float values[3 * 3 * 27];
    assert_int_equal(stored_network_read_floats(&stored, (int)(p - stored.table.entries), values), VOCO_OK);
    for (int i = 0; i < 3 * 3 * 27; i++) {
        assert_true(values[i] == params[p->offset + (size_t)(i / 81 * 27 + i % 27)] / 3.0F);
    }
    stored_network_close(&stored);
    assert_refused(out, &(struct conversion_options){.in_channels = 2},
                   "takes 3 input channels; only from 1");
    convert(out, back, &(struct conversion_options){0}, TENSOR_FILE_SAFETENSORS);
    save_checkpoint(in, &small); /* its moments are of other shapes: weights only */
    assert_int_equal(conversion_open(&conversion, in, &(struct conversion_options){.in_channels = 2}),
                     VOCO_OK);
    assert_false(conversion.resumes);
    assert_true(conversion.left_out > 0);
    conversion_close(&conversion);
    free(params);
    parameter_table_free(&table);
    scratch_empty();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_training_checkpoint_comes_back_from_pt_byte_for_byte),
        cmocka_unit_test(a_training_checkpoint_comes_back_from_the_other_order),
        cmocka_unit_test(every_name_space_and_format_comes_back_bit_for_bit),
        cmocka_unit_test(other_types_are_kept),
        cmocka_unit_test(wrappers_and_old_spellings_are_recognised),
        cmocka_unit_test(every_combination_of_words_around_the_network_is_recognised),
        cmocka_unit_test(what_is_ambiguous_or_unknown_is_said),
        cmocka_unit_test(what_is_unexpected_or_missing_is_listed),
        cmocka_unit_test(other_networks_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(a_checkpoint_without_all_moments_is_not_called_one),
        cmocka_unit_test(legacy_weights_stay_legacy),
        cmocka_unit_test(a_constant_legacy_merging_can_be_fixed),
        cmocka_unit_test(first_layers_are_given_channels),
    };
    return cmocka_run_group_tests(tests, name_files, scratch_folder_remove);
}
