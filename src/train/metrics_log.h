/* metrics.jsonl: what was measured in each step, one JSON object per line.
 *
 * {"step": 17, "loss": 1.03, ...}; the keys are the names below, in that order; a number that is not finite
 * is null. After a step the line is with the operating system, so a killed process loses none. */
#ifndef TRAIN_METRICS_LOG_H
#define TRAIN_METRICS_LOG_H

#include "voco/status.h"

struct step_metrics {
    long long step; /* from 0 */
    double loss, intra, inter, reg;
    double position_accuracy;
    double correlation;
    double feature_spread;
    double effective_rank;
    double learning_rate;
    double grad_norm; /* before clipping */
    int skipped;      /* 1: no update was made, because loss or gradient was not finite */
    double seconds;
    double crops_per_second;
    double communication_seconds; /* of `seconds`: waiting for other ranks (dist/ranks.h) */
};

struct metrics_log {
    int descriptor;
    char *path;
};

/* Opens the log to go on with step `next_step`: makes the file where there is none; lines of that step and
 * later ones, of a life that went on past its last checkpoint, are removed, and so is a last line that was
 * cut. A line that is not such an object is VOCO_BAD_INPUT (file and line number), and the file stays as it
 * is. Close with metrics_log_close. */
enum voco_status metrics_log_open(struct metrics_log *log, const char *path, long long next_step);

/* Appends one line, whole or not at all. VOCO_IO where the disk is full. */
enum voco_status metrics_log_append(struct metrics_log *log, const struct step_metrics *metrics);
void metrics_log_close(struct metrics_log *log);

#endif
