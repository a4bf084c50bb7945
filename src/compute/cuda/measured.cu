#include "compute/cuda/measured.cuh"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct measured_entry {
    struct measured_key key;
    int choice;
};

/* The process's own, hence never freed. */
static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER;
static struct measured_entry *entries;
static size_t entry_count, entry_capacity;

static struct measured_entry *find_entry(const struct measured_key *key)
{
    for (size_t k = 0; k < entry_count; k++) {
        if (memcmp(&entries[k].key, key, sizeof *key) == 0) {
            return &entries[k];
        }
    }
    return NULL;
}

int measured_choice(const struct measured_key *key)
{
    (void)pthread_mutex_lock(&entries_lock);
    const struct measured_entry *entry = find_entry(key);
    const int choice = entry != NULL ? entry->choice : -1;
    (void)pthread_mutex_unlock(&entries_lock);
    return choice;
}

/* Where there is no memory for it, it is measured again next time. */
void measured_remember(const struct measured_key *key, int choice)
{
    (void)pthread_mutex_lock(&entries_lock);
    if (entry_count == entry_capacity) {
        const size_t capacity = entry_capacity > 0 ? 2 * entry_capacity : 64;
        void *grown = realloc(entries, capacity * sizeof *entries);
        if (grown != NULL) {
            entries = (struct measured_entry *)grown;
            entry_capacity = capacity;
        }
    }
    struct measured_entry *entry = find_entry(key);
    if (entry == NULL && entry_count < entry_capacity) {
        entry = &entries[entry_count++];
    }
    if (entry != NULL) {
        entry->key = *key;
        entry->choice = choice;
    }
    (void)pthread_mutex_unlock(&entries_lock);
}

void measured_for_each(void (*show)(void *context, const struct measured_key *key, int choice), void *context)
{
    (void)pthread_mutex_lock(&entries_lock);
    for (size_t k = 0; k < entry_count; k++) {
        show(context, &entries[k].key, entries[k].choice);
    }
    (void)pthread_mutex_unlock(&entries_lock);
}

int measuring_wanted(void)
{
    const char *text = getenv("VOCO_CUDA_MEASURE");
    return text == NULL || strcmp(text, "0") != 0;
}

int measuring_is_verbose(void)
{
    const char *text = getenv("VOCO_CUDA_VERBOSE");
    return text != NULL && strcmp(text, "1") == 0;
}
