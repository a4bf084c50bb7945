#include "store/preparation_report.h"

#include "base/atomic_file.h"
#include "base/byte_size.h"
#include "base/error.h"
#include "base/log.h"
#include "store/preparation_sets.h"

#include <stdlib.h>
#include <string.h>

struct tally {
    size_t listed, ready, made, elsewhere, reused, repeated, skipped;
    uint64_t source_bytes, cache_bytes;
};

static void count_ready(struct tally *tally, const struct preparation_result *result)
{
    tally->ready++;
    tally->made += result->origin == VOLUME_MADE;
    tally->elsewhere += result->origin == VOLUME_ELSEWHERE;
    tally->reused += result->origin == VOLUME_REUSED;
    tally->repeated += result->origin == VOLUME_REPEATED;
    tally->source_bytes += result->source_bytes;
    tally->cache_bytes += result->cache_bytes;
}

static void add_tally(json_t *object, const struct tally *tally)
{
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"listed", tally->listed},
        {"ready", tally->ready},
        {"made", tally->made},
        {"elsewhere", tally->elsewhere},
        {"reused", tally->reused},
        {"repeated", tally->repeated},
        {"skipped", tally->skipped},
        {"not_reached", tally->listed - tally->ready - tally->skipped},
        {"source_bytes", tally->source_bytes},
        {"cache_bytes", tally->cache_bytes},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        (void)json_object_set_new(object, members[i].name, json_integer((json_int_t)members[i].value));
    }
    const double ratio =
        tally->source_bytes > 0 ? (double)tally->cache_bytes / (double)tally->source_bytes : 0.0;
    (void)json_object_set_new(object, "ratio", json_real(ratio));
}

static json_t *sets_json(const struct preparation_sets *sets, const struct tally *tallies)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sets->count; i++) {
        json_t *set = json_object();
        (void)json_object_set_new(set, "name", json_string(sets->sets[i].name));
        add_tally(set, &tallies[i]);
        (void)json_object_set_new(set, "settings", cache_settings_json(sets->sets[i].settings));
        (void)json_array_append_new(list, set);
    }
    return list;
}

/* A path that is not UTF-8 gets '?' in its place: JSON has no other. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);
    char *copy = json == NULL ? strdup(text) : NULL;
    for (char *c = copy; c != NULL && *c != '\0'; c++) {
        *c = (unsigned char)*c >= 0x80 ? '?' : *c;
    }
    json = copy != NULL ? json_string(copy) : json;
    free(copy);
    return json;
}

static json_t *skipped_json(const struct preparation *preparation, const struct cache_request *requests)
{
    json_t *list = json_array();
    for (size_t i = 0; i < preparation->failure_count; i++) {
        const struct preparation_failure *failure = &preparation->failures[i];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:o, s:o, s:b}", "set", requests[failure->request].set, "source",
                            text_json(failure->path), "cause", text_json(failure->message), "remembered",
                            failure->remembered));
    }
    return list;
}

static json_t *problems_json(const struct set_problem *problems, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(
            list, json_pack("{s:s, s:o}", "set", problems[i].set, "problem", text_json(problems[i].problem)));
    }
    return list;
}

json_t *preparation_report(const struct preparation *preparation, const struct cache_request *requests,
                           size_t count, const struct set_problem *problems, size_t problem_count,
                           const char *ended)
{
    struct preparation_sets sets;
    if (preparation_sets_list(&sets, requests, count) != VOCO_OK) {
        return NULL;
    }
    struct tally total = {.listed = count};
    struct tally *tallies = calloc(sets.count > 0 ? sets.count : 1, sizeof *tallies);
    json_t *report = tallies != NULL ? json_object() : NULL;
    if (report != NULL) {
        for (size_t i = 0; i < sets.count; i++) {
            tallies[i].listed = sets.sets[i].listed;
        }
        for (size_t i = 0; i < preparation->count; i++) {
            count_ready(&total, &preparation->results[i]);
            count_ready(&tallies[sets.of_request[preparation->requests[i]]], &preparation->results[i]);
        }
        for (size_t i = 0; i < preparation->failure_count; i++) {
            total.skipped++;
            tallies[sets.of_request[preparation->failures[i].request]].skipped++;
        }
        char date[24];
        format_moment(date);
        json_t *all = json_object();
        add_tally(all, &total);
        (void)json_object_set_new(report, "version", json_string(VOCO_VERSION));
        (void)json_object_set_new(report, "date", json_string(date));
        (void)json_object_set_new(report, "ended", text_json(ended));
        (void)json_object_set_new(report, "seconds", json_real(preparation->seconds));
        (void)json_object_set_new(report, "total", all);
        (void)json_object_set_new(report, "sets", sets_json(&sets, tallies));
        (void)json_object_set_new(report, "problems", problems_json(problems, problem_count));
        (void)json_object_set_new(report, "skipped", skipped_json(preparation, requests));
    }
    free(tallies);
    preparation_sets_free(&sets);
    return report;
}

/* ---- for people ---- */

static long long number(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : "";
}

static void print_row(FILE *out, const char *name, int width, const json_t *tally)
{
    char source[byte_size_room];
    char cache[byte_size_room];
    (void)fprintf(out, "%-*s %8lld %8lld %8lld %8lld %8lld %10s %10s %6.2f\n", width, name,
                  number(tally, "listed"), number(tally, "ready"),
                  number(tally, "made") + number(tally, "elsewhere"), number(tally, "reused"),
                  number(tally, "skipped"), format_byte_size(source, (double)number(tally, "source_bytes")),
                  format_byte_size(cache, (double)number(tally, "cache_bytes")),
                  json_real_value(json_object_get(tally, "ratio")));
}

void preparation_report_print(FILE *out, const json_t *report, int causes)
{
    const json_t *sets = json_object_get(report, "sets");
    const json_t *total = json_object_get(report, "total");
    int width = 8;
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(sets, i, item)
    {
        const int length = (int)strlen(text(item, "name"));
        width = length > width && length <= 40 ? length : width;
    }
    (void)fprintf(out, "%-*s %8s %8s %8s %8s %8s %10s %10s %6s\n", width, "data set", "listed", "ready",
                  "new", "reused", "skipped", "sources", "cache", "ratio");
    json_array_foreach(sets, i, item)
    {
        if (text(item, "name")[0] != '\0') {
            print_row(out, text(item, "name"), width, item);
        }
    }
    print_row(out, "all", width, total);
    if (number(total, "elsewhere") > 0) {
        (void)fprintf(out, "%lld of the new ones were made by other processes\n", number(total, "elsewhere"));
    }
    if (number(total, "repeated") > 0) {
        (void)fprintf(out, "%lld of the ready ones are listed more than once, and kept once\n",
                      number(total, "repeated"));
    }
    if (number(total, "not_reached") > 0) {
        (void)fprintf(out, "%lld were not reached\n", number(total, "not_reached"));
    }
    json_array_foreach(json_object_get(report, "problems"), i, item)
    {
        (void)fprintf(out, "%s%s%s\n", text(item, "set"), text(item, "set")[0] != '\0' ? ": " : "",
                      text(item, "problem"));
    }
    json_array_foreach(json_object_get(report, "skipped"), i, item)
    {
        if (causes) {
            (void)fprintf(out, "%sskipped: %s\n", i == 0 ? "\n" : "", text(item, "cause"));
        }
    }
}

static void print_whole(FILE *out, const json_t *report)
{
    char duration[32];
    (void)fprintf(out, "voco %s, %s, %s: %s\n\n", text(report, "version"), text(report, "date"),
                  format_duration(duration, json_real_value(json_object_get(report, "seconds"))),
                  text(report, "ended"));
    preparation_report_print(out, report, 1);
}

static void dump(FILE *out, const json_t *report)
{
    (void)json_dumpf(report, out, JSON_INDENT(2)); /* a failure stays in the stream */
    (void)fputc('\n', out);
}

static enum voco_status write_one(const char *folder, const char *name, const json_t *report,
                                  void (*print)(FILE *, const json_t *))
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        return fail(VOCO_NO_MEMORY, "%s: out of memory", folder);
    }
    struct atomic_file file;
    enum voco_status status = atomic_file_open(&file, path);
    if (status == VOCO_OK) {
        print(file.stream, report);
        status = atomic_file_commit(&file);
    }
    free(path);
    return status;
}

enum voco_status preparation_report_write(const char *folder, const json_t *report)
{
    const enum voco_status status = write_one(folder, "report.json", report, dump);
    return status == VOCO_OK ? write_one(folder, "report.txt", report, print_whole) : status;
}
