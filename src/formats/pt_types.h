/* The names that PyTorch has for the types of elements. */
#ifndef FORMATS_PT_TYPES_H
#define FORMATS_PT_TYPES_H

#include "formats/safetensors.h"

#include <stddef.h>

/* "FloatStorage" (of module torch), as tensors of this type are pickled; NULL for those that PyTorch pickles
 * with an untyped storage: unsigned integers of more than 8 bits, 8-bit floats. */
const char *pt_storage_name(enum safetensors_type type);

/* "float32", the type's dtype in module torch. */
const char *pt_dtype_name(enum safetensors_type type);

/* The type with this storage's or this dtype's name ("float32", of module torch), of `length` bytes; 0 where
 * there is none. */
int pt_type_of_storage(enum safetensors_type *type, const char *name, size_t length);
int pt_type_of_dtype(enum safetensors_type *type, const char *name, size_t length);

#endif
