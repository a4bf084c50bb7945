/* The loader's batches are those of make_batch, whatever the number of threads, and its errors reach the
 * caller. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/cached_set.h"
#include "data/loader.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct batch_source source_of(const struct cached_set *set)
{
    return (struct batch_source){.paths = (const char *const *)set->paths,
                                 .count = set->count,
                                 .volumes = 2,
                                 .sampling = {.roi = 4, .crops = 2, .base_grid = {3, 3}},
                                 .augmentation = augmentation_default,
                                 .seed = 42};
}

static void assert_same_batch(const struct batch *a, const struct batch *b)
{
    const size_t crops = (size_t)a->volumes * (size_t)(a->crops + a->bases);
    const size_t side = (size_t)a->roi;
    assert_memory_equal(a->voxels, b->voxels, crops * side * side * side * sizeof(float));
    assert_memory_equal(a->labels, b->labels,
                        (size_t)a->volumes * (size_t)a->crops * (size_t)a->bases * sizeof(float));
}

static void batches_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    const struct {
        int threads;
        int ahead;
    } cases[] = {{0, 0}, {0, 3}, {1, 1}, {1, 4}, {3, 1}, {3, 2}, {3, 7}};
    struct cached_set set;
    struct batch expected;
    struct batch_maker maker = {0};
    make_cached_set(&set, 5);
    const struct batch_source source = source_of(&set);
    assert_int_equal(batch_source_create_batch(&expected, &source), VOCO_OK);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct loader *loader = NULL;
        const uint64_t first = 17 + c;
        assert_int_equal(loader_open(&loader, &source, first, cases[c].threads, cases[c].ahead), VOCO_OK);
        for (uint64_t step = first; step < first + 60; step++) {
            const struct batch *batch = NULL;
            if (step % 13 == 0) {
                usleep(2000); /* the threads run into the end of the ring */
            }
            assert_int_equal(loader_next(loader, &batch), VOCO_OK);
            assert_int_equal(make_batch(&expected, &source, &maker, step), VOCO_OK);
            assert_same_batch(batch, &expected);
        }
        assert_true(loader_waited_seconds(loader) > 0.0);
        loader_close(loader);
    }
    batch_maker_free(&maker);
    batch_free(&expected);
    remove_cached_set(&set);
}

static void a_loader_can_be_closed_at_any_moment(void **state)
{
    (void)state;
    struct cached_set set;
    make_cached_set(&set, 5);
    const struct batch_source source = source_of(&set);
    for (int taken = 0; taken < 20; taken++) {
        struct loader *loader = NULL;
        assert_int_equal(loader_open(&loader, &source, 0, taken % 4, 1 + taken % 3), VOCO_OK);
        for (int i = 0; i < taken / 4; i++) {
            const struct batch *batch = NULL;
            assert_int_equal(loader_next(loader, &batch), VOCO_OK);
        }
        loader_close(loader);
    }
    loader_close(NULL);
    remove_cached_set(&set);
}

static void an_error_comes_at_its_step_and_stays(void **state)
{
    (void)state;
    for (int threads = 0; threads <= 3; threads++) {
        struct cached_set set;
        struct loader *loader = NULL;
        make_cached_set(&set, 6);
        const struct batch_source source = source_of(&set);
        /* The file of the volume that comes last in the first epoch of three batches. */
        struct epoch_order order = {0};
        uint32_t last = 0;
        assert_int_equal(shuffled_volume(&last, &order, source.seed, 5, 6), VOCO_OK);
        epoch_order_free(&order);
        char shard[256];
        (void)snprintf(shard, sizeof shard, "%s/c/0/0/0", set.paths[last]);
        assert_int_equal(truncate(shard, 50), 0);

        assert_int_equal(loader_open(&loader, &source, 0, threads, 2), VOCO_OK);
        const struct batch *batch = NULL;
        assert_int_equal(loader_next(loader, &batch), VOCO_OK);
        assert_int_equal(loader_next(loader, &batch), VOCO_OK);
        for (int again = 0; again < 3; again++) {
            assert_int_equal(loader_next(loader, &batch), VOCO_BAD_INPUT);
            assert_null(batch);
            assert_non_null(strstr(voco_error_message(), set.paths[last]));
        }
        loader_close(loader);
        remove_cached_set(&set);
    }
}

static void impossible_loaders_are_refused(void **state)
{
    (void)state;
    struct cached_set set;
    struct loader *loader = NULL;
    make_cached_set(&set, 1);
    struct batch_source source = source_of(&set);
    assert_int_equal(loader_open(&loader, &source, 0, -1, 1), VOCO_BAD_INPUT);
    assert_int_equal(loader_open(&loader, &source, 0, 1, 0), VOCO_BAD_INPUT);
    source.count = 0;
    assert_int_equal(loader_open(&loader, &source, 0, 1, 1), VOCO_BAD_INPUT);
    assert_null(loader);
    remove_cached_set(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(a_loader_can_be_closed_at_any_moment),
        cmocka_unit_test(an_error_comes_at_its_step_and_stays),
        cmocka_unit_test(impossible_loaders_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
