/* Recipes: the four of the program hold the published values, every setting survives YAML and JSON, and what
 * is wrong is named with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuzz/fuzz_recipe.c" /* NOLINT(bugprone-suspicious-include): the target itself is under test */

#include "base/philox.h"
#include "train/recipe_settings.h"
#include "train/scratch_folder.h"
#include "volume/prepare.h"

#include <jansson.h>
#include <stdio.h>

static void assert_same_recipe(const struct recipe *a, const struct recipe *b)
{
    char text_a[setting_text_size];
    char text_b[setting_text_size];
    for (int i = 0; i < recipe_setting_count; i++) {
        for (int j = 0; j < recipe_settings[i].count; j++) {
            recipe_setting_format(text_a, a, &recipe_settings[i], j);
            recipe_setting_format(text_b, b, &recipe_settings[i], j);
            assert_string_equal(text_a, text_b);
        }
        if (recipe_settings[i].kind == SETTING_REAL) { /* bit for bit: a resumed run must not drift */
            assert_memory_equal((const char *)a + recipe_settings[i].offset,
                                (const char *)b + recipe_settings[i].offset, sizeof(double));
        }
    }
    assert_int_equal(a->sampling.roi, b->sampling.roi);
}

/* voco.md sections 1 to 4, value by value. */
static void base_is_the_published_method(void **state)
{
    (void)state;
    struct recipe r;
    assert_int_equal(recipe_load(&r, "base"), VOCO_OK);
    assert_true(r.model.feature_size == 48 && r.model.roi == 64 && r.model.projector == 1024);
    assert_int_equal(r.model.patch_merging, PATCH_MERGING_FIXED);
    assert_true(r.sampling.roi == 64 && r.sampling.crops == 2);
    assert_true(r.sampling.base_grid[0] == 3 && r.sampling.base_grid[1] == 3);
    assert_true(r.augmentation.flip[0] == 0.2F && r.augmentation.flip[1] == 0.2F &&
                r.augmentation.flip[2] == 0.2F);
    assert_true(r.augmentation.rotate == 0.2F && r.augmentation.shift == 0.5F &&
                r.augmentation.shift_range == 0.1F);
    assert_true(r.drop == DROP_CROP && r.drop_rate == 0.2 && r.ema_decay == 0.9);
    assert_true(r.steps == 2000000 && r.warm_up == 5000 && r.learning_rate == 1e-4 &&
                r.schedule == SCHEDULE_COSINE);
    assert_true(r.weight_decay == 0.01 && r.beta1 == 0.9 && r.beta2 == 0.999 && r.epsilon == 1e-8);
    assert_true(r.clip_norm == 0.0 && r.volumes == 2 && r.max_skipped == 20);
    struct recipe defaults;
    recipe_default(&defaults);
    assert_same_recipe(&r, &defaults);
}

static void the_sizes_differ_as_published(void **state)
{
    (void)state;
    static const int sizes[] = {12, 48, 96, 192};
    struct recipe base;
    assert_int_equal(recipe_load(&base, "base"), VOCO_OK);
    for (int i = 0; recipe_builtin_name(i) != NULL; i++) {
        struct recipe r;
        assert_true(i < 4);
        assert_int_equal(recipe_load(&r, recipe_builtin_name(i)), VOCO_OK);
        assert_int_equal(r.model.feature_size, sizes[i]);
        if (i > 1) { /* large and huge differ from base in nothing else */
            r.model.feature_size = 48;
            assert_same_recipe(&r, &base);
        }
    }
    assert_null(recipe_builtin_name(4));
    struct recipe tiny;
    assert_int_equal(recipe_load(&tiny, "tiny"), VOCO_OK);
    assert_true(tiny.model.roi == 48 && tiny.model.projector == 256);
}

/* A recipe whose every number is drawn within its range. */
static void draw_recipe(struct recipe *recipe, uint64_t number)
{
    const struct random_key key = {.seed = 3, .step = number, .purpose = RANDOM_TEST};
    recipe_default(recipe);
    for (int i = 0; i < recipe_setting_count; i++) {
        const struct recipe_setting *s = &recipe_settings[i];
        for (int j = 0; j < s->count; j++) {
            const uint32_t place = (uint32_t)(4 * i + j);
            char text[setting_text_size];
            char reason[setting_reason_size];
            const double value = s->least + (double)random_uniform(&key, place) * (s->most - s->least);
            if (s->choices != NULL) {
                uint32_t count = 0;
                while (s->choices[count] != NULL) {
                    count++;
                }
                (void)snprintf(text, sizeof text, "%s", s->choices[random_below(&key, place, count)]);
            } else if (s->kind == SETTING_REAL || s->kind == SETTING_FLOAT) {
                (void)snprintf(text, sizeof text, "%.17g", value);
            } else {
                (void)snprintf(text, sizeof text, "%.0f", value);
            }
            if (!recipe_setting_assign(recipe, s, j, text, reason)) {
                fail_msg("%s", reason);
            }
        }
    }
    recipe->model.feature_size = 3 + 3 * (int)random_below(&key, 1000, 255);
    recipe->model.roi = 48 + 16 * (int)random_below(&key, 1001, 10);
    recipe->bits = 8 + 4 * (int)random_below(&key, 1002, 3);
    assert_int_equal(recipe_check(recipe), VOCO_OK);
}

static void every_setting_survives_yaml_and_json(void **state)
{
    (void)state;
    for (uint64_t number = 0; number < 300; number++) {
        struct recipe drawn;
        struct recipe back;
        draw_recipe(&drawn, number);
        char *yaml = NULL;
        size_t length = 0;
        FILE *stream = open_memstream(&yaml, &length);
        assert_non_null(stream);
        assert_int_equal(recipe_write_yaml(stream, &drawn), VOCO_OK);
        (void)fclose(stream);
        if (recipe_parse_yaml(&back, yaml, length, "written") != VOCO_OK) {
            fail_msg("%s", voco_error_message());
        }
        assert_same_recipe(&back, &drawn);
        char *json = recipe_to_text(&drawn);
        assert_non_null(json);
        assert_int_equal(recipe_from_text(&back, json, "written"), VOCO_OK);
        assert_same_recipe(&back, &drawn);
        char *again = recipe_to_text(&back);
        assert_string_equal(again, json);
        free(again);
        free(json);
        free(yaml);
    }
}

static void json_has_numbers_as_numbers(void **state)
{
    (void)state;
    struct recipe recipe;
    recipe_default(&recipe);
    json_t *json = recipe_to_json(&recipe);
    assert_non_null(json);
    assert_true(json_real_value(json_object_get(json_object_get(json, "optimiser"), "learning_rate")) ==
                1e-4);
    const json_t *augmentation = json_object_get(json, "augmentation");
    assert_true(json_real_value(json_array_get(json_object_get(augmentation, "flip"), 2)) == 0.2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "model"), "feature_size")), 48);
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "machine"), "chunk_cache")),
                        "1G");
    json_decref(json);
}

static void what_a_file_leaves_out_is_as_in_base(void **state)
{
    (void)state;
    static const char text[] =
        "---\n# a comment\nmodel: {feature_size: 24, 'roi': 48}\nmachine:\n  memory: 1536M\n...\n";
    struct recipe recipe;
    struct recipe expected;
    recipe_default(&expected);
    expected.model.feature_size = 24;
    expected.model.roi = 48;
    expected.sampling.roi = 48;
    expected.memory = (uint64_t)1536 << 20;
    assert_int_equal(recipe_parse_yaml(&recipe, text, sizeof text - 1, "f"), VOCO_OK);
    assert_same_recipe(&recipe, &expected);
}

static void memory_is_read_in_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
        const char *shortest;
    } cases[] = {
        {"2G", (uint64_t)2 << 30, "2G"},        {"2GB", (uint64_t)2 << 30, "2G"},
        {"2GiB", (uint64_t)2 << 30, "2G"},      {"1.5G", (uint64_t)1536 << 20, "1536M"},
        {"1048577", 1048577, "1048577"},        {"4096K", (uint64_t)4 << 20, "4M"},
        {"0.25T", (uint64_t)256 << 30, "256G"},
    };
    char reason[setting_reason_size];
    char text[setting_text_size];
    const struct recipe_setting *setting = recipe_setting_find("machine", "memory", reason);
    assert_non_null(setting);
    struct recipe recipe;
    recipe_default(&recipe);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(recipe_setting_assign(&recipe, setting, 0, cases[i].text, reason));
        assert_true(recipe.memory == cases[i].bytes);
        recipe_setting_format(text, &recipe, setting, 0);
        assert_string_equal(text, cases[i].shortest);
    }
    static const char *const wrong[] = {"",    "G",     "2X",  "2GG",   "-1G", "1e400",     "nan",
                                        "inf", "0x10G", "1M ", "1000T", "2 G", "1.0000001K"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(recipe_setting_assign(&recipe, setting, 0, wrong[i], reason));
    }
}

static void what_is_wrong_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"model:\n  roi: 64\n  feature_sise: 48\n", "f:3: there is no setting \"feature_sise\" in the "
                                                    "section \"model\", did you mean \"feature_size\"?"},
        {"optimizer:\n  warm_up: 5\n", "f:1: there is no section \"optimizer\", did you mean \"optimiser\"?"},
        {"optimiser:\n  steps: 5\n", "f:2: \"steps\" belongs in the section \"training\""},
        {"steps: 5\n", "f:1: \"steps\" belongs in the section \"training\""},
        {"run:\n  zzzzzzz: 5\n", "f:2: there is no setting \"zzzzzzz\" in the section \"run\""},
        {"training:\n  steps: 0\n", "f:2: training.steps: \"0\" is not between 1 and 1000000000000"},
        {"training:\n  steps: 1e6\n", "f:2: training.steps: \"1e6\" is not a whole number"},
        {"training:\n  steps: 99999999999999999999\n",
         "f:2: training.steps: \"99999999999999999999\" is not a whole number"},
        {"training:\n  steps: ''\n", "f:2: training.steps: \"\" is not a whole number"},
        {"training:\n  drop: rows\n", "f:2: training.drop: \"rows\" is not crop, feature or none"},
        {"training:\n  drop_rate: nan\n", "f:2: training.drop_rate: \"nan\" is not a number"},
        {"optimiser:\n\n  learning_rate: fast\n", "f:3: optimiser.learning_rate: \"fast\" is not a number"},
        {"optimiser:\n  beta1: 1.0\n", "f:2: optimiser.beta1: \"1.0\" is not between 0 and 0.999999"},
        {"machine:\n  precision: fp8\n", "f:2: machine.precision: \"fp8\" is not float32, bf16 or tf32"},
        {"ranks:\n  reduce: tf32\n", "f:2: ranks.reduce: \"tf32\" is not float32 or bf16"},
        {"data:\n  preset: ct\n", "f:2: data.preset: \"ct\" is not abdomen, chest, headneck or mr"},
        {"sampling:\n  base_grid: [3]\n", "f:2: sampling.base_grid: a list of 2 values is expected"},
        {"sampling:\n  base_grid: [3, 3, 3]\n", "f:2: sampling.base_grid: a list of 2 values is expected"},
        {"sampling:\n  base_grid: 3\n", "f:2: sampling.base_grid: a list of 2 values is expected"},
        {"sampling:\n  base_grid: [3, [3]]\n", "f:2: sampling.base_grid: a list of values is expected"},
        {"sampling:\n  crops: [2]\n", "f:2: sampling.crops: one value is expected"},
        {"sampling:\n  crops: 2\n  crops: 3\n", "f:3: sampling.crops is set twice"},
        {"model:\n", "f:1: the section \"model\" has no settings below it"},
        {"model: 48\n", "f:1: the section \"model\" has no settings below it"},
        {"[model]\n", "f:1: not a recipe: sections such as \"model:\" are expected"},
        {"? [a]\n: 1\n", "f:1: the name of a section is expected"},
        {"model:\n  ? {a: b}\n  : 1\n", "f:2: the name of a setting is expected"},
        {"", "f: is empty"},
        {"run: {seed: 1}\n---\nrun: {seed: 2}\n", "f:2: a recipe has one document"},
        {"model:\n\troi: 64\n", "f:2: not YAML: found character that cannot start any token"},
        {"model: {roi: 64\n", "f:2: not YAML: did not find expected ',' or '}'"},
        {"model:\n  roi: \"6\\0\"\n", "f:2: model.roi: one value is expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct recipe recipe;
        assert_int_equal(recipe_parse_yaml(&recipe, cases[i].text, strlen(cases[i].text), "f"),
                         VOCO_BAD_INPUT);
        assert_string_equal(voco_error_message(), cases[i].message);
    }
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *words;
    } cases[] = {
        {"model: {feature_size: 50}\n", "50"},
        {"model: {roi: 72}\n", "72"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct recipe recipe;
        assert_int_equal(recipe_parse_yaml(&recipe, cases[i].text, strlen(cases[i].text), "some.yaml"),
                         VOCO_BAD_INPUT);
        assert_memory_equal(voco_error_message(), "some.yaml: ", 11);
        assert_non_null(strstr(voco_error_message(), cases[i].words));
    }
    struct recipe changed;
    recipe_default(&changed);
    changed.learning_rate = -1.0;
    assert_int_equal(recipe_check(&changed), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "optimiser.learning_rate: \"-1\" is not between 0 and 10");
}

static void files_are_loaded_by_their_path(void **state)
{
    (void)state;
    char path[scratch_path_size];
    static const char text[] = "run: {seed: 12345}\n";
    struct recipe recipe;
    scratch_write(scratch_path(path, "mine.yaml"), text, sizeof text - 1);
    assert_int_equal(recipe_load(&recipe, path), VOCO_OK);
    assert_true(recipe.seed == 12345);
    assert_int_equal(recipe_load(&recipe, scratch_path(path, "none.yaml")), VOCO_IO);
    assert_non_null(strstr(voco_error_message(), "none.yaml: cannot open the recipe: No such file"));
    assert_int_equal(recipe_load(&recipe, scratch_folder()), VOCO_IO);
    assert_int_equal(recipe_load(&recipe, "bse"), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(),
                        "bse: neither a file nor one of the recipes tiny, base, large, huge");
}

static void json_is_read_as_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"{\"model\": {\"roy\": 64}}",
         "c: there is no setting \"roy\" in the section \"model\", did you mean \"roi\"?"},
        {"{\"model\": 1}", "c: the section \"model\" has no settings below it"},
        {"{\"model\": {\"roi\": \"a\"}}", "c: model.roi: \"a\" is not a whole number"},
        {"{\"model\": {\"roi\": null}}", "c: model.roi: \"\" is not a whole number"},
        {"{\"model\": {\"roi\": 64.5}}", "c: model.roi: \"64.5\" is not a whole number"},
        {"{\"sampling\": {\"base_grid\": [1]}}", "c: sampling.base_grid: a list of 2 values is expected"},
        {"[]", "c: the recipe is not an object"},
        {"{", "c: the recipe is not JSON: string or '}' expected near end of file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct recipe recipe;
        assert_int_equal(recipe_from_text(&recipe, cases[i].text, "c"), VOCO_BAD_INPUT);
        assert_string_equal(voco_error_message(), cases[i].message);
    }
}

/* Words of the table stand for enums and names of other floors: both must say the same. */
static void words_mean_what_other_floors_call_them(void **state)
{
    (void)state;
    char reason[setting_reason_size];
    const char *const *words = recipe_setting_find("model", "patch_merging", reason)->choices;
    for (int i = 0; words[i] != NULL; i++) {
        assert_string_equal(words[i], patch_merging_name((enum patch_merging)i));
    }
    words = recipe_setting_find("data", "preset", reason)->choices;
    for (int i = 0; words[i] != NULL; i++) {
        struct preset preset;
        assert_int_equal(preset_from_name(&preset, words[i]), VOCO_OK);
    }
    words = recipe_setting_find("machine", "precision", reason)->choices;
    for (int i = 0; i < compute_precisions; i++) {
        enum compute_precision precision;
        assert_int_equal(compute_precision_from_name(&precision, words[i]), VOCO_OK);
        assert_int_equal(precision, i);
    }
    assert_null(words[compute_precisions]);
}

/* Changes of a written recipe, in characters that mean something to YAML or JSON. */
static void damaged_recipes_are_refused_or_read(void **state)
{
    (void)state;
    static const char telling[] = "{}[]:,-#'\"|>&*!%? \n\t0123456789.e\\~";
    struct recipe recipe;
    recipe_default(&recipe);
    char *seeds[2] = {NULL, recipe_to_text(&recipe)};
    size_t length = 0;
    FILE *stream = open_memstream(&seeds[0], &length);
    assert_non_null(stream);
    assert_int_equal(recipe_write_yaml(stream, &recipe), VOCO_OK);
    (void)fclose(stream);
    int refused = 0;
    for (uint64_t number = 0; number < 4000; number++) {
        const struct random_key key = {.seed = 8, .step = number, .purpose = RANDOM_TEST};
        size_t size = strlen(seeds[number % 2]);
        char *text = malloc(size + 1);
        assert_non_null(text);
        memcpy(text, seeds[number % 2], size + 1);
        const uint32_t changes = random_below(&key, 0, 5);
        for (uint32_t i = 0; i < changes; i++) {
            const uint32_t choice = random_below(&key, 10 + 4 * i, sizeof telling + 8);
            text[random_below(&key, 11 + 4 * i, (uint32_t)size)] =
                choice < sizeof telling - 1 ? telling[choice] : (char)random_below(&key, 12 + 4 * i, 256);
        }
        if (random_below(&key, 1, 6) == 0) {
            size = random_below(&key, 2, (uint32_t)size);
        }
        const enum voco_status status = recipe_parse_yaml(&recipe, text, size, "damaged");
        if (status != VOCO_OK) {
            assert_int_equal(status, VOCO_BAD_INPUT);
            assert_memory_equal(voco_error_message(), "damaged:", 8);
            refused++;
        }
        assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)text, size), 0);
        free(text);
    }
    assert_true(refused > 500 && refused < 3900);
    free(seeds[0]);
    free(seeds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base_is_the_published_method),
        cmocka_unit_test(the_sizes_differ_as_published),
        cmocka_unit_test(every_setting_survives_yaml_and_json),
        cmocka_unit_test(json_has_numbers_as_numbers),
        cmocka_unit_test(what_a_file_leaves_out_is_as_in_base),
        cmocka_unit_test(memory_is_read_in_units),
        cmocka_unit_test(what_is_wrong_is_named_with_its_line),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(files_are_loaded_by_their_path),
        cmocka_unit_test(json_is_read_as_strictly),
        cmocka_unit_test(words_mean_what_other_floors_call_them),
        cmocka_unit_test(damaged_recipes_are_refused_or_read),
    };
    return cmocka_run_group_tests(tests, scratch_folder_make, scratch_folder_remove);
}
