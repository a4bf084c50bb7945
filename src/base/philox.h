/* Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). There is no generator state: a number is a pure function of the seed and of where it is used, so
 * any thread on any rank draws the same numbers for the same sample, and a resumed run draws what an unbroken
 * one would. */
#ifndef BASE_PHILOX_H
#define BASE_PHILOX_H

#include <stdint.h>

/* What a number is drawn for. Values are part of the reproducibility of runs: never renumber, only append. */
enum random_purpose {
    RANDOM_INITIALISATION = 1, /* step = parameter index, sample = element block */
    RANDOM_SHUFFLE,            /* step = epoch, sample = position */
    RANDOM_WINDOW,             /* where the 3R x 3R x R window is taken from the volume */
    RANDOM_CROP_CENTRE,
    RANDOM_AUGMENTATION,
    RANDOM_DROP,
    RANDOM_PHANTOM,
    RANDOM_TEST,
};

/* One place where randomness is used. `step` is the training step, `sample` the volume within the step's
 * batch, `crop` the crop within the sample; a purpose that needs no such index leaves it 0. */
struct random_key {
    uint64_t seed;
    uint64_t step;
    uint32_t sample;
    uint16_t crop;
    uint16_t purpose; /* enum random_purpose */
};

/* The raw block function: 4 random words from a 128-bit counter and a 64-bit key. */
void philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Uniform in [0, 1) with 24 random bits: the `index`-th number at this place. */
float random_uniform(const struct random_key *key, uint32_t index);

/* Uniform integer in [0, bound), bound > 0; bias below 2^-32 * bound. */
uint32_t random_below(const struct random_key *key, uint32_t index, uint32_t bound);

/* Standard normal (Box-Muller): the `index`-th number at this place. */
float random_normal(const struct random_key *key, uint32_t index);

#endif
