/* Ranks that have chosen different ways to compute the same: run by itself, and by mpirun with several ranks
 * (tests/CMakeLists.txt). The choices are those of an implementation that is made up here. */
#include "base/error.h"
#include "base/log.h"
#include "train/run_choices.h"
#include "train/scratch_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#undef fail /* that of base/error.h */

static struct ranks ranks;

enum { keys = 8, none = -1 };
static int chosen[keys];
static const char *machine = "machine A\n";

static char *choices(struct compute *c)
{
    enum { room = 256 };
    char *text = calloc(1, room);
    (void)c;
    assert_non_null(text);
    size_t used = (size_t)snprintf(text, room, "%s", machine);
    for (int key = 0; key < keys; key++) {
        if (chosen[key] != none) {
            used += (size_t)snprintf(text + used, room - used, "%d %d\n", key, chosen[key]);
        }
    }
    return text;
}

static enum voco_status take_choices(struct compute *c, const char *text, enum choices_taken *taken)
{
    (void)c;
    *taken = CHOICES_OF_ANOTHER_MACHINE;
    if (strncmp(text, machine, strlen(machine)) != 0) {
        return VOCO_OK;
    }
    *taken = CHOICES_KNOWN;
    int key, choice, length;
    for (text += strlen(machine); sscanf(text, "%d %d\n%n", &key, &choice, &length) == 2; text += length) {
        *taken = chosen[key] != choice ? CHOICES_NEW : *taken;
        chosen[key] = choice;
    }
    return *text == '\0' ? VOCO_OK : fail(VOCO_BAD_INPUT, "holds a line that is no choice");
}

static struct compute compute = {.choices = choices, .take_choices = take_choices};

/* Key 0 as the rank has measured it, and a key that it alone has met. */
static void choose_own(void)
{
    for (int key = 0; key < keys; key++) {
        chosen[key] = none;
    }
    chosen[0] = 5 + ranks.rank;
    chosen[1 + ranks.rank] = 40 + ranks.rank;
}

static int have_those_of_all(void)
{
    int right = chosen[0] == 5;
    for (int key = 1; key < keys; key++) {
        right = right && chosen[key] == (key <= ranks.size ? 39 + key : none);
    }
    return right;
}

static void all_do_as_the_first_that_has_chosen(void **state)
{
    (void)state;
    int changed = 7, again = 7;
    choose_own();
    const enum voco_status status = run_choices_share(&compute, &ranks, &changed);
    const enum voco_status second = run_choices_share(&compute, &ranks, &again);
    assert_int_equal(status, VOCO_OK);
    assert_int_equal(changed, ranks.size > 1);
    assert_true(have_those_of_all());
    assert_int_equal(second, VOCO_OK);
    assert_int_equal(again, 0);
}

static void count_warnings(enum log_level level, const char *line, void *context)
{
    *(int *)context += level == LOG_WARNING && strstr(line, "gpu-choices.txt: is of another GPU") != NULL;
}

static void a_run_goes_on_with_what_it_had(void **state)
{
    char folder[4096];
    int warnings = 0;
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s", scratch_folder());
    ranks_broadcast(&ranks, folder, sizeof folder, 0);
    choose_own();
    const enum voco_status nothing_yet = run_choices_load(&compute, &ranks, folder);
    const enum voco_status saved = run_choices_save(&compute, &ranks, folder);
    for (int key = 0; key < keys; key++) {
        chosen[key] = none;
    }
    machine = "machine B\n";
    log_set_sink(count_warnings, &warnings);
    const enum voco_status foreign = run_choices_load(&compute, &ranks, folder);
    log_set_sink(NULL, NULL);
    const int taken = chosen[0];
    machine = "machine A\n";
    const enum voco_status loaded = run_choices_load(&compute, &ranks, folder);
    assert_int_equal(nothing_yet, VOCO_OK);
    assert_int_equal(saved, VOCO_OK);
    assert_int_equal(foreign, VOCO_OK);
    assert_int_equal(warnings, 1);
    assert_int_equal(taken, none);
    assert_int_equal(loaded, VOCO_OK);
    assert_true(have_those_of_all());
}

static void a_broken_file_is_named(void **state)
{
    char folder[4096], path[4200];
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s", scratch_folder());
    ranks_broadcast(&ranks, folder, sizeof folder, 0);
    (void)snprintf(path, sizeof path, "%s/gpu-choices.txt", folder);
    FILE *stream = ranks.rank == 0 ? fopen(path, "w") : NULL;
    if (stream != NULL) {
        (void)fputs("machine A\n1 2\nnonsense\n", stream);
        (void)fclose(stream);
    }
    const enum voco_status written = ranks_agree(&ranks, VOCO_OK);
    const enum voco_status status = run_choices_load(&compute, &ranks, folder);
    const int named = strstr(voco_error_message(), "gpu-choices.txt: holds a line that is no choice") != NULL;
    (void)ranks_agree(&ranks, VOCO_OK); /* before the folder is removed */
    assert_int_equal(written, VOCO_OK);
    assert_int_equal(status, VOCO_BAD_INPUT);
    assert_true(named);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_do_as_the_first_that_has_chosen),
        cmocka_unit_test(a_run_goes_on_with_what_it_had),
        cmocka_unit_test(a_broken_file_is_named),
    };
    if (ranks_open(&ranks) != VOCO_OK) {
        return 1;
    }
    const int wrong = cmocka_run_group_tests(tests, scratch_folder_make, scratch_folder_remove);
    ranks_close(&ranks);
    return wrong;
}
