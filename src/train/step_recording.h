/* The passes of a step as recordings (struct compute), where a device makes them: forward, projectors with
 * loss, and backward are one each, so that the host has its turn between them as ever.
 *
 * The first step with the same sizes at the same places is asked for operation by operation, the second is
 * recorded, those after it are replays, to the same bits. Where recording fails, it is said once and steps go
 * on without. Private to src/train. */
#ifndef TRAIN_STEP_RECORDING_H
#define TRAIN_STEP_RECORDING_H

#include "base/arena.h"
#include "compute/compute.h"

/* In their order within a step. */
enum step_pass { PASS_FORWARD, PASS_PROJECTION, PASS_BACKWARD, step_passes };

/* What decides, beside what stays as long as a step's arena does, which operations the passes are. */
struct pass_places {
    const real *voxels, *embedding; /* what is pushed onto the arena after these lies as they do */
    int volumes, crops, bases;
    int crops_at_once, kept_chunks;
};

struct step_recordings;

/* NULL where `compute`, which is borrowed, makes no recordings, or without memory. */
struct step_recordings *step_recordings_create(struct compute *compute);
void step_recordings_free(struct step_recordings *recordings); /* NULL: nothing */

/* Forgets what was recorded: the step's arena is another. NULL: nothing. */
void step_recordings_forget(struct step_recordings *recordings);

/* A step begins, with its passes at these places; places NULL: one that is not to be recorded. */
void step_recordings_begin(struct step_recordings *recordings, const struct pass_places *places);

/* Does a pass of this step, which `ask` asks for operation by operation; recordings may be NULL. What `ask`
 * leaves on the host, and on the arena, is there only where it was called, which in a step happens for every
 * pass or for none. */
enum voco_status step_recordings_pass(struct step_recordings *recordings, enum step_pass pass,
                                      struct arena *arena, enum voco_status (*ask)(void *context),
                                      void *context);

#endif
