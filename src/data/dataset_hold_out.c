#include "data/dataset_entries.h"

#include "base/name_hash.h"

#include <stdint.h>

static uint64_t hash_of_name(const char *name)
{
    struct name_hash hash;
    name_hash_start(&hash);
    name_hash_add_text(&hash, name);
    return name_hash_value(&hash);
}

enum voco_status dataset_hold_out(struct dataset *dataset, double fraction)
{
    const size_t training = dataset_count(dataset, SPLIT_TRAINING);
    if (!(fraction > 0.0) || training < 2 || dataset_count(dataset, SPLIT_VALIDATION) > 0) {
        return VOCO_OK;
    }
    struct dataset_entry *entries = dataset->entries;
    size_t held_out = 0;
    size_t smallest = SIZE_MAX;
    size_t largest = SIZE_MAX;
    for (size_t i = 0; i < dataset->count; i++) {
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
        entries[smallest].split = SPLIT_VALIDATION;
    } else if (held_out == training) {
        entries[largest].split = SPLIT_TRAINING;
    }
    return dataset_group_by_split(dataset);
}
