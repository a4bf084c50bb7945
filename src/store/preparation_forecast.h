/* What a cache will take in bytes and hours, from a sample of the volumes that is prepared now. */
#ifndef STORE_PREPARATION_FORECAST_H
#define STORE_PREPARATION_FORECAST_H

#include "store/cache_preparation.h"

#include <jansson.h>
#include <stdio.h>

/* Prepares about `sample` volumes, at least one of each data set and its settings, into a temporary folder
 * below options->folder that is removed again, also when it is stopped, and predicts from them. A set's share
 * of the sample is that of its bytes; within a set they are spread evenly over the sizes of its files. Bytes
 * and seconds are taken as proportional to a source's bytes, set by set; a set without a good volume in the
 * sample is given the mean of the others. Hours are those of options->jobs threads on this machine.
 *
 * *forecast: a new object,
 *
 *     {"version", "date", "jobs", "volumes", "missing": sources that are not there, "sampled", "skipped",
 *      "source_bytes", "cache_bytes", "cache_bytes_least", "cache_bytes_most": at the lowest and the highest
 *      ratio that was seen in each set, "seconds", "free_bytes": of the folder's file system,
 *      "sets": [{"name", "settings", "volumes", "sampled", "source_bytes", "cache_bytes", "ratio",
 *                "ratio_least", "ratio_most", "seconds"}],
 *      "skipped_sources": [{"source", "cause"}]}
 *
 * Fails as volume_cache_prepare does; also VOCO_STOPPED. */
enum voco_status preparation_forecast(json_t **forecast, const struct cache_request *requests, size_t count,
                                      size_t sample, const struct preparation_options *options);

/* As a table for people. */
void preparation_forecast_print(FILE *out, const json_t *forecast);

#endif
