/* Which of several ways to compute the same a run takes (`choices` of compute/compute.h): chosen by
 * measuring, so that it must be remembered for equal bits. All ranks of a run take the same, those of the
 * first that has chosen; RUN/gpu-choices.txt is what they have chosen when the newest checkpoint was written.
 * All of these are collective, with one outcome for all, and do nothing where the implementation chooses
 * nothing. Private to src/train. */
#ifndef TRAIN_RUN_CHOICES_H
#define TRAIN_RUN_CHOICES_H

#include "compute/compute.h"
#include "dist/ranks.h"

/* Takes those of the file in the run's folder `out`, where there is one. Of another kind of GPU they are not
 * taken, which the log says. VOCO_BAD_INPUT names the file. */
enum voco_status run_choices_load(struct compute *c, const struct ranks *ranks, const char *out);

/* Brings the ranks' choices together; *changed: those of this or another rank did. */
enum voco_status run_choices_share(struct compute *c, const struct ranks *ranks, int *changed);

/* The same, and rank 0 writes the file. */
enum voco_status run_choices_save(struct compute *c, const struct ranks *ranks, const char *out);

#endif
