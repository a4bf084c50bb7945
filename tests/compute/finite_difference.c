#include "finite_difference.h"

#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { directions = 4, single_elements = 12 };

static const double tolerance = 1e-5;

struct probe {
    scalar_function f;
    void *context;
    real *variable;
    const real *start;
    size_t count;
};

static double value_at(const struct probe *p, const real *direction, double step)
{
    for (size_t k = 0; k < p->count; k++) {
        p->variable[k] = (real)(p->start[k] + step * direction[k]);
    }
    const double value = p->f(p->context);
    memcpy(p->variable, p->start, p->count * sizeof *p->start);
    return value;
}

static double central_difference(const struct probe *p, const real *direction, double step)
{
    return (value_at(p, direction, step) - value_at(p, direction, -step)) / (2 * step);
}

/* The error of a derivative relative to itself, but at least to 1 % of the typical one. */
static double derivative_error(const struct probe *p, const real *direction, double expected, double typical)
{
    const double step = 1e-3;
    const double numeric =
        (4 * central_difference(p, direction, step / 2) - central_difference(p, direction, step)) / 3;
    const double unit = fmax(fabs(expected), 0.01 * typical);
    const double error = unit > 0 ? fabs(numeric - expected) / unit : fabs(numeric - expected);
    return isnan(error) ? INFINITY : error;
}

void check_gradient(const char *name, scalar_function f, void *context, real *variable, const real *gradient,
                    size_t count)
{
    real *start = filled_tensor(count, 0);
    memcpy(start, variable, count * sizeof *start);
    const struct probe p = {f, context, variable, start, count};
    const double norm = sqrt(inner_product(gradient, gradient, count));
    double worst = 0;
    for (uint32_t i = 0; i < directions; i++) {
        real *direction = random_tensor(1000 + i, count, 1);
        const double expected = inner_product(gradient, direction, count);
        worst = fmax(worst, derivative_error(&p, direction, expected, norm));
        free(direction);
    }
    for (size_t i = 0; i < single_elements; i++) {
        const size_t element = i == 0 ? 0 : i == 1 ? count - 1 : i * 2654435761U % count;
        real *direction = filled_tensor(count, 0);
        direction[element] = 1;
        worst = fmax(worst, derivative_error(&p, direction, gradient[element], norm / sqrt((double)count)));
        free(direction);
    }
    free(start);
    print_message("    %s: %.1e\n", name, worst);
    if (worst > tolerance) {
        fail_msg("gradient of %s differs from finite differences by %g", name, worst);
    }
}
