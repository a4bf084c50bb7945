#include "compute/reference/operations.h"

#include <math.h>

/* The standard normal distribution function; erfc keeps its digits where it is small. */
static double normal_distribution(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

void reference_gelu_forward(struct compute *c, activation *out, const activation *inp, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    for (size_t k = 0; k < count; k++) {
        out[k].value = (real)(inp[k].value * normal_distribution(inp[k].value));
    }
}

void reference_gelu_backward(struct compute *c, activation *dinp, const activation *dout,
                             const activation *inp, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const double peak = 0.5 * M_SQRT1_2 * M_2_SQRTPI; /* 1 / sqrt(2 pi) */
    for (size_t k = 0; k < count; k++) {
        const double x = inp[k].value;
        dinp[k].value = (real)(dout[k].value * (normal_distribution(x) + x * peak * exp(-0.5 * x * x)));
    }
}
