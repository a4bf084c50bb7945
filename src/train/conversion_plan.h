/* What a conversion writes, tensor by tensor. Private to src/train/conversion*.c. */
#ifndef TRAIN_CONVERSION_PLAN_H
#define TRAIN_CONVERSION_PLAN_H

#include "train/conversion.h"

enum tensor_change {
    TENSOR_COPIED,
    TENSOR_PERMUTED, /* blocks of patch merging */
    TENSOR_ZEROED,
    TENSOR_REPEATED,       /* over input channels; becomes F32 */
    TENSOR_POSITION_INDEX, /* computed, no source */
};

struct converted_tensor {
    char name[parameter_name_size]; /* within the state dict, or within its moment */
    int moment;                     /* -1: in the state dict, else of moment_names */
    enum safetensors_type type;
    int rank;
    int64_t shape[parameter_max_rank];
    const struct stored_tensor *source;
    enum tensor_change change;
};

#endif
