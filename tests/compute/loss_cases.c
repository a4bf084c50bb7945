#include "case_list.h"

#include "tensors.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Rows that lean to one side, so that most cosines are positive, and one of zeros. */
static real *rows_to_compare(uint32_t seed, const struct contrast_shape *s)
{
    const size_t width = (size_t)s->width;
    const size_t rows = (size_t)s->volumes * (size_t)(s->crops + s->bases);
    real *values = random_tensor(seed, rows * width, 1);
    for (size_t k = 0; k < rows * width; k++) {
        values[k] = rows > 6 && k / width == 2 ? 0 : values[k] + (real)0.4;
    }
    return values;
}

/* Of the terms the sums over the volumes. */
static void contrast(struct compute *c, const void *chosen, struct results *r)
{
    const struct contrast_shape *s = chosen;
    const size_t pairs = (size_t)s->volumes * (size_t)s->crops * (size_t)s->bases;
    const size_t elements = (size_t)s->volumes * (size_t)(s->crops + s->bases) * (size_t)s->width;
    const size_t count = (size_t)s->volumes * contrast_terms;
    real *shares = random_tensor(3, pairs, 1);
    for (size_t k = 0; k < pairs; k++) {
        shares[k] = shares[k] < 0 ? 0 : shares[k] / 4;
    }
    real *z = given_reals(r, rows_to_compare(1, s), elements);
    real *t = given_reals(r, rows_to_compare(2, s), elements);
    real *labels = given_reals(r, shares, pairs);
    const size_t work_reals = contrast_loss_work(s) * sizeof(double) / sizeof(real);
    const size_t term_reals = count * sizeof(double) / sizeof(real);
    double *work = (double *)given_reals(r, filled_tensor(work_reals, 77), work_reals);
    double *terms = (double *)given_reals(r, filled_tensor(term_reals, 77), term_reals);
    real *dz = new_result(r, "dz", elements, 77), *similarity = new_result(r, "similarity", pairs, 77);
    c->contrast_loss(c, terms, dz, similarity, z, t, (const float *)labels, work, s);
    double *of_volumes = (double *)filled_tensor(term_reals, 0);
    c->to_host(c, of_volumes, terms, count * sizeof *of_volumes);
    c->wait(c);
    static const char *const names[] = {"intra", "inter", "reg"};
    for (int term = 0; term < contrast_terms; term++) {
        double sum = 0;
        for (int i = 0; i < s->volumes; i++) {
            sum += of_volumes[i * contrast_terms + term];
        }
        *new_number(r, names[term]) = (real)sum;
    }
    free(of_volumes);
}

static int has_contrast_loss(const struct compute *c)
{
    return c->contrast_loss != NULL;
}

void list_loss_cases(struct case_list *list)
{
    static const struct contrast_shape shapes[] = {
        {1, 1, 1, 3},   {1, 3, 2, 40},  {2, 3, 4, 5},    {3, 2, 9, 33},
        {5, 4, 1, 130}, {2, 17, 9, 64}, {4, 2, 9, 1024},
    };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct contrast_shape *s = &shapes[i];
        const double pairs = (double)s->volumes * s->bases * (3.0 * s->crops + s->bases);
        struct operation_case *it = append_case(list, "contrast_loss", contrast, s, 4 * pairs * s->width, 0);
        name_case(it, "loss of %d volumes, %d crops, %d bases, %d wide", s->volumes, s->crops, s->bases,
                  s->width);
        it->is_there = has_contrast_loss;
    }
}
