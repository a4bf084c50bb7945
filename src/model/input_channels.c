#include "model/input_channels.h"

#include <string.h>

int reads_the_image(const struct parameter *parameter)
{
    static const char *const names[] = {"backbone.swinViT.patch_embed.proj.weight",
                                        "backbone.encoder1.layer.conv1.conv.weight",
                                        "backbone.encoder1.layer.conv3.conv.weight"};
    int found = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        found |= strcmp(parameter->name, names[i]) == 0;
    }
    return found;
}

void repeat_input_channel(float *out, const float *inp, size_t outputs, size_t taps, int channels)
{
    for (size_t o = 0; o < outputs; o++) {
        for (size_t channel = 0; channel < (size_t)channels; channel++) {
            for (size_t tap = 0; tap < taps; tap++) {
                out[(o * (size_t)channels + channel) * taps + tap] = inp[o * taps + tap] / (float)channels;
            }
        }
    }
}
