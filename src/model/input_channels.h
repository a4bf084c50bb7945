/* Networks for images of more than one channel.
 *
 * Three weights read the image: swinViT.patch_embed.proj, encoder1's conv1 and conv3. One that was trained on
 * 1 channel is given N by repeating it and dividing by N: on N equal channels the network is then the same
 * function as before, up to rounding. */
#ifndef MODEL_INPUT_CHANNELS_H
#define MODEL_INPUT_CHANNELS_H

#include "model/parameters.h"

enum { most_input_channels = 64 };

/* 1 for a weight (outputs, channels, kernel, kernel, kernel) that reads the image. */
int reads_the_image(const struct parameter *parameter);

/* out (outputs, channels, taps) from inp (outputs, taps), taps = kernel^3. */
void repeat_input_channel(float *out, const float *inp, size_t outputs, size_t taps, int channels);

#endif
