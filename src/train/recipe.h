/* A recipe: every setting of a pre-training run, as a YAML file that a person writes.
 *
 *     model:
 *       feature_size: 48
 *       ...
 *     sampling:
 *       crops: 2
 *
 * Two levels: sections, and in them settings. What a file leaves out is as in the recipe `base`, which is the
 * published method. An unknown section or setting, a value of another type or out of its range is an error
 * with the file, the line and, for a slip of the pen, the nearest name. All settings are described once, in
 * the table of recipe_settings.c, which reading, writing and checking follow. */
#ifndef TRAIN_RECIPE_H
#define TRAIN_RECIPE_H

#include "data/augment.h"
#include "data/sampling.h"
#include "dist/ranks.h"
#include "model/model.h"
#include "train/drop.h"
#include "train/schedule.h"

#include <stdint.h>
#include <stdio.h>

/* As the preset says, or against it: abdomen CT without labels is published with whole volumes, resized. */
enum recipe_window { RECIPE_WINDOW_PRESET, RECIPE_WINDOW_CROP, RECIPE_WINDOW_RESIZE };

struct recipe {
    struct model_config model;

    struct sampling sampling; /* sampling.roi is model.roi */
    struct augmentation augmentation;

    char preset[32];           /* how volumes are prepared: volume/prepare.h */
    enum recipe_window window; /* how the window is taken from a prepared volume */
    double held_out;      /* fraction of the volumes kept for evaluation where the data list splits none */
    int bits;             /* per voxel in the cache: 8, 12 or 16 */
    uint64_t chunk_cache; /* bytes of decoded chunks that the loader's threads keep and share; 0: none */
    int loader_threads;   /* 0: batches are made when they are asked for */
    int loader_ahead;     /* batches kept ready */

    enum drop_mode drop; /* what the student's input loses */
    double drop_rate;
    double ema_decay; /* of the teacher, voco.md section 3: 0.9 */

    int volumes;     /* V, per step, over all ranks */
    long long steps; /* T, where the cosine ends */
    enum schedule_kind schedule;
    long long warm_up; /* steps of linear growth of the learning rate */
    double learning_rate;
    double weight_decay;
    double beta1, beta2, epsilon;
    double clip_norm; /* of the whole gradient; 0: no clipping */

    uint64_t seed;              /* below 2^63 */
    long long checkpoint_every; /* steps; 0: only at the end */
    int keep;                   /* checkpoints */
    int max_skipped; /* steps in a row without a finite loss and gradient, after which the run stops */
    int tensorboard; /* 1: TensorBoard's event files beside metrics.jsonl (train/tensorboard_log.h) */

    int sync_bn; /* 1: the projectors' BatchNorm and the loss see the volumes of all ranks (train/step.h) */
    enum ranks_form reduce; /* how gradients travel between ranks */
    int shard_optimizer;    /* 1: each rank keeps a part of the moments (train/gradient_exchange.h) */

    char compute[16]; /* compute/compute.h: "cpu", "reference" */
    enum compute_precision precision;
    int crops_at_once; /* through the backbone; 0: as train/step.h finds best */
    uint64_t memory;   /* bytes that the process may take; 0: most of what the machine has free */

    int evaluation_draws;   /* how often random crops are drawn from each held-out volume */
    int evaluation_volumes; /* per batch: what the projectors' BatchNorm sees */
};

/* The recipe `base`, as the published method has it: what a file that says nothing means. */
void recipe_default(struct recipe *recipe);

/* Loads a recipe by its name, tiny, base, large or huge, which are part of the program, else from the YAML
 * file of that path. Checked as recipe_check does. VOCO_IO or VOCO_BAD_INPUT: one line that names the file
 * and, where there is one, the line in it. */
enum voco_status recipe_load(struct recipe *recipe, const char *name_or_path);

/* The names that recipe_load knows, in order of size; NULL after the last. */
const char *recipe_builtin_name(int i);

/* Parses YAML from memory; `name` stands for the path in messages. */
enum voco_status recipe_parse_yaml(struct recipe *recipe, const char *text, size_t length, const char *name);

/* Checks every range and what hangs together (model, sampling, preset, compute), and sets sampling.roi. For
 * after settings have been changed one by one. VOCO_BAD_INPUT names the setting. */
enum voco_status recipe_check(struct recipe *recipe);

/* Writes all settings as YAML, each with its explanation as a comment: what `recipe_load` reads back to the
 * same recipe. */
enum voco_status recipe_write_yaml(FILE *stream, const struct recipe *recipe);

/* As JSON, in the order of the table, for the checkpoint and run.json: equal recipes give equal bytes. The
 * object is new (json_decref); NULL without memory. recipe_to_text: the same as compact text, to be freed
 * with free(). */
struct json_t *recipe_to_json(const struct recipe *recipe);
char *recipe_to_text(const struct recipe *recipe);

/* Strict as the YAML reader is; `name` begins the message. Settings that are missing (of an older version)
 * are those of `base`. */
enum voco_status recipe_from_json(struct recipe *recipe, const struct json_t *json, const char *name);
enum voco_status recipe_from_text(struct recipe *recipe, const char *text, const char *name);

#endif
