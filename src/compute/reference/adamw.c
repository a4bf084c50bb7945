#include "compute/gradient_scale.h"
#include "compute/reference/operations.h"

#include <math.h>

void reference_adamw_step(struct compute *c, real *param, real *exp_avg, real *exp_avg_sq,
                          real *max_exp_avg_sq, const real *grad, const double *squares,
                          const struct adamw_settings *settings, size_t count)
{
    if (c->status != VOCO_OK || !can_update(*squares)) {
        return;
    }
    const double scale = gradient_scale(*squares, settings->clip_norm);
    const double beta1 = settings->beta1, beta2 = settings->beta2;
    const double kept = 1 - settings->learning_rate * settings->weight_decay;
    const double step_size = settings->learning_rate / (1 - pow(beta1, (double)settings->step));
    const double root_correction = sqrt(1 - pow(beta2, (double)settings->step));
    for (size_t k = 0; k < count; k++) {
        const double g = scale * grad[k];
        const double m = beta1 * exp_avg[k] + (1 - beta1) * g;
        const double v = beta2 * exp_avg_sq[k] + (1 - beta2) * g * g;
        const double largest = fmax(max_exp_avg_sq[k], v);
        const double denominator = sqrt(largest) / root_correction + settings->epsilon;
        param[k] = (real)(kept * param[k] - step_size * m / denominator);
        exp_avg[k] = (real)m;
        exp_avg_sq[k] = (real)v;
        max_exp_avg_sq[k] = (real)largest;
    }
}
