#include "train/step_arithmetic.h"

#include "compute/operation_arithmetic.h"

enum { stages = 4 };

/* A forward pass, the gradient of the weights, and that of the input unless nobody reads it. */
static double conv_passes(int n, int side, int in_channels, int out_channels, int kernel, int passes)
{
    const struct conv3d_shape shape = {.n = n,
                                       .d = side,
                                       .h = side,
                                       .w = side,
                                       .in_channels = in_channels,
                                       .out_channels = out_channels,
                                       .kernel = kernel,
                                       .stride = kernel == 2 ? 2 : 1};
    return passes * conv3d_flops(&shape);
}

/* Between equal channels, where the residual is the input itself. */
static double residual_block(int n, int side, int channels)
{
    return 2 * conv_passes(n, side, channels, channels, 3, 3);
}

/* encoder1 takes the crop: one channel, and its gradient is of no use. */
static double first_residual_block(int n, int side, int channels)
{
    return conv_passes(n, side, 1, channels, 3, 2) + conv_passes(n, side, channels, channels, 3, 3) +
           conv_passes(n, side, 1, channels, 1, 2);
}

static double swin_linears(size_t rows, int channels)
{
    return 3 * (linear_flops(rows, channels, 3 * channels) + linear_flops(rows, channels, channels) +
                2 * linear_flops(rows, channels, 4 * channels));
}

static double swin_attention(int n, int side, int channels)
{
    struct attention_shape shape = {
        .n = n, .d = side, .h = side, .w = side, .heads = 1, .head_dim = channels};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(side, 0, &shape.window[axis], &shape.shift[axis]);
    }
    return (attention_forward_products + attention_backward_products) * attention_product_flops(&shape);
}

static double projector(int crops, const struct model_config *config)
{
    const size_t rows = (size_t)crops;
    const int width = config->projector;
    return linear_flops(rows, model_embedding_size(config), width) + 2 * linear_flops(rows, width, width);
}

struct step_arithmetic step_arithmetic_of(const struct model_config *config, int crops)
{
    const int c = config->feature_size;
    struct step_arithmetic sum = {
        .convolution =
            first_residual_block(crops, config->roi, c) + conv_passes(crops, config->roi, 1, c, 2, 2),
        .projectors = (3 + 1) * projector(crops, config),
    };
    int side = config->roi / 2;
    for (int l = 0; l < stages; l++) {
        const int channels = c << l, merged = (side + 1) / 2;
        const size_t tokens = (size_t)crops * (size_t)side * (size_t)side * (size_t)side;
        /* The stage's own block and, but for the last stage, the encoder of the hidden state that goes into
         * it. */
        sum.convolution += (l < stages - 1 ? 2 : 1) * residual_block(crops, side, channels);
        sum.linear += 2 * swin_linears(tokens, channels);
        sum.linear += 3 * linear_flops((size_t)crops * (size_t)merged * (size_t)merged * (size_t)merged,
                                       8 * channels, 2 * channels);
        sum.attention += 2 * swin_attention(crops, side, channels);
        side = merged;
    }
    sum.convolution += residual_block(crops, side, c << stages); /* encoder10 */
    return sum;
}

double step_arithmetic_sum(const struct step_arithmetic *arithmetic)
{
    return arithmetic->convolution + arithmetic->linear + arithmetic->attention + arithmetic->projectors;
}
