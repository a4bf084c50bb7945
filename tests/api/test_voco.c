/* The library as another program uses it, through voco/voco.h alone. */
#include "voco/voco.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void the_encoder_embeds_each_crop_by_itself(void **state)
{
    (void)state;
    struct voco_encoder *encoder = NULL;
    assert_int_equal(voco_encoder_open(&encoder, VOCO_TEST_DATA "/own_v2.weights.safetensors", 1), VOCO_OK);
    const int roi = voco_encoder_roi(encoder);
    const int width = voco_encoder_width(encoder);
    assert_int_equal(roi, 48);
    assert_int_equal(width, 144);
    enum { voxels = 48 * 48 * 48 };
    static float crops[2 * voxels];
    static float both[2 * 144];
    static float second[144];
    for (size_t i = 0; i < 2 * voxels; i++) {
        crops[i] = 0.5F + 0.5F * sinf((float)(i % 1777) * 0.01F + (i < voxels ? 0.0F : 1.0F));
    }
    assert_int_equal(voco_encoder_embed(encoder, both, crops, 2), VOCO_OK);
    assert_int_equal(voco_encoder_embed(encoder, second, crops + voxels, 1), VOCO_OK);
    assert_memory_equal(both + width, second, sizeof second);
    assert_memory_not_equal(both, second, sizeof second);
    for (int i = 0; i < width; i++) {
        assert_true(isfinite(second[i]));
    }
    voco_encoder_close(encoder);
}

static void a_crop_is_the_voxels_it_says(void **state)
{
    (void)state;
    float voxels[5 * 4 * 3];
    for (int i = 0; i < 60; i++) {
        voxels[i] = (float)i;
    }
    const struct voco_volume volume = {.size = {5, 4, 3}, .data = voxels};
    float crop[8];
    const int start[3] = {3, 1, 1};
    assert_int_equal(voco_volume_crop(crop, &volume, start, 2), VOCO_OK);
    for (int x = 0; x < 2; x++) {
        for (int y = 0; y < 2; y++) {
            for (int z = 0; z < 2; z++) {
                assert_true(crop[(x * 2 + y) * 2 + z] == (float)(((1 + z) * 4 + 1 + y) * 5 + 3 + x));
            }
        }
    }
    const int outside[3] = {4, 0, 0};
    assert_int_equal(voco_volume_crop(crop, &volume, outside, 2), VOCO_BAD_INPUT);
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    struct voco_encoder *encoder = NULL;
    assert_int_equal(voco_encoder_open(&encoder, "/nowhere/at.all", 1), VOCO_IO);
    assert_null(encoder);
    assert_non_null(strstr(voco_error_message(), "/nowhere/at.all"));
    struct voco_volume volume;
    assert_int_equal(voco_volume_prepare(&volume, "/nowhere/at.nii", "abdomen", 48), VOCO_IO);
    assert_int_equal(voco_volume_prepare(&volume, "/nowhere/at.nii", "knee", 48), VOCO_BAD_INPUT);
    voco_volume_free(&volume);
    assert_true(strlen(voco_version()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_encoder_embeds_each_crop_by_itself),
        cmocka_unit_test(a_crop_is_the_voxels_it_says),
        cmocka_unit_test(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
