/* Whether the model learns: what the loss hides (voco.md section 3). Higher is better in all of them. */
#ifndef TRAIN_LEARNING_SIGNALS_H
#define TRAIN_LEARNING_SIGNALS_H

#include "base/arena.h"
#include "compute/real.h"

/* Sums over random crops, so that the signals can be taken over many batches. Begin with all zero. */
struct position_signals {
    size_t positions;         /* random crops seen: S x V of each batch */
    size_t right;             /* of them, those whose most similar base has the largest overlap */
    size_t pairs;             /* S x K x V */
    double similarity, label; /* sums over pairs */
    double similarity_squared, label_squared, product;
};

/* Adds `rows` random crops: similarity and labels (rows, bases) as contrast_loss has them. A crop counts as
 * right where the label of its most similar base (the first of equal ones) is the row's largest. */
void position_signals_add(struct position_signals *signals, const real *similarity, const float *labels,
                          size_t rows, int bases);

/* The share of right positions; chance is 1 / K. 0 where nothing was added. */
double position_accuracy(const struct position_signals *signals);

/* Pearson's correlation of similarity with label over all pairs; 0 where either does not vary. */
double position_correlation(const struct position_signals *signals);

/* How embeddings lie in their space: a collapse shows here first. */
struct embedding_signals {
    /* The standard deviation (over n, not n - 1) of each feature over the rows, averaged over the features.
     * 0: every crop looks the same to the encoder. */
    double spread;
    /* The same of the rows divided by their length, times sqrt(width): near 1 where directions are spread
     * evenly, 0 where they have collapsed, whatever the scale (Chen and He, "Exploring simple Siamese
     * representation learning", CVPR 2021, section 4.1). */
    double normalised_spread;
    /* Along how many directions the rows spread: exp of the entropy of the singular values, divided by their
     * sum, of the matrix minus its mean row (Roy and Vetterli, "The effective rank", EUSIPCO 2007). At most
     * min(rows - 1, width); 0 where all rows are equal. */
    double effective_rank;
};

/* Of embeddings (rows, width); all NaN where an element is not finite. Uses the arena above its present mark,
 * rows width + min(rows, width)^2 doubles, and releases that: VOCO_NO_MEMORY when it is used up. */
enum voco_status embedding_signals(struct embedding_signals *signals, const real *embedding, size_t rows,
                                   size_t width, struct arena *arena);

#endif
