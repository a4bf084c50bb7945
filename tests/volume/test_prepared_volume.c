/* Blocks of a prepared volume against a naive loop. */
#include "base/philox.h"
#include "volume/prepared_volume.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct random_key key = {.seed = 31, .purpose = RANDOM_TEST};

/* A volume of 45 x 38 x 41 stored voxels with 3, 0, 5 voxels of padding before and 2, 4, 0 behind; axes in
 * the given order (the first one fastest) and against the given directions. Free its storage. */
static struct prepared_volume new_volume(int levels, const int order[3], const int reversed[3])
{
    static const int box[3] = {45, 38, 41};
    static const int before[3] = {3, 0, 5};
    static const int behind[3] = {2, 4, 0};
    const size_t count = 45 * 38 * 41;
    struct prepared_volume volume = {.levels = levels};
    ptrdiff_t stride = 1;
    for (int i = 0; i < 3; i++) {
        const int axis = order[i];
        volume.box[axis] = box[axis];
        volume.before[axis] = before[axis];
        volume.size[axis] = before[axis] + box[axis] + behind[axis];
        volume.stride[axis] = reversed[axis] ? -stride : stride;
        volume.first += reversed[axis] ? (size_t)((box[axis] - 1) * stride) : 0;
        stride *= box[axis];
    }
    volume.storage = malloc(count * sizeof(float));
    assert_non_null(volume.storage);
    volume.voxels = volume.storage;
    for (size_t i = 0; i < count; i++) {
        const float value = 1.4F * random_uniform(&key, (uint32_t)i) - 0.2F;
        if (levels == 0) {
            ((float *)volume.storage)[i] = i % 97 == 0 ? NAN : value;
        } else if (levels <= UINT8_MAX) {
            ((uint8_t *)volume.storage)[i] = (uint8_t)(200 * fabsf(value));
        } else {
            ((uint16_t *)volume.storage)[i] = (uint16_t)(4000 * fabsf(value));
        }
    }
    return volume;
}

static long expected_voxel(const struct prepared_volume *volume, int levels, const int at[3])
{
    ptrdiff_t index = (ptrdiff_t)volume->first;
    for (int axis = 0; axis < 3; axis++) {
        const int in_box = at[axis] - volume->before[axis];
        if (in_box < 0 || in_box >= volume->box[axis]) {
            return 0;
        }
        index += in_box * volume->stride[axis];
    }
    if (volume->levels == 0) {
        const float value = ((const float *)volume->voxels)[index];
        return value > 0 ? lrintf((float)levels * (value < 1 ? value : 1)) : 0; /* NaN is not above 0 */
    }
    return volume->levels <= UINT8_MAX ? ((const uint8_t *)volume->voxels)[index]
                                       : ((const uint16_t *)volume->voxels)[index];
}

static void check_block(const struct prepared_volume *volume, int levels, const int start[3],
                        const int extent[3])
{
    const size_t count = (size_t)extent[0] * (size_t)extent[1] * (size_t)extent[2];
    const size_t width = stored_voxel_bytes(levels);
    unsigned char *block = malloc(count * width + 1);
    assert_non_null(block);
    memset(block, 0xa5, count * width + 1);
    const int any = prepared_volume_block(block, levels, volume, start, extent);
    int expected_any = 0;
    size_t i = 0;
    int at[3];
    for (at[0] = start[0]; at[0] < start[0] + extent[0]; at[0]++) {
        for (at[1] = start[1]; at[1] < start[1] + extent[1]; at[1]++) {
            for (at[2] = start[2]; at[2] < start[2] + extent[2]; at[2]++, i++) {
                const long expected = expected_voxel(volume, levels, at);
                const long got = width == 1 ? block[i] : ((const uint16_t *)(const void *)block)[i];
                if (got != expected) {
                    fail_msg("levels %d of %d, voxel (%d, %d, %d) is %ld, not %ld", levels, volume->levels,
                             at[0], at[1], at[2], got, expected);
                }
                expected_any = expected_any || expected != 0;
            }
        }
    }
    assert_int_equal(any, expected_any);
    assert_int_equal(block[count * width], 0xa5);
    free(block);
}

static void blocks_are_what_a_naive_loop_gathers(void **state)
{
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const int levels[][2] = {{0, 255},   {0, 4095},    {0, 65535},
                                    {255, 255}, {4095, 4095}, {65535, 65535}};
    static const int blocks[][2][3] = {{{3, 0, 5}, {45, 38, 41}},    {{0, 0, 0}, {50, 42, 46}},
                                       {{10, 5, 9}, {16, 16, 16}},   {{-7, -3, -2}, {20, 17, 9}},
                                       {{30, 20, 25}, {32, 32, 32}}, {{7, 11, 13}, {1, 1, 1}},
                                       {{8, 8, 8}, {31, 15, 33}},    {{60, 0, 0}, {8, 8, 8}},
                                       {{0, -20, 0}, {8, 20, 8}},    {{0, 0, 0}, {3, 9, 9}}};
    for (int turn = 0; turn < 6 * 8; turn++) {
        const int reversed[3] = {turn / 6 & 1, turn / 12 & 1, turn / 24 & 1};
        for (size_t kind = 0; kind < sizeof levels / sizeof levels[0]; kind++) {
            struct prepared_volume volume = new_volume(levels[kind][0], orders[turn % 6], reversed);
            for (size_t block = 0; block < sizeof blocks / sizeof blocks[0]; block++) {
                check_block(&volume, levels[kind][1], blocks[block][0], blocks[block][1]);
            }
            prepared_volume_free(&volume);
        }
    }
}

static void an_empty_block_says_so(void **state)
{
    (void)state;
    static float zeros[8 * 8 * 8];
    const struct volume volume = {.size = {8, 8, 8}, .spacing = {1, 1, 1}, .data = zeros};
    const struct prepared_volume view = prepared_volume_of(&volume);
    uint8_t block[8 * 8 * 8];
    zeros[511] = 1e-3F; /* rounds to 0 at 8 bits */
    assert_int_equal(prepared_volume_block(block, 255, &view, (const int[3]){0}, volume.size), 0);
    zeros[511] = 0.002F;
    assert_int_equal(prepared_volume_block(block, 255, &view, (const int[3]){0}, volume.size), 1);
    assert_int_equal(block[511], 1);
}

/* Halves go to the even number, and what lies outside [0, 1] is clipped. */
static void rounding_is_to_even(void **state)
{
    (void)state;
    static float values[] = {0.5F / 255, 1.5F / 255, 2.5F / 255, -3, 7, 1, INFINITY, NAN};
    const struct volume volume = {.size = {8, 1, 1}, .spacing = {1, 1, 1}, .data = values};
    const struct prepared_volume view = prepared_volume_of(&volume);
    uint8_t block[8];
    (void)prepared_volume_block(block, 255, &view, (const int[3]){0}, volume.size);
    for (int i = 0; i < 8; i++) {
        const float value = values[i] > 0 ? fminf(values[i], 1) : 0;
        assert_int_equal(block[i], lrintf(value * 255));
    }
    assert_int_equal(block[4], 255);
    assert_int_equal(block[6], 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_what_a_naive_loop_gathers),
        cmocka_unit_test(an_empty_block_says_so),
        cmocka_unit_test(rounding_is_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
