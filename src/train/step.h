/* One optimiser step on a batch, exactly (voco.md sections 2 to 4), in memory that does not grow with the
 * batch.
 *
 *     teacher <- decay teacher + (1 - decay) student
 *     embeddings of all crops, a few crops at a time; projectors, loss and its gradient on the embeddings
 *     backward through the encoder, a few crops at a time, from the last to the first; where the activations
 *       were not kept, after a second forward pass
 *     AdamW on backbone and student
 *
 * How many crops pass at once changes the order of sums, so it follows from the settings and the shapes
 * alone: equal settings give equal bits. For how many of them activations are kept may follow from free
 * memory: it saves time and changes no bit.
 *
 * Ranks (dist/ranks.h) share a step; each has a part of the batch's volumes (train/batch_share.h).
 *
 * - By default, as published: BatchNorm, loss and the pairs of neighbouring volumes are those of the rank's
 * own part alone, and the gradient is the mean of the ranks' gradients, which for equal parts is that of the
 * mean loss over all volumes. What is dropped from the student's input is what the crop would lose in one
 * process.
 * - With sync_bn the embeddings of all ranks come together, and each rank takes projectors and loss of them
 * all, pairs across ranks included, just as one process does of the whole batch. It passes back through the
 * encoder what belongs to its own crops; the encoder's gradient is the sum over the ranks, the student's that
 * of rank 0. So the step is that of one process, but for the order of sums. Beside the encoder each rank then
 * computes what one process would: N (2 E D + 4 D^2) multiply-adds for the student and N (E D + 2 D^2) for
 * the teacher, forward; twice the former backward.
 *
 * Loss and signals of the result are means and sums over the ranks, and decisions are taken on these, so that
 * all ranks go on alike. */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "base/arena.h"
#include "compute/copy_queue.h"
#include "data/batch.h"
#include "model/model.h"
#include "train/batch_share.h"
#include "train/drop.h"
#include "train/gradient_exchange.h"
#include "train/learning_signals.h"
#include "train/loss.h"
#include "train/recipe.h"
#include "train/training_state.h"

struct train_step_settings {
    struct drop drop;
    double teacher_decay; /* 0.9 */
    double beta1, beta2, epsilon, weight_decay;
    double clip_norm;         /* the gradient is scaled down to this norm; 0: no clipping */
    struct batch_share share; /* zero: batches are whole */
    int sync_bn;              /* see above; only with ranks */
    int crops_at_once;        /* through the encoder, >= 1 */
    size_t activation_budget; /* bytes for the encoder's activations; at least one pass is made, even where
                                 it takes more */
};

/* The settings that a recipe has for this; activation_budget is 0, which keeps as little as possible. `crops`
 * is the number of crops N of a batch. */
struct train_step_settings train_step_settings_of(const struct recipe *recipe, int crops);

/* crops_at_once as the recipe has it; where that is 0, 2 of an even number of `crops`, else 1. More at once
 * read each weight fewer times, but leave the processor's caches: between 1 and 4 crops of `base` or 1 and 11
 * of `tiny` no difference can be measured, all at once are 3 to 7 % slower, and few leave the most memory for
 * activations that are kept. On a GPU up to 64: there, few crops leave processors idle. */
int crops_at_once_of(const struct recipe *recipe, int crops);

/* What can be read of a pass over a batch; each array belongs to the caller, NULL where it is not wanted. */
struct batch_outputs {
    real *embedding;  /* (N, E) */
    real *student;    /* (N, D) */
    real *teacher;    /* (N, D) */
    real *similarity; /* (V, S, K), see contrast_loss (compute.h) */
};

/* Where operations are only queued these are the seconds of the queueing, and of what the host waits for. */
struct step_seconds {
    double encoder_forward;
    double projector_and_loss; /* forward and backward */
    double encoder_backward;   /* second forward passes included */
    double optimiser;          /* teacher, norm, clipping, AdamW */
    double communication;      /* waiting for other ranks, and for what they send */
};

/* The parts of a step in their order. Two of them begin once more before that: the encoder's, where crops are
 * made ready for it, and the optimiser's, to move the teacher. */
enum step_phase {
    STEP_OPTIMISER,
    STEP_ENCODER_FORWARD,
    STEP_PROJECTOR_AND_LOSS,
    STEP_ENCODER_BACKWARD,
    step_phases
};

struct step_result {
    struct loss loss;
    struct position_signals positions;
    struct embedding_signals embeddings;
    double gradient_norm; /* before clipping */
    int skipped;          /* no update was made: loss or gradient is not finite */
    struct step_seconds seconds;
};

/* The arrays of the training state themselves, or copies of them where operations work in separate memory:
 * then the state is behind until train_step_fetch_state. */
struct working_state {
    real *params, *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
};

/* The crops of a step where operations cannot read the batch's own, or not as voxels, and those of the next
 * one, which travel meanwhile. Both at the bottom of the step's arena. */
struct travelling_crops {
    void *landed;                  /* crops in the form of their batch */
    size_t bytes;                  /* that there is room for */
    real *voxels;                  /* the step's, made of what had landed */
    size_t count;                  /* that there is room for */
    const struct batch *under_way; /* its crops land, or have landed and are not yet taken; NULL: none */
};

struct step_recordings;

struct train_step {
    const struct model *model;
    struct compute *compute;
    struct copy_queue copies; /* beside what `compute` was when the step was created */
    struct training_state *state;
    struct train_step_settings settings; /* crops_at_once as resolved */
    struct arena arena;                  /* between steps it holds `crops` alone; may be lent to
                                            evaluate_batch */
    struct travelling_crops crops;
    struct working_state arrays;        /* of `state`, as operations take them */
    real *gradients;                    /* (table.trained): of the last step, before clipping. As operations
                                           take them, and the next one too */
    real *previous_teacher;             /* (table.total - table.trained): as it was before the step */
    double *squares;                    /* of the gradients, as operations take it, */
    double *host_squares;               /* and where the host reads it once the step is settled */
    real *host_gradients;               /* see train_step_host_gradients */
    struct step_recordings *recordings; /* of the passes, see train/step_recording.h; NULL: none are made */
    struct gradient_exchange *exchange; /* with the other ranks; NULL: there are none. Borrowed */
    size_t batch_room; /* bytes of the arena that a batch takes beside the encoder's activations,
                          where that is known: separate memory is not taken in vain then */
    size_t crop_kept;  /* bytes of the arena that a crop keeps from forward to backward */
    size_t crop_peak;  /* bytes that it takes in backward, the kept ones included */

    /* For who measures: told when a part of a step begins. NULL: nobody is. */
    void (*phase_begins)(void *phase_context, enum step_phase phase);
    void *phase_context;
};

/* Measures what crops take of the arena by passing crops_at_once empty ones forward and backward. Borrows
 * model, compute and state, which must outlive `step`; the state's arrays must stay where they are.
 * VOCO_NO_MEMORY, or what the passes return. Free with train_step_free, which is harmless on a failed or
 * zeroed one. */
enum voco_status train_step_create(struct train_step *step, const struct model *model,
                                   struct compute *compute, struct training_state *state,
                                   const struct train_step_settings *settings);
void train_step_free(struct train_step *step);

/* Between steps: other settings for memory. Measures anew where crops_at_once changes. */
enum voco_status train_step_resize(struct train_step *step, int crops_at_once, size_t activation_budget);

/* Brings the arrays of step->state up to date with what the last step left. */
enum voco_status train_step_fetch_state(struct train_step *step);

/* The gradients of the last step where the host can read and change them; what it changes counts after
 * train_step_take_gradients. NULL without memory. */
real *train_step_host_gradients(struct train_step *step);
void train_step_take_gradients(struct train_step *step);

/* From now on a step is shared with other ranks: all functions that make one become collective. One that
 * fails leaves the other ranks waiting: the caller must end the job (ranks_abort). `state` has as many
 * moments as `exchange` says. `outputs` hold the own crops' rows. The exchange is borrowed. */
void train_step_join(struct train_step *step, struct gradient_exchange *exchange);

/* What a step with a batch of V volumes, S crops and K bases each, takes of the arena beside the encoder's
 * activations, at most; in separate memory also the next batch's crops in its form, and its own as reals. */
size_t train_step_projection_bytes(const struct model_config *config, int volumes, int crops, int bases);

/* The crops of a step's batch set out for separate memory while what was asked for before is computed: the
 * next step will be of this batch, which must stay as it is until train_step_gradients has returned. NULL:
 * waits for those that are under way, and forgets them. Nothing where operations read the batch's own
 * voxels. Need not be called: a step brings what it lacks. */
enum voco_status train_step_bring(struct train_step *step, const struct batch *batch);

/* One step at this learning rate. state->step grows by one, and so does state->optimizer_step unless the step
 * was skipped: where the loss or the gradient is NaN or infinite, or the gradient's square is no float any
 * more, parameters, teacher and moments stay as before. `outputs` may be NULL. Where something fails (memory,
 * an operation, a batch of another size) the state is as before too, step count included. */
enum voco_status train_step_run(struct train_step *step, const struct batch *batch, double learning_rate,
                                struct step_result *result, const struct batch_outputs *outputs);

/* The same in two halves, for a caller that looks at or changes step->gradients in between, or brings the
 * next batch. The first moves the teacher and fills the gradients, or asks for them: the batch is not looked
 * at any more, and loss and signals are known. The second finds their norm, and updates or skips. After a
 * first half that succeeded the second must follow before anything else is done with the state. */
enum voco_status train_step_gradients(struct train_step *step, const struct batch *batch,
                                      struct step_result *result, const struct batch_outputs *outputs);
enum voco_status train_step_update(struct train_step *step, double learning_rate, struct step_result *result);

/* And the second in two, for a caller that lets a device go on by itself. The first asks for the update,
 * which is made or not by what the gradient's norm turns out to be; state->step grows. The second waits, and
 * only then gradient_norm, skipped and state->optimizer_step are right: before the next update is asked for,
 * and before anybody looks at the state. Between the two the next step's gradients may be found, whose loss
 * is waited for in any case: then there is nothing left to wait for, and the device has never stood still. */
enum voco_status train_step_ask_update(struct train_step *step, double learning_rate,
                                       struct step_result *result);
enum voco_status train_step_settle(struct train_step *step, struct step_result *result);

/* Whether a step's update may be settled during the next step: it need not wait for other ranks. Where the
 * host itself computes, there is nothing to be gained by it. */
int train_step_runs_ahead(const struct train_step *step);

/* Forward only, without drop: embeddings, projections, loss and signals of a batch of floats. Parameters stay
 * as they are, the teacher's as well. Of `result` loss, positions, embeddings and seconds are filled. Uses
 * the arena above its present mark and releases that. params are as operations take them. Tell
 * compute->parameters_changed before, when anything but a step has changed params. */
enum voco_status evaluate_batch(const struct model *model, struct compute *compute, struct arena *arena,
                                const real *params, const struct batch *batch, int crops_at_once,
                                struct step_result *result, const struct batch_outputs *outputs);

#endif
