/* Damage to an input of a parser: what fuzz_driver.c does between two calls of a target. */
#ifndef TESTS_FUZZ_MUTATION_H
#define TESTS_FUZZ_MUTATION_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_input {
    const uint8_t *bytes;
    size_t count;
};

/* Writes a damaged copy of seeds[which] to out, which has room for `capacity` bytes (at least that seed's),
 * and returns its length: one to six of: bits flipped, bytes set to telling values, integers of 2, 4 and 8
 * bytes in either order set to a boundary or moved a little, a piece deleted, doubled, overwritten by another
 * or taken from another seed, the end cut. The beginning and the end, where headers and indices lie, are hit
 * more often. A pure function of its arguments: (seed, number) names one damaged input. */
size_t mutated_input(uint8_t *out, size_t capacity, const struct fuzz_input *seeds, size_t seed_count,
                     size_t which, uint64_t seed, uint64_t number);

#endif
