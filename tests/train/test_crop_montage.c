/* Each pixel of the picture of a batch, by the place that the header says it has. */
#include "train/crop_montage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { roi = 6, crops = 2, bases = 3, columns = crops + bases, step = roi + 1 };

/* Of a crop with number n of the batch; beyond [0, 1] too. */
static float value_at(size_t n, int x, int y, int z)
{
    return (float)((n * 31 + (size_t)(x * 7 + y * 5 + z * 3)) % 64) / 48.0F - 0.1F;
}

static void fill(const struct batch *batch)
{
    for (size_t n = 0; n < batch_crop_count(batch); n++) {
        float *floats = batch_crop(batch, n);
        unsigned char *bytes = batch_crop(batch, n);
        for (int i = 0; i < roi * roi * roi; i++) {
            const float value = value_at(n, i / roi / roi, i / roi % roi, i % roi);
            if (batch->form == VOXELS_FLOAT) {
                floats[i] = value;
            } else {
                bytes[i] = (unsigned char)((value + 0.1F) * 48.0F + 0.5F);
            }
        }
        if (batch->form != VOXELS_FLOAT) {
            batch->transforms[n] =
                (struct crop_transform){.step = {roi * roi, roi, 1}, .scale = 1.0F / 48.0F, .shift = -0.1F};
        }
    }
}

static void check_batch(enum voxel_form form, int volumes, int rows)
{
    static const struct batch_memory heap;
    struct batch batch;
    struct crop_montage montage;
    assert_int_equal(batch_create_in(&batch, &heap, form, volumes, crops, bases, roi), VOCO_OK);
    fill(&batch);
    assert_int_equal(crop_montage_make(&montage, &batch), VOCO_OK);
    assert_int_equal(montage.width, columns * step - 1);
    assert_int_equal(montage.height, rows * step - 1);
    for (int v = 0; v < montage.height; v++) {
        for (int u = 0; u < montage.width; u++) {
            const int pixel = montage.pixels[v * montage.width + u];
            if (u % step == roi || v % step == roi) {
                assert_int_equal(pixel, 255);
                continue;
            }
            const int column = u / step, volume = v / step;
            const size_t n = column < crops ? batch_random_index(&batch, volume, column)
                                            : batch_base_index(&batch, volume, column - crops);
            const double value = (double)value_at(n, u % step, roi - 1 - v % step, roi / 2);
            const double expected = value < 0 ? 0 : value > 1 ? 255 : 255 * value;
            assert_true(pixel - expected <= 0.5001 && expected - pixel <= 0.5001);
        }
    }
    free(montage.pixels);
    batch_free(&batch);
}

static void every_crop_is_drawn_in_its_place(void **state)
{
    (void)state;
    check_batch(VOXELS_FLOAT, 1, 1);
    check_batch(VOXELS_FLOAT, 3, 3);
    check_batch(VOXELS_8_BITS, 3, 3);
}

static void many_volumes_are_cut_to_four_rows(void **state)
{
    (void)state;
    check_batch(VOXELS_FLOAT, 6, crop_montage_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_crop_is_drawn_in_its_place),
        cmocka_unit_test(many_volumes_are_cut_to_four_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
