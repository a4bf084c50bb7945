#include "model/patch_merging_order.h"

#include <string.h>

enum { blocks = 8, largest_element = 8 };

int patch_merging_orders_permute(enum patch_merging from, enum patch_merging to)
{
    return from == to || (from != PATCH_MERGING_LEGACY && to != PATCH_MERGING_LEGACY);
}

int is_patch_merging_parameter(const struct parameter *parameter)
{
    return strstr(parameter->name, ".downsample.") != NULL;
}

/* The offsets of block j as one number. */
static int place(enum patch_merging order, int j)
{
    int offset[3];
    patch_merging_offset(order, j, offset);
    return offset[0] * 4 + offset[1] * 2 + offset[2];
}

void patch_merging_permute(void *values, size_t rows, size_t block, size_t size, enum patch_merging from,
                           enum patch_merging to)
{
    int source[blocks] = {0};
    for (int j = 0; j < blocks; j++) {
        for (int i = 0; i < blocks; i++) {
            source[j] = place(from, i) == place(to, j) ? i : source[j];
        }
    }
    for (size_t row = 0; row < rows; row++) {
        unsigned char *first = (unsigned char *)values + row * blocks * block * size;
        for (size_t element = 0; element < block; element++) {
            unsigned char before[blocks][largest_element];
            for (int j = 0; j < blocks; j++) {
                memcpy(before[j], first + ((size_t)j * block + element) * size, size);
            }
            for (int j = 0; j < blocks; j++) {
                memcpy(first + ((size_t)j * block + element) * size, before[source[j]], size);
            }
        }
    }
}

/* Whether W gamma takes every centred input to 0, in one row of it; `paired`: as the legacy order gathers. */
static int row_is_constant(const float *row, const float *norm_weight, int channels, int paired)
{
    const double level = (double)row[0] * (double)norm_weight[0];
    static const int twin[blocks] = {0, 1, 5, 6,
                                     4, 2, 3, 7}; /* the legacy order's block of the same neighbour */
    for (int j = 0; j < blocks; j++) {
        for (int channel = 0; channel < channels; channel++) {
            const int a = j * channels + channel;
            const int b = (paired ? twin[j] : j) * channels + channel;
            const double sum =
                (double)row[a] * (double)norm_weight[a] + (double)row[b] * (double)norm_weight[b];
            if (!(sum == 2 * level)) {
                return 0;
            }
        }
    }
    return 1;
}

enum merging_function patch_merging_function(const float *reduction, const float *norm_weight, int channels,
                                             enum patch_merging order)
{
    int always = 1;
    for (int row = 0; row < 2 * channels; row++) {
        const float *values = reduction + (size_t)row * blocks * (size_t)channels;
        always = always && row_is_constant(values, norm_weight, channels, 0);
        if (!always &&
            !(order == PATCH_MERGING_LEGACY && row_is_constant(values, norm_weight, channels, 1))) {
            return MERGING_VARIES;
        }
    }
    return always ? MERGING_CONSTANT_ALWAYS : MERGING_CONSTANT;
}
