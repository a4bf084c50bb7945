#include "base/name_hash.h"

#include <string.h>

void name_hash_start(struct name_hash *hash)
{
    hash->state = 0xCBF29CE484222325U;
}

void name_hash_add(struct name_hash *hash, const void *bytes, size_t length)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < length; i++) {
        hash->state = (hash->state ^ p[i]) * 0x100000001B3U;
    }
}

void name_hash_add_text(struct name_hash *hash, const char *text)
{
    name_hash_add(hash, text, strlen(text) + 1);
}

uint64_t name_hash_value(const struct name_hash *hash)
{
    uint64_t z = hash->state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}
