#include "data/make_batch.h"

#include "base/error.h"
#include "store/volume_cache.h"

enum voco_status batch_source_check(const struct batch_source *source)
{
    if (source->count == 0) {
        return fail(VOCO_BAD_INPUT, "there is no volume to take crops from");
    }
    if (source->count > UINT32_MAX) {
        return fail(VOCO_BAD_INPUT, "%zu volumes are more than the %u that can be numbered", source->count,
                    UINT32_MAX);
    }
    if (source->volumes < 1) {
        return fail(VOCO_BAD_INPUT, "a batch of %d volumes: it must hold at least 1", source->volumes);
    }
    return sampling_check(&source->sampling);
}

enum voco_status batch_source_create_batch(struct batch *batch, const struct batch_source *source)
{
    return batch_create(batch, source->volumes, source->sampling.crops, sampling_bases(&source->sampling),
                        source->sampling.roi);
}

/* Copies the crop at `corner` (x, y) of the window; `crop` numbers it among the volume's S + K. */
static void take_crop(float *out, const struct cached_volume *volume, const int window[3],
                      const int corner[2], const struct batch_source *source,
                      const struct augmentation *augmentation, const struct random_key *place, int crop)
{
    const struct crop_change change = draw_crop_change(augmentation, place, crop);
    const int start[3] = {window[0] + corner[0], window[1] + corner[1], window[2]};
    copy_crop(out, source->sampling.roi, volume->voxels, volume->size, start, &change);
}

/* Volume `index` of the batch: its S random crops with their labels, then its K bases. */
static enum voco_status take_crops(struct batch *out, int index, const char *path,
                                   const struct batch_source *source, const struct augmentation *augmentation,
                                   const struct random_key *place)
{
    const struct sampling *sampling = &source->sampling;
    struct cached_volume volume;
    enum voco_status status = cached_volume_open(&volume, path);
    if (status != VOCO_OK) {
        return status;
    }
    int size[3];
    sampling_window_size(size, sampling);
    if (volume.size[0] < size[0] || volume.size[1] < size[1] || volume.size[2] < size[2]) {
        status =
            fail(VOCO_BAD_INPUT, "%s: a volume of %d x %d x %d voxels does not hold a window of %d x %d x %d",
                 path, volume.size[0], volume.size[1], volume.size[2], size[0], size[1], size[2]);
        goto done;
    }
    int window[3];
    random_window_start(window, volume.size, sampling, place);
    for (int crop = 0; crop < out->crops; crop++) {
        int corner[2];
        random_crop_start(corner, sampling, place, crop);
        position_label(out->labels + ((size_t)index * (size_t)out->crops + (size_t)crop) * (size_t)out->bases,
                       corner, sampling);
        take_crop(batch_random_crop(out, index, crop), &volume, window, corner, source, augmentation, place,
                  crop);
    }
    for (int base = 0; base < out->bases; base++) {
        int corner[2];
        base_crop_start(corner, sampling, base);
        take_crop(batch_base_crop(out, index, base), &volume, window, corner, source, augmentation, place,
                  out->crops + base);
    }
done:
    cached_volume_close(&volume);
    return status;
}

enum voco_status make_batch(struct batch *out, const struct batch_source *source, struct epoch_order *order,
                            uint64_t step)
{
    for (int v = 0; v < out->volumes; v++) {
        const uint64_t sample = step * (uint64_t)out->volumes + (uint64_t)v;
        uint32_t volume = 0;
        enum voco_status status =
            shuffled_volume(&volume, order, source->seed, sample, (uint32_t)source->count);
        if (status == VOCO_OK) {
            const struct random_key place = {.seed = source->seed, .step = step, .sample = (uint32_t)v};
            status = take_crops(out, v, source->paths[volume], source, &source->augmentation, &place);
        }
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}

enum voco_status make_evaluation_batch(struct batch *out, const struct batch_source *source,
                                       const size_t *volumes, uint64_t draw)
{
    for (int v = 0; v < out->volumes; v++) {
        const struct random_key place = {.seed = source->seed, .step = draw, .sample = (uint32_t)volumes[v]};
        const enum voco_status status =
            take_crops(out, v, source->paths[volumes[v]], source, &augmentation_none, &place);
        if (status != VOCO_OK) {
            return status;
        }
    }
    return VOCO_OK;
}
