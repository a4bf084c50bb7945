/* A batch on its way through the network: embeddings a few crops at a time, projections, loss, and back. What
 * a step (train/step.h) and an evaluation have in common. Private to src/train. */
#ifndef TRAIN_BATCH_PASS_H
#define TRAIN_BATCH_PASS_H

#include "base/clock.h"
#include "data/batch.h"
#include "model/model.h"
#include "train/step.h"

/* What the host looks into of a pass: where operations work in the host's memory, the pass' own arrays. */
struct host_rows {
    real *embedding, *student, *teacher, *dstudent;
};

/* Arrays lie on the arena; all but those of `host` and the similarity are as operations take them. */
struct batch_pass {
    const struct model *model;
    struct compute *compute;
    struct arena *arena;
    const real *params; /* as operations take them */
    const struct batch *batch;
    int rows; /* N */
    int crops_at_once;
    const real *voxels; /* (N, R, R, R) */
    real *embedding;    /* (N, E) */
    real *student;      /* (N, D) */
    real *teacher;      /* (N, D) */
    real *dstudent;     /* (N, D) */
    real *similarity;   /* (V, S, K) */
    struct host_rows host;
};

/* Activations of consecutive crops that wait on the arena for backward. */
struct kept_chunk {
    struct encoder_activations *activations;
    struct arena_mark mark; /* of the arena, before them */
};

/* Takes room for the results, and the batch's voxels to where operations can read them. VOCO_BAD_INPUT where
 * its crops are not of the model's size. */
enum voco_status pass_begin(struct batch_pass *pass);

/* Between an array of the pass and its host side; nothing where they are one. From the operations' side only
 * after compute->wait. */
void pass_fetch(const struct batch_pass *pass, real *host, const real *array, size_t count);
void pass_send(const struct batch_pass *pass, real *array, const real *host, size_t count);

/* An array on the arena for the host side of `array`: itself where operations work in the host's memory. NULL
 * where the arena is exhausted. */
real *pass_host_side(const struct batch_pass *pass, real *array, size_t count);

int pass_chunks(const struct batch_pass *pass);

/* Embeddings. The last `count` chunks keep their activations, in kept (count). */
enum voco_status pass_forward(const struct batch_pass *pass, struct kept_chunk *kept, int count);

/* From the last chunk to the first, where the listener is told; kept as pass_forward left it. Releases the
 * kept activations. */
enum voco_status pass_backward(const struct batch_pass *pass, real *gradients, const real *dembedding,
                               const struct kept_chunk *kept, int count,
                               const struct backward_listener *listener);

/* z (N, D) of an embedding; kept as in projector_forward. */
enum voco_status pass_project(const struct batch_pass *pass, enum parameter_group group, real *z,
                              const real *embedding, struct projector_activations **kept);

/* From projections to the loss, the similarities and dstudent. */
enum voco_status pass_loss(const struct batch_pass *pass, struct step_result *result);

/* What else is measured, of embeddings on the host and similarities. */
enum voco_status pass_signals(const struct batch_pass *pass, struct step_result *result);

/* Copies what is asked for; `outputs` may be NULL. */
void pass_give_outputs(const struct batch_pass *pass, const struct batch_outputs *outputs);

/* Adds the time since *since to *seconds and sets *since to now. */
static inline void count_time(double *seconds, double *since)
{
    const double then = *since;
    *since = seconds_now();
    *seconds += *since - then;
}

#endif
