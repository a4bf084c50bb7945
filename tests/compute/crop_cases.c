#include "case_list.h"

#include "tensors.h"

#include <stddef.h>

/* All flips, of crops that are turned and that are not, where there are 16 and more. */
struct stored_crops {
    int n, side, voxel_bytes;
};

/* Bits 0 to 2 of k are flips, bit 3 is a turn. */
static struct crop_transform transform_of(int k, int side)
{
    const int plane = side * side, turned = k >> 3 & 1;
    struct crop_transform t = {.step = {turned ? side : plane, turned ? plane : side, 1},
                               .scale = 1.0F / (float)(200 + k),
                               .shift = 0.01F * (float)(k % 5 - 2)};
    for (int axis = 0; axis < 3; axis++) {
        if (k >> axis & 1) {
            t.origin += (side - 1) * t.step[axis];
            t.step[axis] = -t.step[axis];
        }
    }
    return t;
}

static void transform(struct compute *c, const void *chosen, struct results *r)
{
    const struct stored_crops *s = chosen;
    const size_t count = (size_t)s->n * s->side * s->side * s->side, bytes = count * s->voxel_bytes;
    const size_t transform_bytes = s->n * sizeof(struct crop_transform);
    unsigned char *voxels = (unsigned char *)filled_tensor(bytes / sizeof(real) + 1, 0);
    struct crop_transform *transforms =
        (struct crop_transform *)filled_tensor(transform_bytes / sizeof(real), 0);
    for (size_t k = 0; k < bytes; k++) {
        voxels[k] = (unsigned char)(k * 2654435761U >> 13);
    }
    for (int k = 0; k < s->n; k++) {
        transforms[k] = transform_of(k, s->side);
    }
    const void *stored = given_bytes(r, voxels, bytes);
    const struct crop_transform *given = given_bytes(r, transforms, transform_bytes);
    c->transform_crops(c, new_result(r, "crops", count, 77), stored, s->voxel_bytes, given, s->n, s->side);
}

static int has_transform_crops(const struct compute *c)
{
    return c->transform_crops != NULL;
}

void list_crop_cases(struct case_list *list)
{
    static const struct stored_crops shapes[] = {
        {1, 1, 1},  {17, 5, 1}, {16, 8, 1},  {19, 7, 2},  {16, 12, 2},
        {3, 33, 1}, {2, 64, 1}, {44, 64, 1}, {16, 48, 2},
    };
    enum { first_large = 7 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct stored_crops *s = &shapes[i];
        struct operation_case *it = append_case(list, "crops", transform, s,
                                                4.0 * s->n * s->side * s->side * s->side, i >= first_large);
        name_case(it, "%d stored crops of %d^3, %d bits", s->n, s->side, 8 * s->voxel_bytes);
        it->is_there = has_transform_crops;
    }
}
