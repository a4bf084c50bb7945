/* voco phantom: synthetic torsos, to try everything else without data. */
#include "data/phantom.h"
#include "base/error.h"
#include "base/processors.h"
#include "command_line.h"

#include <stdio.h>

static int run(const struct verb *verb, int argc, char **argv)
{
    struct phantom_dataset dataset = {0};
    int count = 40;
    long long seed = 1;
    const char *size = "160x128x144";
    const char *spacing = "2.8";
    int jobs = processor_count();
    const struct option_description options[] = {
        {"count", OPTION_INT, &count, "N", "how many subjects", 1, 9999},
        {"seed", OPTION_LONG, &seed, "N", "another seed, other subjects", 0, 9e18},
        {"size", OPTION_TEXT, &size, "XxYxZ", "voxels along x, y, z", 0, 0},
        {"spacing", OPTION_TEXT, &spacing, "MM", "mm between voxels: one number or x,y,z", 0, 0},
        {"jobs", OPTION_INT, &jobs, "N", "subjects made at the same time", 1, 256},
        {0},
    };
    const char *folder = NULL;
    int exit_status = exit_ok;
    if (command_line_parse(verb, options, argc, argv, &folder, 1, 1, &exit_status) < 0) {
        return exit_status;
    }
    enum voco_status status = parse_size(dataset.size, size, "size");
    if (status == VOCO_OK) {
        status = parse_spacing(dataset.spacing, spacing, "spacing");
    }
    for (int axis = 0; axis < 3 && status == VOCO_OK; axis++) {
        if (dataset.size[axis] < 8 || dataset.size[axis] > 2048) {
            status = fail(VOCO_BAD_INPUT, "--size %s: each axis must have 8 to 2048 voxels", size);
        }
    }
    if (status != VOCO_OK) {
        (void)report_failure(verb, status);
        return exit_usage;
    }
    dataset.count = count;
    dataset.seed = (uint64_t)seed;
    dataset.jobs = jobs;
    status = phantom_dataset_write(folder, &dataset);
    if (status == VOCO_OK) {
        printf("%d phantoms of %dx%dx%d voxels with %d labelled structures in %s/dataset.json\n", count,
               dataset.size[0], dataset.size[1], dataset.size[2], PHANTOM_STRUCTURES - 1, folder);
    }
    return report_failure(verb, status);
}

const struct verb verb_phantom = {
    .name = "phantom",
    .arguments = "OUT_DIR [options]",
    .summary = "make synthetic torsos with labels, as a MSD data set",
    .details =
        "Writes CT-like volumes in HU (imagesTr), their labels (labelsTr) and dataset.json with a training "
        "and a\n"
        "validation list. The anatomy is consistent; size, place and shape of the organs, habitus, contrast\n"
        "phase and noise vary. The same seed gives the same files.\n",
    .examples = "  voco phantom phantoms\n"
                "  voco phantom phantoms --count 8 --seed 7 --size 256x208x200 --spacing 1.8\n",
    .run = run,
};
