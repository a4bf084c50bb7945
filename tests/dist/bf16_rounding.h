/* What a float is as bf16, written down once more for tests. */
#ifndef TESTS_DIST_BF16_ROUNDING_H
#define TESTS_DIST_BF16_ROUNDING_H

#include <stdint.h>
#include <string.h>

/* To the nearest bf16, halfway to the even one; of finite values. */
static inline float rounded_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fffU + (bits >> 16 & 1U)) & 0xffff0000U;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
