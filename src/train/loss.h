/* The loss of VoCo (voco.md section 3) on the projectors' outputs, with its gradient. */
#ifndef TRAIN_LOSS_H
#define TRAIN_LOSS_H

#include "base/arena.h"
#include "compute/real.h"

/* The crops of a batch, N = V (S + K) rows: all random crops first (volume-major), then all bases
 * (volume-major). */
struct loss_shape {
    int volumes; /* V >= 1; one volume is its own neighbour in the inter term */
    int crops;   /* S >= 1 */
    int bases;   /* K >= 1; with a single base there are no pairs and reg is 0 */
    int width;   /* D */
};

struct loss {
    double total; /* intra + inter + reg, each a mean over the volumes */
    double intra; /* similarity of random crops with the teacher's bases of the same volume, against the
                     labels */
    double inter; /* similarity with the bases of the next volume, against the teacher's opinion of it */
    double reg;   /* bases of a volume should not resemble each other */
};

/* z (N, D) is the student's output, t (N, D) the teacher's, labels (V, S, K) the shares of overlap.
 *
 * dz (N, D) is written: the gradient of `total` with respect to z where the method lets it through. The
 * teacher is constant everywhere, and so is the second partner b of a pair of bases in reg. Where cos is not
 * positive relu passes nothing; where a similarity equals its target |y - s| passes nothing (as PyTorch has
 * both).
 *
 * similarity (V, S, K) is written: relu(cos(z of random crop s, t of base k)) within each volume, what intra
 * compares with the labels.
 *
 * cos(a, b) = a.b / max(|a| |b|, 1e-8). Everything is summed in double; NaN anywhere in z or t makes the loss
 * NaN. Uses the arena above its present mark and releases that: VOCO_NO_MEMORY when it is used up. */
enum voco_status voco_loss(struct loss *loss, real *dz, real *similarity, const real *z, const real *t,
                           const float *labels, const struct loss_shape *shape, struct arena *arena);

#endif
