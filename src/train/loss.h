/* The loss of a batch, from what contrast_loss (compute/compute.h) leaves of each volume. */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H

struct loss {
    double total; /* intra + inter + reg, each a mean over the volumes */
    double intra, inter, reg;
};

/* terms (volumes, 3), as contrast_loss writes them. */
struct loss loss_of_terms(const double *terms, int volumes);

#endif
