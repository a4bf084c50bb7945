/* The cache of decoded chunks: what it keeps, what it lets go, what it never gives away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/chunk_cache.h"

#include <string.h>

enum { chunk_size = 96 };
static const char one_array;
static const char other_array;

static struct chunk_key key_of(const char *array, uint64_t chunk)
{
    return (struct chunk_key){array, chunk};
}

static void keep(struct chunk_cache *cache, struct chunk_key key, int content)
{
    struct chunk_slot *slot = chunk_cache_begin(cache, key, chunk_size);
    assert_non_null(slot);
    memset(chunk_slot_bytes(slot), content, chunk_size);
    chunk_slot_publish(cache, slot);
    chunk_slot_release(cache, slot);
}

/* Whether the chunk is there, and if so with its content. */
static int has(struct chunk_cache *cache, struct chunk_key key, int content)
{
    struct chunk_slot *slot = chunk_cache_find(cache, key);
    if (slot == NULL) {
        return 0;
    }
    const unsigned char *bytes = chunk_slot_bytes(slot);
    for (int i = 0; i < chunk_size; i++) {
        assert_int_equal(bytes[i], content);
    }
    chunk_slot_release(cache, slot);
    return 1;
}

static void chunks_are_told_apart_by_array_and_number(void **state)
{
    (void)state;
    struct chunk_cache *cache = NULL;
    assert_int_equal(chunk_cache_open(&cache, 100 * chunk_size, chunk_size), VOCO_OK);
    for (int i = 0; i < 40; i++) {
        keep(cache, key_of(&one_array, (uint64_t)i), i);
        keep(cache, key_of(&other_array, (uint64_t)i), 100 + i);
    }
    for (int i = 0; i < 40; i++) {
        assert_true(has(cache, key_of(&one_array, (uint64_t)i), i));
        assert_true(has(cache, key_of(&other_array, (uint64_t)i), 100 + i));
    }
    assert_false(has(cache, key_of(&one_array, 40), 0));
    uint64_t found = 0;
    uint64_t missed = 0;
    chunk_cache_count(&found, &missed, cache);
    assert_int_equal(found, 80);
    assert_int_equal(missed, 1);
    chunk_cache_close(cache);
}

static void the_budget_is_kept_and_what_is_used_stays_longest(void **state)
{
    (void)state;
    struct chunk_cache *cache = NULL;
    assert_int_equal(chunk_cache_open(&cache, 4 * chunk_size + 5, chunk_size), VOCO_OK);
    keep(cache, key_of(&one_array, 0), 0);
    for (int i = 1; i < 60; i++) {
        keep(cache, key_of(&one_array, (uint64_t)i), i);
        (void)has(cache, key_of(&one_array, 0), 0);
    }
    int kept = 0;
    for (int i = 0; i < 60; i++) {
        kept += has(cache, key_of(&one_array, (uint64_t)i), i);
    }
    assert_int_equal(kept, 4);
    chunk_cache_close(cache);
}

static void a_held_slot_is_never_given_away(void **state)
{
    (void)state;
    struct chunk_cache *cache = NULL;
    assert_int_equal(chunk_cache_open(&cache, 2 * chunk_size, chunk_size), VOCO_OK);
    keep(cache, key_of(&one_array, 7), 7);
    struct chunk_slot *held = chunk_cache_find(cache, key_of(&one_array, 7));
    assert_non_null(held);
    for (int i = 10; i < 20; i++) {
        keep(cache, key_of(&one_array, (uint64_t)i), i);
    }
    assert_int_equal(*(unsigned char *)chunk_slot_bytes(held), 7);
    struct chunk_slot *filling = chunk_cache_begin(cache, key_of(&one_array, 30), chunk_size);
    assert_non_null(filling);
    assert_null(chunk_cache_begin(cache, key_of(&one_array, 31), chunk_size)); /* both are held */
    chunk_slot_release(cache, filling);
    chunk_slot_release(cache, held);
    chunk_cache_close(cache);
}

static void an_unfinished_chunk_is_not_found_and_is_filled_once(void **state)
{
    (void)state;
    struct chunk_cache *cache = NULL;
    assert_int_equal(chunk_cache_open(&cache, 8 * chunk_size, chunk_size), VOCO_OK);
    struct chunk_slot *filling = chunk_cache_begin(cache, key_of(&one_array, 1), chunk_size);
    assert_non_null(filling);
    assert_null(chunk_cache_find(cache, key_of(&one_array, 1)));
    assert_null(chunk_cache_begin(cache, key_of(&one_array, 1), chunk_size));
    chunk_slot_release(cache, filling); /* given up, as after a failure */
    assert_null(chunk_cache_find(cache, key_of(&one_array, 1)));
    keep(cache, key_of(&one_array, 1), 3);
    assert_true(has(cache, key_of(&one_array, 1), 3));
    chunk_cache_close(cache);
}

static void no_budget_and_other_sizes_keep_nothing(void **state)
{
    (void)state;
    struct chunk_cache *cache = NULL;
    assert_int_equal(chunk_cache_open(&cache, chunk_size - 1, chunk_size), VOCO_OK);
    assert_null(chunk_cache_begin(cache, key_of(&one_array, 1), chunk_size));
    assert_null(chunk_cache_find(cache, key_of(&one_array, 1)));
    chunk_cache_close(cache);
    assert_int_equal(chunk_cache_open(&cache, 10 * chunk_size, chunk_size), VOCO_OK);
    assert_null(chunk_cache_begin(cache, key_of(&one_array, 1), 2 * chunk_size));
    chunk_cache_close(cache);
    chunk_cache_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_are_told_apart_by_array_and_number),
        cmocka_unit_test(the_budget_is_kept_and_what_is_used_stays_longest),
        cmocka_unit_test(a_held_slot_is_never_given_away),
        cmocka_unit_test(an_unfinished_chunk_is_not_found_and_is_filled_once),
        cmocka_unit_test(no_budget_and_other_sizes_keep_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
