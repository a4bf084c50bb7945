/* Is it learning? The signals of train/learning_signals.h on volumes that training has not seen, without drop
 * and augmentation. */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "data/sampling.h"
#include "model/model.h"
#include "train/recipe.h"

#include <stddef.h>
#include <stdint.h>

struct evaluation_settings {
    struct sampling sampling;
    int volumes_per_batch; /* the projectors' BatchNorm sees this many volumes at once, as in training */
    int crops_at_once;
    int draws; /* how often random crops are drawn from each volume */
    uint64_t seed;
};

/* The settings that a recipe has for this. The seed is its own, so that the held-out crops are those of no
 * step. */
struct evaluation_settings evaluation_settings_of(const struct recipe *recipe);

/* An arena that may grow to the machine's memory; of a device's it has next to nothing before evaluate, or
 * compute_arena_reserve, takes what is needed. Close with compute_arena_close. */
enum voco_status evaluation_arena_open(struct arena *arena, struct compute *c);

/* Spread and rank are of the embeddings of the first so many crops, which are held together. */
enum { evaluation_most_embeddings = 8192 };

/* Bytes that an evaluation on so many volumes takes beside the encoder's activations, at most. */
uint64_t evaluation_memory(const struct model_config *config, const struct evaluation_settings *settings,
                           size_t volumes);

struct evaluation {
    size_t volumes;
    size_t positions;               /* random crops whose position was predicted */
    double loss, intra, inter, reg; /* means over batches */
    double position_accuracy; /* how often the most similar base is the one with the largest overlap; chance 1
                                 / K */
    double chance;            /* 1 / K */
    double correlation;       /* Pearson's, of similarity with overlap, over all pairs */
    double feature_spread;    /* of the embeddings of all crops, or evaluation_most_embeddings of them */
    double effective_rank;    /* of the same */
};

/* cache_files: prepared volumes, one file each (store/volume_cache.h). The last batch is filled up with
 * volumes from the front, whose crops are not counted twice. params are as operations take them. */
enum voco_status evaluate(struct evaluation *result, const struct model *model, struct compute *compute,
                          struct arena *arena, const float *params, const char *const *cache_files,
                          size_t count, const struct evaluation_settings *settings);

#endif
