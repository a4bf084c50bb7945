#include "base/philox.h"

#include <math.h>

void philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    const uint32_t multiplier0 = 0xD2511F53U;
    const uint32_t multiplier1 = 0xCD9E8D57U;
    const uint32_t weyl0 = 0x9E3779B9U;
    const uint32_t weyl1 = 0xBB67AE85U;
    uint32_t c0 = counter[0];
    uint32_t c1 = counter[1];
    uint32_t c2 = counter[2];
    uint32_t c3 = counter[3];
    uint32_t k0 = key[0];
    uint32_t k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = (uint64_t)multiplier0 * c0;
        const uint64_t product1 = (uint64_t)multiplier1 * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += weyl0;
        k1 += weyl1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The place and the block number fill the 128-bit counter together with the seed's key:
 *   counter = (block, purpose | crop << 16, sample, step low), key = seed, with the step's high half mixed
 * into it. Steps of 2^32 and more are thus distinct as well. */
static void block_at(uint32_t out[4], const struct random_key *place, uint32_t block)
{
    const uint32_t counter[4] = {block, (uint32_t)place->purpose | (uint32_t)place->crop << 16, place->sample,
                                 (uint32_t)place->step};
    const uint32_t key[2] = {(uint32_t)place->seed,
                             (uint32_t)(place->seed >> 32) ^ (uint32_t)(place->step >> 32)};
    philox4x32_10(out, counter, key);
}

static uint32_t word_at(const struct random_key *place, uint32_t index)
{
    uint32_t block[4];
    block_at(block, place, index / 4);
    return block[index % 4];
}

float random_uniform(const struct random_key *key, uint32_t index)
{
    return (float)(word_at(key, index) >> 8) * 0x1p-24F;
}

uint32_t random_below(const struct random_key *key, uint32_t index, uint32_t bound)
{
    return (uint32_t)(((uint64_t)word_at(key, index) * bound) >> 32);
}

float random_normal(const struct random_key *key, uint32_t index)
{
    uint32_t block[4];
    block_at(block, key, index / 2);
    const uint32_t *pair = block + (index % 2 == 0 ? 0 : 2);
    const double radius_draw = ((double)pair[0] + 1.0) * 0x1p-32;
    const double angle_draw = (double)pair[1] * 0x1p-32;
    return (float)(sqrt(-2.0 * log(radius_draw)) * cos(6.283185307179586 * angle_draw));
}
