#include "tensors.h"

#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const double accumulated_start = 0.5;

enum { kept_seeds = 32, most_kept = 1 << 18 };

static real *tensor(size_t count)
{
    real *t = malloc((count > 0 ? count : 1) * sizeof *t);
    assert_non_null(t);
    return t;
}

/* normals[k] of a seed for k from first to count - 1. */
static void draw_normals(double *normals, uint32_t seed, size_t first, size_t count)
{
    const struct random_key key = {.seed = seed, .purpose = RANDOM_TEST};
#pragma omp parallel for if (count - first > 100000)
    for (size_t k = first; k < count; k++) {
        normals[k] = random_normal(&key, (uint32_t)k);
    }
}

/* The first `count` numbers of a seed, which the thread keeps: the same small tensors are made again for every
 * implementation and precision, and drawing takes longer than most operations. */
static const double *kept_normals(uint32_t seed, size_t count)
{
    static _Thread_local struct {
        double *normals;
        size_t count;
    } kept[kept_seeds];
    if (kept[seed].count < count) {
        double *longer = realloc(kept[seed].normals, count * sizeof *longer);
        assert_non_null(longer);
        draw_normals(longer, seed, kept[seed].count, count);
        kept[seed].normals = longer;
        kept[seed].count = count;
    }
    return kept[seed].normals;
}

real *random_tensor(uint32_t seed, size_t count, double scale)
{
    const size_t few = seed < kept_seeds ? count < most_kept ? count : most_kept : 0;
    const double *normals = few > 0 ? kept_normals(seed, few) : NULL;
    const struct random_key key = {.seed = seed, .purpose = RANDOM_TEST};
    real *t = tensor(count);
    for (size_t k = 0; k < few; k++) {
        t[k] = (real)(scale * normals[k]);
    }
#pragma omp parallel for if (count > 100000)
    for (size_t k = few; k < count; k++) {
        t[k] = (real)(scale * random_normal(&key, (uint32_t)k));
    }
    return t;
}

real *filled_tensor(size_t count, double value)
{
    real *t = tensor(count);
    for (size_t k = 0; k < count; k++) {
        t[k] = (real)value;
    }
    return t;
}

real *accumulator(size_t count)
{
    return filled_tensor(count, accumulated_start);
}

void take_off_start(real *gradient, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        gradient[k] -= (real)accumulated_start;
    }
}

double inner_product(const real *a, const real *b, size_t count)
{
    double sum = 0;
    for (size_t k = 0; k < count; k++) {
        sum += (double)a[k] * b[k];
    }
    return sum;
}

double relative_difference(const real *a, const real *expected, size_t count)
{
    double difference = 0, size = 0;
    for (size_t k = 0; k < count; k++) {
        const double d = (double)a[k] - expected[k];
        difference += d * d;
        size += (double)expected[k] * expected[k];
    }
    if (isnan(difference) || isnan(size)) {
        return INFINITY;
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

void require_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.17g is not within %g of %.17g", value, tolerance, expected);
    }
}

int same_bits(const real *a, const real *b, size_t count)
{
    return memcmp(a, b, count * sizeof *a) == 0;
}

void open_implementation(struct compute *c, const char *name, int threads)
{
    if (compute_open(c, name, threads, PRECISION_FLOAT32) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}

void require_no_failure(struct compute *c)
{
    if (compute_status(c) != VOCO_OK) {
        fail_msg("%s", voco_error_message());
    }
}
