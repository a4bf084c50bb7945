/* Fuzz target: the description of a corpus, from memory. What is accepted is whole. */
#include "data/corpus.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_set(const struct corpus_set *set)
{
    const struct preset *preset = &set->preset;
    const int sound =
        set->name[0] != '\0' && set->root[0] != '\0' && set->repeat >= 1 && set->use != 0 &&
        (!set->has_preset || (preset->spacing[0] > 0.0 && preset->name[0] != '\0' &&
                              (preset->low < preset->high || preset->intensity == INTENSITY_ZSCORE)));
    if (!sound) {
        abort();
    }
    for (int i = 0; i < set->list_count; i++) {
        if (set->lists[i][0] == '\0') {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct corpus corpus;
    if (corpus_parse_yaml(&corpus, (const char *)data, size, "fuzz", "folder") == VOCO_OK) {
        if (corpus.set_count < 1) {
            abort();
        }
        for (int i = 0; i < corpus.set_count; i++) {
            check_set(&corpus.sets[i]);
        }
    }
    corpus_free(&corpus);
    return 0;
}
