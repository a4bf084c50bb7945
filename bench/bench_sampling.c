/* How many augmented crops a second come out of a cache.
 *     bench_sampling CACHE [--threads N] [--seconds S] [--roi R] [--volumes V] [--chunk-cache BYTES]
 *                    [--stored]
 * Makes batches as training does (2 random and 9 base crops a volume, the published augmentation) with N
 * loader threads and nothing that uses them; with --stored as they travel to a GPU, which changes them there.
 * The last line is JSON. */
#include "base/clock.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "store/volume_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *cache;
    int threads;
    double seconds;
    int roi;
    int volumes;
    unsigned long long chunk_cache;
    int stored;
};

static int parse(struct options *options, int argc, char **argv)
{
    *options = (struct options){.threads = 1, .seconds = 10, .roi = 64, .volumes = 2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (argv[i][0] != '-') {
            options->cache = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--stored") == 0) {
            options->stored = 1;
            continue;
        }
        if (value == NULL) {
            return 0;
        }
        i++;
        if (strcmp(argv[i - 1], "--threads") == 0) {
            options->threads = (int)strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--seconds") == 0) {
            options->seconds = strtod(value, NULL);
        } else if (strcmp(argv[i - 1], "--roi") == 0) {
            options->roi = (int)strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--volumes") == 0) {
            options->volumes = (int)strtol(value, NULL, 10);
        } else if (strcmp(argv[i - 1], "--chunk-cache") == 0) {
            options->chunk_cache = strtoull(value, NULL, 10);
        } else {
            return 0;
        }
    }
    return options->cache != NULL && options->threads > 0;
}

static enum voco_status measure(const struct options *options, const struct batch_source *source)
{
    struct loader *loader = NULL;
    const struct batch *batch = NULL;
    enum voco_status status = loader_open(&loader, source, 0, options->threads, options->threads + 1);
    const double began = seconds_now();
    double seconds = 0;
    long long crops = 0;
    /* The first batches warm up: threads start, buffers are touched. */
    double counted_from = began;
    for (long long step = 0; status == VOCO_OK && seconds < options->seconds; step++) {
        status = loader_next(loader, &batch);
        if (step == 2LL * options->threads) {
            counted_from = seconds_now();
            crops = 0;
        } else if (status == VOCO_OK) {
            crops += (long long)batch->volumes * (batch->crops + batch->bases);
        }
        seconds = seconds_now() - counted_from;
    }
    loader_close(loader);
    if (status == VOCO_OK) {
        uint64_t found = 0;
        uint64_t missed = 0;
        if (source->chunks != NULL) {
            chunk_cache_count(&found, &missed, source->chunks);
        }
        const size_t crops_of_batch = (size_t)options->volumes * 11;
        printf("{\"crops_per_second\": %.1f, \"bytes_per_crop\": %zu, \"threads\": %d, \"seconds\": %.2f, "
               "\"volumes\": %zu, "
               "\"chunk_cache\": %llu, "
               "\"chunks_found\": %llu, \"chunks_missed\": %llu}\n",
               (double)crops / seconds, (size_t)batch_source_crop_bytes(source) / crops_of_batch,
               options->threads, seconds, source->count, options->chunk_cache, (unsigned long long)found,
               (unsigned long long)missed);
    }
    return status;
}

static enum voco_status run(const struct options *options)
{
    struct dataset dataset;
    enum voco_status status = dataset_open(&dataset, options->cache);
    if (status != VOCO_OK) {
        return status;
    }
    struct chunk_cache *chunks = NULL;
    char **paths = dataset_array_paths(&dataset);
    if (paths == NULL) {
        dataset_free(&dataset);
        return VOCO_NO_MEMORY;
    }
    status = chunk_cache_open(&chunks, options->chunk_cache, chunk_bytes(dataset.levels));
    const struct batch_source source = {
        .paths = (const char *const *)paths,
        .count = dataset.count,
        .chunks = options->chunk_cache > 0 ? chunks : NULL,
        .volumes = options->volumes,
        .form = options->stored ? stored_voxel_form(dataset.levels) : VOXELS_FLOAT,
        .sampling = {.roi = options->roi, .crops = 2, .base_grid = {3, 3}},
        .augmentation = augmentation_default,
        .seed = 1,
    };
    if (status == VOCO_OK) {
        status = measure(options, &source);
    }
    chunk_cache_close(chunks);
    for (size_t i = 0; i < dataset.count; i++) {
        free(paths[i]);
    }
    free(paths);
    dataset_free(&dataset);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    if (!parse(&options, argc, argv)) {
        (void)fprintf(stderr,
                      "usage: bench_sampling CACHE [--threads N] [--seconds S] [--roi R] [--volumes V] "
                      "[--chunk-cache BYTES] [--stored]\n");
        return 2;
    }
    if (run(&options) != VOCO_OK) {
        (void)fprintf(stderr, "bench_sampling: %s\n", voco_error_message());
        return 1;
    }
    return 0;
}
