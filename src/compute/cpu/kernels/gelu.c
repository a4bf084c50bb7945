#include "compute/cpu/kernels/gelu.h"
#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#include "compute/cpu/kernels/vector.h"

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
