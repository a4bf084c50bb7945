#include "train/drop.h"

#include "base/philox.h"

static real draw(const struct drop *drop, const struct random_key *key, uint32_t index)
{
    return random_uniform(key, index) < drop->rate ? 0 : (real)(1 / (1 - drop->rate));
}

void drop_mask(real *mask, const struct drop *drop, uint64_t step, size_t first_row, size_t rows,
               size_t width)
{
    struct random_key key = {.seed = drop->seed, .step = step, .purpose = RANDOM_DROP};
    for (size_t row = 0; row < rows; row++) {
        key.sample = (uint32_t)(first_row + row);
        const real of_row = drop->mode == DROP_CROP ? draw(drop, &key, 0) : 1;
        for (size_t column = 0; column < width; column++) {
            mask[row * width + column] =
                drop->mode == DROP_FEATURE ? draw(drop, &key, (uint32_t)column) : of_row;
        }
    }
}
