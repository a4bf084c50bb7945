#include "train/step_crops.h"

#include "base/error.h"

static size_t voxel_bytes(const struct batch *batch)
{
    const size_t side = (size_t)batch->roi;
    return (size_t)batch->volumes * (size_t)(batch->crops + batch->bases) * side * side * side * sizeof(real);
}

/* On an arena without anything else: the same places each time. */
static int push_buffers(struct train_step *step)
{
    struct travelling_crops *crops = &step->crops;
    for (int k = 0; k < 2 && crops->bytes > 0; k++) {
        crops->buffers[k] = arena_push(&step->arena, crops->bytes);
    }
    return !step->arena.exhausted;
}

void step_crops_alone(struct train_step *step)
{
    arena_reset(&step->arena);
    (void)push_buffers(step);
}

/* Larger buffers; what is in the old ones goes. */
static enum voco_status make_room(struct train_step *step, size_t bytes)
{
    step->compute->wait(step->compute);
    enum voco_status status = copy_queue_wait(&step->copies);
    step->crops = (struct travelling_crops){.bytes = bytes};
    arena_reset(&step->arena);
    if (status == VOCO_OK && !push_buffers(step)) {
        step->crops = (struct travelling_crops){0};
        arena_reset(&step->arena);
        status = fail(VOCO_NO_MEMORY, "the crops of two batches, %zu bytes each, do not fit into the arena",
                      bytes);
    }
    return status;
}

/* The free buffer was read by the step before the one that is computed, which has ended when copies begin:
 * they follow what was asked for before that. */
enum voco_status train_step_bring(struct train_step *step, const struct batch *batch)
{
    struct travelling_crops *crops = &step->crops;
    enum voco_status status = VOCO_OK;
    if (batch == NULL && crops->under_way != NULL) {
        status = copy_queue_wait(&step->copies);
        crops->under_way = NULL;
    }
    if (batch == NULL || !step->compute->separate_memory || batch->roi != step->model->config.roi) {
        return status;
    }
    if (voxel_bytes(batch) > crops->bytes) {
        status = make_room(step, voxel_bytes(batch));
    }
    if (status == VOCO_OK) {
        copy_to_device(&step->copies, crops->buffers[crops->free], batch->voxels, voxel_bytes(batch));
        crops->under_way = batch;
    }
    return status;
}

enum voco_status step_crops_take(struct train_step *step, const struct batch *batch, const real **voxels)
{
    struct travelling_crops *crops = &step->crops;
    enum voco_status status = VOCO_OK;
    *voxels = batch->voxels;
    if (!step->compute->separate_memory) {
        return VOCO_OK;
    }
    *voxels = NULL;
    copies_follow_operations(&step->copies);
    if (crops->under_way != batch) {
        status = train_step_bring(step, batch);
    }
    if (status == VOCO_OK && crops->under_way == batch) {
        operations_follow_copies(&step->copies);
        *voxels = crops->buffers[crops->free];
        crops->free = 1 - crops->free;
        crops->under_way = NULL;
    }
    return status;
}
