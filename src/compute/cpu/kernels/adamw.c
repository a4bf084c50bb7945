#include "compute/cpu/kernels/kernels.h"
#include "compute/gradient_scale.h"

#include <math.h>

void KERNEL(adamw_step)(struct compute *c, float *param, float *exp_avg, float *exp_avg_sq,
                        float *max_exp_avg_sq, const float *grad, const double *squares,
                        const struct adamw_settings *settings, size_t count)
{
    if (c->status != VOCO_OK || !can_update(*squares)) {
        return;
    }
    const double correction1 = 1 - pow(settings->beta1, (double)settings->step);
    const double correction2 = 1 - pow(settings->beta2, (double)settings->step);
    const float decay = (float)(1 - settings->learning_rate * settings->weight_decay);
    const float scale = (float)gradient_scale(*squares, settings->clip_norm);
    const float beta1 = (float)settings->beta1, rest1 = (float)(1 - settings->beta1);
    const float beta2 = (float)settings->beta2, rest2 = (float)(1 - settings->beta2);
    const float step_size = (float)(settings->learning_rate / correction1);
    const float root_scale = (float)(1 / sqrt(correction2));
    const float epsilon = (float)settings->epsilon;
#pragma omp parallel for simd schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < count; k++) {
        const float g = scale * grad[k];
        const float m = beta1 * exp_avg[k] + rest1 * g;
        const float v = beta2 * exp_avg_sq[k] + rest2 * g * g;
        const float largest = v < max_exp_avg_sq[k] ? max_exp_avg_sq[k] : v;
        exp_avg[k] = m;
        exp_avg_sq[k] = v;
        max_exp_avg_sq[k] = largest;
        param[k] = decay * param[k] - step_size * m / (sqrtf(largest) * root_scale + epsilon);
    }
}
