#include "train/plain_step.h"

#include "base/philox.h"

const struct train_step_settings plain_step = {
    .drop = {.mode = DROP_NONE},
    .teacher_decay = 0.9,
    .beta1 = 0.9,
    .beta2 = 0.999,
    .epsilon = 1e-8,
    .weight_decay = 0.01,
    .crops_at_once = 1,
    .activation_budget = 1,
};

void fill_voxels(struct batch *batch)
{
    const struct random_key key = {.seed = 3, .purpose = RANDOM_TEST};
    const size_t side = (size_t)batch->roi, crops = (size_t)batch->volumes * (batch->crops + batch->bases);
    for (size_t v = 0; v < crops * side * side * side; v++) {
        const size_t x = v / (side * side) % side, crop = v / (side * side * side);
        batch->voxels[v] = 0.5F * random_uniform(&key, (uint32_t)v) + 0.01F * (float)(x * (crop + 1) % 50);
    }
}
