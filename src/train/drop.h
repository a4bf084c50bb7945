/* What is dropped between the encoder and the student's projector (voco.md section 3). */
#ifndef TRAIN_DROP_H
#define TRAIN_DROP_H

#include "compute/real.h"

#include <stddef.h>
#include <stdint.h>

/* What the student's input loses. */
enum drop_mode {
    DROP_CROP,    /* whole rows, as the published code does */
    DROP_FEATURE, /* single elements, as Dropout usually does */
    DROP_NONE,
};

struct drop {
    enum drop_mode mode;
    double rate; /* how likely each is lost, in [0, 1): 0.2 in the published recipe */
    uint64_t seed;
};

/* out = inp times the mask of this step, both (rows, width): 0 at the given rate, else 1 / (1 - rate), per
 * row or per element. The mask is a function of (seed, step, row, column) alone, so this is its own backward:
 * pass dout for inp. out may be inp. What is dropped is zero whatever inp held. */
void drop_apply(real *out, const real *inp, const struct drop *drop, uint64_t step, size_t rows,
                size_t width);

/* The same of rows first_row, first_row + 1, ... of a batch alone: their mask is that which they have in the
 * whole of it. */
void drop_apply_rows(real *out, const real *inp, const struct drop *drop, uint64_t step, size_t first_row,
                     size_t rows, size_t width);

#endif
