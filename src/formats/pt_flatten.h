/* The tree of values that a pickle holds, as lists of tensors and scalars with names; see pt.h. */
#ifndef FORMATS_PT_FLATTEN_H
#define FORMATS_PT_FLATTEN_H

#include "formats/pt.h"
#include "formats/pt_pickle.h"

/* Fills tensors, scalars and their counts, each of which the file then owns, and `sources` with the index of
 * each tensor among pickle->tensors (free it; NULL on failure). Nesting, names and the number of values are
 * bounded as pt.h says, also where the pickle refers to one list many times. */
enum voco_status pt_flatten(struct pt *file, uint32_t **sources, const struct pickle *pickle);

#endif
