#include "compute/reference/reference.h"

#include "base/error.h"
#include "compute/host_memory.h"
#include "compute/reference/operations.h"

#include <stdlib.h>

double *zeroed_doubles(struct compute *c, size_t count)
{
    double *doubles = calloc(count > 0 ? count : 1, sizeof *doubles);
    if (doubles == NULL) {
        compute_failed(c, VOCO_NO_MEMORY, "no memory for sums");
    }
    return doubles;
}

static void no_derived_parameters(struct compute *c)
{
    (void)c;
}

enum voco_status reference_compute_open(struct compute *c, enum compute_precision precision)
{
    if (precision != PRECISION_FLOAT32) {
        return fail(VOCO_UNSUPPORTED, "the reference implementation computes in float32 only, not in %s",
                    compute_precision_names[precision]);
    }
    *c = (struct compute){
        .name = "reference",
        .precision = PRECISION_FLOAT32,
        .activation_size = sizeof(activation),
        .activations_from_reals = reference_activations_from_reals,
        .reals_from_activations = reference_reals_from_activations,
        .transform_crops = reference_transform_crops,
        .conv3d_forward = reference_conv3d_forward,
        .conv3d_backward = reference_conv3d_backward,
        .normed_conv3d_forward = reference_normed_conv3d_forward,
        .normed_conv3d_backward = reference_normed_conv3d_backward,
        .normed_conv3d_pair_backward = reference_normed_conv3d_pair_backward,
        .normed_conv3d_work = reference_normed_conv3d_work,
        .linear_forward = reference_linear_forward,
        .linear_backward = reference_linear_backward,
        .linear_gelu_forward = reference_linear_gelu_forward,
        .linear_gelu_backward = reference_linear_gelu_backward,
        .linear_add_forward = reference_linear_add_forward,
        .mlp_forward = reference_mlp_forward,
        .mlp_backward = reference_mlp_backward,
        .mlp_fits = reference_mlp_fits,
        .normed_linear_forward = reference_normed_linear_forward,
        .normed_linear_backward = reference_normed_linear_backward,
        .normed_linear_fits = reference_normed_linear_fits,
        .layer_norm_forward = reference_layer_norm_forward,
        .layer_norm_backward = reference_layer_norm_backward,
        .instance_norm_forward = reference_instance_norm_forward,
        .instance_norm_backward = reference_instance_norm_backward,
        .instance_norm_moments = reference_instance_norm_moments,
        .instance_norm_apply = reference_instance_norm_apply,
        .pooled_norm_forward = reference_pooled_norm_forward,
        .pooled_norm_backward = reference_pooled_norm_backward,
        .channel_scale_forward = reference_channel_scale_forward,
        .channel_scale_backward = reference_channel_scale_backward,
        .window_attention_forward = reference_window_attention_forward,
        .window_attention_backward = reference_window_attention_backward,
        .gelu_forward = reference_gelu_forward,
        .gelu_backward = reference_gelu_backward,
        .patch_merge_forward = reference_patch_merge_forward,
        .patch_merge_backward = reference_patch_merge_backward,
        .add = reference_add,
        .apply_mask = reference_apply_mask,
        .contrast_loss = reference_contrast_loss,
        .adamw_step = reference_adamw_step,
        .moving_average = reference_moving_average,
        .zero = reference_zero,
        .sum_in_order = reference_sum_in_order,
        .sum_of_squares = reference_sum_of_squares,
        .parameters_changed = no_derived_parameters,
    };
    compute_in_host_memory(c);
    return VOCO_OK;
}
