#include "volume/intensity.h"

#include "base/error.h"
#include "volume/rows.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

void scale_window(float *values, size_t count, double low, double high)
{
    window_row(values, count, (float)low, (float)(high - low));
}

/* Floats as integers of the same order. */
static uint32_t order_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t order)
{
    const uint32_t bits = order & 0x80000000u ? order & 0x7fffffffu : ~order;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The value of the given rank (0: the smallest) among those above the threshold, found from the highest bits
 * down: each pass keeps the values that begin like it and counts how they go on. */
static float value_of_rank(const float *values, size_t count, double threshold, size_t rank)
{
    static const struct {
        unsigned shift, bits;
    } digits[] = {{21, 11}, {10, 11}, {0, 10}};
    uint32_t found = 0;
    uint32_t known = 0;
    for (size_t digit = 0; digit < sizeof digits / sizeof digits[0]; digit++) {
        size_t histogram[1 << 11] = {0};
        const uint32_t mask = (1u << digits[digit].bits) - 1;
        for (size_t i = 0; i < count; i++) {
            const uint32_t order = order_of(values[i]);
            if (values[i] > threshold && (order & known) == found) {
                histogram[order >> digits[digit].shift & mask]++;
            }
        }
        uint32_t bin = 0;
        while (rank >= histogram[bin]) {
            rank -= histogram[bin];
            bin++;
        }
        found |= bin << digits[digit].shift;
        known |= mask << digits[digit].shift;
    }
    return value_of(found);
}

double percentile_above(const float *values, size_t count, double threshold, double p)
{
    size_t above = 0;
    for (size_t i = 0; i < count; i++) {
        above += values[i] > threshold;
    }
    const double rank = p / 100 * (double)(above - 1);
    const size_t lower = (size_t)rank;
    const double from = value_of_rank(values, count, threshold, lower);
    if (lower + 1 >= above) {
        return from;
    }
    const double to = value_of_rank(values, count, threshold, lower + 1);
    return from + (rank - (double)lower) * (to - from);
}

static double foreground_threshold(const float *values, size_t count)
{
    double dark = percentile_above(values, count, -INFINITY, 2);
    double bright = percentile_above(values, count, -INFINITY, 98);
    if (!(dark < bright)) {
        dark = percentile_above(values, count, -INFINITY, 0);
        bright = percentile_above(values, count, -INFINITY, 100);
    }
    return dark + (bright - dark) / 10;
}

enum voco_status scale_mr(float *values, size_t count)
{
    const double threshold = foreground_threshold(values, count);
    const double brightest = percentile_above(values, count, -INFINITY, 100);
    if (!(brightest > threshold)) {
        return fail(VOCO_BAD_INPUT, "all voxels have the value %g", brightest);
    }
    const double low = percentile_above(values, count, threshold, 0.5);
    const double high = percentile_above(values, count, threshold, 99.5);
    if (!((float)low < (float)high)) {
        return fail(VOCO_BAD_INPUT, "all of its foreground has the value %g", low);
    }
    scale_window(values, count, low, high);
    return VOCO_OK;
}
