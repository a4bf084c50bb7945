#include "compute/reference/operations.h"

#include <stdint.h>

/* Compiled without fused multiply-adds, so that each of the two operations rounds. */
static real transformed(const struct crop_transform *transform, unsigned voxel)
{
    const real product = (real)transform->scale * (real)voxel;
    return product + (real)transform->shift;
}

void reference_transform_crops(struct compute *c, real *out, const void *stored, int voxel_bytes,
                               const struct crop_transform *transforms, int n, int side)
{
    const uint8_t *bytes = stored;
    const uint16_t *words = stored;
    const size_t size = (size_t)side * (size_t)side * (size_t)side;
    for (int i = 0; c->status == VOCO_OK && i < n; i++) {
        const struct crop_transform *t = &transforms[i];
        size_t voxel = (size_t)i * size;
        for (int x = 0; x < side; x++) {
            for (int y = 0; y < side; y++) {
                real *row = out + (size_t)i * size + t->origin + x * t->step[0] + y * t->step[1];
                for (int z = 0; z < side; z++, voxel++) {
                    row[z * t->step[2]] = transformed(t, voxel_bytes == 1 ? bytes[voxel] : words[voxel]);
                }
            }
        }
    }
}
