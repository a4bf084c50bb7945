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

/* Adds the gradient of the backbone's parameters to grads (flat buffer), from dembedding (n, E). crops and n
 * as in forward. Uses the arena above its present mark and releases that; the activations stay for the caller
 * to release. */
enum voco_status encoder_backward(const struct model *model, struct compute *c, struct arena *arena,
                                  real *grads, const real *params, const real *dembedding, const real *crops,
                                  int n, const struct encoder_activations *kept);

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
