/* What all layers share. A layer is a struct of sizes and of the places of its parameters in the flat buffer,
 * and two functions:
 *
 *   x_forward(run, layer, out, inp, grid, kept)      kept NULL: nothing will be asked of this pass again
 *   x_backward(run, layer, dinp, dout, inp, grid, kept)
 *
 * What backward needs besides inp lies in a struct of activations, whose arrays x_keep() pushes onto the
 * arena before forward fills them; the caller releases them. Everything else a layer needs it pushes and
 * releases itself, so a call leaves the arena as it was. Layers keep what is dear to compute (convolutions,
 * matrix products, attention). What one pass over memory gives (normalisations, GELU, gathering) they rebuild
 * in backward, except where keeps_passes.
 *
 * Layers return nothing. When the arena is used up, arena->exhausted is set and every layer from then on does
 * nothing; look once, after the last one. Failures of operations are compute_status's.
 *
 * Activations are (n, d, h, w, channels), see compute.h. Gradients of parameters are added to run->grads,
 * gradients of activations are written. */
#ifndef NN_LAYER_H
#define NN_LAYER_H

#include "base/arena.h"
#include "compute/compute.h"

#include <stddef.h>

/* Where a pass computes. */
struct layer_run {
    struct compute *compute;
    struct arena *arena;
    const real *params; /* flat buffer of parameters */
    real *grads;        /* flat buffer of their gradients; NULL in a forward pass */
};

/* n grids of d x h x w voxels or tokens. */
struct token_grid {
    int n, d, h, w;
};

/* A cube. */
struct token_grid token_cube(int n, int side);

/* d h w */
size_t grid_space(const struct token_grid *grid);

/* n d h w: the rows of an activation. */
size_t grid_rows(const struct token_grid *grid);

/* Whether layers keep tokens' norms, GELU's results and what was gathered, too: on a device, which computes
 * so fast that another pass over memory costs more than a crop's share of memory is worth. */
int keeps_passes(const struct layer_run *run);

/* `count` elements from the arena; NULL when it is used up. */
activation *push_activations(const struct layer_run *run, size_t count);
real *push_reals(const struct layer_run *run, size_t count);

#endif
