#include "train/tensorboard_log.h"

#include "base/error.h"
#include "base/log.h"
#include "formats/png.h"
#include "train/crop_montage.h"

#include <stdlib.h>
#include <time.h>

/* Seconds since 1970. */
static double wall_time(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* After a failure. */
static void give_up(struct tensorboard_log *log)
{
    log_line(LOG_WARNING, "the run goes on without event files for TensorBoard: %s", voco_error_message());
    (void)tensorboard_events_close(log->events);
    log->events = NULL;
}

void tensorboard_log_open(struct tensorboard_log *log, const char *folder, long long next_step)
{
    if (tensorboard_events_create(&log->events, folder, next_step, wall_time()) != VOCO_OK) {
        give_up(log);
    }
}

void tensorboard_log_append(struct tensorboard_log *log, const struct step_metrics *m)
{
    if (log->events == NULL) {
        return;
    }
    const struct tensorboard_scalar scalars[] = {
        {"loss/total", (float)m->loss},
        {"loss/intra", (float)m->intra},
        {"loss/inter", (float)m->inter},
        {"loss/reg", (float)m->reg},
        {"learning/position_accuracy", (float)m->position_accuracy},
        {"learning/correlation", (float)m->correlation},
        {"embeddings/effective_rank", (float)m->effective_rank},
        {"embeddings/feature_spread", (float)m->feature_spread},
        {"optimiser/learning_rate", (float)m->learning_rate},
        {"optimiser/gradient_norm", (float)m->grad_norm},
        {"speed/crops_per_second", (float)m->crops_per_second},
    };
    if (tensorboard_events_scalars(log->events, m->step, wall_time(), scalars,
                                   sizeof scalars / sizeof scalars[0]) != VOCO_OK) {
        give_up(log);
    }
}

void tensorboard_log_crops(struct tensorboard_log *log, long long step, const struct batch *batch)
{
    struct crop_montage montage = {0};
    unsigned char *png = NULL;
    size_t size = 0;
    if (log->events == NULL) {
        return;
    }
    enum voco_status status = crop_montage_make(&montage, batch);
    if (status == VOCO_OK) {
        status = png_encode_grey(&png, &size, montage.pixels, montage.width, montage.height);
    }
    if (status == VOCO_OK) {
        status = tensorboard_events_image(log->events, step, wall_time(), "crops", png, size);
    }
    if (status != VOCO_OK) {
        give_up(log);
    }
    free(png);
    free(montage.pixels);
}

void tensorboard_log_close(struct tensorboard_log *log)
{
    if (tensorboard_events_close(log->events) != VOCO_OK) {
        log_line(LOG_WARNING, "event files for TensorBoard may lack their end: %s", voco_error_message());
    }
    log->events = NULL;
}
