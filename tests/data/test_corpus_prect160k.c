/* The corpus that comes with the program is sound, and weighted as voco.md section 5 says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/corpus.h"
#include "data/dataset_list.h"

#include <stdlib.h>
#include <string.h>

static void open_it(struct corpus *corpus)
{
    char *text = NULL;
    size_t length = 0;
    if (dataset_read_text(&text, &length, VOCO_RECIPES "/prect160k.yaml") != VOCO_OK ||
        corpus_parse_yaml(corpus, text, length, "prect160k.yaml", "/scans") != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
    free(text);
}

static const struct corpus_set *set_named(const struct corpus *corpus, const char *name)
{
    for (int i = 0; i < corpus->set_count; i++) {
        if (strcmp(corpus->sets[i].name, name) == 0) {
            return &corpus->sets[i];
        }
    }
    fail_msg("there is no set %s", name);
    return NULL;
}

static void every_set_says_how_it_is_prepared(void **state)
{
    (void)state;
    struct corpus corpus = {0};
    open_it(&corpus);
    assert_true(corpus.set_count >= 25);
    for (int i = 0; i < corpus.set_count; i++) {
        const struct corpus_set *set = &corpus.sets[i];
        assert_int_equal(set->has_preset, 1);
        assert_int_equal(strncmp(set->root, "/scans/data/", 12), 0);
        assert_true(set->list_count > 0);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(set->root, corpus.sets[j].root);
        }
    }
    corpus_free(&corpus);
}

static void abdomen_and_head_and_neck_are_repeated_eight_times(void **state)
{
    (void)state;
    struct corpus corpus = {0};
    int presets[3] = {0, 0, 0};
    open_it(&corpus);
    for (int i = 0; i < corpus.set_count; i++) {
        const struct corpus_set *set = &corpus.sets[i];
        struct preset named;
        assert_int_equal(preset_from_name(&named, set->preset.name), VOCO_OK);
        const int chest = strcmp(named.name, "chest") == 0;
        assert_int_equal(set->repeat, chest ? 1 : 8);
        presets[chest ? 0 : (strcmp(named.name, "abdomen") == 0 ? 1 : 2)]++;
        /* Only a set without labels is taken otherwise than its preset says. */
        named.window = strcmp(set->name, "DeepLesion") == 0 ? WINDOW_RESIZE : named.window;
        assert_memory_equal(&set->preset, &named, sizeof named);
    }
    assert_int_equal(presets[0], 8);
    assert_int_equal(presets[1], 12);
    assert_int_equal(presets[2], 7);
    corpus_free(&corpus);
}

static void everything_is_for_training(void **state)
{
    (void)state;
    struct corpus corpus = {0};
    open_it(&corpus);
    for (int i = 0; i < corpus.set_count; i++) {
        const struct corpus_set *set = &corpus.sets[i];
        const int other_parts = (set->use & ~(1U << SPLIT_TRAINING)) != 0;
        const int is_list = strstr(set->lists[0], ".json") != NULL;
        assert_int_equal(set->has_split, is_list && other_parts);
        assert_int_equal(set->split, SPLIT_TRAINING);
    }
    const struct corpus_set *btcv = set_named(&corpus, "BTCV");
    assert_string_equal(btcv->root, "/scans/data/BTCV");
    assert_int_equal(btcv->use, 1 << SPLIT_TRAINING | 1 << SPLIT_VALIDATION);
    assert_string_equal(set_named(&corpus, "LUNA16")->root, "/scans/data/Luna16-jx");
    assert_int_equal(set_named(&corpus, "HealthyCT")->list_count, 3);
    corpus_free(&corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_says_how_it_is_prepared),
        cmocka_unit_test(abdomen_and_head_and_neck_are_repeated_eight_times),
        cmocka_unit_test(everything_is_for_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
