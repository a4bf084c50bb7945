/* Checkpoints: a state comes back bit for bit; the names are the published ones; what is damaged, of another
 * model or on a full disk is refused in one line and costs nothing that was there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "train/checkpoint.h"
#include "train/scratch_folder.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct model_config small = {
    .feature_size = 3, .roi = 48, .projector = 16, .patch_merging = PATCH_MERGING_FIXED};

static struct recipe recipe_of(const struct model_config *config)
{
    struct recipe recipe;
    recipe_default(&recipe);
    recipe.model = *config;
    recipe.seed = 77;
    recipe.learning_rate = 0.1 + 0.2; /* needs 17 digits */
    assert_int_equal(recipe_check(&recipe), VOCO_OK);
    return recipe;
}

/* A state in which every element is another value; `variant` makes another state. */
static void make_state(struct training_state *state, const struct parameter_table *table, int variant)
{
    assert_int_equal(training_state_create(state, table), VOCO_OK);
    real *const moments[] = {state->exp_avg, state->exp_avg_sq, state->max_exp_avg_sq};
    for (int i = 0; i < table->count; i++) {
        const struct parameter *p = &table->entries[i];
        for (size_t j = p->offset; j < p->offset + p->count; j++) {
            state->params[j] = (real)((double)j * 1.1 + variant);
            for (int m = 0; m < 3 && p->group != GROUP_TEACHER; m++) {
                moments[m][j] = (real)((double)j * -0.3 + m + 1 + variant);
            }
        }
    }
    state->step = 41 + variant;
    state->optimizer_step = 40 + variant;
}

static void assert_same_state(const struct training_state *a, const struct training_state *b,
                              const struct parameter_table *table)
{
    assert_memory_equal(a->params, b->params, table->total * sizeof(real));
    assert_memory_equal(a->exp_avg, b->exp_avg, table->trained * sizeof(real));
    assert_memory_equal(a->exp_avg_sq, b->exp_avg_sq, table->trained * sizeof(real));
    assert_memory_equal(a->max_exp_avg_sq, b->max_exp_avg_sq, table->trained * sizeof(real));
    assert_true(a->step == b->step && a->optimizer_step == b->optimizer_step);
}

static void save(const char *path, const struct model_config *config, int variant)
{
    struct model model;
    struct training_state state;
    const struct recipe recipe = recipe_of(config);
    assert_int_equal(model_create(&model, config), VOCO_OK);
    make_state(&state, &model.table, variant);
    assert_int_equal(checkpoint_save(path, &model, &state, &recipe), VOCO_OK);
    training_state_free(&state);
    model_free(&model);
}

static void a_state_comes_back_bit_for_bit(void **state)
{
    (void)state;
    char path[scratch_path_size];
    scratch_path(path, "whole.safetensors");
    save(path, &small, 0);
    struct model model;
    struct training_state expected;
    struct training_state found;
    struct checkpoint checkpoint;
    assert_int_equal(model_create(&model, &small), VOCO_OK);
    make_state(&expected, &model.table, 0);
    make_state(&found, &model.table, 5); /* something else, to be overwritten */
    assert_int_equal(checkpoint_open(&checkpoint, path), VOCO_OK);
    assert_true(checkpoint.resumable);
    assert_true(checkpoint.step == 41 && checkpoint.optimizer_step == 40);
    assert_string_equal(checkpoint.version, VOCO_VERSION);
    assert_int_equal(checkpoint_read_state(&checkpoint, &model, &found), VOCO_OK);
    assert_same_state(&found, &expected, &model.table);
    const struct recipe recipe = recipe_of(&small);
    char *text = recipe_to_text(&recipe);
    char *text_found = recipe_to_text(&checkpoint.recipe);
    assert_string_equal(text_found, text);
    assert_true(checkpoint.recipe.learning_rate == 0.1 + 0.2);
    free(text);
    free(text_found);
    memset(found.params, 0xff, model.table.total * sizeof(real));
    assert_int_equal(checkpoint_read_params(&checkpoint, &model.table, found.params), VOCO_OK);
    assert_memory_equal(found.params, expected.params, model.table.total * sizeof(real));
    checkpoint_close(&checkpoint);
    training_state_free(&expected);
    training_state_free(&found);
    model_free(&model);
}

static void equal_states_give_equal_bytes(void **state)
{
    (void)state;
    char a[scratch_path_size];
    char b[scratch_path_size];
    save(scratch_path(a, "one.safetensors"), &small, 0);
    save(scratch_path(b, "another-name.safetensors"), &small, 0);
    long size_a = 0;
    long size_b = 0;
    char *bytes_a = scratch_read(a, &size_a);
    char *bytes_b = scratch_read(b, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(bytes_a, bytes_b, (size_t)size_a);
    free(bytes_a);
    free(bytes_b);
}

/* state_dict_B.txt lists the published checkpoint; the same network at another size has the same names, types
 * and ranks. */
static void the_names_are_the_published_ones(void **state)
{
    (void)state;
    char path[scratch_path_size];
    struct safetensors file;
    save(scratch_path(path, "names.safetensors"), &small, 0);
    assert_int_equal(safetensors_open(&file, path), VOCO_OK);
    FILE *list = fopen(VOCO_SPEC_TABLES "/state_dict_B.txt", "r");
    assert_non_null(list);
    char line[512];
    size_t listed = 0;
    while (fgets(line, sizeof line, list) != NULL) {
        char name[200];
        char rest[300];
        if (line[0] == '#' || sscanf(line, "%199s %299[^\n]", name, rest) != 2) {
            continue;
        }
        const struct safetensors_tensor *tensor = safetensors_find(&file, name);
        if (tensor == NULL) {
            fail_msg("%s is missing", name);
            continue;
        }
        const int index = strstr(name, "relative_position_index") != NULL;
        assert_int_equal(tensor->type, index ? SAFETENSORS_I64 : SAFETENSORS_F32);
        listed++;
    }
    (void)fclose(list);
    size_t others = 0;
    for (size_t i = 0; i < file.count; i++) {
        others += strncmp(file.tensors[i].name, "optimizer.", 10) != 0;
    }
    assert_true(listed > 100);
    assert_int_equal(others, listed);
    /* The buffer holds what the published one does (voco.md section 2, item 4), row = query. */
    const struct safetensors_tensor *index =
        safetensors_find(&file, "backbone.swinViT.layers1.0.blocks.0.attn.relative_position_index");
    assert_non_null(index);
    int64_t *values = malloc(index->bytes);
    assert_non_null(values);
    assert_int_equal(safetensors_read(&file, index, values), VOCO_OK);
    assert_int_equal(values[0], 169 * 6 + 13 * 6 + 6);
    assert_int_equal(values[342], 0); /* query (0, 0, 0), key (6, 6, 6) */
    assert_int_equal(values[(size_t)342 * 343], 2196);
    free(values);
    safetensors_close(&file);
}

static void another_model_is_named_with_both_shapes(void **state)
{
    (void)state;
    char path[scratch_path_size];
    save(scratch_path(path, "other.safetensors"), &small, 0);
    static const struct {
        struct model_config config;
        const char *words;
    } cases[] = {
        {{6, 48, 16, PATCH_MERGING_FIXED}, "is [3, 1, 2, 2, 2], but [6, 1, 2, 2, 2] is needed"},
        {{3, 48, 32, PATCH_MERGING_FIXED},
         "tensor \"student.layer1.0.weight\" is [16, 72], but [32, 72] is needed"},
        {{3, 64, 16, PATCH_MERGING_FIXED}, "was trained with roi 48, not 64"},
        {{3, 48, 16, PATCH_MERGING_V2}, "was trained with patch merging fixed, not v2"},
    };
    struct checkpoint checkpoint;
    assert_int_equal(checkpoint_open(&checkpoint, path), VOCO_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model model;
        struct training_state found;
        assert_int_equal(model_create(&model, &cases[i].config), VOCO_OK);
        assert_int_equal(training_state_create(&found, &model.table), VOCO_OK);
        assert_int_equal(checkpoint_read_state(&checkpoint, &model, &found), VOCO_BAD_INPUT);
        if (strstr(voco_error_message(), cases[i].words) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", voco_error_message(), cases[i].words);
        }
        assert_memory_equal(voco_error_message(), path, strlen(path));
        training_state_free(&found);
        model_free(&model);
    }
    checkpoint_close(&checkpoint);
}

/* Writes the parameters alone, as half floats, with the given metadata: what another program may have made.
 */
static void write_weights(const char *path, const char *const (*metadata)[2], const char *left_out)
{
    struct model model;
    struct safetensors_writer *w = NULL;
    assert_int_equal(model_create(&model, &small), VOCO_OK);
    assert_int_equal(safetensors_writer_open(&w, path), VOCO_OK);
    for (int i = 0; metadata[i][0] != NULL; i++) {
        assert_int_equal(safetensors_writer_metadata(w, metadata[i][0], metadata[i][1]), VOCO_OK);
    }
    size_t largest = 1;
    for (int i = 0; i < model.table.count; i++) {
        const struct parameter *p = &model.table.entries[i];
        if (left_out == NULL || strcmp(p->name, left_out) != 0) {
            assert_int_equal(safetensors_writer_declare(w, p->name, SAFETENSORS_F16, p->rank, p->shape),
                             VOCO_OK);
        }
        largest = p->count > largest ? p->count : largest;
    }
    uint16_t *halves = malloc(2 * largest);
    assert_non_null(halves);
    for (int i = 0; i < model.table.count; i++) {
        const struct parameter *p = &model.table.entries[i];
        for (size_t j = 0; j < p->count; j++) {
            halves[j] = (uint16_t)(0x3c00 + i); /* 1 + i / 1024 */
        }
        if (left_out == NULL || strcmp(p->name, left_out) != 0) {
            assert_int_equal(safetensors_writer_put(w, halves), VOCO_OK);
        }
    }
    assert_int_equal(safetensors_writer_commit(w), VOCO_OK);
    free(halves);
    model_free(&model);
}

static void a_file_of_weights_gives_its_parameters(void **state)
{
    (void)state;
    static const char *const metadata[][2] = {
        {"feature_size", "3"}, {"roi", "48"}, {"projector", "16"}, {"format", "pt"}, {NULL, NULL}};
    char path[scratch_path_size];
    write_weights(scratch_path(path, "weights.safetensors"), metadata, NULL);
    struct checkpoint checkpoint;
    assert_int_equal(checkpoint_open(&checkpoint, path), VOCO_OK);
    assert_false(checkpoint.resumable);
    assert_int_equal(checkpoint.config.patch_merging, PATCH_MERGING_LEGACY);
    struct model model;
    struct training_state found;
    assert_int_equal(model_create(&model, &checkpoint.config), VOCO_OK);
    assert_int_equal(training_state_create(&found, &model.table), VOCO_OK);
    memset(found.params, 0xff, model.table.total * sizeof(real));
    assert_int_equal(checkpoint_read_params(&checkpoint, &model.table, found.params), VOCO_OK);
    size_t next = 0;
    for (int i = 0; i < model.table.count; i++) {
        const struct parameter *p = &model.table.entries[i];
        for (; next < p->offset; next++) {
            assert_true(found.params[next] == 0.0F); /* padding */
        }
        for (; next < p->offset + p->count; next++) {
            assert_true(found.params[next] == 1.0F + (real)i / 1024.0F);
        }
    }
    assert_int_equal(checkpoint_read_state(&checkpoint, &model, &found), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "holds weights only"));
    checkpoint_close(&checkpoint);
    training_state_free(&found);
    model_free(&model);
}

static void what_is_missing_or_wrong_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *metadata[8][2];
        const char *left_out;
        const char *words;
    } cases[] = {
        {{{"feature_size", "3"}, {"roi", "48x"}}, NULL, "its metadata has roi \"48x\""},
        {{{"feature_size", "4"}, {"roi", "48"}, {"projector", "16"}}, NULL, "feature_size 4, its tensors 3"},
        {{{"feature_size", "3"}, {"roi", "50"}, {"projector", "16"}}, NULL, "multiple of 16"},
        {{{"feature_size", "3"}, {"roi", "48"}, {"projector", "16"}, {"patch_merging", "new"}}, NULL, "new"},
        {{{"format", "voco-checkpoint-9"}}, NULL, "its format is voco-checkpoint-9"},
        {{{"format", "voco-checkpoint-1"}, {"feature_size", "3"}, {"roi", "48"}, {"projector", "16"}},
         NULL,
         "lacks step"},
        {{{"feature_size", "3"}, {"roi", "48"}, {"projector", "16"}},
         "teacher.layer3.0.weight",
         "lacks the tensor \"teacher.layer3.0.weight\" [16, 16]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[scratch_path_size];
        write_weights(scratch_path(path, "wrong.safetensors"), cases[i].metadata, cases[i].left_out);
        struct checkpoint checkpoint;
        enum voco_status status = checkpoint_open(&checkpoint, path);
        if (cases[i].left_out != NULL) {
            struct model model;
            assert_int_equal(status, VOCO_OK);
            assert_int_equal(model_create(&model, &checkpoint.config), VOCO_OK);
            real *params = calloc(model.table.total, sizeof *params);
            assert_non_null(params);
            status = checkpoint_read_params(&checkpoint, &model.table, params);
            free(params);
            model_free(&model);
        }
        if (status != VOCO_BAD_INPUT && status != VOCO_UNSUPPORTED) {
            fail_msg("case %zu gives status %d", i, (int)status);
        }
        if (strstr(voco_error_message(), cases[i].words) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", voco_error_message(), cases[i].words);
        }
        assert_memory_equal(voco_error_message(), path, strlen(path));
        checkpoint_close(&checkpoint);
    }
}

static int warnings;
static void count_warning(enum log_level level, const char *line, void *context)
{
    (void)context;
    warnings += level == LOG_WARNING && strstr(line, "cut short") != NULL;
}

static void save_step(long long step)
{
    char path[checkpoint_path_size];
    assert_int_equal(checkpoint_path(path, scratch_folder(), step), VOCO_OK);
    save(path, &small, (int)step);
}

static void cut(long long step)
{
    char path[checkpoint_path_size];
    assert_int_equal(checkpoint_path(path, scratch_folder(), step), VOCO_OK);
    assert_int_equal(truncate(path, 100000), 0);
}

static void assert_newest(long long step)
{
    char found[checkpoint_path_size];
    char expected[checkpoint_path_size];
    assert_int_equal(checkpoint_path(expected, scratch_folder(), step), VOCO_OK);
    assert_int_equal(checkpoint_newest(found, scratch_folder()), VOCO_OK);
    assert_string_equal(found, expected);
}

static void the_newest_whole_checkpoint_is_found(void **state)
{
    (void)state;
    scratch_empty();
    char path[checkpoint_path_size];
    assert_int_equal(checkpoint_newest(path, scratch_folder()), VOCO_OK);
    assert_string_equal(path, "");
    assert_int_equal(checkpoint_newest(path, "/nonexistent/run"), VOCO_OK);
    assert_string_equal(path, "");
    save_step(9);
    save_step(10);
    save_step(100000000); /* more digits than the padding */
    char other[scratch_path_size];
    scratch_write(scratch_path(other, "checkpoint-99999999.safetensors.bak"), "x", 1);
    scratch_write(scratch_path(other, "checkpoint-200000000x.safetensors"), "x", 1);
    assert_newest(100000000);
    log_set_sink(count_warning, NULL);
    cut(100000000);
    assert_newest(10);
    assert_int_equal(warnings, 1);
    cut(10);
    assert_newest(9);
    assert_int_equal(warnings, 3);
    cut(9);
    assert_int_equal(checkpoint_newest(path, scratch_folder()), VOCO_BAD_INPUT);
    log_set_sink(NULL, NULL);
    assert_string_equal(path, "");
    assert_non_null(strstr(voco_error_message(), "none of its 3 checkpoints is whole"));
}

static int exists(long long step)
{
    char path[checkpoint_path_size];
    assert_int_equal(checkpoint_path(path, scratch_folder(), step), VOCO_OK);
    return access(path, F_OK) == 0;
}

static void pruning_keeps_the_newest_whole_ones(void **state)
{
    (void)state;
    scratch_empty();
    for (long long step = 1; step <= 6; step++) {
        save_step(step);
    }
    cut(6); /* damaged and newest: not counted, not removed */
    cut(4); /* damaged and older than a whole one */
    assert_int_equal(checkpoint_prune(scratch_folder(), 2), VOCO_OK);
    assert_true(exists(6) && exists(5) && !exists(4) && exists(3) && !exists(2) && !exists(1));
    assert_int_equal(checkpoint_prune(scratch_folder(), 2), VOCO_OK);
    assert_int_equal(scratch_files(), 3);
}

static void temporaries_of_the_dead_are_removed(void **state)
{
    (void)state;
    scratch_empty();
    const pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    char name[128];
    char dead[scratch_path_size];
    char own[scratch_path_size];
    char living[scratch_path_size];
    char other[scratch_path_size];
    (void)snprintf(name, sizeof name, "checkpoint-00000009.safetensors.tmp.%ld.3", (long)child);
    scratch_write(scratch_path(dead, name), "x", 1);
    (void)snprintf(name, sizeof name, "metrics.jsonl.tmp.%ld.0", (long)getpid());
    scratch_write(scratch_path(own, name), "x", 1);
    (void)snprintf(name, sizeof name, "checkpoint-00000009.safetensors.tmp.%ld.3", (long)getppid());
    scratch_write(scratch_path(living, name), "x", 1);
    (void)snprintf(name, sizeof name, "notes.tmp.%ld.txt", (long)child);
    scratch_write(scratch_path(other, name), "x", 1);
    assert_int_equal(checkpoint_remove_temporaries(scratch_folder()), VOCO_OK);
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(access(own, F_OK), -1);
    assert_int_equal(access(living, F_OK), 0);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(checkpoint_remove_temporaries("/nonexistent/run"), VOCO_OK);
}

static void a_full_disk_leaves_the_previous_checkpoint(void **state)
{
    (void)state;
    scratch_empty();
    save_step(3);
    struct model model;
    struct training_state changed;
    const struct recipe recipe = recipe_of(&small);
    assert_int_equal(model_create(&model, &small), VOCO_OK);
    make_state(&changed, &model.table, 8);
    char path[checkpoint_path_size];
    assert_int_equal(checkpoint_path(path, scratch_folder(), 3), VOCO_OK);
    long size = 0;
    char *before = scratch_read(path, &size);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    /* Full within the header, within the tensors, and at the last byte. */
    const rlim_t limits[] = {1000, (rlim_t)size / 2, (rlim_t)size - 1};
    for (size_t i = 0; i < 3; i++) {
        const struct rlimit full = {limits[i], old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
        const enum voco_status status = checkpoint_save(path, &model, &changed, &recipe);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(status, VOCO_IO);
        assert_non_null(
            strstr(voco_error_message(), "checkpoint-00000003.safetensors: cannot write: File too large"));
        assert_int_equal(scratch_files(), 1);
        char *after = scratch_read(path, NULL);
        assert_memory_equal(after, before, (size_t)size);
        free(after);
    }
    (void)signal(SIGXFSZ, handler);
    free(before);
    training_state_free(&changed);
    model_free(&model);
}

/* In a container process numbers come back, so a dead writer's file may bear this process's number. */
static void temporaries_of_the_same_number_are_no_hindrance(void **state)
{
    (void)state;
    scratch_empty();
    for (int n = 0; n < 200; n++) {
        char name[128];
        char path[scratch_path_size];
        (void)snprintf(name, sizeof name, "checkpoint-00000003.safetensors.tmp.%ld.%d", (long)getpid(), n);
        scratch_write(scratch_path(path, name), "x", 1);
    }
    save_step(3);
    assert_newest(3);
    assert_int_equal(scratch_files(), 201);
    assert_int_equal(checkpoint_remove_temporaries(scratch_folder()), VOCO_OK);
    assert_int_equal(scratch_files(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_comes_back_bit_for_bit),
        cmocka_unit_test(equal_states_give_equal_bytes),
        cmocka_unit_test(the_names_are_the_published_ones),
        cmocka_unit_test(another_model_is_named_with_both_shapes),
        cmocka_unit_test(a_file_of_weights_gives_its_parameters),
        cmocka_unit_test(what_is_missing_or_wrong_is_named),
        cmocka_unit_test(the_newest_whole_checkpoint_is_found),
        cmocka_unit_test(pruning_keeps_the_newest_whole_ones),
        cmocka_unit_test(temporaries_of_the_dead_are_removed),
        cmocka_unit_test(temporaries_of_the_same_number_are_no_hindrance),
        cmocka_unit_test(a_full_disk_leaves_the_previous_checkpoint),
    };
    return cmocka_run_group_tests(tests, scratch_folder_make, scratch_folder_remove);
}
