#include "compute/cpu/kernels/install.h"
#include "compute/cpu/kernels/parts/part_linear.h"
#include "compute/cpu/kernels/parts/part_mlp.h"

void install_kernels_amx_float32(struct compute *c)
{
    install_kernels_avx512_float32(c);
    struct kernels *kernels = &cpu_state(c)->kernels[c->precision];
    kernels->linear_forward = KERNEL(part_linear_forward);
    kernels->linear_input_gradient = KERNEL(part_linear_input_gradient);
    kernels->linear_weight_gradient = KERNEL(part_linear_weight_gradient);
    c->mlp_forward = KERNEL(part_mlp_forward);
    c->mlp_backward = KERNEL(part_mlp_backward);
    c->mlp_fits = KERNEL(part_mlp_fits);
}
