#include "formats/npy.h"

#include <stdio.h>
#include <string.h>

enum { before_text = 10 }; /* magic, version, length of what follows */

void npy_header(unsigned char header[npy_header_size], size_t rows, size_t columns)
{
    static const unsigned char beginning[before_text] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, npy_header_size - before_text, 0};
    char text[npy_header_size];
    const int length = snprintf(
        text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, columns);
    memcpy(header, beginning, sizeof beginning);
    memset(header + before_text, ' ', npy_header_size - before_text);
    memcpy(header + before_text, text, (size_t)length);
    header[npy_header_size - 1] = '\n';
}
