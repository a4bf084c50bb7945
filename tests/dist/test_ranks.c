/* What the ranks of a job tell each other: run by itself, and by mpirun with several ranks, also such that
 * believe to be on several machines, by VOCO_NODES (tests/CMakeLists.txt); and once more with a device for
 * each, whose memory the sums' arrays lie in (ranks_on_device.h). Every rank takes part before it checks, so
 * that a failure on one does not leave the others waiting. */
#include "base/clock.h"
#include "base/error.h"
#include "dist/bf16_rounding.h"
#include "dist/ranks.h"
#include "dist/ranks_on_device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail /* that of base/error.h */

static struct ranks ranks;
static struct compute compute; /* a device, or without one not used */

static int open_ranks(void **state)
{
    (void)state;
    return ranks_open(&ranks) == VOCO_OK && open_test_compute(&compute, &ranks) ? 0 : -1;
}

static int close_ranks(void **state)
{
    (void)state;
    close_test_compute(&compute, &ranks);
    ranks_close(&ranks);
    return 0;
}

/* An order on an array of the host's, by way of the device where there is one. */
static void carry_out(struct ranks_order *order)
{
    void *const values = order->values;
    to_test_device(&compute, order);
    ranks_start(&ranks, order);
    ranks_finish(&ranks, order);
    from_test_device(&compute, order, values);
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

/* The machine of a rank, by VOCO_NODES; else all are on one. */
static int node_of(int rank)
{
    const char *nodes = getenv("VOCO_NODES");
    for (int k = 0; k < rank && nodes != NULL; k++) {
        nodes = strchr(nodes, ',') + 1;
    }
    return nodes != NULL ? atoi(nodes) : 0;
}

static float unrounded(float value)
{
    return value;
}

/* As the header has it: on each machine in the order of the ranks, then in the order of the machines. */
static float sum_in_form(size_t i, float (*form)(float))
{
    float sum = 0;
    for (int first = 0, nodes = 0; first < ranks.size; first++) {
        float of_node = form(element(i, first));
        int counted = 0;
        for (int before = 0; before < first; before++) {
            counted = counted || node_of(before) == node_of(first);
        }
        for (int rank = first + 1; rank < ranks.size; rank++) {
            of_node += node_of(rank) == node_of(first) ? form(element(i, rank)) : 0;
        }
        if (!counted) {
            sum = nodes++ == 0 ? form(of_node) : sum + form(of_node);
        }
    }
    return form(sum);
}

static float sum_of(size_t i)
{
    return sum_in_form(i, unrounded);
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

static void every_element_is_in_one_slice(void **state)
{
    (void)state;
    for (int k = 0; k < length_count; k++) {
        char *covered = calloc(lengths[k], 1);
        assert_non_null(covered);
        for (int rank = 0; rank < ranks.size; rank++) {
            size_t first = 0;
            const size_t count = ranks_slice(&first, &ranks, rank, lengths[k]);
            for (size_t i = first; i < first + count; i++) {
                covered[i]++;
            }
        }
        for (size_t i = 0; i < lengths[k]; i++) {
            assert_int_equal(covered[i], 1);
        }
        free(covered);
    }
}

static void a_sum_is_taken_on_each_machine_and_then_over_them(void **state)
{
    (void)state;
    for (int k = 0; k < length_count; k++) {
        float *values = array_of(lengths[k], ranks.rank);
        struct ranks_order order = {
            .operation = RANKS_SUM, .values = values, .count = lengths[k], .scale = 0.5F};
        carry_out(&order);
        for (size_t i = 0; i < lengths[k]; i++) {
            assert_true(values[i] == 0.5F * sum_of(i));
        }
        free(values);
    }
}

static void orders_started_together_are_all_carried_out(void **state)
{
    (void)state;
    enum { count = 5000, order_count = 21 };
    static float values[order_count][count];
    static struct ranks_order orders[order_count];
    for (int k = 0; k < order_count; k++) {
        for (size_t i = 0; i < count; i++) {
            values[k][i] = element(i, ranks.rank) + (float)k;
        }
        orders[k] =
            (struct ranks_order){.operation = RANKS_SUM, .values = values[k], .count = count, .scale = 1};
        to_test_device(&compute, &orders[k]);
        ranks_start(&ranks, &orders[k]);
    }
    for (int k = 0; k < order_count; k++) {
        ranks_finish(&ranks, &orders[k]);
        from_test_device(&compute, &orders[k], values[k]);
    }
    for (int k = 0; k < order_count; k++) {
        for (size_t i = 0; i < count; i++) {
            assert_float_equal(values[k][i], sum_of(i) + (float)(k * ranks.size), 1e-5);
        }
    }
}

/* Rounded before the sum and after it, and the sum of each machine as well. */
static void a_sum_in_bf16_is_rounded_as_it_travels_and_is_the_same_everywhere(void **state)
{
    (void)state;
    enum { count = 4099 };
    float *values = array_of(count, ranks.rank);
    struct ranks_order order = {
        .operation = RANKS_SUM, .values = values, .count = count, .scale = 1, .form = RANKS_BF16};
    carry_out(&order);
    float *of_first = malloc(count * sizeof *of_first);
    assert_non_null(of_first);
    memcpy(of_first, values, count * sizeof *values);
    ranks_broadcast(&ranks, of_first, count * sizeof *of_first, 0);
    for (size_t i = 0; i < count && ranks.size > 1; i++) {
        assert_true(values[i] == sum_in_form(i, rounded_to_bf16));
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
    carry_out(&order);
    assert_true(isnan(values[3]));
    assert_true(isinf(values[40]));
    assert_true(values[4] == (float)ranks.size);
}

/* On a device: the same as without one. */
static void a_sum_has_the_bits_of_one_in_host_memory(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * length_count; k++) {
        const size_t count = lengths[k / 2];
        float *values = array_of(count, ranks.rank), *on_host = array_of(count, ranks.rank);
        struct ranks_order order = {.operation = RANKS_SUM,
                                    .values = values,
                                    .count = count,
                                    .scale = 1.0F / 3,
                                    .form = k % 2 == 0 ? RANKS_FLOAT32 : RANKS_BF16};
        struct ranks_order plain = order;
        plain.values = on_host;
        carry_out(&order);
        ranks_start(&ranks, &plain);
        ranks_finish(&ranks, &plain);
        assert_memory_equal(values, on_host, count * sizeof *values);
        free(values);
        free(on_host);
    }
}

/* Nobody waits for the operations that make the values, nor for the sum before the next operation. */
static void an_order_comes_after_operations_and_before_the_next(void **state)
{
    (void)state;
    enum { count = 3000, operations = 40 };
    float *zeros = compute.allocate(&compute, count * sizeof *zeros);
    float *host = array_of(count, ranks.rank);
    struct ranks_order order = {.operation = RANKS_SUM, .values = host, .count = count, .scale = 2};
    to_test_device(&compute, &order);
    float *values = order.values;
    compute.zero(&compute, zeros, count);
    for (int k = 0; k < operations; k++) { /* halves it each time, and then doubles it */
        const float decay = k < operations / 2 ? 0.5F : 2;
        compute.moving_average(&compute, values, NULL, zeros, decay, count);
    }
    ranks_start(&ranks, &order);
    ranks_finish(&ranks, &order);
    compute.moving_average(&compute, values, NULL, zeros, 0.5F, count);
    from_test_device(&compute, &order, host);
    for (size_t i = 0; i < count; i++) {
        assert_true(host[i] == sum_of(i));
    }
    compute.release(&compute, zeros);
    free(host);
}

/* The others come two seconds later. */
static void a_start_does_not_wait_for_the_others(void **state)
{
    (void)state;
    if (getenv("VOCO_NODES") != NULL) {
        skip(); /* it is the same wherever ranks are */
    }
    float *values = array_of(lengths[3], ranks.rank);
    struct ranks_order order = {.operation = RANKS_SUM, .values = values, .count = lengths[3], .scale = 1};
    to_test_device(&compute, &order);
    int nothing = 0;
    ranks_largest(&ranks, &nothing);
    if (ranks.rank > 0) {
        (void)sleep(2);
    }
    const double began = seconds_now();
    ranks_start(&ranks, &order);
    const double seconds = seconds_now() - began;
    ranks_finish(&ranks, &order);
    from_test_device(&compute, &order, values);
    assert_true(seconds < 1.5);
    assert_true(values[7] == sum_of(7));
    free(values);
}

static void own_slices_are_summed_shared_and_gathered(void **state)
{
    (void)state;
    for (int k = 0; k < length_count; k++) {
        const size_t count = lengths[k];
        float *values = array_of(count, ranks.rank), *all = array_of(count, 0);
        size_t first = 0;
        const size_t own = ranks_slice(&first, &ranks, ranks.rank, count);
        struct ranks_order sum = {
            .operation = RANKS_SUM_SLICES, .values = values, .count = count, .scale = 1};
        carry_out(&sum);
        if (ranks.rank == 0) {
            memcpy(all + first, values + first, own * sizeof *all);
        }
        struct ranks_order gather = {.operation = RANKS_GATHER_SLICES,
                                     .values = ranks.rank == 0 ? all : values + first,
                                     .count = count};
        ranks_start(&ranks, &gather);
        ranks_finish(&ranks, &gather);
        int summed = 1;
        for (size_t i = first; i < first + own; i++) {
            summed = summed && values[i] == sum_of(i);
        }
        struct ranks_order share = {.operation = RANKS_SHARE_SLICES, .values = values, .count = count};
        carry_out(&share);
        assert_true(summed);
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
        cmocka_unit_test(every_element_is_in_one_slice),
        cmocka_unit_test(a_sum_is_taken_on_each_machine_and_then_over_them),
        cmocka_unit_test(orders_started_together_are_all_carried_out),
        cmocka_unit_test(a_sum_in_bf16_is_rounded_as_it_travels_and_is_the_same_everywhere),
        cmocka_unit_test(bf16_passes_what_is_not_finite),
        cmocka_unit_test(a_sum_has_the_bits_of_one_in_host_memory),
        cmocka_unit_test(an_order_comes_after_operations_and_before_the_next),
        cmocka_unit_test(a_start_does_not_wait_for_the_others),
        cmocka_unit_test(own_slices_are_summed_shared_and_gathered),
        cmocka_unit_test(bytes_are_shared_and_broadcast),
        cmocka_unit_test(an_outcome_is_everybodys),
        cmocka_unit_test(a_stop_is_less_than_a_failure),
    };
    return cmocka_run_group_tests(tests, open_ranks, close_ranks);
}
