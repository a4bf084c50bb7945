/* The golden sets beside the checkout, where there are any: every NAME.weights.safetensors in the folder. */
#include "golden_set.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char folder[] = VOCO_SHARED "/golden";

enum { most_sets = 16, name_size = 128 };

static int find_sets(char names[most_sets][name_size])
{
    static const char ending[] = ".weights.safetensors";
    DIR *directory = opendir(folder);
    int count = 0;
    if (directory == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        const size_t length = strlen(entry->d_name), tail = sizeof ending - 1;
        if (count < most_sets && length > tail && length - tail < name_size &&
            strcmp(entry->d_name + length - tail, ending) == 0) {
            memcpy(names[count], entry->d_name, length - tail);
            names[count++][length - tail] = '\0';
        }
    }
    (void)closedir(directory);
    return count;
}

static void check_sets(void (*check_set)(const char *, const char *))
{
    char names[most_sets][name_size];
    const int count = find_sets(names);
    if (count == 0) {
        printf("skipped: there are no golden sets in %s\n", folder);
        skip();
    }
    for (int i = 0; i < count; i++) {
        check_set(folder, names[i]);
    }
}

static void check_bf16_closely(const char *sets, const char *name)
{
    check_bf16(sets, name, 2e-2, 2e-2);
}

static void bf16_stays_near_pytorch(void **state)
{
    (void)state;
    check_sets(check_bf16_closely);
}

static void two_steps_agree_with_pytorch(void **state)
{
    (void)state;
    check_sets(check_own_gradients);
}

static void a_step_with_pytorchs_gradients_agrees_sharply(void **state)
{
    (void)state;
    check_sets(check_given_gradients);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_steps_agree_with_pytorch),
        cmocka_unit_test(bf16_stays_near_pytorch),
        cmocka_unit_test(a_step_with_pytorchs_gradients_agrees_sharply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
