/* PNG images are read back by libpng as they were written. */
#include "formats/png.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_size(int width, int height)
{
    const size_t count = (size_t)width * (size_t)height;
    unsigned char *pixels = malloc(count), *again = malloc(count), *bytes = NULL;
    size_t size = 0;
    assert_non_null(pixels);
    assert_non_null(again);
    for (size_t i = 0; i < count; i++) {
        pixels[i] = (unsigned char)(i * 37 % 256);
    }
    assert_int_equal(png_encode_grey(&bytes, &size, pixels, width, height), VOCO_OK);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&image, bytes, size));
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    assert_int_equal(image.format, PNG_FORMAT_GRAY);
    assert_true(png_image_finish_read(&image, NULL, again, 0, NULL));
    assert_memory_equal(again, pixels, count);
    free(bytes);
    free(again);
    free(pixels);
}

static void images_of_every_size_are_read_back(void **state)
{
    (void)state;
    check_size(1, 1);
    check_size(17, 9);
    check_size(256, 3);
    check_size(1, 300);
}

static void an_image_without_pixels_is_refused(void **state)
{
    (void)state;
    unsigned char *bytes = NULL;
    size_t size = 1;
    assert_int_equal(png_encode_grey(&bytes, &size, (const unsigned char *)"", 0, 4), VOCO_BAD_INPUT);
    assert_null(bytes);
    assert_int_equal(size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_every_size_are_read_back),
        cmocka_unit_test(an_image_without_pixels_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
