#include "store/preparation_progress.h"

#include "base/clock.h"
#include "base/log.h"

void preparation_progress_open(struct preparation_progress *progress, size_t count, uint64_t bytes, int quiet)
{
    *progress = (struct preparation_progress){
        .count = count, .bytes = bytes, .quiet = quiet, .started = seconds_now()};
    (void)pthread_mutex_init(&progress->lock, NULL);
}

void preparation_progress_close(struct preparation_progress *progress)
{
    (void)pthread_mutex_destroy(&progress->lock);
}

/* Time left goes by bytes, since sizes differ, and by what was worked on, since looking up what is there
 * takes no time. */
static void say(const struct preparation_progress *progress, double seconds)
{
    char left[32] = "?";
    const double rate = (double)progress->worked_on / seconds;
    const double byte_rate = (double)progress->bytes_worked_on / seconds;
    const double bytes_left = (double)(progress->bytes - progress->bytes_done);
    if (byte_rate > 0.0 || bytes_left <= 0.0) {
        (void)format_duration(left, byte_rate > 0.0 ? bytes_left / byte_rate : 0.0);
    }
    if (progress->worked_on == 0) {
        log_line(LOG_PROGRESS, "preparing volumes: %zu of %zu, all there so far", progress->done,
                 progress->count);
        return;
    }
    log_line(LOG_PROGRESS, "preparing volumes: %zu of %zu, %.1f/s, %.1f MB/s, %s left", progress->done,
             progress->count, rate, byte_rate / 1e6, left);
}

void preparation_progress_done(struct preparation_progress *progress, uint64_t bytes, int worked_on)
{
    pthread_mutex_lock(&progress->lock);
    progress->done++;
    progress->bytes_done += bytes;
    if (worked_on) {
        progress->worked_on++;
        progress->bytes_worked_on += bytes;
    }
    const double now = seconds_now();
    if (!progress->quiet && (progress->done == progress->count || now - progress->last_said >= 0.2)) {
        progress->last_said = now;
        say(progress, now - progress->started + 1e-9);
    }
    pthread_mutex_unlock(&progress->lock);
}

void preparation_progress_waiting(struct preparation_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    const double now = seconds_now();
    if (!progress->quiet && now - progress->started > 2.0 && now - progress->last_said > 2.0) {
        progress->last_said = now;
        log_line(LOG_PROGRESS, "preparing volumes: %zu of %zu, waiting for what other processes prepare",
                 progress->done, progress->count);
    }
    pthread_mutex_unlock(&progress->lock);
}
