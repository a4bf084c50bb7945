#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/name_hash.h"

static void the_hash_is_the_documented_one(void **state)
{
    (void)state;
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add(&hash, "foobar", 6);
    assert_true(hash.state == 0x85944171F73967E8U); /* FNV-1a's published value for "foobar" */
    struct name_hash split;
    struct name_hash joined;
    name_hash_start(&split);
    name_hash_start(&joined);
    name_hash_add_text(&split, "ab");
    name_hash_add_text(&split, "c");
    name_hash_add_text(&joined, "a");
    name_hash_add_text(&joined, "bc");
    assert_true(name_hash_value(&split) != name_hash_value(&joined));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_hash_is_the_documented_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
