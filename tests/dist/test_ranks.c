/* What the ranks of a job tell each other: run by itself, and by mpirun with several ranks
 * (tests/CMakeLists.txt). Every rank takes part before it checks, so that a failure on one does not leave the
 * others waiting. */
#include "base/error.h"
#include "dist/ranks.h"

#include <math.h>
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

static int open_ranks(void **state)
{
    (void)state;
    return ranks_open(&ranks) == VOCO_OK ? 0 : -1;
}

static int close_ranks(void **state)
{
    (void)state;
    ranks_close(&ranks);
    return 0;
}

static const size_t lengths[] = {1, 16, 17, 1000, 300007};
enum { length_count = sizeof lengths / sizeof lengths[0] };

/* Element i of rank r: of both signs and with all bits in use. */
static float element(size_t i, int rank)
{
    return sinf((float)(i + 1) * 0.37F + (float)rank) * (float)(rank + 1);
}

static float *array_of(size_t count, int rank)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = element(i, rank);
    }
    return values;
}

/* The sum in the order of the ranks, as the header has it. */
static float sum_of(size_t i)
{
    float sum = element(i, 0);
    for (int rank = 1; rank < ranks.size; rank++) {
        sum += element(i, rank);
    }
    return sum;
}

static void the_size_is_that_of_the_job(void **state)
{
    (void)state;
    const char *wanted = getenv("VOCO_TEST_RANKS");
    assert_int_equal(ranks.size, wanted != NULL ? atoi(wanted) : 1);
    assert_in_range(ranks.rank, 0, ranks.size - 1);
    assert_int_equal(ranks.host_size, ranks.size);
    assert_true(ranks.size == 1 || ranks.processors >= 1);
}

static void slices_cover_an_array_once(void **state)
{
    (void)state;
    for (int k = 0; k < length_count; k++) {
        for (int size = 1; size <= 7; size++) {
            size_t end = 0, first = 0;
            for (int rank = 0; rank < size; rank++) {
                const size_t count = ranks_slice(&first, lengths[k], rank, size);
                assert_int_equal(first, end);
                assert_true(first % 16 == 0 || count == 0);
                end = first + count;
            }
            assert_int_equal(end, lengths[k]);
        }
    }
}

static void a_sum_is_taken_in_the_order_of_the_ranks(void **state)
{
    (void)state;
    for (int k = 0; k < length_count; k++) {
        float *values = array_of(lengths[k], ranks.rank);
        struct ranks_order order = {
            .operation = RANKS_SUM, .values = values, .count = lengths[k], .scale = 0.5F};
        ranks_start(&ranks, &order);
        ranks_finish(&ranks, &order);
        for (size_t i = 0; i < lengths[k]; i++) {
            assert_true(values[i] == 0.5F * sum_of(i));
        }
        free(values);
    }
}

static void orders_started_together_are_all_carried_out(void **state)
{
    (void)state;
    enum { count = 5000, order_count = 9 };
    static float values[order_count][count];
    static struct ranks_order orders[order_count];
    for (int k = 0; k < order_count; k++) {
        for (size_t i = 0; i < count; i++) {
            values[k][i] = element(i, ranks.rank) + (float)k;
        }
        orders[k] =
            (struct ranks_order){.operation = RANKS_SUM, .values = values[k], .count = count, .scale = 1};
        ranks_start(&ranks, &orders[k]);
    }
    for (int k = 0; k < order_count; k++) {
        ranks_finish(&ranks, &orders[k]);
    }
    for (int k = 0; k < order_count; k++) {
        for (size_t i = 0; i < count; i++) {
            assert_float_equal(values[k][i], sum_of(i) + (float)(k * ranks.size), 1e-5);
        }
    }
}

/* Rounded once before the sum and once after it, each by half of the last of 8 bits at most. */
static void a_sum_in_bf16_rounds_twice_and_is_the_same_everywhere(void **state)
{
    (void)state;
    enum { count = 4099 };
    float *values = array_of(count, ranks.rank);
    struct ranks_order order = {
        .operation = RANKS_SUM, .values = values, .count = count, .scale = 1, .form = RANKS_BF16};
    ranks_start(&ranks, &order);
    ranks_finish(&ranks, &order);
    float *of_first = malloc(count * sizeof *of_first);
    assert_non_null(of_first);
    memcpy(of_first, values, count * sizeof *values);
    ranks_broadcast(&ranks, of_first, count * sizeof *of_first, 0);
    for (size_t i = 0; i < count && ranks.size > 1; i++) {
        double sizes = 0;
        for (int rank = 0; rank < ranks.size; rank++) {
            sizes += fabs((double)element(i, rank));
        }
        const double bound = (sizes + fabs((double)sum_of(i)) * 1.01) / 256;
        assert_float_equal(values[i], sum_of(i), bound);
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        assert_int_equal(bits & 0xffffU, 0);
    }
    assert_memory_equal(values, of_first, count * sizeof *values);
    free(values);
    free(of_first);
}

static void bf16_passes_what_is_not_finite(void **state)
{
    (void)state;
    float values[48];
    for (int i = 0; i < 48; i++) {
        values[i] = 1;
    }
    values[3] = ranks.rank == ranks.size - 1 ? NAN : 1;
    values[40] = ranks.rank == 0 ? INFINITY : 1;
    struct ranks_order order = {
        .operation = RANKS_SUM, .values = values, .count = 48, .scale = 1, .form = RANKS_BF16};
    ranks_start(&ranks, &order);
    ranks_finish(&ranks, &order);
    assert_true(isnan(values[3]));
    assert_true(isinf(values[40]));
    assert_true(values[4] == (float)ranks.size);
}

static void own_slices_are_summed_shared_and_gathered(void **state)
{
    (void)state;
    for (int k = 0; k < length_count; k++) {
        const size_t count = lengths[k];
        float *values = array_of(count, ranks.rank), *all = array_of(count, 0);
        size_t first = 0;
        const size_t own = ranks_slice(&first, count, ranks.rank, ranks.size);
        struct ranks_order sum = {
            .operation = RANKS_SUM_SLICES, .values = values, .count = count, .scale = 1};
        ranks_start(&ranks, &sum);
        ranks_finish(&ranks, &sum);
        if (ranks.rank == 0) {
            memcpy(all + first, values + first, own * sizeof *all);
        }
        struct ranks_order gather = {.operation = RANKS_GATHER_SLICES,
                                     .values = ranks.rank == 0 ? all : values + first,
                                     .count = count};
        ranks_start(&ranks, &gather);
        ranks_finish(&ranks, &gather);
        int kept = 1;
        for (size_t i = 0; i < count; i++) {
            const int is_own = i >= first && i < first + own;
            kept = kept && values[i] == (is_own ? sum_of(i) : element(i, ranks.rank));
        }
        struct ranks_order share = {.operation = RANKS_SHARE_SLICES, .values = values, .count = count};
        ranks_start(&ranks, &share);
        ranks_finish(&ranks, &share);
        assert_true(kept);
        for (size_t i = 0; i < count; i++) {
            assert_true(values[i] == sum_of(i));
            assert_true(ranks.rank != 0 || all[i] == sum_of(i));
        }
        free(values);
        free(all);
    }
}

static void bytes_are_shared_and_broadcast(void **state)
{
    (void)state;
    int *pieces = calloc((size_t)ranks.size, sizeof *pieces);
    assert_non_null(pieces);
    pieces[ranks.rank] = 100 + ranks.rank;
    ranks_share(&ranks, pieces, sizeof *pieces);
    char text[32];
    (void)snprintf(text, sizeof text, "from %d", ranks.rank);
    ranks_broadcast(&ranks, text, sizeof text, ranks.size - 1);
    int largest = ranks.rank * 3 - 5;
    ranks_largest(&ranks, &largest);
    double sums[2] = {0.1 * ranks.rank, 1};
    ranks_sum_doubles(&ranks, sums, 2);
    for (int rank = 0; rank < ranks.size; rank++) {
        assert_int_equal(pieces[rank], 100 + rank);
    }
    char wanted[32];
    (void)snprintf(wanted, sizeof wanted, "from %d", ranks.size - 1);
    assert_string_equal(text, wanted);
    assert_int_equal(largest, (ranks.size - 1) * 3 - 5);
    assert_float_equal(sums[0], 0.05 * ranks.size * (ranks.size - 1), 1e-12);
    assert_true(sums[1] == ranks.size);
    free(pieces);
}

static void an_outcome_is_everybodys(void **state)
{
    (void)state;
    assert_int_equal(ranks_agree(&ranks, VOCO_OK), VOCO_OK);
    const int last = ranks.rank == ranks.size - 1;
    const enum voco_status bad = last ? fail(VOCO_BAD_INPUT, "volume x.nii.gz is cut") : VOCO_OK;
    const enum voco_status status = ranks_agree(&ranks, bad);
    char wanted[64] = "volume x.nii.gz is cut";
    if (ranks.size > 1) {
        (void)snprintf(wanted, sizeof wanted, "rank %d: volume x.nii.gz is cut", ranks.size - 1);
    }
    const int told = strcmp(voco_error_message(), wanted) == 0;
    const enum voco_status same = ranks_agree(&ranks, fail(VOCO_IO, "the disk is full"));
    const int told_once = strcmp(voco_error_message(), "the disk is full") == 0;
    assert_int_equal(status, VOCO_BAD_INPUT);
    assert_true(told);
    assert_int_equal(same, VOCO_IO);
    assert_true(told_once);
}

static void a_stop_is_less_than_a_failure(void **state)
{
    (void)state;
    const int last = ranks.rank == ranks.size - 1;
    const enum voco_status status =
        ranks_agree(&ranks, last ? fail(VOCO_IO, "no disk") : fail(VOCO_STOPPED, "stopped"));
    char text[128];
    (void)snprintf(text, sizeof text, "%s", voco_error_message());
    assert_int_equal(status, VOCO_IO);
    assert_non_null(strstr(text, "no disk"));
    assert_null(strstr(text, "stopped"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_size_is_that_of_the_job),
        cmocka_unit_test(slices_cover_an_array_once),
        cmocka_unit_test(a_sum_is_taken_in_the_order_of_the_ranks),
        cmocka_unit_test(orders_started_together_are_all_carried_out),
        cmocka_unit_test(a_sum_in_bf16_rounds_twice_and_is_the_same_everywhere),
        cmocka_unit_test(bf16_passes_what_is_not_finite),
        cmocka_unit_test(own_slices_are_summed_shared_and_gathered),
        cmocka_unit_test(bytes_are_shared_and_broadcast),
        cmocka_unit_test(an_outcome_is_everybodys),
        cmocka_unit_test(a_stop_is_less_than_a_failure),
    };
    return cmocka_run_group_tests(tests, open_ranks, close_ranks);
}
