/* What the two kernels of own_conv3d's weights' gradient sum over: the planes, one after the other, of every
 * tile of 16 x 16 voxels of every sample. */
#ifndef COMPUTE_CUDA_OWN_CONV3D_GRADIENT_CUH
#define COMPUTE_CUDA_OWN_CONV3D_GRADIENT_CUH

#include "compute/cuda/halo_tile.cuh"

enum { tile_edge = 16, kernel_taps = 27 };

struct gradient_planes {
    float *partial; /* sums of the blocks, in the order of the kernel that makes them */
    const bf16 *inp, *dout;
    struct tile_norm norm;
    int d, h, w, in_channels, out_channels;
    int tiles_h, tiles_w;
    int steps; /* planes of all tiles and samples */
};

/* All but `partial`; norm may be NULL. */
static inline gradient_planes gradient_planes_of(const activation *dout, const activation *inp,
                                                 const struct norm_activation *norm,
                                                 const struct conv3d_shape *shape)
{
    struct gradient_planes g = {};
    g.inp = (const bf16 *)inp;
    g.dout = (const bf16 *)dout;
    g.norm.mean = norm != NULL ? norm->mean : NULL;
    g.norm.rstd = norm != NULL ? norm->rstd : NULL;
    g.norm.slope = norm != NULL ? norm->slope : 1;
    g.d = shape->d;
    g.h = shape->h;
    g.w = shape->w;
    g.in_channels = shape->in_channels;
    g.out_channels = shape->out_channels;
    g.tiles_h = (int)divide_up((size_t)shape->h, tile_edge);
    g.tiles_w = (int)divide_up((size_t)shape->w, tile_edge);
    g.steps = shape->n * g.tiles_h * g.tiles_w * shape->d;
    return g;
}

#endif
