#include "train/step_recording.h"

#include "base/error.h"
#include "base/log.h"

#include <stdlib.h>

/* The steps at one set of places. */
struct recorded_step {
    struct pass_places places;
    int steps; /* begun so far */
    struct recording *passes[step_passes];
};

/* At the most that are kept: two sizes of batches by turns, say. */
enum { recorded_steps = 2 };

struct step_recordings {
    struct compute *compute;
    struct recorded_step steps[recorded_steps];
    int oldest;                /* of them */
    int failed;                /* nothing is recorded any more */
    struct recorded_step *now; /* what this step replays, */
    int replays;               /* or records; NULL: neither */
};

struct step_recordings *step_recordings_create(struct compute *compute)
{
    struct step_recordings *made = compute->record_begin != NULL ? calloc(1, sizeof *made) : NULL;
    if (made != NULL) {
        made->compute = compute;
    }
    return made;
}

static void free_passes(struct compute *c, struct recorded_step *step)
{
    for (int pass = 0; pass < step_passes; pass++) {
        c->recording_free(c, step->passes[pass]);
        step->passes[pass] = NULL;
    }
}

void step_recordings_forget(struct step_recordings *recordings)
{
    for (int k = 0; recordings != NULL && k < recorded_steps; k++) {
        free_passes(recordings->compute, &recordings->steps[k]);
        recordings->steps[k] = (struct recorded_step){0};
    }
}

void step_recordings_free(struct step_recordings *recordings)
{
    step_recordings_forget(recordings);
    free(recordings);
}

static int same_places(const struct pass_places *a, const struct pass_places *b)
{
    return a->voxels == b->voxels && a->embedding == b->embedding && a->volumes == b->volumes &&
           a->crops == b->crops && a->bases == b->bases && a->crops_at_once == b->crops_at_once &&
           a->kept_chunks == b->kept_chunks;
}

static struct recorded_step *step_at(struct step_recordings *recordings, const struct pass_places *places)
{
    for (int k = 0; k < recorded_steps; k++) {
        if (recordings->steps[k].steps > 0 && same_places(&recordings->steps[k].places, places)) {
            return &recordings->steps[k];
        }
    }
    struct recorded_step *step = &recordings->steps[recordings->oldest];
    recordings->oldest = (recordings->oldest + 1) % recorded_steps;
    free_passes(recordings->compute, step);
    *step = (struct recorded_step){.places = *places};
    return step;
}

static int can_replay(struct compute *c, const struct recorded_step *step)
{
    int can = 1;
    for (int pass = 0; pass < step_passes; pass++) {
        can = can && step->passes[pass] != NULL && c->can_replay(c, step->passes[pass]);
    }
    return can;
}

void step_recordings_begin(struct step_recordings *recordings, const struct pass_places *places)
{
    if (recordings == NULL) {
        return;
    }
    recordings->now = NULL;
    if (places == NULL || recordings->failed) {
        return;
    }
    struct recorded_step *step = step_at(recordings, places);
    recordings->replays = can_replay(recordings->compute, step);
    if (!recordings->replays && step->passes[0] != NULL) {
        free_passes(recordings->compute, step);
        step->steps = 0; /* what has moved may move again */
    }
    recordings->now = step->steps > 0 ? step : NULL;
    step->steps++;
}

/* Gives up, and asks for this pass and those after it as ever. */
static enum voco_status go_without(struct step_recordings *recordings, enum voco_status (*ask)(void *context),
                                   void *context)
{
    log_line(LOG_INFO, "each operation of a step is asked for by itself: %s", voco_error_message());
    free_passes(recordings->compute, recordings->now);
    recordings->now = NULL;
    recordings->failed = 1;
    return ask(context);
}

enum voco_status step_recordings_pass(struct step_recordings *recordings, enum step_pass pass,
                                      struct arena *arena, enum voco_status (*ask)(void *context),
                                      void *context)
{
    struct recorded_step *now = recordings != NULL ? recordings->now : NULL;
    if (now == NULL) {
        return ask(context);
    }
    struct compute *c = recordings->compute;
    const struct arena_mark mark = arena_mark(arena);
    if (!recordings->replays) {
        const enum voco_status before = compute_status(c);
        if (before != VOCO_OK) {
            return before;
        }
        c->record_begin(c);
        const enum voco_status asked = ask(context);
        if (c->record_end(c, &now->passes[pass]) != VOCO_OK || asked != VOCO_OK) {
            arena_release(arena, mark);
            return go_without(recordings, ask, context);
        }
    }
    c->replay(c, now->passes[pass]);
    return VOCO_OK;
}
