#include "volume/rows.h"

#include "base/vector_clones.h"

#include <string.h>

VECTOR_CLONES void blend_rows(float *restrict out, const float *left, const float *right, float weight,
                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = left[i] + weight * (right[i] - left[i]);
    }
}

VECTOR_CLONES void sample_row(float *restrict out, const float *restrict row,
                              const struct axis_places *places)
{
    const int *left = places->left;
    const int *right = places->right;
    const float *weight = places->weight;
    for (int i = 0; i < places->count; i++) {
        const float from = row[left[i]];
        out[i] = from + weight[i] * (row[right[i]] - from);
    }
}

VECTOR_CLONES void window_row(float *values, size_t count, float low, float width)
{
    for (size_t i = 0; i < count; i++) {
        const float scaled = (values[i] - low) / width;
        const float above = scaled > 0 ? scaled : 0;
        values[i] = above < 1 ? above : 1;
    }
}

VECTOR_CLONES int mark_foreground(uint32_t *restrict seen, const float *restrict values, size_t count)
{
    uint32_t any = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        seen[i] |= bits;
        any |= bits;
    }
    return any != 0;
}

/* A float of this size has no bits behind the point: adding it rounds, halves to even, and leaves the integer
 * in the low bits. */
static const float rounder = 12582912.0F; /* 1.5 * 2^23 */

static inline uint32_t quantised(float value, float levels)
{
    const float above = value > 0 ? value : 0;
    const float shifted = (above < 1 ? above : 1) * levels + rounder;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits & 0xffffU;
}

VECTOR_CLONES void quantise_bytes(uint8_t *restrict out, const float *restrict values, size_t count,
                                  int levels)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (uint8_t)quantised(values[i], (float)levels);
    }
}

VECTOR_CLONES void quantise_words(uint16_t *restrict out, const float *restrict values, size_t count,
                                  int levels)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (uint16_t)quantised(values[i], (float)levels);
    }
}
