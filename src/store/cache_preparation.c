#include "store/cache_preparation.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "store/claim.h"
#include "store/preparation_memory.h"
#include "store/preparation_progress.h"
#include "store/preparation_queue.h"
#include "store/skipped_source.h"
#include "store/temporary_folder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double seconds_until_next_look = 0.5; /* at a volume that another process works on */

/* What is known of one request. */
struct source {
    struct cache_entry entry; /* path NULL: it has none */
    size_t first;             /* the request that stands for this entry: itself, or one before it */
    int ready;
    struct preparation_result result;
    char *message; /* why it is skipped */
    int remembered;
    int forgotten; /* what was remembered of it, once, because of options.retry */
    int seen_busy; /* by another process */
};

/* What the threads share. */
struct work {
    const struct cache_request *requests;
    size_t count;
    const struct preparation_options *options;
    struct source *sources; /* (count) each written by the thread that has taken it */
    size_t *units;          /* (unit_count) the requests that stand for an entry, in order */
    size_t unit_count;
    atomic_size_t next_look_up;
    struct claims *claims;
    struct preparation_queue queue;
    struct preparation_progress progress;

    pthread_mutex_t lock;    /* for what follows */
    enum voco_status broken; /* the error that ends the work */
    char *broken_message;
};

static int is_stopped(const struct work *work)
{
    return work->options->stop != NULL && *work->options->stop;
}

/* This thread is one of the `jobs`; fewer are no error. */
static void run_threads(struct work *work, void *(*job)(void *), size_t units)
{
    const size_t jobs = work->options->jobs > 1 ? (size_t)work->options->jobs : 1;
    const size_t wanted = jobs < units ? jobs : units;
    pthread_t *threads = calloc(wanted > 0 ? wanted : 1, sizeof *threads);
    size_t started = 0;
    while (threads != NULL && started + 1 < wanted &&
           pthread_create(&threads[started], NULL, job, work) == 0) {
        started++;
    }
    (void)job(work);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
}

static void end_work(struct work *work, enum voco_status status)
{
    pthread_mutex_lock(&work->lock);
    if (work->broken == VOCO_OK) {
        work->broken = status;
        work->broken_message = strdup(voco_error_message());
    }
    pthread_mutex_unlock(&work->lock);
    preparation_queue_end(&work->queue);
}

/* ---- first pass: where in the cache is each request? ---- */

static void *look_up(void *context)
{
    struct work *work = context;
    size_t i = 0;
    while (!is_stopped(work) && (i = atomic_fetch_add(&work->next_look_up, 1)) < work->count) {
        struct source *source = &work->sources[i];
        if (cache_entry_of(&source->entry, work->options->folder, &work->requests[i]) != VOCO_OK) {
            source->message = strdup(voco_error_message());
        }
    }
    return NULL;
}

struct numbered_entry {
    const struct cache_entry *entry;
    size_t request;
};

static int compare_entries(const void *a, const void *b)
{
    const struct numbered_entry *x = a;
    const struct numbered_entry *y = b;
    const int order = x->entry->key != y->entry->key ? (x->entry->key < y->entry->key ? -1 : 1)
                                                     : strcmp(x->entry->source, y->entry->source);
    return order != 0 ? order : (x->request < y->request ? -1 : x->request > y->request);
}

/* Finds the requests that are the same, and makes the list of those that are not. */
static enum voco_status list_units(struct work *work)
{
    struct numbered_entry *order = calloc(work->count, sizeof *order);
    work->units = calloc(work->count, sizeof *work->units);
    if (order == NULL || work->units == NULL) {
        free(order);
        return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", work->count);
    }
    size_t known = 0;
    for (size_t i = 0; i < work->count; i++) {
        work->sources[i].first = i;
        if (work->sources[i].entry.path != NULL) {
            order[known++] = (struct numbered_entry){&work->sources[i].entry, i};
        }
    }
    qsort(order, known, sizeof *order, compare_entries);
    for (size_t i = 1; i < known; i++) {
        const struct cache_entry *before = order[i - 1].entry;
        if (order[i].entry->key == before->key && strcmp(order[i].entry->source, before->source) == 0) {
            work->sources[order[i].request].first = work->sources[order[i - 1].request].first;
        }
    }
    free(order);
    for (size_t i = 0; i < work->count; i++) {
        if (work->sources[i].entry.path != NULL && work->sources[i].first == i) {
            work->units[work->unit_count++] = i;
        }
    }
    return VOCO_OK;
}

/* ---- second pass: bring what is missing into the cache ---- */

/* Whether nothing is left to do for the source: it is there, or is known to be bad. */
static int is_settled(struct source *source, const struct cache_request *request,
                      const struct preparation_options *options)
{
    uint64_t bytes = 0;
    if (cache_entry_is_there(&source->entry, request, &bytes) &&
        (!options->verify || cached_volume_verify(source->entry.path) == VOCO_OK)) {
        source->ready = 1;
        source->result = (struct preparation_result){
            .origin = source->seen_busy ? VOLUME_ELSEWHERE : VOLUME_REUSED,
            .source_bytes = source->entry.source_bytes,
            .cache_bytes = bytes,
        };
        return 1;
    }
    if (options->retry && !source->forgotten) {
        skipped_source_forget(options->folder, source->entry.key);
        source->forgotten = 1;
    }
    source->message = skipped_source_read(options->folder, source->entry.key);
    source->remembered = source->message != NULL;
    return source->remembered;
}

/* With the claim held. Any other failure than one to write to the cache is the source's own. */
static enum voco_status make(struct work *work, struct source *source, const struct cache_request *request)
{
    const uint64_t memory = preparation_memory(request);
    const int threads = preparation_queue_reserve(&work->queue, memory);
    if (threads == 0) {
        return VOCO_STOPPED;
    }
    int storing = 0;
    uint64_t bytes = 0;
    const double began = seconds_now();
    enum voco_status status = cache_entry_make(&bytes, &storing, &source->entry, request, threads);
    preparation_queue_release(&work->queue, memory);
    if (status == VOCO_OK) {
        source->ready = 1;
        source->result = (struct preparation_result){
            .origin = VOLUME_MADE,
            .source_bytes = source->entry.source_bytes,
            .cache_bytes = bytes,
            .thread_seconds = (seconds_now() - began) * threads,
        };
        return VOCO_OK;
    }
    if (storing && status == VOCO_IO) {
        return status;
    }
    source->message = strdup(voco_error_message());
    if (source->message != NULL && (status == VOCO_BAD_INPUT || status == VOCO_UNSUPPORTED)) {
        return skipped_source_write(work->options->folder, source->entry.key, source->message);
    }
    return VOCO_OK;
}

/* *busy: another process is at it. VOCO_STOPPED where it was not begun; any other failure ends the work. */
static enum voco_status settle(struct work *work, struct source *source, const struct cache_request *request,
                               int *busy)
{
    *busy = 0;
    if (is_settled(source, request, work->options)) {
        return VOCO_OK;
    }
    int taken = 0;
    enum voco_status status = claim_take(work->claims, source->entry.key, &taken, NULL);
    if (status != VOCO_OK || !taken) {
        *busy = status == VOCO_OK;
        source->seen_busy |= *busy;
        return status;
    }
    /* Another process may have finished it just before it was claimed here. */
    if (!is_settled(source, request, work->options)) {
        status = make(work, source, request);
    }
    claim_drop(work->claims, source->entry.key);
    return status;
}

static void *prepare_volumes(void *context)
{
    struct work *work = context;
    size_t unit = 0;
    while (preparation_queue_take(&work->queue, &unit)) {
        struct source *source = &work->sources[work->units[unit]];
        int busy = 0;
        const enum voco_status status = settle(work, source, &work->requests[work->units[unit]], &busy);
        if (busy) {
            preparation_queue_defer(&work->queue, unit, seconds_until_next_look);
            preparation_progress_waiting(&work->progress);
            continue;
        }
        if (status != VOCO_OK && status != VOCO_STOPPED) {
            end_work(work, status);
        }
        if (source->ready || source->message != NULL) {
            const int worked_on =
                source->ready ? source->result.origin != VOLUME_REUSED : !source->remembered;
            preparation_progress_done(&work->progress, source->entry.source_bytes, worked_on);
        }
        preparation_queue_done(&work->queue);
    }
    return NULL;
}

static enum voco_status prepare_units(struct work *work)
{
    const struct preparation_options *options = work->options;
    uint64_t bytes = 0;
    for (size_t i = 0; i < work->unit_count; i++) {
        bytes += work->sources[work->units[i]].entry.source_bytes;
    }
    enum voco_status status = claims_open(&work->claims, options->folder);
    if (status != VOCO_OK) {
        return status;
    }
    status = preparation_queue_open(&work->queue, work->unit_count, options->jobs,
                                    options->memory > 0 ? options->memory : preparation_memory_default(),
                                    options->stop);
    if (status == VOCO_OK) {
        preparation_progress_open(&work->progress, work->unit_count, bytes, options->quiet);
        run_threads(work, prepare_volumes, work->unit_count);
        preparation_progress_close(&work->progress);
        preparation_queue_close(&work->queue);
    }
    claims_close(work->claims);
    return status;
}

/* ---- what came of it ---- */

/* A request that is listed before has that one's fate. */
static enum voco_status collect_one(struct preparation *out, struct work *work, size_t i)
{
    const struct source *source = &work->sources[work->sources[i].first];
    const int repeated = work->sources[i].first != i;
    if (source->ready) {
        char *path = cached_array_path(source->entry.path, work->requests[i].settings->preset.window);
        if (path == NULL) {
            return VOCO_NO_MEMORY;
        }
        out->paths[out->count] = path;
        out->requests[out->count] = i;
        out->results[out->count] =
            repeated ? (struct preparation_result){.origin = VOLUME_REPEATED} : source->result;
        const struct preparation_result *result = &out->results[out->count++];
        out->reused += result->origin == VOLUME_REUSED;
        out->made += result->origin == VOLUME_MADE;
        out->source_bytes += result->source_bytes;
        out->cache_bytes += result->cache_bytes;
    } else if (source->message != NULL) {
        struct preparation_failure *failure = &out->failures[out->failure_count++];
        failure->request = i;
        failure->remembered = source->remembered;
        failure->path = strdup(work->requests[i].source);
        failure->message = strdup(source->message);
        if (failure->path == NULL || failure->message == NULL) {
            return VOCO_NO_MEMORY;
        }
    }
    return VOCO_OK;
}

static enum voco_status collect(struct preparation *out, struct work *work)
{
    out->paths = calloc(work->count, sizeof *out->paths);
    out->requests = calloc(work->count, sizeof *out->requests);
    out->results = calloc(work->count, sizeof *out->results);
    out->failures = calloc(work->count, sizeof *out->failures);
    enum voco_status status =
        out->paths != NULL && out->requests != NULL && out->results != NULL && out->failures != NULL
            ? VOCO_OK
            : VOCO_NO_MEMORY;
    for (size_t i = 0; i < work->count && status == VOCO_OK; i++) {
        status = collect_one(out, work, i);
    }
    if (status != VOCO_OK) {
        preparation_free(out);
        return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", work->count);
    }
    return VOCO_OK;
}

static enum voco_status conclude(const struct preparation *out, const struct work *work)
{
    if (work->broken != VOCO_OK) {
        return fail(work->broken, "%s",
                    work->broken_message != NULL ? work->broken_message : "out of memory");
    }
    if (out->count + out->failure_count < work->count) {
        return is_stopped(work)
                   ? fail(VOCO_STOPPED, "stopped while preparing volumes: %zu of %zu are done",
                          out->count + out->failure_count, work->count)
                   : fail(VOCO_NO_MEMORY, "out of memory while preparing %zu volumes", work->count);
    }
    if (out->count == 0) {
        const char *cause = out->failures[0].message;
        return work->count == 1
                   ? fail(VOCO_BAD_INPUT, "%s", cause)
                   : fail(VOCO_BAD_INPUT, "%s (and none of the %zu volumes can be used)", cause, work->count);
    }
    return VOCO_OK;
}

static enum voco_status fill(struct work *work)
{
    enum voco_status status = make_folders(work->options->folder);
    if (status != VOCO_OK) {
        return status;
    }
    (void)temporary_folders_remove_abandoned(
        work->options->folder); /* what stays takes room and nothing else */
    claims_remove_abandoned(work->options->folder);
    atomic_files_remove_abandoned(work->options->folder);
    run_threads(work, look_up, work->count);
    status = list_units(work);
    return status == VOCO_OK ? prepare_units(work) : status;
}

enum voco_status volume_cache_prepare(struct preparation *out, const struct cache_request *requests,
                                      size_t count, const struct preparation_options *options)
{
    const double began = seconds_now();
    *out = (struct preparation){0};
    if (count == 0) {
        return fail(VOCO_BAD_INPUT, "there are no volumes to prepare");
    }
    struct work work = {.requests = requests, .count = count, .options = options};
    work.sources = calloc(count, sizeof *work.sources);
    if (work.sources == NULL) {
        return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", count);
    }
    (void)pthread_mutex_init(&work.lock, NULL);
    enum voco_status status = fill(&work);
    (void)pthread_mutex_destroy(&work.lock);
    if (status == VOCO_OK) {
        status = collect(out, &work);
    }
    if (status == VOCO_OK) {
        status = conclude(out, &work);
    }
    out->seconds = seconds_now() - began;
    for (size_t i = 0; i < count; i++) {
        cache_entry_free(&work.sources[i].entry);
        free(work.sources[i].message);
    }
    free(work.sources);
    free(work.units);
    free(work.broken_message);
    return status;
}

void preparation_free(struct preparation *preparation)
{
    for (size_t i = 0; preparation->paths != NULL && i < preparation->count; i++) {
        free(preparation->paths[i]);
    }
    for (size_t i = 0; preparation->failures != NULL && i < preparation->failure_count; i++) {
        free(preparation->failures[i].path);
        free(preparation->failures[i].message);
    }
    free(preparation->paths);
    free(preparation->requests);
    free(preparation->results);
    free(preparation->failures);
    *preparation = (struct preparation){0};
}
