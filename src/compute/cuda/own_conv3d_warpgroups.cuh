/* The walk of own_conv3d_walk.cuh on Hopper. */
#ifndef COMPUTE_CUDA_OWN_CONV3D_WARPGROUPS_CUH
#define COMPUTE_CUDA_OWN_CONV3D_WARPGROUPS_CUH

#include "compute/cuda/own_conv3d_walk.cuh"

enum {
    own_conv3d_warpgroups = 2,     /* each has sums of its own: w.sums is (n, tiles, segments, 2, ..) */
    own_conv3d_shared = 227 << 10, /* of which a block has most */
};

/* Whether the GPU can do it. */
int own_conv3d_walks_by_warpgroups(const struct compute *c);

/* The walk over inp (n, d, h, w, ins), `slice` output channels at a time. */
void own_conv3d_walk_by_warpgroups(struct compute *c, const struct walk &w, int ins, int slice, int n,
                                   int shares);

#endif
