/* The useful arithmetic of a training step: the floating-point operations that the method needs (voco.md
 * sections 2 and 3), whatever program takes the step. Forward and backward once, as
 * compute/operation_arithmetic.h counts; nothing that is computed again to save memory, no padding, and no
 * gradient that nobody reads: that of the crops, which the patch embedding and the first residual block
 * (encoder1) would give.
 *
 * Norms, activations, residual sums, the loss and the optimiser are left out, as is usual: together they are
 * below a hundredth of it, and what they cost is memory traffic. */
#ifndef TRAIN_STEP_ARITHMETIC_H
#define TRAIN_STEP_ARITHMETIC_H

#include "model/model.h"

/* Floating-point operations by kind. */
struct step_arithmetic {
    double convolution; /* of the encoder: residual blocks and patch embedding */
    double linear;      /* of the encoder: qkv, proj, MLP, patch merging */
    double attention;   /* scores and weighted values */
    double projectors;  /* student forward and backward, teacher forward */
};

/* Of a step over `crops` crops (N). */
struct step_arithmetic step_arithmetic_of(const struct model_config *config, int crops);

double step_arithmetic_sum(const struct step_arithmetic *arithmetic);

#endif
