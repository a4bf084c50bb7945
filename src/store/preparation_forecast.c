#include "store/preparation_forecast.h"

#include "base/atomic_file.h"
#include "base/byte_size.h"
#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/name_hash.h"
#include "store/preparation_sets.h"
#include "store/temporary_folder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A source that the sample may be drawn from. */
struct candidate {
    size_t request;
    size_t set;
    uint64_t bytes;
    uint64_t hash; /* of the path: the order of those of one size */
};

/* What is known of one set. */
struct prospect {
    size_t volumes;
    uint64_t bytes;
    size_t first; /* of its candidates, which lie together */
    /* of the sample */
    size_t sampled;
    double sampled_bytes, cache_bytes, seconds;
    double least, most; /* ratio */
};

struct forecast_work {
    struct preparation_sets sets;
    struct candidate *candidates; /* (count) by set, then size */
    size_t count;
    size_t missing;
    struct prospect *prospects;   /* (sets.count) */
    struct cache_request *sample; /* (sampled) */
    size_t *sample_sets;          /* (sampled) */
    size_t sampled;
    uint64_t bytes;
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    if (x->set != y->set) {
        return x->set < y->set ? -1 : 1;
    }
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? -1 : 1;
    }
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : (x->request < y->request ? -1 : 1);
}

static void list_candidates(struct forecast_work *work, const struct cache_request *requests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        if (stat(requests[i].source, &info) != 0) {
            work->missing++;
            continue;
        }
        struct name_hash hash;
        name_hash_start(&hash);
        name_hash_add_text(&hash, requests[i].source);
        const size_t set = work->sets.of_request[i];
        work->candidates[work->count++] =
            (struct candidate){i, set, (uint64_t)info.st_size, name_hash_value(&hash)};
        work->prospects[set].volumes++;
        work->prospects[set].bytes += (uint64_t)info.st_size;
        work->bytes += (uint64_t)info.st_size;
    }
    qsort(work->candidates, work->count, sizeof *work->candidates, compare_candidates);
    for (size_t i = 0, first = 0; i < work->sets.count; i++) {
        work->prospects[i].first = first;
        first += work->prospects[i].volumes;
    }
}

/* How many of a set. */
static size_t share(const struct prospect *prospect, uint64_t all_bytes, size_t sample)
{
    if (prospect->volumes == 0) {
        return 0;
    }
    const double exact =
        all_bytes > 0 ? (double)sample * (double)prospect->bytes / (double)all_bytes : (double)sample;
    const size_t rounded = exact < 1.0 ? 1 : (size_t)(exact + 0.5);
    return rounded < prospect->volumes ? rounded : prospect->volumes;
}

static enum voco_status draw_sample(struct forecast_work *work, const struct cache_request *requests,
                                    size_t sample)
{
    size_t room = 0;
    for (size_t i = 0; i < work->sets.count; i++) {
        room += share(&work->prospects[i], work->bytes, sample);
    }
    if (room == 0) {
        return fail(VOCO_BAD_INPUT, "none of the volumes that are listed is there");
    }
    work->sample = calloc(room, sizeof *work->sample);
    work->sample_sets = calloc(room, sizeof *work->sample_sets);
    if (work->sample == NULL || work->sample_sets == NULL) {
        return fail(VOCO_NO_MEMORY, "no memory for a sample of %zu volumes", room);
    }
    for (size_t i = 0; i < work->sets.count; i++) {
        const struct prospect *prospect = &work->prospects[i];
        const size_t wanted = share(prospect, work->bytes, sample);
        for (size_t k = 0; k < wanted; k++) { /* the middle of each of `wanted` equal parts */
            const size_t at = prospect->first + (2 * k + 1) * prospect->volumes / (2 * wanted);
            work->sample[work->sampled] = requests[work->candidates[at].request];
            work->sample_sets[work->sampled++] = i;
        }
    }
    return VOCO_OK;
}

/* ---- measuring ---- */

static void take_measurements(struct forecast_work *work, const struct preparation *preparation)
{
    for (size_t i = 0; i < preparation->count; i++) {
        const struct preparation_result *result = &preparation->results[i];
        if (result->origin == VOLUME_REPEATED || result->source_bytes == 0) {
            continue;
        }
        struct prospect *prospect = &work->prospects[work->sample_sets[preparation->requests[i]]];
        const double ratio = (double)result->cache_bytes / (double)result->source_bytes;
        prospect->least = prospect->sampled == 0 ? ratio : fmin(prospect->least, ratio);
        prospect->most = fmax(prospect->most, ratio);
        prospect->sampled++;
        prospect->sampled_bytes += (double)result->source_bytes;
        prospect->cache_bytes += (double)result->cache_bytes;
        prospect->seconds += result->thread_seconds;
    }
}

/* Prepares the sample; `preparation` is to be freed in any case. */
static enum voco_status measure(struct forecast_work *work, struct preparation *preparation,
                                const struct preparation_options *options)
{
    /* One left by a killed process is removed as those of volumes are. */
    char *folder = temporary_folder_path(options->folder, 0);
    if (folder == NULL) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", options->folder);
    }
    struct preparation_options own = *options;
    own.folder = folder;
    own.verify = 0;
    own.retry = 0;
    enum voco_status status = volume_cache_prepare(preparation, work->sample, work->sampled, &own);
    char *message = status != VOCO_OK ? strdup(voco_error_message()) : NULL;
    (void)remove_folder(folder);
    if (message != NULL) {
        status = fail(status, "%s", message);
        free(message);
    }
    free(folder);
    if (status == VOCO_OK) {
        take_measurements(work, preparation);
    }
    return status;
}

/* ---- predicting ---- */

/* The means over all sets, for those without a measurement. */
static struct prospect mean_prospect(const struct forecast_work *work)
{
    struct prospect mean = {0};
    for (size_t i = 0; i < work->sets.count; i++) {
        const struct prospect *prospect = &work->prospects[i];
        if (prospect->sampled > 0) {
            mean.least = mean.sampled == 0 ? prospect->least : fmin(mean.least, prospect->least);
            mean.most = fmax(mean.most, prospect->most);
            mean.sampled += prospect->sampled;
            mean.sampled_bytes += prospect->sampled_bytes;
            mean.cache_bytes += prospect->cache_bytes;
            mean.seconds += prospect->seconds;
        }
    }
    return mean;
}

static void set_number(json_t *object, const char *name, double value)
{
    (void)json_object_set_new(object, name, json_integer((json_int_t)(value + 0.5)));
}

struct prediction {
    double cache_bytes, least, most, seconds;
};

static json_t *predict_set(struct prediction *total, const struct preparation_set *set,
                           const struct prospect *prospect, const struct prospect *mean, int jobs)
{
    const struct prospect *known = prospect->sampled > 0 ? prospect : mean;
    const double bytes = (double)prospect->bytes;
    const double ratio = known->sampled_bytes > 0.0 ? known->cache_bytes / known->sampled_bytes : 0.0;
    const double pace = known->sampled_bytes > 0.0 ? known->seconds / known->sampled_bytes : 0.0;
    json_t *json = json_object();
    (void)json_object_set_new(json, "name", json_string(set->name));
    (void)json_object_set_new(json, "settings", cache_settings_json(set->settings));
    set_number(json, "volumes", (double)prospect->volumes);
    set_number(json, "sampled", (double)prospect->sampled);
    set_number(json, "source_bytes", bytes);
    set_number(json, "cache_bytes", bytes * ratio);
    (void)json_object_set_new(json, "ratio", json_real(ratio));
    (void)json_object_set_new(json, "ratio_least", json_real(known->least));
    (void)json_object_set_new(json, "ratio_most", json_real(known->most));
    (void)json_object_set_new(json, "seconds", json_real(bytes * pace / jobs));
    total->cache_bytes += bytes * ratio;
    total->least += bytes * known->least;
    total->most += bytes * known->most;
    total->seconds += bytes * pace / jobs;
    return json;
}

static json_t *predict(const struct forecast_work *work, const struct preparation *preparation,
                       const struct preparation_options *options)
{
    const int jobs = options->jobs > 1 ? options->jobs : 1;
    const struct prospect mean = mean_prospect(work);
    struct prediction total = {0};
    struct statvfs disk;
    char date[24];
    format_moment(date);
    json_t *sets = json_array();
    for (size_t i = 0; i < work->sets.count; i++) {
        (void)json_array_append_new(
            sets, predict_set(&total, &work->sets.sets[i], &work->prospects[i], &mean, jobs));
    }
    json_t *skipped = json_array();
    for (size_t i = 0; i < preparation->failure_count; i++) {
        json_t *item = json_pack("{s:s, s:s}", "source", preparation->failures[i].path, "cause",
                                 preparation->failures[i].message);
        (void)json_array_append_new(skipped, item);
    }
    json_t *json = json_object();
    (void)json_object_set_new(json, "version", json_string(VOCO_VERSION));
    (void)json_object_set_new(json, "date", json_string(date));
    set_number(json, "jobs", jobs);
    set_number(json, "volumes", (double)work->count);
    set_number(json, "missing", (double)work->missing);
    set_number(json, "sampled", (double)mean.sampled);
    set_number(json, "skipped", (double)preparation->failure_count);
    set_number(json, "source_bytes", (double)work->bytes);
    set_number(json, "cache_bytes", total.cache_bytes);
    set_number(json, "cache_bytes_least", total.least);
    set_number(json, "cache_bytes_most", total.most);
    (void)json_object_set_new(json, "seconds", json_real(total.seconds));
    if (statvfs(options->folder, &disk) == 0) {
        set_number(json, "free_bytes", (double)disk.f_bavail * (double)disk.f_frsize);
    }
    (void)json_object_set_new(json, "sets", sets);
    (void)json_object_set_new(json, "skipped_sources", skipped);
    return json;
}

enum voco_status preparation_forecast(json_t **forecast, const struct cache_request *requests, size_t count,
                                      size_t sample, const struct preparation_options *options)
{
    *forecast = NULL;
    struct stat info;
    struct forecast_work work = {0};
    struct preparation preparation = {0};
    const int was_there = stat(options->folder, &info) == 0;
    enum voco_status status = preparation_sets_list(&work.sets, requests, count);
    if (status != VOCO_OK) {
        return status;
    }
    work.candidates = calloc(count > 0 ? count : 1, sizeof *work.candidates);
    work.prospects = calloc(work.sets.count > 0 ? work.sets.count : 1, sizeof *work.prospects);
    if (work.candidates == NULL || work.prospects == NULL) {
        status = fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", count);
        goto done;
    }
    list_candidates(&work, requests, count);
    status = draw_sample(&work, requests, sample);
    if (status == VOCO_OK) {
        status = make_folders(options->folder);
    }
    if (status == VOCO_OK) {
        (void)temporary_folders_remove_abandoned(options->folder);
        status = measure(&work, &preparation, options);
    }
    if (status == VOCO_OK) {
        *forecast = predict(&work, &preparation, options);
    }
    if (!was_there) {
        (void)rmdir(options->folder); /* only when it is empty */
    }

done:
    preparation_free(&preparation);
    preparation_sets_free(&work.sets);
    free(work.candidates);
    free(work.prospects);
    free(work.sample);
    free(work.sample_sets);
    return status;
}

/* ---- for people ---- */

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

void preparation_forecast_print(FILE *out, const json_t *forecast)
{
    char a[byte_size_room];
    char b[byte_size_room];
    char duration[32];
    const json_t *sets = json_object_get(forecast, "sets");
    const json_t *set = NULL;
    size_t i = 0;
    (void)fprintf(out, "%-24s %8s %8s %10s %10s %6s %13s %12s\n", "data set", "volumes", "sampled", "sources",
                  "cache", "ratio", "(of sampled)", "time");
    json_array_foreach(sets, i, set)
    {
        const char *name = json_string_value(json_object_get(set, "name"));
        (void)fprintf(out, "%-24s %8.0f %8.0f %10s %10s %6.2f %6.2f - %4.2f %12s\n",
                      name != NULL && name[0] != '\0' ? name : "all", number(set, "volumes"),
                      number(set, "sampled"), format_byte_size(a, number(set, "source_bytes")),
                      format_byte_size(b, number(set, "cache_bytes")), number(set, "ratio"),
                      number(set, "ratio_least"), number(set, "ratio_most"),
                      format_duration(duration, number(set, "seconds")));
    }
    (void)fprintf(out, "the cache of %.0f volumes will take about %s", number(forecast, "volumes"),
                  format_byte_size(a, number(forecast, "cache_bytes")));
    (void)fprintf(out, " (%s to %s)", format_byte_size(a, number(forecast, "cache_bytes_least")),
                  format_byte_size(b, number(forecast, "cache_bytes_most")));
    (void)fprintf(out, " and %s with %.0f jobs, judging by %.0f of them; %s are free\n",
                  format_duration(duration, number(forecast, "seconds")), number(forecast, "jobs"),
                  number(forecast, "sampled"), format_byte_size(a, number(forecast, "free_bytes")));
    json_array_foreach(json_object_get(forecast, "skipped_sources"), i, set)
    {
        (void)fprintf(out, "skipped: %s\n", json_string_value(json_object_get(set, "cause")));
    }
    if (number(forecast, "missing") > 0.0) {
        (void)fprintf(out, "%.0f volumes that are listed are not there\n", number(forecast, "missing"));
    }
}
