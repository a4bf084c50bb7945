/* The volumes of a run or an evaluation: from DATA to the arrays that crops are cut from, training and held
 * out apart. */
#ifndef TRAIN_VOLUMES_H
#define TRAIN_VOLUMES_H

#include "data/dataset.h"
#include "store/cache_preparation.h"
#include "store/chunk_cache.h"
#include "train/recipe.h"

#include <signal.h>

/* Which volumes of DATA. Held out is DATA's validation list, else the recipe's fraction (data/dataset.h). */
enum volume_choice {
    VOLUMES_TRAINING_AND_HELD_OUT,
    VOLUMES_HELD_OUT,
    VOLUMES_ALL, /* put into held_out */
};

/* The volumes of one part. */
struct volume_part {
    char **arrays; /* (count) folders of the arrays (store/volume_cache.h), one a volume; owned */
    size_t count;
    const char **
        samples; /* (sample_count) pointers into `arrays`, each as often as an epoch sees its volume; owned */
    size_t sample_count;
    struct preparation preparation; /* empty where DATA is a cache; its paths have become `arrays` */
};

struct prepared_volumes {
    struct dataset dataset;
    int levels; /* the most that any of them has (store/volume_attributes.h) */
    struct volume_part training;
    struct volume_part held_out;
};

/* Reads DATA and brings its volumes into the cache folder as the recipe, or the corpus, says, with as many
 * threads as there are processors. DATA that is a cache itself is taken as it is, and `cache_folder` is not
 * looked at. Bad volumes are listed, not fatal; VOCO_BAD_INPUT where a part that was asked for keeps none,
 * but a run may have no held-out volumes. Free with prepared_volumes_free, also after a failure. */
enum voco_status prepared_volumes_open(struct prepared_volumes *volumes, const char *data,
                                       const char *cache_folder, const struct recipe *recipe,
                                       enum volume_choice choice, const volatile sig_atomic_t *stop);

/* The same by one of several processes that prepare the same volumes together: with so many threads, and of
 * the memory that is free with its share of it. */
struct preparation_team {
    int threads;
    int processes; /* on this machine */
};
enum voco_status prepared_volumes_open_among(struct prepared_volumes *volumes, const char *data,
                                             const char *cache_folder, const struct recipe *recipe,
                                             enum volume_choice choice, const struct preparation_team *team,
                                             const volatile sig_atomic_t *stop);
void prepared_volumes_free(struct prepared_volumes *volumes);

/* Says through the log which volumes were left out and why; nothing where all were good. */
void prepared_volumes_report(const struct prepared_volumes *volumes);

#endif
