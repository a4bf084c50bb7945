#include "data/phantom_shard.h"

#include "base/error.h"
#include "base/team.h"
#include "data/phantom.h"
#include "store/volume_cache.h"
#include "volume/intensity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char name[] = "phantom";

struct drawing {
    const struct phantom_subject *subject;
    const int *size;
    const double *spacing;
    int16_t *hu;
    uint8_t *labels;
};

static void draw_slice(void *context, int item, int member)
{
    const struct drawing *drawing = context;
    const size_t first = (size_t)item * (size_t)drawing->size[0] * (size_t)drawing->size[1];
    (void)member;
    phantom_rasterise_slice(drawing->hu + first, drawing->labels + first, drawing->subject, item,
                            drawing->size, drawing->spacing);
}

/* The volume's intensities as the network sees them. */
static enum voco_status draw(struct volume *volume, const struct phantom_subject *subject,
                             const struct preset *preset, int threads)
{
    const size_t count = volume_count(volume);
    enum voco_status status = VOCO_OK;
    struct drawing drawing = {.subject = subject, .size = volume->size, .spacing = volume->spacing};
    struct team *team = team_gather(threads);
    drawing.hu = malloc(count * sizeof *drawing.hu);
    drawing.labels = malloc(count);
    volume->data = malloc(count * sizeof *volume->data);
    if (team == NULL || drawing.hu == NULL || drawing.labels == NULL || volume->data == NULL) {
        status = fail(VOCO_NO_MEMORY, "no memory for a phantom of %zu voxels", count);
        goto done;
    }
    team_begin(team, volume->size[2], draw_slice, &drawing);
    team_finish(team);
    for (size_t i = 0; i < count; i++) {
        volume->data[i] = (float)drawing.hu[i];
    }
    if (preset->intensity == INTENSITY_ZSCORE) {
        status = scale_mr(volume->data, count);
    } else {
        scale_window(volume->data, count, preset->low, preset->high);
    }
done:
    free(drawing.hu);
    free(drawing.labels);
    team_dismiss(team);
    return status;
}

/* Writes into a file that has no place in any folder, and opens it from there. */
static enum voco_status compress(struct shard *shard, const struct volume *volume, int levels, int threads)
{
    const int file = memfd_create(name, MFD_CLOEXEC);
    if (file < 0) {
        return fail_errno("no memory for a phantom");
    }
    char path[64];
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    const struct prepared_volume prepared = prepared_volume_of(volume);
    enum voco_status status = shard_write(&bytes, path, &prepared, levels, cache_default_level, threads);
    if (status == VOCO_OK) {
        status = shard_open(shard, path, volume->size, levels, name);
    }
    (void)close(file); /* the shard holds it open */
    return status;
}

enum voco_status phantom_shard_open(struct shard *shard, const struct preset *preset, const int size[3],
                                    int levels, uint64_t seed, uint32_t number, int threads)
{
    struct phantom_subject subject;
    struct volume volume = {.size = {size[0], size[1], size[2]}};
    memcpy(volume.spacing, preset->spacing, sizeof volume.spacing);
    phantom_subject_draw(&subject, seed, number);
    enum voco_status status = draw(&volume, &subject, preset, threads);
    if (status == VOCO_OK) {
        status = compress(shard, &volume, levels, threads);
    }
    volume_free(&volume);
    return status;
}
