/* The signals of learning, against cases with a known answer. */
#include "base/philox.h"
#include "train/learning_signals.h"
#include "train/symmetric_eigenvalues.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct arena arena;

static int open_arena(void **state)
{
    (void)state;
    return arena_open(&arena, (size_t)1 << 26) == VOCO_OK ? 0 : -1;
}

static int close_arena(void **state)
{
    (void)state;
    arena_close(&arena);
    return 0;
}

static struct embedding_signals signals_of(const float *embedding, size_t rows, size_t width)
{
    struct embedding_signals signals;
    assert_int_equal(embedding_signals(&signals, embedding, rows, width, &arena), VOCO_OK);
    assert_int_equal(arena_mark(&arena).used, 0);
    return signals;
}

static void assert_close(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.12g is not %.12g", value, expected);
    }
}

static void accuracy_counts_where_the_largest_are_the_same(void **state)
{
    (void)state;
    const float labels[] = {0, 1, 0, /**/ 0.5F, 0.3F, 0.2F, /**/ 0, 0.4F, 0.6F, /**/ 0.5F, 0, 0.5F};
    const float similarity[] = {0,         0.2F, 0.1F, /**/ 0.1F, 0.9F, 0,
                                /**/ 0.1F, 0.2F, 0.3F, /**/ 0.1F, 0.3F, 0.9F};
    struct position_signals signals = {0};
    position_signals_add(&signals, similarity, labels, 4, 3);
    assert_int_equal(signals.positions, 4);
    assert_int_equal(signals.right, 3); /* the last: two bases overlap equally, either is right */
    assert_close(position_accuracy(&signals), 0.75, 0);
    /* in two parts it is the same */
    struct position_signals parts = {0};
    position_signals_add(&parts, similarity, labels, 1, 3);
    position_signals_add(&parts, similarity + 3, labels + 3, 3, 3);
    assert_close(position_accuracy(&parts), 0.75, 0);
    assert_close(position_correlation(&parts), position_correlation(&signals), 1e-12);
}

/* A collapsed model finds everything similar to nothing: the first base is "the most similar". */
static void without_similarity_accuracy_is_chance(void **state)
{
    (void)state;
    float similarity[81] = {0}, labels[81] = {0};
    for (int row = 0; row < 9; row++) {
        labels[row * 9 + row] = 1;
    }
    struct position_signals signals = {0};
    position_signals_add(&signals, similarity, labels, 9, 9);
    assert_close(position_accuracy(&signals), 1.0 / 9, 1e-15);
    assert_close(position_correlation(&signals), 0, 0);
}

static void correlation_is_pearsons(void **state)
{
    (void)state;
    const float labels[] = {0, 0.25F, 0.75F, 0, 1, 0};
    float linear[6], opposite[6];
    for (int e = 0; e < 6; e++) {
        linear[e] = 0.5F * labels[e] + 0.125F;
        opposite[e] = 1 - labels[e];
    }
    struct position_signals signals = {0};
    position_signals_add(&signals, linear, labels, 2, 3);
    assert_close(position_correlation(&signals), 1, 1e-12);
    signals = (struct position_signals){0};
    position_signals_add(&signals, opposite, labels, 2, 3);
    assert_close(position_correlation(&signals), -1, 1e-12);
    /* by hand: s = (1, 0), (0, 0), y = (1, 0), (1, 0): means 1/4, 1/2; covariance 1/8; variances 3/16, 1/4 */
    const float s[] = {1, 0, 0, 0}, y[] = {1, 0, 1, 0};
    signals = (struct position_signals){0};
    position_signals_add(&signals, s, y, 2, 2);
    assert_close(position_correlation(&signals), 0.125 / sqrt(3.0 / 64), 1e-12);
}

static void nothing_added_gives_zero(void **state)
{
    (void)state;
    const struct position_signals none = {0};
    assert_close(position_accuracy(&none), 0, 0);
    assert_close(position_correlation(&none), 0, 0);
}

static void spread_is_the_mean_deviation_of_features(void **state)
{
    (void)state;
    /* features: 1, 3 (deviation 1); 5, 5 (0); -2, 4 (3) */
    const float embedding[] = {1, 5, -2, /**/ 3, 5, 4};
    assert_close(signals_of(embedding, 2, 3).spread, 4.0 / 3, 1e-12);
}

static void equal_rows_have_collapsed(void **state)
{
    (void)state;
    float embedding[5 * 7];
    for (int e = 0; e < 35; e++) {
        embedding[e] = 0.1F + (float)(e % 7) / 3;
    }
    const struct embedding_signals signals = signals_of(embedding, 5, 7);
    assert_close(signals.spread, 0, 1e-12);
    assert_close(signals.normalised_spread, 0, 1e-12);
    assert_close(signals.effective_rank, 0, 0);
    const float zeros[35] = {0};
    assert_close(signals_of(zeros, 5, 7).effective_rank, 0, 0);
    assert_close(signals_of(zeros, 5, 7).normalised_spread, 0, 0);
}

/* The rows +e_d and -e_d for all d are centred; all singular values are sqrt(2): the rank is the dimension,
 * and each feature's deviation is 1 / sqrt(D), so the normalised spread is 1. */
static void even_directions_have_full_rank(void **state)
{
    (void)state;
    enum { width = 6 };
    float embedding[2 * width * width] = {0}, scaled[2 * width * width];
    for (int d = 0; d < width; d++) {
        embedding[2 * d * width + d] = 1;
        embedding[(2 * d + 1) * width + d] = -1;
    }
    for (int e = 0; e < 2 * width * width; e++) {
        scaled[e] = 50 * embedding[e];
    }
    const struct embedding_signals signals = signals_of(embedding, (size_t)2 * width, width);
    assert_close(signals.effective_rank, width, 1e-9);
    assert_close(signals.spread, 1 / sqrt(width), 1e-9);
    assert_close(signals.normalised_spread, 1, 1e-9);
    assert_close(signals_of(scaled, (size_t)2 * width, width).normalised_spread, 1, 1e-9);
    assert_close(signals_of(scaled, (size_t)2 * width, width).effective_rank, width, 1e-9);
}

/* Fewer rows than features, and more; one direction, however many rows; a mean is not a direction. */
static void one_direction_has_rank_one(void **state)
{
    (void)state;
    const size_t shapes[][2] = {{4, 10}, {10, 4}, {2, 1}, {3, 3}};
    for (int i = 0; i < 4; i++) {
        float embedding[40];
        for (size_t row = 0; row < shapes[i][0]; row++) {
            for (size_t d = 0; d < shapes[i][1]; d++) {
                embedding[row * shapes[i][1] + d] = 7 + (float)row * (1 + (float)d / 4);
            }
        }
        assert_close(signals_of(embedding, shapes[i][0], shapes[i][1]).effective_rank, 1, 1e-6);
    }
    const float single[] = {1, 2, 3};
    assert_close(signals_of(single, 1, 3).effective_rank, 0, 0);
}

/* Two directions at right angles with singular values 3 and 1: exp of the entropy of (3/4, 1/4). */
static void rank_is_the_entropy_of_singular_values(void **state)
{
    (void)state;
    const float embedding[] = {3, 0, 0, /**/ -3, 0, 0, /**/ 0, 1, 0, /**/ 0, -1, 0};
    const double expected = exp(-0.75 * log(0.75) - 0.25 * log(0.25));
    assert_close(signals_of(embedding, 4, 3).effective_rank, expected, 1e-9);
}

static void values_that_are_not_finite_give_nan(void **state)
{
    (void)state;
    float embedding[] = {1, 2, 3, 4, 5, NAN};
    assert_true(isnan(signals_of(embedding, 2, 3).effective_rank));
    embedding[5] = INFINITY;
    assert_true(isnan(signals_of(embedding, 3, 2).spread));
}

/* The path of n nodes: 2 on the diagonal, -1 beside it, has eigenvalues 4 sin^2(k pi / (2 (n + 1))); here it
 * is hidden by a rotation of all coordinates (a Householder reflection). */
static void eigenvalues_of_a_known_matrix(void **state)
{
    (void)state;
    enum { n = 41 };
    static double a[n * n], eigenvalues[n], work[3 * n];
    double v[n], av[n], vv = 0, vav = 0;
    for (int i = 0; i < n; i++) {
        v[i] = 1 + i % 5;
        vv += v[i] * v[i];
    }
    for (int i = 0; i < n; i++) {
        av[i] = 2 * v[i] - (i > 0 ? v[i - 1] : 0) - (i + 1 < n ? v[i + 1] : 0);
        vav += v[i] * av[i];
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            const double path = i == j ? 2 : abs(i - j) == 1 ? -1 : 0;
            a[i * n + j] = path - 2 * (v[i] * av[j] + av[i] * v[j]) / vv + 4 * vav * v[i] * v[j] / (vv * vv);
        }
    }
    symmetric_eigenvalues(eigenvalues, a, work, n);
    const double pi = acos(-1);
    for (int k = 0; k < n; k++) {
        const double half = sin((k + 1) * pi / (2 * (n + 1)));
        assert_close(eigenvalues[k], 4 * half * half, 1e-12);
    }
}

/* Sums and sums of squares of the eigenvalues are those of the diagonal and of the elements. */
static void eigenvalues_of_random_matrices(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 20; n++) {
        double a[400], eigenvalues[20], work[60], trace = 0, squares = 0;
        const struct random_key key = {.seed = n, .purpose = RANDOM_TEST};
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j <= i; j++) {
                a[i * n + j] = a[j * n + i] = random_normal(&key, (uint32_t)(i * n + j));
                squares += (i == j ? 1 : 2) * a[i * n + j] * a[i * n + j];
            }
            trace += a[i * n + i];
        }
        symmetric_eigenvalues(eigenvalues, a, work, n);
        for (size_t k = 0; k < n; k++) {
            trace -= eigenvalues[k];
            squares -= eigenvalues[k] * eigenvalues[k];
            assert_true(k == 0 || eigenvalues[k] >= eigenvalues[k - 1]);
        }
        assert_close(trace, 0, 1e-11);
        assert_close(squares, 0, 1e-10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accuracy_counts_where_the_largest_are_the_same),
        cmocka_unit_test(without_similarity_accuracy_is_chance),
        cmocka_unit_test(correlation_is_pearsons),
        cmocka_unit_test(nothing_added_gives_zero),
        cmocka_unit_test(spread_is_the_mean_deviation_of_features),
        cmocka_unit_test(equal_rows_have_collapsed),
        cmocka_unit_test(even_directions_have_full_rank),
        cmocka_unit_test(one_direction_has_rank_one),
        cmocka_unit_test(rank_is_the_entropy_of_singular_values),
        cmocka_unit_test(values_that_are_not_finite_give_nan),
        cmocka_unit_test(eigenvalues_of_a_known_matrix),
        cmocka_unit_test(eigenvalues_of_random_matrices),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
