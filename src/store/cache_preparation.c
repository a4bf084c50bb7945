#include "store/cache_preparation.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "volume/resample.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What became of one source. */
struct outcome {
    char *path;    /* of its cache file, once that is whole */
    char *message; /* why there is none */
    int reused;
};

/* What the threads share. */
struct work {
    const struct volume_cache *cache;
    const char *const *sources;
    size_t count;
    const volatile sig_atomic_t *stop;
    struct outcome *outcomes; /* (count) each written by the thread that took it */

    pthread_mutex_t lock; /* for what follows */
    size_t next;
    size_t done;
    double started;
    double last_said;
    enum voco_status broken; /* the error that ends the work */
    char *broken_message;
};

/* The whole volume at the window's size: trilinear with aligned corners, so voxel (0, 0, 0) and the last one
 * stay where they are, and the spacing follows. */
static enum voco_status resize_to_window(struct volume *volume, const int window[3])
{
    struct volume resized = {.size = {window[0], window[1], window[2]}};
    resized.data = malloc(volume_count(&resized) * sizeof *resized.data);
    if (resized.data == NULL) {
        return fail(VOCO_NO_MEMORY, "%zu voxels do not fit in memory", volume_count(&resized));
    }
    const enum voco_status status = resize_trilinear(resized.data, resized.size, volume->data, volume->size);
    if (status != VOCO_OK) {
        volume_free(&resized);
        return status;
    }
    memcpy(resized.affine, volume->affine, sizeof resized.affine);
    for (int axis = 0; axis < 3; axis++) {
        const double scale =
            window[axis] > 1 ? (double)(volume->size[axis] - 1) / (double)(window[axis] - 1) : 1.0;
        resized.spacing[axis] = volume->spacing[axis] * scale;
        for (int row = 0; row < 3; row++) {
            resized.affine[row][axis] = volume->affine[row][axis] * scale;
        }
    }
    volume_free(volume);
    *volume = resized;
    return VOCO_OK;
}

static enum voco_status prepare_for_window(struct volume *volume, const char *source,
                                           const struct volume_cache *cache)
{
    const int *window = cache->window;
    if (cache->preset.window == WINDOW_CROP) {
        return prepare_volume(volume, source, &cache->preset, window);
    }
    const int crop_size[3] = {window[2], window[2], window[2]};
    enum voco_status status = prepare_volume(volume, source, &cache->preset, crop_size);
    if (status == VOCO_OK) {
        status = resize_to_window(volume, window);
        if (status != VOCO_OK) {
            volume_free(volume);
            status = add_context(status, "%s", source);
        }
    }
    return status;
}

/* `*storing` tells whether a failure is the cache's and not the source's. */
static enum voco_status bring_into_cache(struct outcome *outcome, const char *source,
                                         const struct volume_cache *cache, int *storing)
{
    struct cache_entry entry;
    struct volume volume = {0};
    enum voco_status status = cache_entry_of(&entry, cache, source);
    if (status != VOCO_OK) {
        return status;
    }
    outcome->reused = cache_entry_is_good(&entry);
    if (!outcome->reused) {
        status = prepare_for_window(&volume, source, cache);
        if (status == VOCO_OK) {
            *storing = 1;
            status = volume_cache_store(cache, &entry, &volume);
            volume_free(&volume);
        }
    }
    if (status == VOCO_OK) {
        outcome->path = entry.path;
        entry.path = NULL;
    }
    cache_entry_free(&entry);
    return status;
}

/* With the lock held: a line at most 5 times a second, and at the end. */
static void say_progress(struct work *work)
{
    const double now = seconds_now();
    if (work->done < work->count && now - work->last_said < 0.2) {
        return;
    }
    work->last_said = now;
    const double rate = (double)work->done / (now - work->started + 1e-9);
    char left[32];
    log_line(LOG_PROGRESS, "preparing volumes: %zu of %zu, %.1f/s, %s left", work->done, work->count, rate,
             format_duration(left, (double)(work->count - work->done) / rate));
}

static int take_next(struct work *work, size_t *index)
{
    pthread_mutex_lock(&work->lock);
    const int taken =
        work->next < work->count && work->broken == VOCO_OK && !(work->stop != NULL && *work->stop);
    if (taken) {
        *index = work->next++;
    }
    pthread_mutex_unlock(&work->lock);
    return taken;
}

static void *prepare_volumes(void *context)
{
    struct work *work = context;
    size_t index = 0;
    while (take_next(work, &index)) {
        struct outcome *outcome = &work->outcomes[index];
        int storing = 0;
        const enum voco_status status =
            bring_into_cache(outcome, work->sources[index], work->cache, &storing);
        if (status != VOCO_OK) {
            outcome->message = strdup(voco_error_message());
        }
        pthread_mutex_lock(&work->lock);
        work->done++;
        if (status != VOCO_OK && storing && work->broken == VOCO_OK) {
            work->broken = status;
            work->broken_message = outcome->message;
        }
        say_progress(work);
        pthread_mutex_unlock(&work->lock);
    }
    return NULL;
}

/* This thread is one of the `jobs`; fewer are no error. */
static void run_threads(struct work *work, int jobs)
{
    const size_t wanted =
        (size_t)(jobs > 1 ? jobs : 1) < work->count ? (size_t)(jobs > 1 ? jobs : 1) : work->count;
    pthread_t *threads = calloc(wanted, sizeof *threads);
    size_t started = 0;
    while (threads != NULL && started + 1 < wanted &&
           pthread_create(&threads[started], NULL, prepare_volumes, work) == 0) {
        started++;
    }
    (void)prepare_volumes(work);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
}

/* Moves the outcomes to where the caller reads them. */
static enum voco_status collect(struct preparation *out, struct work *work)
{
    out->paths = calloc(work->count, sizeof *out->paths);
    out->sources = calloc(work->count, sizeof *out->sources);
    out->failures = calloc(work->count, sizeof *out->failures);
    if (out->paths == NULL || out->sources == NULL || out->failures == NULL) {
        return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", work->count);
    }
    for (size_t i = 0; i < work->count; i++) {
        struct outcome *outcome = &work->outcomes[i];
        if (outcome->path != NULL) {
            out->paths[out->count] = outcome->path;
            out->sources[out->count++] = i;
            out->reused += (size_t)outcome->reused;
        } else if (outcome->message != NULL) {
            struct preparation_failure *failure = &out->failures[out->failure_count++];
            failure->path = strdup(work->sources[i]);
            failure->message = outcome->message;
            if (failure->path == NULL) {
                outcome->path = NULL;
                outcome->message = NULL;
                return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", work->count);
            }
        }
        *outcome = (struct outcome){0};
    }
    return VOCO_OK;
}

static enum voco_status conclude(const struct preparation *out, const struct work *work)
{
    if (work->broken != VOCO_OK) {
        return fail(work->broken, "%s",
                    work->broken_message != NULL ? work->broken_message : "out of memory");
    }
    if (work->done < work->count) {
        return fail(VOCO_STOPPED, "stopped while preparing volumes: %zu of %zu are done", work->done,
                    work->count);
    }
    if (out->count == 0) {
        const char *cause = out->failure_count > 0 ? out->failures[0].message : "out of memory";
        return work->count == 1
                   ? fail(VOCO_BAD_INPUT, "%s", cause)
                   : fail(VOCO_BAD_INPUT, "%s (and none of the %zu volumes can be used)", cause, work->count);
    }
    return VOCO_OK;
}

enum voco_status volume_cache_prepare(struct preparation *out, const struct volume_cache *cache,
                                      const char *const *sources, size_t count, int jobs,
                                      const volatile sig_atomic_t *stop)
{
    *out = (struct preparation){0};
    if (count == 0) {
        return fail(VOCO_BAD_INPUT, "there are no volumes to prepare");
    }
    struct work work = {
        .cache = cache, .sources = sources, .count = count, .stop = stop, .started = seconds_now()};
    work.outcomes = calloc(count, sizeof *work.outcomes);
    if (work.outcomes == NULL) {
        return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", count);
    }
    pthread_mutex_init(&work.lock, NULL);
    run_threads(&work, jobs);
    pthread_mutex_destroy(&work.lock);

    enum voco_status status = collect(out, &work);
    if (status == VOCO_OK) {
        status = conclude(out, &work);
    } else {
        preparation_free(out);
    }
    for (size_t i = 0; i < count; i++) {
        free(work.outcomes[i].path);
        free(work.outcomes[i].message);
    }
    free(work.outcomes);
    return status;
}

void preparation_free(struct preparation *preparation)
{
    for (size_t i = 0; i < preparation->count; i++) {
        free(preparation->paths[i]);
    }
    for (size_t i = 0; i < preparation->failure_count; i++) {
        free(preparation->failures[i].path);
        free(preparation->failures[i].message);
    }
    free(preparation->paths);
    free(preparation->sources);
    free(preparation->failures);
    *preparation = (struct preparation){0};
}
