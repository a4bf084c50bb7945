/* The walk of own_conv3d_walk.cuh on Hopper. */
#ifndef COMPUTE_CUDA_OWN_CONV3D_TURNS_CUH
#define COMPUTE_CUDA_OWN_CONV3D_TURNS_CUH

#include "compute/cuda/own_conv3d_walk.cuh"

enum { own_conv3d_turns = 2 }; /* each of them has sums of its own: w.sums is (n, tiles, segments, 2, ..) */

/* The walk over inp (.., ins), `slice` output channels at a time. */
void own_conv3d_walk_by_turns(struct compute *c, const struct walk &w, int ins, int slice, int shares);

#endif
