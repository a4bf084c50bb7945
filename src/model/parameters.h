/* The table of parameters: names as in the published checkpoints (voco.md section 2), shapes, places in one
 * flat buffer.
 *
 * All parameters of a model live in one array of `real`; so do their gradients and each optimiser moment, at
 * the same offsets. The order is backbone, student, teacher: [0, trained) is what the optimiser touches. Each
 * parameter starts at a multiple of 16 elements; the elements between are zero and stay so. */
#ifndef MODEL_PARAMETERS_H
#define MODEL_PARAMETERS_H

#include "compute/compute.h"

#include <stddef.h>
#include <stdint.h>

enum { parameter_max_rank = 5, parameter_name_size = 88, parameter_alignment = 16 /* elements */ };

struct model_config {
    int feature_size; /* C, a multiple of 3 */
    int roi;          /* R, voxels an axis of a crop: 48 or more, a multiple of 16 */
    int projector;    /* D, width of the projectors */
    enum patch_merging patch_merging;
};

/* Checks the numbers; VOCO_BAD_INPUT says which is wrong. C is at most 768, R 512, D 65536, so that no
 * product of sizes overflows. */
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
    char name[parameter_name_size];
    int rank;
    int64_t shape[parameter_max_rank];
    size_t offset; /* elements */
    size_t count;
    enum parameter_group group;
    enum parameter_init init;
    double bound; /* of INIT_UNIFORM */
};

struct parameter_table {
    struct parameter *entries; /* in the order of the published checkpoint, which is that of the offsets */
    int count;
    size_t total;            /* elements of a flat buffer, padding included */
    size_t trained;          /* elements of backbone and student */
    size_t backbone;         /* elements of the backbone */
    size_t teacher_distance; /* a teacher parameter's offset - its student twin's offset; the same for all */
};

/* Fails as model_config_check does, or with VOCO_NO_MEMORY. Free with parameter_table_free. */
enum voco_status parameter_table_create(struct parameter_table *table, const struct model_config *config);
void parameter_table_free(struct parameter_table *table);

/* NULL when there is none of that name. */
const struct parameter *parameter_find(const struct parameter_table *table, const char *name);

/* Elements without padding, of all groups up to and including `last`. */
size_t parameter_elements(const struct parameter_table *table, enum parameter_group last);

/* Draws every parameter anew (counter-based: parameter i's element j depends on seed, i, j alone, whatever
 * the number of threads); padding is zeroed. values holds table->total elements. */
void parameters_initialise(real *values, const struct parameter_table *table, uint64_t seed);

/* Published checkpoints also hold one buffer per Swin block, `...attn.relative_position_index`, right behind
 * that block's `...attn.relative_position_bias_table`: int64 of shape (343, 343), the same in every block and
 * derivable. A writer that wants it asks this after each parameter: 1 and the buffer's name where `previous`
 * is such a table, else 0. */
int parameter_buffer_after(char name[parameter_name_size], const struct parameter *previous);

/* 1 where `name` is that of such a buffer: a reader may skip it. */
int is_relative_position_index(const char *name);

enum { relative_position_tokens = 343 };

/* index[a * 343 + b] = 169 (d_a - d_b + 6) + 13 (h_a - h_b + 6) + (w_a - w_b + 6), a = query, b = key
 * (voco.md section 2, item 4). Writes 343 x 343 values. */
void model_relative_position_index(int64_t *index);

#endif
