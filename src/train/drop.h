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

/* What rows first_row, first_row + 1, ... of a batch are multiplied by in this step, forward and backward
 * (apply_mask of compute/compute.h): mask (rows, width), 0 at the given rate, else 1 / (1 - rate), per row or
 * per element. It is a function of (seed, step, row, column) alone. */
void drop_mask(real *mask, const struct drop *drop, uint64_t step, size_t first_row, size_t rows,
               size_t width);

#endif
