/* voco prepare: one volume as the network will see it. */
#include "volume/prepare.h"
#include "base/error.h"
#include "command_line.h"
#include "volume/nifti.h"

#include <stdio.h>
#include <string.h>

static int is_nifti_name(const char *path)
{
    const size_t length = strlen(path);
    return (length > 4 && strcmp(path + length - 4, ".nii") == 0) ||
           (length > 7 && strcmp(path + length - 7, ".nii.gz") == 0);
}

static void describe(const char *path, const struct volume *volume)
{
    const size_t count = volume_count(volume);
    size_t foreground = 0;
    float least = volume->data[0];
    float most = volume->data[0];
    for (size_t i = 0; i < count; i++) {
        const float value = volume->data[i];
        foreground += value > 0;
        least = value < least ? value : least;
        most = value > most ? value : most;
    }
    printf("%s: %dx%dx%d voxels of %gx%gx%g mm, RAS, values %.3g to %.3g, %.1f%% foreground\n", path,
           volume->size[0], volume->size[1], volume->size[2], volume->spacing[0], volume->spacing[1],
           volume->spacing[2], (double)least, (double)most, 100.0 * (double)foreground / (double)count);
}

static enum voco_status read_arguments(struct preset *preset, const char *name, const char *spacing,
                                       const char *window, const char *out)
{
    enum voco_status status = preset_from_name(preset, name);
    if (status == VOCO_OK && spacing != NULL) {
        status = parse_spacing(preset->spacing, spacing, "spacing");
    }
    if (status == VOCO_OK && window != NULL) {
        status = parse_hu_window(&preset->low, &preset->high, window, "window");
        preset->intensity = INTENSITY_WINDOW;
    }
    if (status == VOCO_OK && !is_nifti_name(out)) {
        status = fail(VOCO_BAD_INPUT, "%s: the name to write must end with .nii or .nii.gz", out);
    }
    return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
    const char *name = "abdomen";
    const char *spacing = NULL;
    const char *window = NULL;
    int roi = 64;
    const struct option_description options[] = {
        {"preset", OPTION_TEXT, &name, "abdomen|chest|headneck|mr", "how (see above)", 0, 0},
        {"roi", OPTION_INT, &roi, "R", "pad with zeros to at least RxRxR voxels", 1, 1024},
        {"spacing", OPTION_TEXT, &spacing, "MM", "instead of the preset's: one number or x,y,z", 0, 0},
        {"window", OPTION_TEXT, &window, "LOW,HIGH", "instead of the preset's intensities: this HU window", 0,
         0},
        {0},
    };
    const char *paths[2] = {NULL, NULL};
    int exit_status = exit_ok;
    if (command_line_parse(verb, options, argc, argv, paths, 2, 2, &exit_status) < 0) {
        return exit_status;
    }
    struct preset preset;
    enum voco_status status = read_arguments(&preset, name, spacing, window, paths[1]);
    if (status != VOCO_OK) {
        (void)report_failure(verb, status);
        return exit_usage;
    }
    struct volume volume = {0};
    status = prepare_volume(&volume, paths[0], &preset, (const int[3]){roi, roi, roi});
    if (status == VOCO_OK) {
        status = nifti_write(paths[1], volume.size, volume.affine, NIFTI_FLOAT32, volume.data);
    }
    if (status == VOCO_OK) {
        describe(paths[1], &volume);
    }
    volume_free(&volume);
    return report_failure(verb, status);
}

const struct verb verb_prepare = {
    .name = "prepare",
    .arguments = "FILE OUT.nii.gz [options]",
    .summary = "write one volume as the network will see it",
    .details = "Reads a NIfTI file, turns it to RAS, resamples it to the preset's spacing, scales its "
               "intensities to\n"
               "[0, 1], crops it to the foreground and pads it to RxRxR voxels at least. The result lies in "
               "the same\n"
               "place of the world, so a viewer shows it over the original.\n"
               "\n"
               "  abdomen   1.5 mm, HU -175 .. 250         headneck  1.5 mm, HU -175 .. 250\n"
               "  chest     1.25 x 1.25 x 5 mm, HU -1000 .. 500\n"
               "  mr        1.5 mm, the 0.5 to the 99.5 percentile of the foreground\n",
    .examples = "  voco prepare case.nii.gz seen.nii.gz\n"
                "  voco prepare case.nii.gz seen.nii.gz --preset chest --roi 96\n",
    .run = run,
};
