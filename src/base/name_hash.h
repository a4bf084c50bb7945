/* A hash of names and small records that is the same on every machine and in every version: it decides file
 * names in the cache and which volumes are held out. FNV-1a with 64 bits (Fowler, Noll, Vo), its result mixed
 * once more by the finaliser of SplitMix64 so that its high bits are as good as its low ones. Not for
 * secrets. */
#ifndef BASE_NAME_HASH_H
#define BASE_NAME_HASH_H

#include <stddef.h>
#include <stdint.h>

struct name_hash {
    uint64_t state;
};

void name_hash_start(struct name_hash *hash);
void name_hash_add(struct name_hash *hash, const void *bytes, size_t length);

/* The text and its closing zero, so that "ab", "c" and "a", "bc" differ. */
void name_hash_add_text(struct name_hash *hash, const char *text);

uint64_t name_hash_value(const struct name_hash *hash);

#endif
