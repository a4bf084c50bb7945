/* A batch on its way through the network: embeddings a few crops at a time, projections, loss, and back. What
 * a step (train/step.h) and an evaluation have in common. Private to src/train. */
#ifndef TRAIN_BATCH_PASS_H
#define TRAIN_BATCH_PASS_H

#include "base/clock.h"
#include "compute/copy_queue.h"
#include "data/batch.h"
#include "model/model.h"
#include "train/step.h"

/* What the host looks into of a pass: where operations work in the host's memory, the pass' own arrays. */
struct host_side {
    real *embedding, *mask, *similarity;
    double *terms;
};

/* Arrays lie on the arena; all but those of `host` are as operations take them. What is sent and fetched goes
 * by `copies`, beside the operations where there is a queue for that. */
struct batch_pass {
    const struct model *model;
    struct compute *compute;
    struct copy_queue *copies;
    struct arena *arena;
    const real *params; /* as operations take them */
    const struct batch *batch;
    int rows; /* N */
    int crops_at_once;
    int masked;         /* the student's input is: a step's, not an evaluation's */
    const real *voxels; /* (N, R, R, R) */
    real *embedding;    /* (N, E) */
    real *mask;         /* (N, E), where masked */
    real *student;      /* (N, D) */
    real *teacher;      /* (N, D) */
    real *dstudent;     /* (N, D) */
    float *labels;      /* (V, S, K) */
    real *similarity;   /* (V, S, K) */
    double *terms;      /* (V, 3) */
    struct host_side host;
};

/* Activations of consecutive crops that wait on the arena for backward. */
struct kept_chunk {
    struct encoder_activations *activations;
    struct arena_mark mark; /* of the arena, before them */
};

/* Takes room for the results, and, unless pass->voxels is set, the batch's voxels to where operations can
 * read them. VOCO_BAD_INPUT where its crops are not of the model's size. */
enum voco_status pass_begin(struct batch_pass *pass);

/* Sends the host's side of an array, which must stay until the copies are waited for, to operations that are
 * asked for from now on; nothing where the two are one. */
void pass_send(const struct batch_pass *pass, void *array, const void *host, size_t bytes);

/* To the host, when the copies are waited for; of what operations had left when these were last followed. */
void pass_fetch(const struct batch_pass *pass, void *host, const void *array, size_t bytes);

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

/* The labels, to where pass_loss reads them. */
void pass_send_labels(const struct batch_pass *pass);

/* Asks for loss, similarities and dstudent. */
enum voco_status pass_loss(const struct batch_pass *pass);

/* Fetches the embeddings that were asked for, and waits for them. */
enum voco_status pass_fetch_embeddings(const struct batch_pass *pass);

/* Fetches embeddings, similarities and the loss' terms, and waits for them. */
enum voco_status pass_fetch_measures(const struct batch_pass *pass);

/* Of what was fetched: the loss, and whether the model learns. */
enum voco_status pass_measure(const struct batch_pass *pass, struct step_result *result);

/* Copies what is asked for, and waits for it; `outputs` may be NULL. What was fetched is on the host. */
enum voco_status pass_give_outputs(const struct batch_pass *pass, const struct batch_outputs *outputs);

/* Adds the time since *since to *seconds and sets *since to now. */
static inline void count_time(double *seconds, double *since)
{
    const double then = *since;
    *since = seconds_now();
    *seconds += *since - then;
}

#endif
