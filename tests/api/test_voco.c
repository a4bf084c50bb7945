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

static void a_volume_is_embedded_crop_by_crop(void **state)
{
    (void)state;
    enum { nx = 50, ny = 48, nz = 72, width = 144 };
    static float data[nx * ny * nz], crop[48 * 48 * 48];
    static const int starts[][3] = {{0, 0, 0}, {0, 0, 24}, {2, 0, 0}, {2, 0, 24}};
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        data[i] = 0.5F + 0.5F * sinf((float)(i % 1777) * 0.01F);
    }
    const struct voco_volume volume = {
        .size = {nx, ny, nz}, .affine = {{2, 0, 0, 1}, {0, 3, 0, 2}, {0, 0, 4, 3}}, .data = data};
    const struct voco_encoder_options options = {.threads = 1, .patch_merging = "v2"};
    struct voco_encoder *encoder = NULL;
    struct voco_embeddings all;
    float one[width];
    assert_int_equal(voco_encoder_open_with(&encoder, VOCO_TEST_DATA "/own_v2.weights.safetensors", &options),
                     VOCO_OK);
    assert_string_equal(voco_encoder_preset(encoder), "abdomen");
    assert_int_equal(voco_encoder_embed_volume(encoder, &all, &volume, 0), VOCO_OK);
    assert_int_equal(all.count, 4);
    for (size_t i = 0; i < all.count; i++) {
        assert_memory_equal(all.position[i], starts[i], sizeof starts[i]);
        assert_true(all.centre[i][0] == 2 * (starts[i][0] + 23.5) + 1);
        assert_true(all.centre[i][2] == 4 * (starts[i][2] + 23.5) + 3);
        assert_int_equal(voco_volume_crop(crop, &volume, starts[i], 48), VOCO_OK);
        assert_int_equal(voco_encoder_embed(encoder, one, crop, 1), VOCO_OK);
        assert_memory_equal(all.embedding + i * width, one, sizeof one);
        assert_int_equal(voco_encoder_embed_box(encoder, one, crop, (const int[3]){48, 48, 48}), VOCO_OK);
        assert_memory_equal(all.embedding + i * width, one, sizeof one);
    }
    voco_embeddings_free(&all);
    assert_int_equal(voco_encoder_embed_volume(encoder, &all, &volume, -1), VOCO_BAD_INPUT);
    voco_embeddings_free(&all);
    voco_encoder_close(encoder);
}

static void a_level_is_a_part_of_the_embedding(void **state)
{
    (void)state;
    struct voco_encoder *encoder = NULL;
    static float crop[48 * 48 * 48], features[6 * 6 * 6 * 24];
    static float embedding[144];
    const int size[3] = {48, 48, 48};
    for (size_t i = 0; i < sizeof crop / sizeof crop[0]; i++) {
        crop[i] = 0.5F + 0.5F * sinf((float)(i % 1777) * 0.01F);
    }
    assert_int_equal(voco_encoder_open(&encoder, VOCO_TEST_DATA "/own_v2.weights.safetensors", 1), VOCO_OK);
    const struct voco_level level = voco_encoder_level(encoder, 3);
    assert_int_equal(level.first, 24);
    assert_int_equal(level.channels, 24);
    assert_int_equal(level.stride, 8);
    assert_int_equal(voco_encoder_embed(encoder, embedding, crop, 1), VOCO_OK);
    assert_int_equal(voco_encoder_features(encoder, features, 3, crop, size), VOCO_OK);
    for (int ch = 0; ch < 24; ch++) {
        double sum = 0;
        for (int token = 0; token < 216; token++) {
            sum += (double)features[token * 24 + ch];
        }
        assert_true(fabs(sum / 216 - (double)embedding[24 + ch]) < 1e-5);
    }
    assert_int_equal(voco_encoder_features(encoder, features, 5, crop, size), VOCO_BAD_INPUT);
    assert_int_equal(voco_encoder_features(encoder, features, 3, crop, (const int[3]){48, 48, 40}),
                     VOCO_BAD_INPUT);
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
    assert_int_equal(voco_volume_read(&volume, "/nowhere/at.nii"), VOCO_IO);
    assert_int_equal(voco_volume_prepare(&volume, "/nowhere/at.nii", "abdomen", 48), VOCO_IO);
    assert_int_equal(voco_volume_prepare(&volume, "/nowhere/at.nii", "knee", 48), VOCO_BAD_INPUT);
    voco_volume_free(&volume);
    assert_true(strlen(voco_version()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_encoder_embeds_each_crop_by_itself),
        cmocka_unit_test(a_volume_is_embedded_crop_by_crop),
        cmocka_unit_test(a_level_is_a_part_of_the_embedding),
        cmocka_unit_test(a_crop_is_the_voxels_it_says),
        cmocka_unit_test(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
