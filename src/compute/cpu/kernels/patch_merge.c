#include "compute/cpu/kernels/activation.h"
#include "compute/cpu/kernels/kernels.h"

#include <string.h>

void KERNEL(patch_merge_forward)(struct compute *c, activation *out, const activation *inp,
                                 enum patch_merging order, int n, int d, int h, int w, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const int half_d = (d + 1) / 2, half_h = (h + 1) / 2, half_w = (w + 1) / 2;
    const size_t lines = (size_t)n * half_d * half_h;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t line = 0; line < lines; line++) {
        const int z = (int)(line / half_h % half_d), y = (int)(line % half_h);
        const size_t sample = line / half_h / half_d;
        for (int j = 0; j < 8; j++) {
            int offset[3];
            patch_merging_offset(order, j, offset);
            const int from_d = 2 * z + offset[0], from_h = 2 * y + offset[1];
            for (int x = 0; x < half_w; x++) {
                const int from_w = 2 * x + offset[2];
                activation *to = out + ((line * half_w + x) * 8 + j) * channels;
                if (from_d < d && from_h < h && from_w < w) {
                    memcpy(to, inp + (((sample * d + from_d) * h + from_h) * w + from_w) * channels,
                           channels * sizeof *to);
                } else {
                    memset(to, 0, channels * sizeof *to);
                }
            }
        }
    }
}

/* Each line of input tokens belongs to one line of merged ones, so that threads do not meet. */
void KERNEL(patch_merge_backward)(struct compute *c, activation *dinp, const activation *dout,
                                  enum patch_merging order, int n, int d, int h, int w, int channels)
{
    if (c->status != VOCO_OK) {
        return;
    }
    const int half_d = (d + 1) / 2, half_h = (h + 1) / 2, half_w = (w + 1) / 2;
    const size_t lines = (size_t)n * d * h;
#pragma omp parallel for schedule(static) num_threads(cpu_state(c)->threads)
    for (size_t line = 0; line < lines; line++) {
        const int z = (int)(line / h % d), y = (int)(line % h);
        const size_t sample = line / h / d;
        const size_t merged = ((sample * half_d + z / 2) * half_h + y / 2) * half_w;
        memset(dinp + line * w * channels, 0, (size_t)w * channels * sizeof *dinp);
        for (int j = 0; j < 8; j++) {
            int offset[3];
            patch_merging_offset(order, j, offset);
            if (offset[0] != z % 2 || offset[1] != y % 2) {
                continue;
            }
            for (int x = offset[2]; x < w; x += 2) {
                activation *to = dinp + (line * w + x) * channels;
                const activation *from = dout + ((merged + x / 2) * 8 + j) * channels;
#pragma omp simd
                for (int ch = 0; ch < channels; ch++) {
                    to[ch] = activation_of(float_of(to[ch]) + float_of(from[ch]));
                }
            }
        }
    }
}
