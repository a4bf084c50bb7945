#include "volume/prepare.h"

#include "base/error.h"
#include "volume/foreground.h"
#include "volume/intensity.h"
#include "volume/orientation.h"
#include "volume/resample_general.h"
#include "volume/resample_stream.h"
#include "volume/resampling_plan.h"
#include "volume/rows.h"

#include <stdlib.h>
#include <string.h>

static const struct preset presets[] = {
    {"abdomen", {1.5, 1.5, 1.5}, -175, 250, INTENSITY_WINDOW, WINDOW_CROP},
    {"chest", {1.25, 1.25, 5.0}, -1000, 500, INTENSITY_WINDOW, WINDOW_CROP},
    {"headneck", {1.5, 1.5, 1.5}, -175, 250, INTENSITY_WINDOW, WINDOW_RESIZE},
    {"mr", {1.5, 1.5, 1.5}, 0, 0, INTENSITY_ZSCORE, WINDOW_RESIZE},
};

enum voco_status preset_from_name(struct preset *preset, const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *preset = presets[i];
            return VOCO_OK;
        }
    }
    return fail(VOCO_BAD_INPUT, "there is no preset %s; there are abdomen, chest, headneck and mr", name);
}

/* One preparation on its way. Voxels stay in the order of the file's axes, flipped where these run against
 * RAS: index i on file axis a is index i on axis frame.world_axis[a] of the plan. */
struct preparation {
    const struct preset *preset;
    int levels, threads;
    struct voxel_reader reader;
    struct ras_frame frame;
    struct resampling_plan plan;
    int size[3]; /* resampled, file order */
    size_t voxels;
    void *out;            /* owned; floats until they are quantised */
    int first[3], end[3]; /* foreground, file order */
};

static enum voco_status take_memory(struct preparation *p, size_t voxel_bytes)
{
    p->out = malloc(p->voxels * voxel_bytes);
    return p->out != NULL ? VOCO_OK
                          : fail(VOCO_NO_MEMORY, "%s: no memory for %zu voxels",
                                 voxel_reader_name(&p->reader), p->voxels);
}

static enum voco_status open_preparation(struct preparation *p, const char *path)
{
    enum voco_status status = voxel_reader_open(&p->reader, path);
    if (status != VOCO_OK) {
        return status;
    }
    const struct nifti_info *info = &p->reader.header.info;
    find_ras_frame(&p->frame, info->size, info->affine);
    status = plan_resampling(&p->plan, p->frame.size, p->frame.affine, p->preset->spacing);
    if (status != VOCO_OK) {
        return add_context(status, "%s", path);
    }
    p->voxels = 1;
    for (int axis = 0; axis < 3; axis++) {
        p->size[axis] = p->plan.size[p->frame.world_axis[axis]];
        p->voxels *= (size_t)p->size[axis];
    }
    return VOCO_OK;
}

/* Whether intensities are scaled and quantised voxel by voxel as they are interpolated. */
static int is_one_pass(const struct preparation *p)
{
    return p->plan.along_axes && p->preset->intensity == INTENSITY_WINDOW;
}

static enum voco_status resample_along_axes(struct preparation *p)
{
    const int one_pass = is_one_pass(p);
    const int levels = one_pass ? p->levels : 0;
    struct axis_places places[3] = {{0}};
    enum voco_status status = take_memory(p, levels == 0 ? sizeof(float) : stored_voxel_bytes(levels));
    for (int axis = 0; axis < 3 && status == VOCO_OK; axis++) {
        const int world = p->frame.world_axis[axis];
        if (!axis_places_make(&places[axis], p->size[axis], p->frame.size[world], p->plan.step[world],
                              p->plan.offset[world], p->frame.sign[axis] < 0)) {
            status = fail(VOCO_NO_MEMORY, "%s: out of memory", voxel_reader_name(&p->reader));
        }
    }
    if (status == VOCO_OK) {
        const struct stream_job job = {.places = places,
                                       .windowed = one_pass,
                                       .low = (float)p->preset->low,
                                       .width = (float)(p->preset->high - p->preset->low),
                                       .levels = levels,
                                       .threads = p->threads};
        status = resample_stream(p->out, p->first, p->end, &p->reader, &job);
    }
    for (int axis = 0; axis < 3; axis++) {
        axis_places_free(&places[axis]);
    }
    return status;
}

static int is_constant(const struct volume *volume)
{
    for (size_t i = 1; i < volume_count(volume); i++) {
        if (volume->data[i] != volume->data[0]) {
            return 0;
        }
    }
    return 1;
}

/* The plan's positions between RAS indices, as positions between indices in the order of the file. */
static void positions_in_file(double position[3][4], const struct preparation *p)
{
    const int *world = p->frame.world_axis;
    for (int axis = 0; axis < 3; axis++) {
        const double *row = p->plan.position[world[axis]];
        const int sign = p->frame.sign[axis];
        for (int out_axis = 0; out_axis < 3; out_axis++) {
            position[axis][out_axis] = sign * row[world[out_axis]];
        }
        position[axis][3] = sign > 0 ? row[3] : p->reader.header.info.size[axis] - 1 - row[3];
    }
}

static enum voco_status resample_sheared(struct preparation *p)
{
    struct volume volume;
    enum voco_status status = voxel_reader_all(&volume, &p->reader);
    if (status != VOCO_OK) {
        return status;
    }
    if (is_constant(&volume)) {
        status = fail(VOCO_BAD_INPUT, "%s: constant: all %zu voxels have the value %g",
                      voxel_reader_name(&p->reader), volume_count(&volume), volume.data[0]);
    } else {
        status = take_memory(p, sizeof(float));
    }
    if (status == VOCO_OK) {
        double position[3][4];
        positions_in_file(position, p);
        resample_general(p->out, p->size, volume.data, volume.size, position, p->threads);
    }
    volume_free(&volume);
    return status;
}

/* Floats to the final precision, in their own memory, front to back. */
static void quantise_in_place(struct preparation *p)
{
    enum { most = 4096 };
    float piece[most];
    const float *from = p->out;
    for (size_t done = 0; done < p->voxels; done += most) {
        const size_t count = p->voxels - done < most ? p->voxels - done : most;
        memcpy(piece, from + done, count * sizeof *piece);
        if (p->levels <= UINT8_MAX) {
            quantise_bytes((uint8_t *)p->out + done, piece, count, p->levels);
        } else {
            quantise_words((uint16_t *)p->out + done, piece, count, p->levels);
        }
    }
    const size_t bytes = p->voxels * stored_voxel_bytes(p->levels);
    void *smaller = bytes > 0 ? realloc(p->out, bytes) : NULL;
    p->out = smaller != NULL ? smaller : p->out;
}

/* What one pass could not do: intensities, foreground, precision. */
static enum voco_status finish_floats(struct preparation *p)
{
    enum voco_status status = VOCO_OK;
    if (p->preset->intensity == INTENSITY_WINDOW) {
        scale_window(p->out, p->voxels, p->preset->low, p->preset->high);
    } else {
        status = scale_mr(p->out, p->voxels);
    }
    if (status != VOCO_OK) {
        return add_context(status, "%s", voxel_reader_name(&p->reader));
    }
    struct volume view = {.data = p->out};
    memcpy(view.size, p->size, sizeof view.size);
    (void)foreground_bounds(p->first, p->end, &view);
    if (p->levels != 0) {
        quantise_in_place(p);
    }
    return VOCO_OK;
}

static enum voco_status check_foreground(const struct preparation *p)
{
    if (p->end[0] > 0) {
        return VOCO_OK;
    }
    const char *name = voxel_reader_name(&p->reader);
    return p->preset->intensity == INTENSITY_WINDOW
               ? fail(VOCO_BAD_INPUT,
                      "%s: no foreground: no voxel is above %g, where the window of preset %s begins", name,
                      p->preset->low, p->preset->name)
               : fail(VOCO_BAD_INPUT, "%s: no foreground", name);
}

/* Cropping and padding are a matter of where the voxels are said to lie. */
static void hand_over(struct prepared_volume *out, struct preparation *p, const int at_least[3])
{
    ptrdiff_t stride = 1;
    *out = (struct prepared_volume){.levels = p->levels, .voxels = p->out, .storage = p->out};
    memcpy(out->spacing, p->plan.spacing, sizeof out->spacing);
    memcpy(out->affine, p->plan.affine, sizeof out->affine);
    for (int axis = 0; axis < 3; axis++) {
        const int world = p->frame.world_axis[axis];
        const int box = p->end[axis] - p->first[axis];
        const int missing = at_least[world] > box ? at_least[world] - box : 0;
        out->box[world] = box;
        out->before[world] = missing / 2;
        out->size[world] = box + missing;
        out->stride[world] = stride;
        out->first += (size_t)p->first[axis] * (size_t)stride;
        stride *= p->size[axis];
        for (int row = 0; row < 3; row++) {
            out->affine[row][3] += (p->first[axis] - out->before[world]) * p->plan.affine[row][world];
        }
    }
    p->out = NULL;
}

enum voco_status prepare_quantised(struct prepared_volume *out, const char *path, const struct preset *preset,
                                   const int at_least[3], int levels, int threads)
{
    struct preparation p = {.preset = preset, .levels = levels, .threads = threads};
    *out = (struct prepared_volume){0};
    enum voco_status status = open_preparation(&p, path);
    if (status == VOCO_OK) {
        status = p.plan.along_axes ? resample_along_axes(&p) : resample_sheared(&p);
    }
    if (status == VOCO_OK && !is_one_pass(&p)) {
        status = finish_floats(&p);
    }
    if (status == VOCO_OK) {
        status = check_foreground(&p);
    }
    if (status == VOCO_OK) {
        hand_over(out, &p, at_least);
    }
    free(p.out);
    voxel_reader_close(&p.reader);
    return status;
}

/* The rows of x of a few z at a time, so that lines stay in the cache where x is not the fastest axis. */
static void copy_box(struct volume *out, const struct prepared_volume *prepared)
{
    enum { tile = 16 };
    const ptrdiff_t *stride = prepared->stride;
    const float *voxels = (const float *)prepared->voxels + prepared->first;
    for (int tile_start = 0; tile_start < prepared->box[2]; tile_start += tile) {
        const int tile_end = tile_start + tile < prepared->box[2] ? tile_start + tile : prepared->box[2];
        for (int y = 0; y < prepared->box[1]; y++) {
            for (int z = tile_start; z < tile_end; z++) {
                const float *from = voxels + y * stride[1] + z * stride[2];
                const size_t line = (size_t)(z + prepared->before[2]) * (size_t)out->size[1] +
                                    (size_t)(y + prepared->before[1]);
                float *row = out->data + line * (size_t)out->size[0] + prepared->before[0];
                for (int x = 0; x < prepared->box[0]; x++) {
                    row[x] = from[x * stride[0]];
                }
            }
        }
    }
}

enum voco_status prepare_volume(struct volume *out, const char *path, const struct preset *preset,
                                const int at_least[3])
{
    *out = (struct volume){0};
    struct prepared_volume prepared;
    const enum voco_status status = prepare_quantised(&prepared, path, preset, at_least, 0, 1);
    if (status != VOCO_OK) {
        return status;
    }
    memcpy(out->size, prepared.size, sizeof out->size);
    memcpy(out->spacing, prepared.spacing, sizeof out->spacing);
    memcpy(out->affine, prepared.affine, sizeof out->affine);
    out->data = calloc(volume_count(out), sizeof *out->data);
    if (out->data != NULL) {
        copy_box(out, &prepared);
    }
    prepared_volume_free(&prepared);
    if (out->data == NULL) {
        const size_t count = volume_count(out);
        volume_free(out);
        return fail(VOCO_NO_MEMORY, "%s: no memory for %zu voxels", path, count);
    }
    return VOCO_OK;
}
