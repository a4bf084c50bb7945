/* Embeddings of volumes: against PyTorch's and those of replay for the same crops, crop by crop, in their
 * places; and feature maps, token by token. Weights and crops are those of the golden set own_v2. */
#include "encode/embed_volume.h"
#include "encode/sliding_crops.h"
#include "formats/safetensors.h"
#include "train/replay.h"
#include "train/stored_batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { roi = 48, width = 144, voxels = roi * roi * roi };

static const char weights[] = VOCO_TEST_DATA "/own_v2.weights.safetensors";
static struct pretrained_encoder encoder;

static int open_encoder(void **state)
{
    (void)state;
    const struct pretrained_encoder_settings settings = {.threads = 2};
    return pretrained_encoder_open(&encoder, weights, &settings) == VOCO_OK ? 0 : -1;
}

static int close_encoder(void **state)
{
    (void)state;
    pretrained_encoder_close(&encoder);
    return 0;
}

static float *read_floats(const char *path, const char *name, size_t *count)
{
    struct safetensors file;
    assert_int_equal(safetensors_open(&file, path), VOCO_OK);
    const struct safetensors_tensor *tensor = safetensors_find(&file, name);
    assert_non_null(tensor);
    float *values = malloc(tensor->count * sizeof *values);
    assert_non_null(values);
    assert_int_equal(safetensors_read_floats(&file, tensor, values), VOCO_OK);
    for (size_t i = 0; tensor->type == SAFETENSORS_U8 && i < tensor->count; i++) {
        values[i] /= 255.0F;
    }
    *count = tensor->count;
    safetensors_close(&file);
    return values;
}

/* A crop (z fastest) as a volume (x fastest). */
static struct volume volume_of(const float *crop)
{
    struct volume volume = {.size = {roi, roi, roi}, .affine = {{2, 0, 0, 5}, {0, 2, 0, 6}, {0, 0, 2, 7}}};
    volume.data = malloc(voxels * sizeof *volume.data);
    assert_non_null(volume.data);
    for (int x = 0; x < roi; x++) {
        for (int y = 0; y < roi; y++) {
            for (int z = 0; z < roi; z++) {
                volume.data[(z * roi + y) * roi + x] = crop[(x * roi + y) * roi + z];
            }
        }
    }
    return volume;
}

static void expect_embedding(const float *crop, const float *of_replay, const float *of_pytorch)
{
    const struct embedding_choice choice = {.whole = 1, .level = -1};
    struct volume volume = volume_of(crop);
    struct volume_embedding found;
    double difference = 0, norm = 0, from_replay = 0; /* which passes several crops at once: rounding */
    assert_int_equal(embed_volume(&found, &encoder, &volume, &choice, NULL, NULL), VOCO_OK);
    assert_int_equal(found.count, 1);
    assert_memory_equal(found.mean, found.embedding, width * sizeof(float));
    for (int i = 0; i < width; i++) {
        from_replay += pow((double)found.embedding[i] - (double)of_replay[i], 2);
        difference += pow((double)found.embedding[i] - (double)of_pytorch[i], 2);
        norm += pow((double)of_pytorch[i], 2);
    }
    assert_true(sqrt(from_replay / norm) <= 2e-6);
    assert_true(sqrt(difference / norm) <= 1e-5);
    volume_embedding_free(&found);
    volume_free(&volume);
}

static void a_crop_has_the_embedding_of_replay_and_pytorch(void **state)
{
    (void)state;
    char out[] = "/tmp/voco-encode-XXXXXX.safetensors";
    const int descriptor = mkstemps(out, 12);
    assert_true(descriptor >= 0);
    (void)close(descriptor);
    struct step_result result;
    const struct replay_options options = {.batch = VOCO_TEST_DATA "/own_v2.batch.safetensors",
                                           .checkpoint = weights,
                                           .out = out,
                                           .steps = 1,
                                           .learning_rate = 1e-3,
                                           .weight_decay = NAN,
                                           .threads = 2};
    assert_int_equal(replay(&options, &result), VOCO_OK);
    size_t count = 0, crop_voxels = 0, rows = 0;
    float *crops = read_floats(options.batch, "crops", &crop_voxels);
    float *of_replay = read_floats(out, "step0/embedding", &rows);
    float *of_pytorch = read_floats(VOCO_TEST_DATA "/own_v2.expected.safetensors", "step0/embedding", &count);
    assert_int_equal(rows, count);
    assert_int_equal(crop_voxels, 6 * voxels);
    for (int i = 0; i < 6; i++) {
        expect_embedding(crops + (size_t)i * voxels, of_replay + (size_t)i * width,
                         of_pytorch + (size_t)i * width);
    }
    free(crops);
    free(of_replay);
    free(of_pytorch);
    (void)unlink(out);
}

/* 72 x 50 x 61 voxels, oblique. */
static struct volume oblique_volume(void)
{
    struct volume volume = {.size = {72, 50, 61},
                            .affine = {{1.2, 0.3, 0, -10}, {-0.4, 1.6, 0.1, 20}, {0, 0.2, 2.5, 30}}};
    const size_t count = volume_count(&volume);
    volume.data = malloc(count * sizeof *volume.data);
    assert_non_null(volume.data);
    for (size_t i = 0; i < count; i++) {
        volume.data[i] = 0.5F + 0.5F * sinf((float)(i % 7919) * 0.013F);
    }
    return volume;
}

static void every_crop_is_embedded_in_its_place(void **state)
{
    (void)state;
    static const int xs[] = {0, 20, 24}, ys[] = {0, 2}, zs[] = {0, 13};
    const struct embedding_choice choice = {.stride = 20, .level = -1};
    const int extent[3] = {roi, roi, roi};
    struct volume volume = oblique_volume();
    struct volume_embedding found;
    static float box[voxels];
    float expected[width];
    double sums[width] = {0};
    assert_int_equal(embed_volume(&found, &encoder, &volume, &choice, NULL, NULL), VOCO_OK);
    assert_int_equal(found.count, 12);
    assert_int_equal(found.width, width);
    for (size_t i = 0; i < found.count; i++) {
        const int start[3] = {xs[i / 4], ys[i / 2 % 2], zs[i % 2]};
        assert_memory_equal(found.position[i], start, sizeof start);
        for (int row = 0; row < 3; row++) {
            const double *a = volume.affine[row];
            const double mm =
                a[0] * (start[0] + 23.5) + a[1] * (start[1] + 23.5) + a[2] * (start[2] + 23.5) + a[3];
            assert_true(fabs(found.centre[i][row] - mm) < 1e-9);
        }
        copy_box(box, &volume, start, extent);
        assert_int_equal(encoder_forward(&encoder.model, &encoder.compute, &encoder.arena, encoder.params,
                                         expected, box, 1, NULL),
                         VOCO_OK);
        assert_memory_equal(found.embedding + i * width, expected, sizeof expected);
        for (int j = 0; j < width; j++) {
            sums[j] += (double)expected[j];
        }
    }
    for (int j = 0; j < width; j++) {
        assert_true(fabs((double)found.mean[j] - sums[j] / 12) <= 1e-6 * fabs(sums[j] / 12));
    }
    for (int level = 0; level < encoder_levels; level++) {
        static const int columns[] = {0, 6, 12, 24, 48, 144};
        const struct embedding_choice part = {.stride = 1000, .level = level};
        struct volume_embedding of_level;
        assert_int_equal(embed_volume(&of_level, &encoder, &volume, &part, NULL, NULL), VOCO_OK);
        assert_int_equal(of_level.count, 8);
        assert_int_equal(of_level.width, columns[level + 1] - columns[level]);
        assert_memory_equal(of_level.embedding, found.embedding + columns[level],
                            of_level.width * sizeof(float));
        volume_embedding_free(&of_level);
    }
    volume_embedding_free(&found);
    volume_free(&volume);
}

/* The value of a token in the map, (channels, z, y, x). */
static double map_value(const struct feature_map *map, int ch, const int token[3])
{
    const size_t place =
        (((size_t)ch * (size_t)map->size[2] + (size_t)token[2]) * (size_t)map->size[1] + (size_t)token[1]) *
            (size_t)map->size[0] +
        (size_t)token[0];
    return (double)map->data[place];
}

/* A whole box in one pass: the mean over the map is the level's part of the embedding. */
static void the_mean_of_a_whole_map_is_the_levels_embedding(void **state)
{
    (void)state;
    struct volume volume = oblique_volume();
    memcpy(volume.size, (const int[3]){64, 48, 64}, sizeof volume.size);
    for (int level = 0; level < encoder_levels; level++) {
        const struct embedding_choice choice = {.whole = 1, .level = level};
        const struct encoder_level part = encoder_level_of(&encoder.model.config, level);
        struct feature_map map;
        struct volume_embedding embedding;
        assert_int_equal(map_features(&map, &encoder, &volume, &choice, NULL, NULL), VOCO_OK);
        assert_int_equal(embed_volume(&embedding, &encoder, &volume, &choice, NULL, NULL), VOCO_OK);
        assert_int_equal(map.channels, part.channels);
        int token[3];
        for (int ch = 0; ch < map.channels; ch++) {
            double sum = 0, size = 0;
            const double tokens = (double)map.size[0] * map.size[1] * map.size[2];
            for (token[2] = 0; token[2] < map.size[2]; token[2]++) {
                for (token[1] = 0; token[1] < map.size[1]; token[1]++) {
                    for (token[0] = 0; token[0] < map.size[0]; token[0]++) {
                        sum += map_value(&map, ch, token);
                        size += fabs(map_value(&map, ch, token));
                    }
                }
            }
            assert_true(fabs(sum / tokens - (double)embedding.embedding[ch]) <= 2e-5 * size / tokens + 1e-7);
        }
        volume_embedding_free(&embedding);
        feature_map_free(&map);
    }
    volume_free(&volume);
}

/* What the map should have at a token: the mean of every crop that covers it, each passed by itself. */
static void tokens_are_the_mean_of_the_crops_that_cover_them(void **state)
{
    (void)state;
    enum { level = 2, stride = 4, channels = 12, side = roi / stride };
    static const int xs[] = {0, 20, 24}, ys[] = {0, 4}, zs[] = {0, 16}; /* --stride 21, to whole tokens */
    static const int probes[][3] = {{0, 0, 0}, {6, 1, 4}, {17, 12, 15}, {11, 6, 8}, {12, 0, 11}};
    enum { probe_count = sizeof probes / sizeof probes[0] };
    const struct embedding_choice choice = {.stride = 21, .level = level};
    const int extent[3] = {roi, roi, roi};
    struct volume volume = oblique_volume();
    static float box[voxels], features[side * side * side * channels];
    double sums[probe_count][channels] = {{0}}, covered[probe_count] = {0};
    struct feature_map map;
    assert_int_equal(map_features(&map, &encoder, &volume, &choice, NULL, NULL), VOCO_OK);
    assert_memory_equal(map.size, ((const int[3]){18, 13, 16}), sizeof map.size);
    for (int crop = 0; crop < 12; crop++) {
        const int start[3] = {xs[crop / 4], ys[crop / 2 % 2], zs[crop % 2]};
        copy_box(box, &volume, start, extent);
        assert_int_equal(encoder_box_features(&encoder.model, &encoder.compute, &encoder.arena,
                                              encoder.params, features, level, box, extent),
                         VOCO_OK);
        for (int p = 0; p < probe_count; p++) {
            const int t[3] = {probes[p][0] - start[0] / stride, probes[p][1] - start[1] / stride,
                              probes[p][2] - start[2] / stride};
            if (t[0] < 0 || t[0] >= side || t[1] < 0 || t[1] >= side || t[2] < 0 || t[2] >= side) {
                continue;
            }
            covered[p]++;
            for (int ch = 0; ch < channels; ch++) {
                sums[p][ch] += (double)features[((t[0] * side + t[1]) * side + t[2]) * channels + ch];
            }
        }
    }
    for (int p = 0; p < probe_count; p++) {
        for (int ch = 0; ch < channels; ch++) {
            assert_true(fabs(map_value(&map, ch, probes[p]) - sums[p][ch] / covered[p]) < 1e-5);
        }
    }
    /* Token 0 lies in the middle of voxels 0 to 3, token 1 four voxels on. */
    for (int row = 0; row < 3; row++) {
        const double *a = volume.affine[row];
        assert_true(fabs(map.affine[row][3] - (1.5 * (a[0] + a[1] + a[2]) + a[3])) < 1e-9);
        for (int axis = 0; axis < 3; axis++) {
            assert_true(fabs(map.affine[row][axis] - stride * a[axis]) < 1e-9);
        }
    }
    feature_map_free(&map);
    volume_free(&volume);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct volume volume = oblique_volume();
    const struct embedding_choice gaps = {.stride = 49, .level = 0}, whole = {.whole = 1, .level = -1};
    struct feature_map map;
    struct volume_embedding embedding;
    assert_int_equal(map_features(&map, &encoder, &volume, &gaps, NULL, NULL), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "gaps"));
    assert_int_equal(embed_volume(&embedding, &encoder, &volume, &whole, NULL, NULL), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "72 x 50 x 61"));
    volume_embedding_free(&embedding);
    volume_free(&volume);

    struct pretrained_encoder other;
    const struct pretrained_encoder_settings settings = {.patch_merging = "legacy", .threads = 1};
    assert_int_equal(pretrained_encoder_open(&other, weights, &settings), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "patch merging v2, not legacy"));
    const struct pretrained_encoder_settings little = {.memory = 1 << 20, .threads = 1};
    assert_int_equal(pretrained_encoder_open(&other, weights, &little), VOCO_BAD_INPUT);
    assert_non_null(strstr(voco_error_message(), "too little"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crop_has_the_embedding_of_replay_and_pytorch),
        cmocka_unit_test(every_crop_is_embedded_in_its_place),
        cmocka_unit_test(the_mean_of_a_whole_map_is_the_levels_embedding),
        cmocka_unit_test(tokens_are_the_mean_of_the_crops_that_cover_them),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, open_encoder, close_encoder);
}
