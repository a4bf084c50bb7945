/* What was measured in each step, for `tensorboard --logdir RUN` (formats/tensorboard_events.h): the scalars
 *
 *     loss/total, loss/intra, loss/inter, loss/reg
 *     learning/position_accuracy, learning/correlation
 *     embeddings/effective_rank, embeddings/feature_spread
 *     optimiser/learning_rate, optimiser/gradient_norm
 *     speed/crops_per_second
 *
 * and of the first step of a life the image `crops` (train/crop_montage.h).
 *
 * It is a view, metrics.jsonl is the record: where it cannot be written the log (base/log.h) warns once, and
 * the run goes on without it. */
#ifndef TRAIN_TENSORBOARD_LOG_H
#define TRAIN_TENSORBOARD_LOG_H

#include "data/batch.h"
#include "formats/tensorboard_events.h"
#include "train/metrics_log.h"

struct tensorboard_log {
    struct tensorboard_events *events; /* NULL: nothing is written */
};

/* Begins a new file in the folder, which must exist. Of earlier files TensorBoard drops `next_step` and later
 * steps, those of a life that went on past its last checkpoint. */
void tensorboard_log_open(struct tensorboard_log *log, const char *folder, long long next_step);

/* Appends the scalars of a step; does nothing on a log that is not open. */
void tensorboard_log_append(struct tensorboard_log *log, const struct step_metrics *metrics);
/* Appends the picture of a batch of floats; does nothing on a log that is not open. */
void tensorboard_log_crops(struct tensorboard_log *log, long long step, const struct batch *batch);
void tensorboard_log_close(struct tensorboard_log *log);

#endif
