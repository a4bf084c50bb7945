/* What became of the volumes of a list, for the person who has to know which are missing and why. */
#ifndef STORE_PREPARATION_REPORT_H
#define STORE_PREPARATION_REPORT_H

#include "store/cache_preparation.h"

#include <jansson.h>
#include <stdio.h>

/* A data set of the list of which volumes, or all, could not even be listed. */
struct set_problem {
    const char *set;
    const char *problem; /* one line */
};

/* The report, a new object; NULL without memory. `ended` is "finished", "stopped" or a message.
 *
 *     {"version": "0.1.0", "date": "2026-01-31T23:59:59Z", "ended": "finished", "seconds": 12.3,
 *      "total": {"listed", "ready", "made", "elsewhere", "reused", "repeated", "skipped",
 *                "not_reached": numbers, "source_bytes", "cache_bytes", "ratio"},
 *      "sets": [{"name", the members of "total", "settings": {"preset", "spacing_mm", "take", "window",
 *                "bits", "level", "hu"}}],
 *      "problems": [{"set", "problem"}],
 *      "skipped": [{"set", "source", "cause", "remembered"}]}
 *
 * `ready` = made + elsewhere (made by other processes meanwhile) + reused + repeated, `listed` = ready +
 * skipped + not_reached. Bytes and ratio (cache / source) are those of ready volumes, each counted once. */
json_t *preparation_report(const struct preparation *preparation, const struct cache_request *requests,
                           size_t count, const struct set_problem *problems, size_t problem_count,
                           const char *ended);

/* The table for people: a line per set, one for all, then the problems; with `causes` also each skipped
 * volume with its cause. */
void preparation_report_print(FILE *out, const json_t *report, int causes);

/* Writes FOLDER/report.json and FOLDER/report.txt, each whole or not at all. */
enum voco_status preparation_report_write(const char *folder, const json_t *report);

#endif
