#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

/* Phi(x), and exp(-x^2 / 2). With z = |x| / sqrt(2), Phi is erfc(z) / 2 or 1 minus it, and
 * erfc(z) = exp(-z^2) t Q(t), t = 1 / (1 + 0.45 z). Q is smooth on [0, 1]; the polynomial interpolates it in
 * Chebyshev's nodes, to a relative error of 8e-8 everywhere. */
static vec normal_distribution(vec x, vec *bell)
{
    const float inverse_root_two = 0.70710678F, minus_half_log2_e = -0.72134752F;
    const vec magnitude = choose(x < 0, -x, x);
    const vec t = 1.0F / (1.0F + (0.45F * inverse_root_two) * magnitude);
    const vec s = t - 0.5F;
    vec q = broadcast(-0.0430253632F);
    q = q * s + 0.00436951686F;
    q = q * s + 0.0905355662F;
    q = q * s + -0.0094096493F;
    q = q * s + -0.164513081F;
    q = q * s + -0.0457085595F;
    q = q * s + 0.337125123F;
    q = q * s + 0.651156425F;
    q = q * s + 0.670868874F;
    q = q * s + 0.467140287F;
    *bell = exp2_of(x * x * minus_half_log2_e);
    const vec tail = 0.5F * *bell * t * q;
    return choose(x < 0, tail, 1.0F - tail);
}

static vec gelu(vec x)
{
    vec bell;
    return x * normal_distribution(x, &bell);
}

/* Phi(x) + x phi(x) */
static vec gelu_slope(vec x)
{
    const float inverse_root_two_pi = 0.39894228F;
    vec bell;
    const vec distribution = normal_distribution(x, &bell);
    return distribution + x * bell * inverse_root_two_pi;
}

void KERNEL(gelu_forward)(struct compute *c, activation *out, const activation *inp, size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const size_t whole = count / lanes * lanes;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < whole; k += lanes) {
        store_activations(out + k, gelu(load_activations(inp + k)));
    }
    const int rest = (int)(count - whole);
    store_activations_part(out + whole, gelu(load_activations_part(inp + whole, rest)), rest);
}

void KERNEL(gelu_backward)(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                           size_t count)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const size_t whole = count / lanes * lanes;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t k = 0; k < whole; k += lanes) {
        store_activations(dinp + k, load_activations(dout + k) * gelu_slope(load_activations(inp + k)));
    }
    const int rest = (int)(count - whole);
    store_activations_part(dinp + whole,
                           load_activations_part(dout + whole, rest) *
                               gelu_slope(load_activations_part(inp + whole, rest)),
                           rest);
}
