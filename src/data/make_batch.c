#include "data/make_batch.h"

#include "base/error.h"
#include "store/volume_cache.h"

#include <stdlib.h>

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
    if (source->part_first < 0 || source->part_volumes < 0 ||
        source->part_first + source->part_volumes > source->volumes) {
        return fail(VOCO_BAD_INPUT, "volumes %d to %d are not within a batch of %d", source->part_first,
                    source->part_first + source->part_volumes - 1, source->volumes);
    }
    return sampling_check(&source->sampling);
}

static int own_volumes(const struct batch_source *source)
{
    return source->part_volumes > 0 ? source->part_volumes : source->volumes;
}

uint64_t batch_source_crop_bytes(const struct batch_source *source)
{
    const struct sampling *sampling = &source->sampling;
    const size_t of_volume = (size_t)sampling->crops + (size_t)sampling_bases(sampling);
    return crops_bytes(source->form, (size_t)own_volumes(source) * of_volume, sampling->roi);
}

uint64_t batch_source_bytes(const struct batch_source *source)
{
    const uint64_t crops = (uint64_t)source->sampling.crops;
    const uint64_t pairs =
        (uint64_t)own_volumes(source) * crops * (uint64_t)sampling_bases(&source->sampling);
    return batch_source_crop_bytes(source) + pairs * sizeof(float);
}

enum voco_status batch_source_create_batch(struct batch *batch, const struct batch_source *source)
{
    return batch_create_in(batch, &source->memory, source->form, own_volumes(source), source->sampling.crops,
                           sampling_bases(&source->sampling), source->sampling.roi);
}

void batch_maker_free(struct batch_maker *maker)
{
    epoch_order_free(&maker->order);
    window_reader_close(maker->reader);
    *maker = (struct batch_maker){0};
}

/* A volume of the batch, opened, its crops drawn. */
struct sample {
    const struct shard *shard; /* NULL: none */
    struct shard own;          /* opened for the sample; else the source had it open */
    const void *array;         /* what stands for the array in the cache of chunks */
    struct wanted_crop *crops; /* (S + K) */
};

static void sample_close(struct sample *sample)
{
    if (sample->shard == &sample->own) {
        shard_close(&sample->own);
    }
    sample->shard = NULL;
}

/* Array number `volume` of the source. */
static enum voco_status sample_open(struct sample *sample, const struct batch_source *source, uint32_t volume)
{
    if (source->shards != NULL) {
        sample->shard = &source->shards[volume];
        sample->array = sample->shard;
        return VOCO_OK;
    }
    const enum voco_status status = cached_array_open(&sample->own, source->paths[volume]);
    if (status == VOCO_OK) {
        sample->shard = &sample->own;
        sample->array = source->paths[volume];
    }
    return status;
}

/* Where the window of a sample lies, and what is drawn for its crops. */
struct window {
    int start[3];
    float scale; /* of what is stored */
    const struct augmentation *augmentation;
    const struct random_key *place;
};

/* Crop `crop` of the volume's S + K, at `corner` (x, y) of the window, to place `index` of the batch. */
static struct wanted_crop want(struct batch *out, size_t index, const struct window *window,
                               const int corner[2], int crop)
{
    const int *start = window->start;
    const struct crop_change change = draw_crop_change(window->augmentation, window->place, crop);
    const struct crop_transform transform = crop_transform_of(&change, window->scale, out->roi);
    if (out->form != VOXELS_FLOAT) {
        out->transforms[index] = transform;
    }
    return (struct wanted_crop){.start = {start[0] + corner[0], start[1] + corner[1], start[2]},
                                .form = out->form,
                                .out = batch_crop(out, index),
                                .transform = transform};
}

/* Volume `index` of the batch: its S random crops with their labels, then its K bases. */
static void draw_crops(struct sample *sample, struct batch *out, int index, const struct sampling *sampling,
                       const struct augmentation *augmentation, const struct random_key *place)
{
    struct window window = {
        .scale = 1.0F / (float)sample->shard->levels, .augmentation = augmentation, .place = place};
    int corner[2];
    random_window_start(window.start, sample->shard->size, sampling, place);
    for (int crop = 0; crop < out->crops; crop++) {
        const size_t at = batch_random_index(out, index, crop);
        random_crop_start(corner, sampling, place, crop);
        position_label(out->labels + at * (size_t)out->bases, corner, sampling);
        sample->crops[crop] = want(out, at, &window, corner, crop);
    }
    for (int base = 0; base < out->bases; base++) {
        const int crop = out->crops + base;
        base_crop_start(corner, sampling, base);
        sample->crops[crop] = want(out, batch_base_index(out, index, base), &window, corner, crop);
    }
}

/* Opens the volume, draws its crops and asks the system for the chunks they need. */
static enum voco_status begin_sample(struct sample *sample, struct batch *out, int index,
                                     const struct batch_source *source, uint32_t volume,
                                     const struct augmentation *augmentation, const struct random_key *place)
{
    const enum voco_status status = sample_open(sample, source, volume);
    if (status != VOCO_OK) {
        return status;
    }
    int size[3];
    sampling_window_size(size, &source->sampling);
    const int *has = sample->shard->size;
    if (has[0] < size[0] || has[1] < size[1] || has[2] < size[2]) {
        return fail(VOCO_BAD_INPUT,
                    "%s: a volume of %d x %d x %d voxels does not hold a window of %d x %d x %d",
                    source->shards != NULL ? sample->shard->name : source->paths[volume], has[0], has[1],
                    has[2], size[0], size[1], size[2]);
    }
    if (stored_voxel_bytes(sample->shard->levels) > voxel_form_bytes(out->form)) {
        return fail(VOCO_BAD_INPUT, "%s: a volume of 16 bits a voxel among those that have 8 at most",
                    source->shards != NULL ? sample->shard->name : source->paths[volume]);
    }
    draw_crops(sample, out, index, &source->sampling, augmentation, place);
    window_prefetch(sample->shard, sample->crops, out->crops + out->bases, out->roi);
    return VOCO_OK;
}

static enum voco_status finish_sample(struct sample *sample, const struct batch *out,
                                      const struct batch_source *source, struct batch_maker *maker)
{
    const enum voco_status status =
        window_read(maker->reader, sample->shard, sample->crops, out->crops + out->bases, out->roi,
                    source->chunks, sample->array);
    sample_close(sample);
    return status;
}

/* Which volume is number v of a batch, and the place of its draws. */
struct batch_choice {
    const struct augmentation *augmentation;
    uint64_t step;         /* of training; of an evaluation the draw */
    const size_t *volumes; /* of an evaluation; NULL: the shuffled ones of the step */
};

static enum voco_status choose(uint32_t *volume, struct random_key *place, const struct batch_choice *choice,
                               int v, const struct batch_source *source, struct batch_maker *maker)
{
    const int number = source->part_first + v;
    *place = (struct random_key){.seed = source->seed, .step = choice->step, .sample = (uint32_t)number};
    if (choice->volumes != NULL) {
        *volume = (uint32_t)choice->volumes[v];
        place->sample = *volume;
        return VOCO_OK;
    }
    const uint64_t sample = choice->step * (uint64_t)source->volumes + (uint64_t)number;
    return shuffled_volume(volume, &maker->order, source->seed, sample, (uint32_t)source->count);
}

/* One volume ahead: the system reads the next one's chunks while this one's are decoded. */
static enum voco_status fill(struct batch *out, const struct batch_source *source, struct batch_maker *maker,
                             const struct batch_choice *choice)
{
    enum voco_status status = maker->reader != NULL ? VOCO_OK : window_reader_open(&maker->reader);
    if (status != VOCO_OK) {
        return status;
    }
    const size_t crops = (size_t)out->crops + (size_t)out->bases;
    struct wanted_crop *wanted = calloc(2 * crops, sizeof *wanted);
    if (wanted == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for the places of %zu crops", crops);
    }
    struct sample samples[2] = {{.crops = wanted}, {.crops = wanted + crops}};
    for (int v = 0; status == VOCO_OK && v <= out->volumes; v++) {
        if (v < out->volumes) {
            uint32_t volume = 0;
            struct random_key place;
            status = choose(&volume, &place, choice, v, source, maker);
            if (status == VOCO_OK) {
                status = begin_sample(&samples[v % 2], out, v, source, volume, choice->augmentation, &place);
            }
        }
        if (status == VOCO_OK && v > 0) {
            status = finish_sample(&samples[(v - 1) % 2], out, source, maker);
        }
    }
    sample_close(&samples[0]);
    sample_close(&samples[1]);
    free(wanted);
    return status;
}

enum voco_status make_batch(struct batch *out, const struct batch_source *source, struct batch_maker *maker,
                            uint64_t step)
{
    const struct batch_choice choice = {.augmentation = &source->augmentation, .step = step};
    return fill(out, source, maker, &choice);
}

enum voco_status make_evaluation_batch(struct batch *out, const struct batch_source *source,
                                       struct batch_maker *maker, const size_t *volumes, uint64_t draw)
{
    const struct batch_choice choice = {.augmentation = &augmentation_none, .step = draw, .volumes = volumes};
    return fill(out, source, maker, &choice);
}
