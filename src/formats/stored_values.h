/* What a file of tensors holds, whatever its format: tensors and scalars, each with a name. */
#ifndef FORMATS_STORED_VALUES_H
#define FORMATS_STORED_VALUES_H

#include "formats/safetensors.h"

#include <stddef.h>
#include <stdint.h>

struct stored_tensor {
    const char *name; /* owned by the file, as are a scalar's name and text */
    enum safetensors_type type;
    int rank; /* 0: a single element */
    int64_t shape[safetensors_max_rank];
    size_t count; /* elements: the product of the shape */
    size_t bytes; /* count x element size */
};

enum stored_scalar_kind {
    STORED_NONE, /* Python's None */
    STORED_BOOL, /* integer is 0 or 1 */
    STORED_INTEGER,
    STORED_NUMBER,
    STORED_TEXT, /* UTF-8 where its writer kept to it */
};

struct stored_scalar {
    const char *name;
    enum stored_scalar_kind kind;
    int64_t integer;
    double number;
    const char *text; /* NULL but for STORED_TEXT */
};

#endif
