#include "compute/reference/operations.h"

#include <stdint.h>

static const size_t outside = SIZE_MAX;

static int half(int extent)
{
    return (extent + 1) / 2;
}

/* The first input element of neighbour j of output token `token` (over all samples), or `outside`. */
static size_t neighbour(size_t token, int j, enum patch_merging order, int d, int h, int w, int channels)
{
    int offset[3];
    patch_merging_offset(order, j, offset);
    const int x = (int)(token % half(w)) * 2 + offset[2];
    const int y = (int)(token / half(w) % half(h)) * 2 + offset[1];
    const int z = (int)(token / half(w) / half(h) % half(d)) * 2 + offset[0];
    const size_t sample = token / half(w) / half(h) / half(d);
    return z < d && y < h && x < w ? (((sample * d + z) * h + y) * w + x) * channels : outside;
}

void reference_patch_merge_forward(struct compute *c, activation *out, const activation *inp,
                                   enum patch_merging order, int n, int d, int h, int w, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const size_t tokens = (size_t)n * half(d) * half(h) * half(w);
    for (size_t token = 0; token < tokens; token++) {
        for (int j = 0; j < 8; j++) {
            const size_t from = neighbour(token, j, order, d, h, w, channels);
            activation *to = out + (token * 8 + j) * channels;
            for (int ch = 0; ch < channels; ch++) {
                to[ch].value = from == outside ? 0 : inp[from + ch].value;
            }
        }
    }
}

void reference_patch_merge_backward(struct compute *c, activation *dinp, const activation *dout,
                                    enum patch_merging order, int n, int d, int h, int w, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const size_t count = (size_t)n * d * h * w * channels;
    for (size_t k = 0; k < count; k++) {
        dinp[k].value = 0;
    }
    const size_t tokens = (size_t)n * half(d) * half(h) * half(w);
    for (size_t token = 0; token < tokens; token++) {
        for (int j = 0; j < 8; j++) {
            const size_t to = neighbour(token, j, order, d, h, w, channels);
            const activation *from = dout + (token * 8 + j) * channels;
            for (int ch = 0; to != outside && ch < channels; ch++) {
                dinp[to + ch].value += from[ch].value;
            }
        }
    }
}
