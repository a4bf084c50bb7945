#include "compute/cpu/kernels/install.h"

#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"
#if defined(__AVX512BF16__)
#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"
#endif
#if defined(__AMX_BF16__)
#include "compute/cpu/kernels/amx/attention_tiles.h"
#include "compute/cpu/kernels/amx/tile_convolution.h"
#include "compute/cpu/kernels/amx/tile_linear.h"
#include "compute/cpu/kernels/parts/part_mlp.h"
#endif

void KERNEL(install_kernels)(struct compute *c)
{
    c->activation_size = sizeof(activation);
    c->activations_from_reals = KERNEL(activations_from_reals);
    c->reals_from_activations = KERNEL(reals_from_activations);
    c->layer_norm_forward = KERNEL(layer_norm_forward);
    c->layer_norm_backward = KERNEL(layer_norm_backward);
    c->instance_norm_forward = KERNEL(instance_norm_forward);
    c->instance_norm_backward = KERNEL(instance_norm_backward);
    c->instance_norm_moments = KERNEL(instance_norm_moments);
    c->instance_norm_apply = KERNEL(instance_norm_apply);
    c->pooled_norm_forward = KERNEL(pooled_norm_forward);
    c->pooled_norm_backward = KERNEL(pooled_norm_backward);
#if defined(__AMX_BF16__)
    c->window_attention_forward = KERNEL(tile_attention_forward);
    c->window_attention_backward = KERNEL(tile_attention_backward);
#elif defined(__AVX512BF16__)
    c->window_attention_forward = KERNEL(pair_attention_forward);
    c->window_attention_backward = KERNEL(pair_attention_backward);
#else
    c->window_attention_forward = KERNEL(window_attention_forward);
    c->window_attention_backward = KERNEL(window_attention_backward);
#endif
#if defined(__AMX_BF16__)
    c->mlp_forward = KERNEL(part_mlp_forward);
    c->mlp_backward = KERNEL(part_mlp_backward);
    c->mlp_fits = KERNEL(part_mlp_fits);
#else
    c->mlp_forward = KERNEL(mlp_forward);
    c->mlp_backward = KERNEL(mlp_backward);
    c->mlp_fits = KERNEL(mlp_fits);
#endif
    c->gelu_forward = KERNEL(gelu_forward);
    c->gelu_backward = KERNEL(gelu_backward);
    c->patch_merge_forward = KERNEL(patch_merge_forward);
    c->patch_merge_backward = KERNEL(patch_merge_backward);
    c->add = KERNEL(add);
    c->adamw_step = KERNEL(adamw_step);
    c->moving_average = KERNEL(moving_average);
    c->zero = KERNEL(zero);
    c->sum_in_order = KERNEL(sum_in_order);
    c->sum_of_squares = KERNEL(sum_of_squares);
    cpu_state(c)->kernels[c->precision] = (struct kernels)
    {
        .add_row_sums = KERNEL(add_row_sums), .add_bias = KERNEL(add_bias),
        .narrow_convolution_fits = KERNEL(narrow_convolution_fits),
        .narrow_convolution = KERNEL(narrow_convolution),
        .narrow_gradient_fits = KERNEL(narrow_gradient_fits),
        .narrow_convolution_gradient = KERNEL(narrow_convolution_gradient),
#if defined(__AMX_BF16__)
        .linear_weight_gradient = KERNEL(tile_linear_weight_gradient),
        .fused_convolution_fits = KERNEL(tile_convolution_fits),
        .fused_convolution_forward = KERNEL(tile_convolution_forward),
        .fused_convolution_input_gradient = KERNEL(tile_convolution_input_gradient),
        .fused_convolution_weight_gradient = KERNEL(tile_convolution_weight_gradient),
#else
        .fused_convolution_fits = KERNEL(winograd_fits),
        .fused_convolution_forward = KERNEL(winograd_forward),
        .fused_convolution_input_gradient = KERNEL(winograd_input_gradient),
        .fused_convolution_weight_gradient = KERNEL(winograd_weight_gradient),
#endif
        .norm_input_gradient = KERNEL(norm_input_gradient),
    };
}
