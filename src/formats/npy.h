/* .npy, NumPy's file of one array: a header, then the elements. Version 1.0 of the format, float32,
 * little-endian, rows one behind the other. Source: NEP 1, "A Simple File Format for NumPy Arrays". */
#ifndef FORMATS_NPY_H
#define FORMATS_NPY_H

#include <stddef.h>

enum { npy_header_size = 128 };

/* The header of an array (rows, columns). It has one length whatever the numbers, so that it can be written
 * when the rows are known; the elements follow it. */
void npy_header(unsigned char header[npy_header_size], size_t rows, size_t columns);

#endif
