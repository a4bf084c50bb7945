/* The header of .npy, byte by byte as the format's description has it. (NumPy's judgement:
 * tools/interop/check_encode.py.) */
#include "formats/npy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void check_shape(size_t rows, size_t columns, const char *text)
{
    unsigned char header[npy_header_size];
    memset(header, 0xff, sizeof header);
    npy_header(header, rows, columns);
    assert_memory_equal(header, "\x93NUMPY\x01\x00", 8);
    const size_t length = (size_t)header[8] | (size_t)header[9] << 8;
    assert_int_equal((10 + length) % 64, 0);
    assert_int_equal(10 + length, npy_header_size);
    assert_memory_equal(header + 10, text, strlen(text));
    for (size_t i = 10 + strlen(text); i < npy_header_size - 1; i++) {
        assert_int_equal(header[i], ' ');
    }
    assert_int_equal(header[npy_header_size - 1], '\n');
}

static void the_header_says_version_type_and_shape(void **state)
{
    (void)state;
    check_shape(3, 144, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 144), }");
    check_shape(SIZE_MAX, SIZE_MAX,
                "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, "
                "18446744073709551615), }");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_header_says_version_type_and_shape)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
