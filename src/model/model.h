/* The network of VoCo: the Swin encoder of voco.md section 2 and the two projectors, forward and backward.
 *
 * Every pass takes the flat buffer of parameters and an arena (base/arena.h) for what lies between input and
 * result. A pass that runs out of arena returns VOCO_NO_MEMORY and leaves arena->exhausted set: call
 * arena_reset before trying again, with fewer crops or a larger arena. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "base/arena.h"
#include "model/parameters.h"

struct model_layout; /* offsets of every layer's parameters, private to src/model */

struct model {
    struct model_config config;
    struct parameter_table table;
    struct model_layout *layout;
};

/* Builds the table and layout; allocates no parameter values. Fails as model_config_check does, or with
 * VOCO_NO_MEMORY; there is nothing to free then. */
enum voco_status model_create(struct model *model, const struct model_config *config);
void model_free(struct model *model);

/* E = 24 C. */
int model_embedding_size(const struct model_config *config);

/* What backward needs of a forward pass; points into the arena. */
struct encoder_activations;
struct projector_activations;

/* Embeddings (n, E) of crops (n, R, R, R), values in [0, 1] give or take the augmentation's shift. params is
 * the flat buffer. With kept == NULL the arena is as before on return; else *kept and all it needs stay on
 * the arena until the caller releases its mark, to be passed to encoder_backward. Failures (the arena is as
 * before then, *kept is NULL) are compute_status's, or an exhausted arena: VOCO_NO_MEMORY.
 *
 * The arena's use per crop is in src/model/encoder.c; for `base` it is 304 MiB kept, 497 MiB at backward's
 * peak. */
enum voco_status encoder_forward(const struct model *model, struct compute *c, struct arena *arena,
                                 const real *params, real *embedding, const real *crops, int n,
                                 struct encoder_activations **kept);

/* The five levels whose global average pools make the embedding, in its order. */
enum { encoder_levels = 5 };

struct encoder_level {
    const char *name; /* "encoder1", "encoder2", "encoder3", "encoder4", "encoder10" */
    int channels;     /* C, C, 2 C, 4 C, 16 C */
    int column;       /* of the embedding, where its part begins */
    int stride;       /* voxels an axis of a token: 1, 2, 4, 8, 32 */
};

/* What encoder_forward takes of the arena where nothing is kept, at most, for crops of so many voxels in all,
 * with activations of so many bytes (compute->activation_size); of boxes the two functions below take no
 * more. */
size_t encoder_passing_bytes(const struct model_config *config, size_t voxels, size_t activation_size);

/* level from 0 to encoder_levels - 1. */
struct encoder_level encoder_level_of(const struct model_config *config, int level);

/* Boxes that are no crops: each axis a multiple of 16 from 48 on, not more voxels than that in all, else
 * VOCO_BAD_INPUT. */
enum { encoder_most_voxels = 1 << 28 };
enum voco_status encoder_box_check(const int size[3]);

/* Embeddings (n, E) of boxes (n, size[0], size[1], size[2]) that encoder_box_check allows, as encoder_forward
 * computes them of crops. Memory grows with the voxels. */
enum voco_status encoder_box_forward(const struct model *model, struct compute *c, struct arena *arena,
                                     const real *params, real *embedding, const real *boxes, int n,
                                     const int size[3]);

/* What the pool of a level is taken of: features (d, h, w, channels) of one box, with d = size[0] / stride
 * rounded up and so on. Token (i, j, k) is that of the voxels from (i, j, k) stride on. Fails as
 * encoder_forward does. */
enum voco_status encoder_box_features(const struct model *model, struct compute *c, struct arena *arena,
                                      const real *params, real *features, int level, const real *box,
                                      const int size[3]);

/* Adds the gradient of the backbone's parameters to grads (flat buffer), from dembedding (n, E). crops and n
 * as in forward. Uses the arena above its present mark and releases that; the activations stay for the caller
 * to release. */
enum voco_status encoder_backward(const struct model *model, struct compute *c, struct arena *arena,
                                  real *grads, const real *params, const real *dembedding, const real *crops,
                                  int n, const struct encoder_activations *kept);

/* The parts of the backbone in the order in which encoder_backward completes their gradients: encoder1,
 * encoder10, stage 4, stage 3, encoder4, stage 2, encoder3, stage 1, encoder2, patch embedding. */
enum { backbone_parts = 10 };

/* Which of them a parameter belongs to; backbone_parts where it is a projector's. */
int backbone_part_of(const struct parameter *parameter);

/* Told that nothing more will be added to the gradients of a part. */
struct backward_listener {
    void (*completed)(void *context, int part);
    void *context;
};

/* encoder_backward, with a listener that is told of each part in their order; NULL: nobody is. */
enum voco_status encoder_backward_heard(const struct model *model, struct compute *c, struct arena *arena,
                                        real *grads, const real *params, const real *dembedding,
                                        const real *crops, int n, const struct encoder_activations *kept,
                                        const struct backward_listener *listener);

/* z (n, D) of embeddings (n, E); group chooses student or teacher. BatchNorm uses these n rows. kept as
 * above. */
enum voco_status projector_forward(const struct model *model, struct compute *c, struct arena *arena,
                                   const real *params, enum parameter_group group, real *z,
                                   const real *embedding, int n, struct projector_activations **kept);

/* dembedding (n, E) is written; parameter gradients of `group` are added to grads. */
enum voco_status projector_backward(const struct model *model, struct compute *c, struct arena *arena,
                                    real *grads, const real *params, enum parameter_group group,
                                    real *dembedding, const real *dz, const real *embedding, int n,
                                    const struct projector_activations *kept);

#endif
