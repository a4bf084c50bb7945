#include "data/dataset_entries.h"

#include "base/error.h"
#include "base/name_hash.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash_of_name(const char *name)
{
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add_text(&hash, name);
    return name_hash_value(&hash);
}

/* Training first, then validation, each in the order it had. */
static void regroup(struct dataset *dataset, struct dataset_entry *room)
{
    size_t count = 0;
    for (enum dataset_split split = SPLIT_TRAINING; split <= SPLIT_TEST; split++) {
        for (size_t i = 0; i < dataset->count; i++) {
            if (dataset->entries[i].split == split) {
                room[count++] = dataset->entries[i];
            }
        }
    }
    memcpy(dataset->entries, room, count * sizeof *room);
}

enum voco_status dataset_hold_out(struct dataset *dataset, double fraction)
{
    const size_t training = dataset_count(dataset, SPLIT_TRAINING);
    if (!(fraction > 0.0) || training < 2 || dataset_count(dataset, SPLIT_VALIDATION) > 0) {
        return VOCO_OK;
    }
    struct dataset_entry *room = calloc(dataset->count, sizeof *room);
    if (room == NULL) {
        return fail(VOCO_NO_MEMORY, "a list of %zu volumes does not fit in memory", dataset->count);
    }
    size_t held_out = 0;
    size_t smallest = SIZE_MAX;
    size_t largest = SIZE_MAX;
    for (size_t i = 0; i < dataset->count; i++) {
        struct dataset_entry *entries = dataset->entries;
        if (entries[i].split != SPLIT_TRAINING) {
            continue;
        }
        const uint64_t hash = hash_of_name(entries[i].name);
        if (smallest == SIZE_MAX || hash < hash_of_name(entries[smallest].name)) {
            smallest = i;
        }
        if (largest == SIZE_MAX || hash > hash_of_name(entries[largest].name)) {
            largest = i;
        }
        if ((double)hash * 0x1p-64 < fraction) {
            entries[i].split = SPLIT_VALIDATION;
            held_out++;
        }
    }
    if (held_out == 0) {
        dataset->entries[smallest].split = SPLIT_VALIDATION;
    } else if (held_out == training) {
        dataset->entries[largest].split = SPLIT_TRAINING;
    }
    regroup(dataset, room);
    free(room);
    return VOCO_OK;
}
