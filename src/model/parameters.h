/* The table of parameters: names as in the published checkpoints (voco.md section 2), shapes, places in one flat buffer.
 *
 * All parameters of a model live in one array of `real`; so do their gradients and each optimiser moment, at the same
 * offsets. The order is backbone, student, teacher: [0, trained) is what the optimiser touches. Each parameter
 * starts at a multiple of 16 elements; the elements between are zero and stay so. */
#ifndef MODEL_PARAMETERS_H
#define MODEL_PARAMETERS_H

#include "compute/compute.h"

#include <stddef.h>
#include <stdint.h>

enum { parameter_max_rank = 5 };

struct model_config {
    int feature_size; /* C, a multiple of 3 */
    int roi;          /* R, voxels an axis of a crop: 48 or more, a multiple of 16 */
    int projector;    /* D, width of the projectors */
    enum patch_merging patch_merging;
};

/* Checks the numbers; VOCO_BAD_INPUT says which is wrong. */
enum voco_status model_config_check(const struct model_config *config);

/* "legacy", "fixed", "v2" */
const char *patch_merging_name(enum patch_merging order);
enum voco_status patch_merging_from_name(enum patch_merging *order, const char *name);

enum parameter_group { GROUP_BACKBONE, GROUP_STUDENT, GROUP_TEACHER };

/* voco.md section 2, "Initialisation" */
enum parameter_init {
    INIT_UNIFORM,          /* U(-bound, bound), bound = 1 / sqrt(fan_in) */
    INIT_TRUNCATED_NORMAL, /* std 0.02, cut at -2 and 2 */
    INIT_ONE,
    INIT_ZERO,
};

struct parameter {
    char name[88];
    int rank;
    int64_t shape[parameter_max_rank];
    size_t offset; /* elements */
    size_t count;
    enum parameter_group group;
    enum parameter_init init;
    double bound; /* of INIT_UNIFORM */
};

struct parameter_table {
    struct parameter *entries;
    int count;
    size_t total;    /* elements of a flat buffer, padding included */
    size_t trained;  /* elements of backbone and student */
    size_t backbone; /* elements of the backbone */
    size_t teacher_distance; /* a teacher parameter's offset - its student twin's offset; the same for all */
};

enum voco_status parameter_table_create(struct parameter_table *table, const struct model_config *config);
void parameter_table_free(struct parameter_table *table);

/* NULL when there is none of that name. */
const struct parameter *parameter_find(const struct parameter_table *table, const char *name);

/* Elements without padding, of all groups up to and including `last`. */
size_t parameter_elements(const struct parameter_table *table, enum parameter_group last);

/* Draws every parameter anew (counter-based: parameter i's element j depends on seed, i, j alone); padding is zeroed. */
void parameters_initialise(real *values, const struct parameter_table *table, uint64_t seed);

#endif
