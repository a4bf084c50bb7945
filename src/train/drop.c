#include "train/drop.h"

#include "base/philox.h"

#include <string.h>

void drop_apply(real *out, const real *inp, const struct drop *drop, uint64_t step, size_t rows, size_t width)
{
    drop_apply_rows(out, inp, drop, step, 0, rows, width);
}

void drop_apply_rows(real *out, const real *inp, const struct drop *drop, uint64_t step, size_t first_row,
                     size_t rows, size_t width)
{
    if (drop->mode == DROP_NONE) {
        memmove(out, inp, rows * width * sizeof *out);
        return;
    }
    const real scale = (real)(1 / (1 - drop->rate));
    struct random_key key = {.seed = drop->seed, .step = step, .purpose = RANDOM_DROP};
    for (size_t row = 0; row < rows; row++) {
        key.sample = (uint32_t)(first_row + row);
        for (size_t column = 0; column < width; column++) {
            const uint32_t index = drop->mode == DROP_CROP ? 0 : (uint32_t)column;
            const int dropped = random_uniform(&key, index) < drop->rate;
            const size_t e = row * width + column;
            out[e] = dropped ? 0 : scale * inp[e];
        }
    }
}
