/* What a step does only where ranks share it (train/step.h). Private to src/train. */
#ifndef TRAIN_SHARED_STEP_H
#define TRAIN_SHARED_STEP_H

#include "train/batch_pass.h"

/* The embeddings, fetched, and labels of all ranks as one pass, on the arena; `batch` becomes its batch,
 * which has no voxels. Collective. */
enum voco_status gather_pass(struct batch_pass *whole, struct batch *batch, const struct train_step *step,
                             const struct batch_pass *pass, struct step_result *result);

/* From the whole pass and its gradient of_all (N of all ranks, E) back to what this rank's crops have. */
void take_own_rows(const struct train_step *step, const struct batch_pass *pass,
                   const struct batch_pass *whole, real *dembedding, const real *of_all);

/* The student's gradient is that of rank 0: what the others have computed is the same, and not to be added.
 */
void leave_student_to_first(const struct train_step *step);

/* Returns the sum of the gradient's squares, each rank adding its slices; with it loss and signals become
 * those of all ranks: with sync_bn they are the same everywhere and rank 0's are taken, else means and sums.
 */
double share_result(struct train_step *step, struct step_result *result);

/* AdamW on the rank's own slices, and everybody's new parameters. */
void update_own_slices(struct train_step *step, const struct adamw_settings *adamw,
                       struct step_result *result);

#endif
