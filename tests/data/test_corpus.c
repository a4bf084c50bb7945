/* A corpus: which volumes its sets give, how each set says to prepare them, what is said of a set or file
 * that is not there, and what is refused in its text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "data/corpus.h"
#include "data/data_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char said[4096]; /* what went through the log, a line after the other */

static void keep_line(enum log_level level, const char *line, void *context)
{
    (void)context;
    if (level == LOG_WARNING) {
        const size_t used = strlen(said);
        snprintf(said + used, sizeof said - used, "%s\n", line);
    }
}

static int begin_listening(void **state)
{
    said[0] = '\0';
    log_set_sink(keep_line, NULL);
    return make_data_folder(state);
}

static int stop_listening(void **state)
{
    log_set_sink(NULL, NULL);
    return remove_data_folder(state);
}

static void open_corpus(struct dataset *dataset, const char *text)
{
    put("corpus.yaml", text);
    if (dataset_open(dataset, in_folder("corpus.yaml")) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}

/* The entry has this name and set, and its path is `file` in the folder. */
static void assert_entry(const struct dataset *dataset, size_t index, const char *name, int set,
                         const char *file)
{
    assert_true(index < dataset->count);
    assert_string_equal(dataset->entries[index].name, name);
    assert_int_equal(dataset->entries[index].set, set);
    assert_string_equal(dataset->entries[index].path, file[0] == '/' ? file : in_folder(file));
}

static void assert_names(const struct dataset *dataset, const char *const *names, size_t count)
{
    assert_int_equal(dataset->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(dataset->entries[i].name, names[i]);
    }
}

/* ---- what the sets give ---- */

static void sets_give_their_volumes_split_by_split(void **state)
{
    (void)state;
    struct dataset dataset;
    put("data/BTCV/dataset.json",
        "{\"training\": [{\"image\": \"./imagesTr/b.nii.gz\"}, \"imagesTr/a.nii.gz\"],\n"
        " \"validation\": [\"imagesTr/v.nii.gz\"], \"test\": [\"t.nii\"]}");
    put("data/BTCV/imagesTr/a.nii.gz", "");
    put("data/BTCV/imagesTr/b.nii.gz", "");
    put("data/BTCV/imagesTr/v.nii.gz", "");
    put("data/BTCV/t.nii", "");
    put("data/lung/y.nii.gz", "");
    put("data/lung/deep/x.nii.gz", "");
    open_corpus(&dataset, "root: data\nsets:\n  - name: BTCV\n  - {name: Luna, root: lung, repeat: 8}\n");
    assert_int_equal(dataset.set_count, 2);
    assert_int_equal(dataset.count, 6);
    assert_entry(&dataset, 0, "BTCV/imagesTr/b.nii.gz", 0, "data/BTCV/imagesTr/b.nii.gz");
    assert_entry(&dataset, 1, "BTCV/imagesTr/a.nii.gz", 0, "data/BTCV/imagesTr/a.nii.gz");
    assert_entry(&dataset, 2, "Luna/deep/x.nii.gz", 1, "data/lung/deep/x.nii.gz");
    assert_entry(&dataset, 3, "Luna/y.nii.gz", 1, "data/lung/y.nii.gz");
    assert_entry(&dataset, 4, "BTCV/imagesTr/v.nii.gz", 0, "data/BTCV/imagesTr/v.nii.gz");
    assert_entry(&dataset, 5, "BTCV/t.nii", 0, "data/BTCV/t.nii");
    assert_int_equal(dataset_count(&dataset, SPLIT_TRAINING), 4);
    assert_int_equal(dataset_count(&dataset, SPLIT_VALIDATION), 1);
    assert_string_equal(dataset.sets[0].name, "BTCV");
    assert_int_equal(dataset.sets[0].count, 4);
    assert_int_equal(dataset.sets[0].repeat, 1);
    assert_int_equal(dataset.sets[0].has_preset, 0);
    assert_int_equal(dataset.sets[1].count, 2);
    assert_int_equal(dataset.sets[1].repeat, 8);
    assert_null(dataset.sets[0].problem);
    assert_null(dataset.sets[1].problem);
    assert_string_equal(said, "");
    dataset_free(&dataset);
}

static void lists_may_be_json_text_patterns_folders_and_files(void **state)
{
    (void)state;
    struct dataset dataset;
    put("data/lists/all.json", "{\"training\": [\"a.nii\"]}"); /* relative to the root, not to the list */
    put("data/s/a.nii", "");
    put("data/s/some.txt", "# text\nsub/b.nii.gz\n");
    put("data/s/sub/b.nii.gz", "");
    put("data/s/x1/ct.nii.gz", "");
    put("data/s/x2/ct.nii.gz", "");
    put("data/s/x2/mask.nii.gz", "");
    put("data/s/x2/.hidden.nii.gz", "");
    put("data/s/dir/dataset.json", "{}"); /* a named folder is searched whatever lies in it */
    put("data/s/dir/deep/c.nii", "");
    put("data/s/dir/cached.ome.zarr/d.nii", "");
    put("data/s/dir/chunks.zarr/d.nii", "");
    put("data/s/dir/.git/d.nii", "");
    put("data/s/dir/labelsTr/d.nii", "");
    put("data/s/one.nii", "");
    open_corpus(&dataset, "sets:\n- name: S\n  root: data/s\n"
                          "  list: [../lists/all.json, some.txt, \"x?/ct.nii.gz\", dir/, one.nii]\n");
    const char *const names[] = {"S/a.nii",        "S/sub/b.nii.gz",   "S/x1/ct.nii.gz",
                                 "S/x2/ct.nii.gz", "S/dir/deep/c.nii", "S/one.nii"};
    assert_names(&dataset, names, 6);
    assert_entry(&dataset, 0, "S/a.nii", 0, "data/s/a.nii");
    assert_string_equal(said, "");
    dataset_free(&dataset);
    char text[512];
    snprintf(text, sizeof text, "root: %s/data\nsets:\n- name: S\n  root: s\n  list: ./.\n", data_folder);
    open_corpus(&dataset, text);
    assert_int_equal(dataset.count, 7);
    assert_entry(&dataset, 0, "S/a.nii", 0, "data/s/a.nii");
    dataset_free(&dataset);
}

static void patterns_find_files_and_folders_once(void **state)
{
    (void)state;
    struct dataset dataset;
    put("odd [x]*/subset_0/a.nii.gz", "");
    put("odd [x]*/subset_1/b.nii.gz", "");
    put("odd [x]*/subset_1/b.json", "");
    put("odd [x]*/subset_2/notes.txt", "");
    put("odd [x]*/other/c.nii.gz", "");
    open_corpus(&dataset, "sets:\n- name: S\n  root: 'odd [x]*'\n"
                          "  list: [\"subset_1/*\", \"subset_[0-9]\", \"*/c.nii.gz\"]\n");
    const char *const names[] = {"S/subset_1/b.nii.gz", "S/subset_0/a.nii.gz", "S/other/c.nii.gz"};
    assert_names(&dataset, names, 3);
    assert_string_equal(dataset.entries[0].path, in_folder("odd [x]*/subset_1/b.nii.gz"));
    assert_int_equal(dataset.sets[0].count, 3);
    dataset_free(&dataset);
}

static void absolute_lists_need_no_root(void **state)
{
    (void)state;
    struct dataset dataset;
    char text[1024];
    put("far/a.nii", "");
    put("far/b/c.nii", "");
    snprintf(text, sizeof text, "sets:\n- name: S\n  list: [\"%s/far/*.nii\", \"%s/far/b\"]\n", data_folder,
             data_folder);
    open_corpus(&dataset, text);
    assert_int_equal(dataset.count, 2);
    assert_string_equal(dataset.entries[0].path, in_folder("far/a.nii"));
    assert_string_equal(dataset.entries[1].path, in_folder("far/b/c.nii"));
    dataset_free(&dataset);
}

static void the_same_name_in_two_sets_stays_two_names(void **state)
{
    (void)state;
    struct dataset dataset;
    put("a/x.nii", "");
    put("b/x.nii", "");
    open_corpus(&dataset, "sets: [{name: a}, {name: b}]\n");
    const char *const names[] = {"a/x.nii", "b/x.nii"};
    assert_names(&dataset, names, 2);
    dataset_free(&dataset);
}

static void parts_of_a_list_are_chosen_and_moved_to_another_split(void **state)
{
    (void)state;
    struct dataset dataset;
    put("a/list.json", "{\"training\": [\"1.nii\"], \"validation\": [\"2.nii\"], \"test\": [\"3.nii\"]}");
    put("a/1.nii", "");
    put("a/2.nii", "");
    put("a/3.nii", "");
    open_corpus(&dataset,
                "sets:\n- {name: A, root: a, list: list.json, use: [training, test], split: training}\n"
                "- {name: B, root: a, list: list.json, use: validation}\n"
                "- {name: C, root: a, split: test}\n");
    const char *const names[] = {"A/1.nii", "A/3.nii", "B/2.nii", "C/1.nii", "C/2.nii", "C/3.nii"};
    assert_names(&dataset, names, 6);
    assert_int_equal(dataset_count(&dataset, SPLIT_TRAINING), 2);
    assert_int_equal(dataset_count(&dataset, SPLIT_VALIDATION), 1);
    assert_int_equal(dataset_count(&dataset, SPLIT_TEST), 3);
    dataset_free(&dataset);
    open_corpus(&dataset, "sets:\n- {name: A, root: a, list: list.json, use: [test, validation]}\n");
    assert_int_equal(dataset.count, 2);
    dataset_free(&dataset);
}

static void hold_out_draws_over_all_sets_by_name(void **state)
{
    (void)state;
    struct dataset both;
    struct dataset one;
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/%d.nii", i);
        put(name, "");
        name[0] = 'b';
        put(name, "");
    }
    open_corpus(&both, "sets: [{name: a}, {name: b}]\n");
    open_corpus(&one, "sets: [{name: b}]\n");
    assert_int_equal(dataset_hold_out(&both, 0.3), VOCO_OK);
    assert_int_equal(dataset_hold_out(&one, 0.3), VOCO_OK);
    size_t held_out[2] = {0, 0};
    for (size_t i = 0; i < both.count; i++) {
        held_out[both.entries[i].set] += both.entries[i].split == SPLIT_VALIDATION;
        for (size_t j = 0; j < one.count; j++) {
            if (strcmp(both.entries[i].name, one.entries[j].name) == 0) {
                assert_int_equal(both.entries[i].split, one.entries[j].split);
            }
        }
    }
    assert_true(held_out[0] > 3 && held_out[0] < 24);
    assert_int_equal(held_out[1], dataset_count(&one, SPLIT_VALIDATION));
    dataset_free(&both);
    dataset_free(&one);
}

/* ---- how a set is prepared ---- */

static void a_set_is_prepared_by_its_preset_and_what_it_has_of_its_own(void **state)
{
    (void)state;
    struct corpus corpus;
    const char text[] = "sets:\n"
                        "- {name: a, preset: chest}\n"
                        "- {name: b, preset: abdomen, take: resize, spacing: [1, 2, 3.5]}\n"
                        "- {name: c, preset: mr, window: [-100, 300]}\n"
                        "- {name: d, spacing: [1, 1, 1], window: [-1000, 1000]}\n"
                        "- {name: e, spacing: [1, 1, 1], window: [0, 1], take: resize}\n"
                        "- name: f\n";
    assert_int_equal(corpus_parse_yaml(&corpus, text, sizeof text - 1, "corpus", "."), VOCO_OK);
    assert_int_equal(corpus.set_count, 6);
    struct preset chest;
    assert_int_equal(preset_from_name(&chest, "chest"), VOCO_OK);
    assert_memory_equal(&corpus.sets[0].preset, &chest, sizeof chest);
    const struct preset *b = &corpus.sets[1].preset;
    assert_string_equal(b->name, "abdomen");
    assert_true(b->spacing[0] == 1.0 && b->spacing[1] == 2.0 && b->spacing[2] == 3.5);
    assert_true(b->low == -175.0 && b->high == 250.0);
    assert_int_equal(b->window, WINDOW_RESIZE);
    const struct preset *c = &corpus.sets[2].preset;
    assert_true(c->low == -100.0 && c->high == 300.0);
    assert_int_equal(c->intensity, INTENSITY_WINDOW);
    assert_int_equal(c->window, WINDOW_RESIZE);
    assert_int_equal(corpus.sets[3].preset.window, WINDOW_CROP);
    assert_true(corpus.sets[3].preset.high == 1000.0);
    assert_int_equal(corpus.sets[4].preset.window, WINDOW_RESIZE);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(corpus.sets[i].has_preset, i < 5);
    }
    corpus_free(&corpus);
}

static void roots_are_relative_to_the_corpus_and_its_root(void **state)
{
    (void)state;
    struct corpus corpus;
    const char text[] =
        "sets: [{name: a}, {name: b, root: sub/b}, {name: c, root: /abs}, {name: d, root: .}]\n"
        "root: data\n";
    assert_int_equal(corpus_parse_yaml(&corpus, text, sizeof text - 1, "corpus", "folder"), VOCO_OK);
    const char *roots[] = {"folder/data/a", "folder/data/sub/b", "/abs", "folder/data"};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(corpus.sets[i].root, roots[i]);
        assert_int_equal(corpus.sets[i].repeat, 1);
        assert_int_equal(corpus.sets[i].list_count, 0);
        assert_int_equal(corpus.sets[i].has_split, 0);
    }
    corpus_free(&corpus);
    const char bare[] = "sets: [{name: a}]";
    assert_int_equal(corpus_parse_yaml(&corpus, bare, sizeof bare - 1, "corpus", "/x"), VOCO_OK);
    assert_string_equal(corpus.sets[0].root, "/x/a");
    corpus_free(&corpus);
}

/* ---- what is not there ---- */

static void assert_problem(const struct dataset_set *set, const char *text)
{
    assert_non_null(set->problem);
    assert_non_null(strstr(set->problem, text));
    assert_null(strchr(set->problem, '\n'));
    assert_non_null(strstr(said, set->problem));
}

static void what_is_missing_is_reported_and_the_rest_used(void **state)
{
    (void)state;
    struct dataset dataset;
    put("good/a.nii", "");
    put("half/dataset.json", "{\"training\": [\"gone1.nii\", \"a.nii\", \"gone2.nii\", \"b.nii\", \"sub\"]}");
    put("half/a.nii", "");
    put("half/b.nii", "");
    put("half/sub/c.nii", "");
    put("void/dataset.json", "{\"training\": [\"gone\\n.nii\"]}");
    put("broken/dataset.json", "{\"training\": [");
    put("empty/notes.txt", "");
    put("file", "");
    put("mixed/a.nii", "");
    put("mixed/list.txt", "a.nii\ngone.nii\n");
    put("nested/c.yml", "");
    open_corpus(&dataset, "sets:\n- name: absent\n- name: half\n- name: void\n- name: broken\n- name: empty\n"
                          "- {name: file}\n- {name: mixed, list: [gone.json, list.txt, \"*.nii.gz\"]}\n"
                          "- {name: nested, list: c.yml}\n- {name: unlisted, root: good, list: x.json}\n"
                          "- {name: unmatched, root: good, list: \"*/x*.nii\"}\n"
                          "- {name: unused, root: half, use: test}\n- name: good\n");
    const char *const names[] = {"half/a.nii", "half/b.nii", "mixed/a.nii", "good/a.nii"};
    assert_names(&dataset, names, 4);
    assert_int_equal(dataset.set_count, 12);
    char text[256];
    snprintf(text, sizeof text, "%s: no such folder", in_folder("absent"));
    assert_problem(&dataset.sets[0], text);
    snprintf(text, sizeof text, "3 of 5 listed files cannot be used, the first: %s does not exist",
             in_folder("half/gone1.nii"));
    assert_string_equal(dataset.sets[1].problem, text);
    assert_int_equal(dataset.sets[1].count, 2);
    assert_int_equal(dataset.sets[1].missing, 3);
    assert_problem(&dataset.sets[2], "1 of 1 listed files cannot be used");
    assert_problem(&dataset.sets[3], "broken/dataset.json: line 1");
    assert_problem(&dataset.sets[4], "no .nii or .nii.gz file");
    assert_problem(&dataset.sets[5], "not a folder");
    assert_problem(&dataset.sets[6], "mixed/gone.json: cannot open: No such file");
    assert_problem(&dataset.sets[6], "; 1 of 2 listed files cannot be used");
    assert_int_equal(dataset.sets[6].count, 1);
    assert_problem(&dataset.sets[7], "a corpus cannot be part of a corpus");
    assert_problem(&dataset.sets[8], "good/x.json: cannot open: No such file");
    assert_problem(&dataset.sets[9], "*/x*.nii: no .nii or .nii.gz file in");
    assert_problem(&dataset.sets[10], "names no volume under \"test\"");
    assert_null(dataset.sets[11].problem);
    assert_non_null(strstr(said, "corpus.yaml: absent is left out: "));
    assert_non_null(strstr(said, "corpus.yaml: half: 3 of 5"));
    assert_null(strstr(said, "corpus.yaml: good"));
    dataset_free(&dataset);
}

static void a_corpus_without_any_volume_is_refused(void **state)
{
    (void)state;
    struct dataset dataset;
    put("corpus.yaml", "sets:\n- name: one\n- name: two\n");
    assert_int_equal(dataset_open(&dataset, in_folder("corpus.yaml")), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "corpus.yaml: no set has a volume; the first of 2, one: "));
    assert_non_null(strstr(voco_error_message(), "no such folder"));
    assert_int_equal(dataset.set_count, 0);
    assert_null(dataset.entries);
    dataset_free(&dataset);
}

static void other_data_is_one_unnamed_set_of_the_callers_preset(void **state)
{
    (void)state;
    struct dataset dataset;
    put("s/a.nii", "");
    put("s/list.txt", "a.nii\n");
    const char *data[] = {"s", "s/a.nii", "s/list.txt"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dataset_open(&dataset, in_folder(data[i])), VOCO_OK);
        assert_int_equal(dataset.set_count, 1);
        assert_int_equal(dataset.entries[0].set, 0);
        assert_string_equal(dataset.sets[0].name, "");
        assert_int_equal(dataset.sets[0].has_preset, 0);
        assert_int_equal(dataset.sets[0].repeat, 1);
        assert_int_equal(dataset.sets[0].count, 1);
        assert_null(dataset.sets[0].problem);
        dataset_free(&dataset);
    }
}

/* ---- what is refused ---- */

static void assert_refused(const char *text, const char *cause)
{
    struct corpus corpus;
    assert_int_equal(corpus_parse_yaml(&corpus, text, strlen(text), "c.yaml", "."), VOCO_BAD_INPUT);
    if (strcmp(voco_error_message(), cause) != 0) {
        fail_msg("\"%s\": \"%s\" instead of \"%s\"", text, voco_error_message(), cause);
    }
    assert_int_equal(corpus.set_count, 0);
    assert_null(corpus.sets);
}

static void text_that_is_no_corpus_is_refused_with_its_line(void **state)
{
    (void)state;
    assert_refused("", "c.yaml: is empty");
    assert_refused("# nothing\n", "c.yaml: is empty");
    assert_refused("- a\n", "c.yaml:1: not a corpus: \"sets:\" is expected");
    assert_refused("text\n", "c.yaml:1: not a corpus: \"sets:\" is expected");
    assert_refused("root: x\n", "c.yaml: has no \"sets:\"");
    assert_refused("sets:\n", "c.yaml:1: sets: a list of sets is expected: \"- name: ...\"");
    assert_refused("sets: []\n", "c.yaml:1: sets: an empty list");
    assert_refused("sets:\n- a\n", "c.yaml:2: a set is expected: keys such as \"name:\" and \"root:\"");
    assert_refused("sets: [{name: a}]\nroot: x\nroot: y\n", "c.yaml:3: root: is given twice");
    assert_refused("sets: [{name: a}]\nsets: [{name: b}]\n", "c.yaml:2: sets: is given twice");
    assert_refused("sets: [{name: a}]\n---\nsets: [{name: b}]\n", "c.yaml:2: a corpus has one document");
    assert_refused("sets: [{name: a}]\nset: 1\n",
                   "c.yaml:2: a corpus has no key \"set\", did you mean \"sets\"?");
    assert_refused("model:\n  x: 1\n", "c.yaml:1: a corpus has no key \"model\": there are root, sets");
    assert_refused("[a]: b\n", "c.yaml:1: the name of a key is expected");
    assert_refused("root: [a]\n", "c.yaml:1: root: one line of text is expected");
    assert_refused("root: \"a\\nb\"\n", "c.yaml:1: root: one line of text is expected");
    assert_refused("root: \n", "c.yaml:1: root: one line of text is expected");
    assert_refused("a: {b: [\n", "c.yaml:1: a corpus has no key \"a\": there are root, sets");
    assert_refused("sets:\n- name: &x a\n", "c.yaml:2: anchors, aliases and tags have no use here");
    assert_refused("sets: &x\n- name: a\n", "c.yaml:1: anchors, aliases and tags have no use here");
    assert_refused("sets:\n- name: a\n- *x\n", "c.yaml:3: anchors, aliases and tags have no use here");
    assert_refused("sets:\n- name: !!str a\n", "c.yaml:2: anchors, aliases and tags have no use here");
}

static void a_set_that_is_wrong_is_refused_with_its_line(void **state)
{
    (void)state;
    const struct {
        const char *keys;
        const char *cause;
    } cases[] = {
        {"root: x", "c.yaml:2: this set has no name"},
        {"name: [a]", "c.yaml:2: name: one line of text is expected"},
        {"name: a/b",
         "c.yaml:2: name: up to 64 characters are expected, without '/' and not beginning with '.'"},
        {"name: .a",
         "c.yaml:2: name: up to 64 characters are expected, without '/' and not beginning with '.'"},
        {"name: a\n  name: b", "c.yaml:3: name: is given twice"},
        {"name: a\n- name: b\n- name: a", "c.yaml:4: a second set of the name \"a\""},
        {"name: a\n  repeats: 8", "c.yaml:3: a set has no key \"repeats\", did you mean \"repeat\"?"},
        {"name: a\n  folder: x", "c.yaml:3: a set has no key \"folder\": there are name, root, list, use, "
                                 "preset, spacing, window, take, repeat, split"},
        {"name: a\n  list: []", "c.yaml:3: list: an empty list"},
        {"name: a\n  list: {a: b}", "c.yaml:3: list: one line of text is expected"},
        {"name: a\n  list: [a,\n   [b]]", "c.yaml:4: list: one line of text is expected"},
        {"name: a\n  use: all", "c.yaml:3: use: one of training, validation, test is expected"},
        {"name: a\n  use: []", "c.yaml:3: use: an empty list"},
        {"name: a\n  preset: liver",
         "c.yaml:3: preset: there is no preset liver; there are abdomen, chest, headneck and mr"},
        {"name: a\n  preset: [abdomen]", "c.yaml:3: preset: the name of a preset is expected"},
        {"name: a\n  spacing: 1.5", "c.yaml:3: spacing: a list of 3 numbers is expected"},
        {"name: a\n  spacing: [1, 1]", "c.yaml:3: spacing: a list of 3 numbers is expected"},
        {"name: a\n  spacing: [1, 1, 1, 1]", "c.yaml:3: spacing: a list of 3 numbers is expected"},
        {"name: a\n  spacing: [1, 0, 1]", "c.yaml:3: spacing: a number from 0.01 to 100 is expected"},
        {"name: a\n  spacing: [1, nan, 1]", "c.yaml:3: spacing: a number from 0.01 to 100 is expected"},
        {"name: a\n  spacing: [1, 1mm, 1]", "c.yaml:3: spacing: a number from 0.01 to 100 is expected"},
        {"name: a\n  window: [1, -1]", "c.yaml:3: window: [low, high] with low below high is expected"},
        {"name: a\n  window: [1, 1e9]", "c.yaml:3: window: a number from -100000 to 100000 is expected"},
        {"name: a\n  take: half", "c.yaml:3: take: one of crop, resize is expected"},
        {"name: a\n  repeat: 0", "c.yaml:3: repeat: a whole number from 1 to 1000 is expected"},
        {"name: a\n  repeat: 1.5", "c.yaml:3: repeat: a whole number from 1 to 1000 is expected"},
        {"name: a\n  repeat: 99999999999999999999",
         "c.yaml:3: repeat: a whole number from 1 to 1000 is expected"},
        {"name: a\n  split: train", "c.yaml:3: split: one of training, validation, test is expected"},
        {"name: a\n  take: resize", "c.yaml:2: a: give a preset, or spacing and window"},
        {"name: a\n  spacing: [1, 1, 1]", "c.yaml:2: a: give a preset, or spacing and window"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "sets:\n- %s\n", cases[i].keys);
        assert_refused(text, cases[i].cause);
    }
}

static void text_that_is_not_yaml_is_refused_with_its_line(void **state)
{
    (void)state;
    struct dataset dataset;
    put("c.yml", "sets:\n- name: a\n root: b\n");
    assert_int_equal(dataset_open(&dataset, in_folder("c.yml")), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "c.yml:3: not YAML: "));
    dataset_free(&dataset);
    char deep[8192];
    const int used = snprintf(deep, sizeof deep, "sets: ");
    memset(deep + used, '[', sizeof deep - (size_t)used);
    struct corpus corpus;
    assert_int_equal(corpus_parse_yaml(&corpus, deep, sizeof deep, "c", "."), VOCO_BAD_INPUT);
    assert_int_equal(corpus_parse_yaml(&corpus, "sets:\n- name: \"\0\"", 17, "c", "."), VOCO_BAD_INPUT);
}

static void limits_are_kept(void **state)
{
    (void)state;
    struct corpus corpus;
    const size_t room = 64 * (size_t)corpus_most_sets + 64;
    char *text = malloc(room);
    assert_non_null(text);
    size_t used = (size_t)snprintf(text, room, "sets:\n");
    for (int i = 0; i <= corpus_most_sets; i++) {
        used += (size_t)snprintf(text + used, room - used, "- name: s%d\n", i);
    }
    assert_int_equal(corpus_parse_yaml(&corpus, text, used, "c", "."), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "c:4098: too many sets");
    used = (size_t)snprintf(text, room, "sets:\n- name: s\n  list:\n");
    for (int i = 0; i <= corpus_most_lists; i++) {
        used += (size_t)snprintf(text + used, room - used, "  - x%d\n", i);
    }
    assert_int_equal(corpus_parse_yaml(&corpus, text, used, "c", "."), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "c:1028: list: too many");
    used = (size_t)snprintf(text, room, "sets:\n- name: s\n  root: %05000d\n", 1);
    assert_int_equal(corpus_parse_yaml(&corpus, text, used, "c", "."), VOCO_BAD_INPUT);
    assert_string_equal(voco_error_message(), "c:3: root: one line of text is expected");
    free(text);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, begin_listening, stop_listening)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(sets_give_their_volumes_split_by_split),
        WITH_FOLDER(lists_may_be_json_text_patterns_folders_and_files),
        WITH_FOLDER(patterns_find_files_and_folders_once),
        WITH_FOLDER(absolute_lists_need_no_root),
        WITH_FOLDER(the_same_name_in_two_sets_stays_two_names),
        WITH_FOLDER(parts_of_a_list_are_chosen_and_moved_to_another_split),
        WITH_FOLDER(hold_out_draws_over_all_sets_by_name),
        cmocka_unit_test(a_set_is_prepared_by_its_preset_and_what_it_has_of_its_own),
        cmocka_unit_test(roots_are_relative_to_the_corpus_and_its_root),
        WITH_FOLDER(what_is_missing_is_reported_and_the_rest_used),
        WITH_FOLDER(a_corpus_without_any_volume_is_refused),
        WITH_FOLDER(other_data_is_one_unnamed_set_of_the_callers_preset),
        cmocka_unit_test(text_that_is_no_corpus_is_refused_with_its_line),
        cmocka_unit_test(a_set_that_is_wrong_is_refused_with_its_line),
        WITH_FOLDER(text_that_is_not_yaml_is_refused_with_its_line),
        cmocka_unit_test(limits_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
