#include "train/plain_step.h"

#include "base/philox.h"
#include "data/augment.h"

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

void fill_both(struct batch *stored, struct batch *floats)
{
    const struct random_key key = {.seed = 7, .purpose = RANDOM_TEST};
    const size_t side = (size_t)stored->roi, size = side * side * side;
    const size_t bytes = size * voxel_form_bytes(stored->form);
    for (size_t k = 0; k < batch_crop_count(stored); k++) {
        unsigned char *voxels = batch_crop(stored, k);
        const int number = (int)(k % 16);
        const struct crop_change change = {.flip = {number & 1, number >> 1 & 1, number >> 2 & 1},
                                           .quarter_turns = number >> 3,
                                           .shift = 0.03F * (float)(number % 5 - 2)};
        for (size_t v = 0; v < bytes; v++) {
            voxels[v] = (unsigned char)random_below(&key, (uint32_t)(k * bytes + v), 256);
        }
        stored->transforms[k] =
            crop_transform_of(&change, stored->form == VOXELS_8_BITS ? 1.0F / 255 : 1.0F / 65535, (int)side);
        batch_read_crop(batch_crop(floats, k), stored, k);
    }
}
