/* A pre-trained encoder, ready to embed: a checkpoint's parameters, the operations and their memory. */
#ifndef ENCODE_PRETRAINED_ENCODER_H
#define ENCODE_PRETRAINED_ENCODER_H

#include "model/model.h"
#include "train/checkpoint.h"
#include "train/run_memory.h"

#include <stdint.h>

struct pretrained_encoder_settings {
    const char *compute;       /* "cpu", "reference"; NULL: cpu */
    const char *precision;     /* "float32", "bf16", "tf32"; NULL: float32 */
    const char *patch_merging; /* for a file of weights that does not say it; NULL: legacy then */
    int threads;               /* as compute_open has it */
    uint64_t memory;           /* bytes that the process may take; 0: not looked at */
};

struct pretrained_encoder {
    char path[checkpoint_path_size]; /* of the checkpoint */
    int has_recipe; /* else `recipe` is that of base, and volumes may have been prepared otherwise */
    struct recipe recipe;
    long long step;
    struct model model;
    struct compute compute;
    struct arena arena;
    float *params;              /* the host's */
    float *on_device;           /* the same as operations take them */
    struct memory_limit limit;  /* bytes 0: none */
    uint64_t bytes_for_a_voxel; /* of activations; 0 where there is no limit */
};

/* checkpoint: CKPT, a file or a run's folder (train/checkpoint.h). A precision that the machine does not have
 * and a limit of memory that does not hold one crop are refused. VOCO_BAD_INPUT where settings->patch_merging
 * is another than the checkpoint says. *encoder must stay where it is; close with pretrained_encoder_close,
 * which is harmless after a failure. */
enum voco_status pretrained_encoder_open(struct pretrained_encoder *encoder, const char *checkpoint,
                                         const struct pretrained_encoder_settings *settings);
void pretrained_encoder_close(struct pretrained_encoder *encoder);

/* Whether the process may take `beside` and the activations of a box of that size: VOCO_NO_MEMORY, with
 * `name` and the numbers, where a limit was set that does not hold them. */
enum voco_status pretrained_encoder_check_memory(const struct pretrained_encoder *encoder, const char *name,
                                                 const int size[3], uint64_t beside);

/* embedding (E) of one box (size[0], size[1], size[2]), z fastest; sizes as encoder_box_check has them. */
enum voco_status pretrained_encoder_embed(struct pretrained_encoder *encoder, float *embedding,
                                          const float *box, const int size[3]);

/* features (d, h, w, channels) of a level of one box: encoder_box_features. */
enum voco_status pretrained_encoder_features(struct pretrained_encoder *encoder, float *features, int level,
                                             const float *box, const int size[3]);

/* Tokens an axis of a level, of `size` voxels. */
int tokens_of(int size, int stride);

#endif
