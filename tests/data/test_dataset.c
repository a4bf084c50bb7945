/* What DATA may be, in which order its volumes come, and what is said of one that cannot be used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/data_folder.h"
#include "data/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void assert_entry(const struct dataset *dataset, size_t index, const char *name,
                         enum dataset_split split)
{
    assert_true(index < dataset->count);
    assert_string_equal(dataset->entries[index].name, name);
    assert_int_equal(dataset->entries[index].split, split);
    assert_string_equal(dataset->entries[index].path, name[0] == '/' ? name : in_folder(name));
}

static void assert_refused(const char *data, enum voco_status status, const char *first, const char *second)
{
    struct dataset dataset;
    assert_int_equal(dataset_open(&dataset, data), status);
    assert_non_null(strstr(voco_error_message(), first));
    assert_non_null(strstr(voco_error_message(), second));
    assert_int_equal(dataset.count, 0);
    dataset_free(&dataset);
}

static void put_decathlon_list(void)
{
    put("imagesTr/b.nii.gz", "");
    put("imagesTr/a.nii.gz", "");
    put("multi/0000.nii.gz", "");
    put("imagesTs/t.nii.gz", "");
    put("v.nii", "");
    put("dataset.json",
        "{\"name\": \"Torso\", \"modality\": {\"0\": \"CT\"}, \"numTraining\": 3,\n"
        "\"training\": [{\"image\": \"./imagesTr/b.nii.gz\", \"label\": \"./labelsTr/b.nii.gz\"},\n"
        " {\"label\": 1, \"image\": \".//imagesTr/a.nii.gz\"}, {\"image\": [\"multi/0000.nii.gz\", "
        "\"gone\"]}],\n"
        "\"test\": [\"./imagesTs/t.nii.gz\"], \"validation\": [\"v.nii\"]}");
}

static void check_decathlon(const char *data)
{
    struct dataset dataset;
    assert_int_equal(dataset_open(&dataset, data), VOCO_OK);
    assert_int_equal(dataset.count, 5);
    assert_entry(&dataset, 0, "imagesTr/b.nii.gz", SPLIT_TRAINING);
    assert_entry(&dataset, 1, "imagesTr/a.nii.gz", SPLIT_TRAINING);
    assert_entry(&dataset, 2, "multi/0000.nii.gz", SPLIT_TRAINING);
    assert_entry(&dataset, 3, "v.nii", SPLIT_VALIDATION);
    assert_entry(&dataset, 4, "imagesTs/t.nii.gz", SPLIT_TEST);
    assert_int_equal(dataset_count(&dataset, SPLIT_TRAINING), 3);
    assert_string_equal(dataset.entries[4].path, in_folder("imagesTs/t.nii.gz"));
    dataset_free(&dataset);
}

static void a_decathlon_list_is_read_in_its_order(void **state)
{
    (void)state;
    put_decathlon_list();
    check_decathlon(in_folder("dataset.json"));
    check_decathlon(data_folder); /* a folder's list goes before its files */
}

static void a_list_is_found_by_what_it_holds_whatever_its_name(void **state)
{
    (void)state;
    struct dataset dataset;
    put("x.nii", "");
    put("list", " \n{\"training\": [\"x.nii\"]}");
    assert_int_equal(dataset_open(&dataset, in_folder("list")), VOCO_OK);
    assert_entry(&dataset, 0, "x.nii", SPLIT_TRAINING);
    dataset_free(&dataset);
}

static void a_folder_is_searched_and_sorted(void **state)
{
    (void)state;
    struct dataset dataset;
    put("b.nii", "");
    put("a10.nii.gz", "");
    put("a2.nii.gz", "");
    put("sub/deep/c.nii.gz", "");
    put("Z.nii", "");
    put("notes.txt", "");
    put("x.nii.gz.part", "");
    put("._b.nii", "");
    put(".hidden/d.nii", "");
    put("labelsTr/a10.nii.gz", "");
    put("folder.nii/e.nii", "");
    assert_int_equal(symlink("..", in_folder("sub/back")), 0);
    assert_int_equal(symlink("not/fetched", in_folder("sub/link.nii")), 0);
    assert_int_equal(dataset_open(&dataset, data_folder), VOCO_OK);
    const char *expected[] = {
        "Z.nii", "a10.nii.gz", "a2.nii.gz", "b.nii", "folder.nii/e.nii", "sub/deep/c.nii.gz", "sub/link.nii"};
    assert_int_equal(dataset.count, 7);
    for (size_t i = 0; i < 7; i++) {
        assert_entry(&dataset, i, expected[i], SPLIT_TRAINING);
    }
    dataset_free(&dataset);
}

static void a_text_list_has_a_path_a_line(void **state)
{
    (void)state;
    struct dataset dataset;
    put("a.nii", "");
    put("with space #1.nii.gz", "");
    char text[512];
    snprintf(text, sizeof text, "# volumes\r\n\n./with space #1.nii.gz\r\n   \t\n  a.nii  \n#b.nii\n%s/a.nii",
             data_folder);
    put("list.txt", text);
    assert_int_equal(dataset_open(&dataset, in_folder("list.txt")), VOCO_OK);
    assert_int_equal(dataset.count, 3);
    assert_entry(&dataset, 0, "with space #1.nii.gz", SPLIT_TRAINING);
    assert_entry(&dataset, 1, "a.nii", SPLIT_TRAINING);
    assert_entry(&dataset, 2, in_folder("a.nii"), SPLIT_TRAINING);
    dataset_free(&dataset);
}

static void a_list_may_lie_in_the_current_folder(void **state)
{
    (void)state;
    struct dataset dataset;
    char before[4096];
    put("a.nii", "");
    put("list.txt", "a.nii\n");
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(data_folder), 0);
    assert_int_equal(dataset_open(&dataset, "list.txt"), VOCO_OK);
    assert_string_equal(dataset.entries[0].path, "./a.nii");
    dataset_free(&dataset);
    assert_int_equal(dataset_open(&dataset, "a.nii"), VOCO_OK);
    assert_string_equal(dataset.entries[0].path, "./a.nii");
    dataset_free(&dataset);
    assert_int_equal(chdir(before), 0);
}

static void one_file_is_a_set_of_one(void **state)
{
    (void)state;
    struct dataset dataset;
    put("a.nii.gz", "");
    assert_int_equal(dataset_open(&dataset, in_folder("a.nii.gz")), VOCO_OK);
    assert_int_equal(dataset.count, 1);
    assert_string_equal(dataset.entries[0].path, in_folder("a.nii.gz"));
    dataset_free(&dataset);
}

static void what_cannot_be_used_is_named_with_its_cause(void **state)
{
    (void)state;
    put("empty/notes.txt", "");
    assert_refused(in_folder("empty"), VOCO_BAD_INPUT, in_folder("empty"), "no .nii");
    assert_refused(in_folder("nothing"), VOCO_IO, in_folder("nothing"), "No such file");
    assert_refused("/dev/null", VOCO_BAD_INPUT, "/dev/null", "neither");
    put("gone.txt", "# one\nx.nii.gz\n");
    assert_refused(in_folder("gone.txt"), VOCO_BAD_INPUT, in_folder("gone.txt"), in_folder("x.nii.gz"));
    put("gone.json", "{\"test\": [\"y.nii.gz\"]}");
    assert_refused(in_folder("gone.json"), VOCO_BAD_INPUT, in_folder("gone.json"), in_folder("y.nii.gz"));
    put("folders.txt", "empty\n");
    assert_refused(in_folder("folders.txt"), VOCO_BAD_INPUT, in_folder("folders.txt"), "is a folder");
    put("comments.txt", "# nothing\n\n");
    assert_refused(in_folder("comments.txt"), VOCO_BAD_INPUT, in_folder("comments.txt"), "no volume");
    put("void.txt", "");
    assert_refused(in_folder("void.txt"), VOCO_BAD_INPUT, in_folder("void.txt"), "no volume");
}

static void json_that_is_wrong_is_named_with_its_line_or_entry(void **state)
{
    (void)state;
    const struct {
        const char *text;
        const char *cause;
    } cases[] = {
        {"{\"training\": [\n \"a.nii\",\n ]}", "line 3"},
        {"", "line 1"},
        {"{\"training\": [\"a.nii\"]", "line 1"},
        {"[\"a.nii\"]", "not a JSON object"},
        {"{\"training\": {\"a\": 1}}", "\"training\" is not a list"},
        {"{\"training\": [\"a.nii\", 7]}", "entry 2 of \"training\""},
        {"{\"test\": [{\"label\": \"a.nii\"}]}", "entry 1 of \"test\""},
        {"{\"test\": [{\"image\": []}]}", "entry 1 of \"test\""},
        {"{\"test\": [\"\"]}", "entry 1 of \"test\""},
        {"{\"training\": [], \"numTraining\": 0}", "names no volume"},
    };
    put("a.nii", "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("list.json", cases[i].text);
        assert_refused(in_folder("list.json"), VOCO_BAD_INPUT, in_folder("list.json"), cases[i].cause);
        assert_null(strchr(voco_error_message(), '\n'));
    }
}

static void binary_files_are_not_taken_for_lists(void **state)
{
    (void)state;
    struct dataset dataset;
    const char bytes[] = "some\nbinary\0stuff";
    assert_int_equal(dataset_parse_text(&dataset, bytes, sizeof bytes, "model.bin", "."), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "model.bin: line 2"));
}

/* Names case0 .. case(count - 1), in memory. */
static void many_entries(struct dataset *dataset, int count)
{
    char *text = malloc((size_t)count * 16 + 1);
    assert_non_null(text);
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        length += (size_t)snprintf(text + length, 16, "case%d.nii\n", i);
    }
    assert_int_equal(dataset_parse_text(dataset, text, length, "list", "folder"), VOCO_OK);
    free(text);
}

static int is_held_out(const struct dataset *dataset, const char *name)
{
    for (size_t i = 0; i < dataset->count; i++) {
        if (strcmp(dataset->entries[i].name, name) == 0) {
            return dataset->entries[i].split == SPLIT_VALIDATION;
        }
    }
    return -1;
}

static void about_the_fraction_is_held_out(void **state)
{
    (void)state;
    const double fractions[] = {0.05, 0.2, 0.5};
    for (size_t f = 0; f < 3; f++) {
        struct dataset dataset;
        many_entries(&dataset, 4000);
        assert_int_equal(dataset_hold_out(&dataset, fractions[f]), VOCO_OK);
        const double held_out = (double)dataset_count(&dataset, SPLIT_VALIDATION);
        const double p = fractions[f];
        assert_true(fabs(held_out - 4000.0 * p) < 5.0 * sqrt(4000.0 * p * (1.0 - p)));
        for (size_t i = 1; i < dataset.count; i++) {
            assert_true(dataset.entries[i - 1].split <= dataset.entries[i].split);
        }
        dataset_free(&dataset);
    }
}

static void growing_a_set_moves_no_volume_across(void **state)
{
    (void)state;
    struct dataset small;
    struct dataset large;
    many_entries(&small, 100);
    many_entries(&large, 300);
    assert_int_equal(dataset_hold_out(&small, 0.2), VOCO_OK);
    assert_int_equal(dataset_hold_out(&large, 0.2), VOCO_OK);
    for (size_t i = 0; i < small.count; i++) {
        const char *name = small.entries[i].name;
        assert_int_equal(is_held_out(&small, name), is_held_out(&large, name));
    }
    dataset_free(&small);
    dataset_free(&large);
}

static void both_sides_of_a_split_get_something(void **state)
{
    (void)state;
    for (int count = 2; count < 12; count++) {
        const double fractions[] = {1e-9, 1.0};
        for (size_t f = 0; f < 2; f++) {
            struct dataset dataset;
            many_entries(&dataset, count);
            assert_int_equal(dataset_hold_out(&dataset, fractions[f]), VOCO_OK);
            assert_int_equal(dataset_count(&dataset, f == 0 ? SPLIT_VALIDATION : SPLIT_TRAINING), 1);
            dataset_free(&dataset);
        }
    }
}

static void a_set_of_one_or_with_a_validation_list_stays(void **state)
{
    (void)state;
    struct dataset dataset;
    many_entries(&dataset, 1);
    assert_int_equal(dataset_hold_out(&dataset, 0.5), VOCO_OK);
    assert_int_equal(dataset_count(&dataset, SPLIT_TRAINING), 1);
    dataset_free(&dataset);
    many_entries(&dataset, 9);
    assert_int_equal(dataset_hold_out(&dataset, 0.0), VOCO_OK);
    assert_int_equal(dataset_hold_out(&dataset, -1.0), VOCO_OK);
    assert_int_equal(dataset_hold_out(&dataset, NAN), VOCO_OK);
    assert_int_equal(dataset_count(&dataset, SPLIT_TRAINING), 9);
    dataset.entries[8].split = SPLIT_VALIDATION;
    assert_int_equal(dataset_hold_out(&dataset, 0.9), VOCO_OK);
    assert_int_equal(dataset_count(&dataset, SPLIT_VALIDATION), 1);
    dataset_free(&dataset);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_data_folder, remove_data_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_decathlon_list_is_read_in_its_order),
        WITH_FOLDER(a_list_is_found_by_what_it_holds_whatever_its_name),
        WITH_FOLDER(a_folder_is_searched_and_sorted),
        WITH_FOLDER(a_text_list_has_a_path_a_line),
        WITH_FOLDER(a_list_may_lie_in_the_current_folder),
        WITH_FOLDER(one_file_is_a_set_of_one),
        WITH_FOLDER(what_cannot_be_used_is_named_with_its_cause),
        WITH_FOLDER(json_that_is_wrong_is_named_with_its_line_or_entry),
        cmocka_unit_test(binary_files_are_not_taken_for_lists),
        cmocka_unit_test(about_the_fraction_is_held_out),
        cmocka_unit_test(growing_a_set_moves_no_volume_across),
        cmocka_unit_test(both_sides_of_a_split_get_something),
        cmocka_unit_test(a_set_of_one_or_with_a_validation_list_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
