#include "compute/reference/operations.h"

void reference_activations_from_reals(struct compute *c, activation *out, const real *inp, size_t count)
{
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        out[k].value = inp[k];
    }
}

void reference_reals_from_activations(struct compute *c, real *out, const activation *inp, size_t count)
{
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        out[k] = inp[k].value;
    }
}

void reference_add(struct compute *c, activation *out, const activation *a, const activation *b, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t k = 0; k < count; k++) {
        out[k].value = a[k].value + b[k].value;
    }
}

void reference_apply_mask(struct compute *c, real *out, const real *inp, const real *mask, size_t count)
{
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        out[k] = mask[k] == 0 ? 0 : mask[k] * inp[k];
    }
}

void reference_moving_average(struct compute *c, real *average, real *previous, const real *value, real decay,
                              size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t k = 0; k < count; k++) {
        if (previous != NULL) {
            previous[k] = average[k];
        }
        average[k] = (real)((double)decay * average[k] + (1 - (double)decay) * value[k]);
    }
}

void reference_zero(struct compute *c, real *x, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t k = 0; k < count; k++) {
        x[k] = 0;
    }
}

/* Not in double: the order is what is asked for. */
void reference_sum_in_order(struct compute *c, real *out, const activation *parts, int n, size_t count,
                            real scale)
{
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        real sum = parts[k].value;
        for (int part = 1; part < n; part++) {
            sum += parts[(size_t)part * count + k].value;
        }
        out[k] = scale * sum;
    }
}

void reference_sum_of_squares(struct compute *c, double *sum, const real *x, size_t count)
{
    *sum = 0;
    for (size_t k = 0; c->status == VOCO_OK && k < count; k++) {
        *sum += (double)x[k] * x[k];
    }
}
