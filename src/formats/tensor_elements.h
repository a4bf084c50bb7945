/* The elements of stored tensors as floats. */
#ifndef FORMATS_TENSOR_ELEMENTS_H
#define FORMATS_TENSOR_ELEMENTS_H

#include "formats/safetensors.h"

#include <stddef.h>

/* Whether elements of this type can be converted: all but the 8-bit floats. */
int tensor_elements_convert(enum safetensors_type type);

/* out holds `count`; `bytes`, little-endian as in files, need not be aligned. Wide integers and F64 are
 * rounded, a BOOL is 0 or 1. Nothing is written for a type that cannot be converted. */
void tensor_elements_to_floats(float *out, const void *bytes, size_t count, enum safetensors_type type);

#endif
