#include "train/step_crops.h"

#include "base/error.h"

static size_t voxel_count(const struct batch *batch)
{
    const size_t side = (size_t)batch->roi;
    return batch_crop_count(batch) * side * side * side;
}

/* On an arena without anything else: the same places each time. */
static int push_buffers(struct train_step *step)
{
    struct travelling_crops *crops = &step->crops;
    crops->landed = crops->bytes > 0 ? arena_push(&step->arena, crops->bytes) : NULL;
    crops->voxels = crops->count > 0 ? arena_push(&step->arena, crops->count * sizeof(real)) : NULL;
    return !step->arena.exhausted;
}

void step_crops_alone(struct train_step *step)
{
    arena_reset(&step->arena);
    (void)push_buffers(step);
}

/* Larger buffers where they must be; then what is in the old ones goes. */
static enum voco_status make_room(struct train_step *step, const struct batch *batch)
{
    struct travelling_crops *crops = &step->crops;
    const size_t count = voxel_count(batch);
    const size_t bytes =
        step->compute->separate_memory ? crops_bytes(batch->form, batch_crop_count(batch), batch->roi) : 0;
    if (bytes <= crops->bytes && count <= crops->count) {
        return VOCO_OK;
    }
    step->compute->wait(step->compute);
    enum voco_status status = copy_queue_wait(&step->copies);
    *crops = (struct travelling_crops){.bytes = bytes > crops->bytes ? bytes : crops->bytes,
                                       .count = count > crops->count ? count : crops->count};
    arena_reset(&step->arena);
    if (status == VOCO_OK && !push_buffers(step)) {
        status =
            fail(VOCO_NO_MEMORY, "the crops of a batch, %zu bytes and %zu voxels, do not fit into the arena",
                 crops->bytes, crops->count);
        *crops = (struct travelling_crops){0};
        arena_reset(&step->arena);
    }
    return status;
}

/* What has landed is made voxels of when its step begins, and copies follow that: the next crops can land
 * while the step is computed. */
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
    status = make_room(step, batch);
    if (status == VOCO_OK) {
        copy_to_device(&step->copies, crops->landed, batch_crop(batch, 0),
                       crops_bytes(batch->form, batch_crop_count(batch), batch->roi));
        crops->under_way = batch;
    }
    return status;
}

/* From the piece of memory that holds the batch's crops where operations can read it. */
static void make_voxels(struct train_step *step, const struct batch *batch, const char *piece)
{
    struct compute *c = step->compute;
    real *voxels = step->crops.voxels;
    if (batch->form == VOXELS_FLOAT) {
        c->copy(c, voxels, piece, voxel_count(batch) * sizeof *voxels);
        return;
    }
    const ptrdiff_t behind = (const char *)batch->transforms - (const char *)batch->stored;
    c->transform_crops(c, voxels, piece, (int)voxel_form_bytes(batch->form),
                       (const struct crop_transform *)(const void *)(piece + behind),
                       (int)batch_crop_count(batch), batch->roi);
}

enum voco_status step_crops_take(struct train_step *step, const struct batch *batch, const real **voxels)
{
    struct travelling_crops *crops = &step->crops;
    const int travels = step->compute->separate_memory;
    *voxels = batch->voxels;
    if (batch->roi != step->model->config.roi || (!travels && batch->form == VOXELS_FLOAT)) {
        return VOCO_OK;
    }
    enum voco_status status = make_room(step, batch);
    if (status == VOCO_OK && travels && crops->under_way != batch) {
        status = train_step_bring(step, batch);
    }
    if (status == VOCO_OK) {
        operations_follow_copies(&step->copies);
        make_voxels(step, batch, travels ? crops->landed : batch->stored);
        copies_follow_operations(&step->copies);
        crops->under_way = NULL;
        *voxels = crops->voxels;
    }
    return status;
}
