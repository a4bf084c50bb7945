#include "compute/cuda/vector.cuh"

/* A thread has `width` voxels of a row along z, which stay neighbours wherever the row goes: what a warp
 * reads lies together, and so does what it writes of a row. A crop has blocks of its own. */
template <typename Stored, int width>
static __global__ void transform_rows(float *out, const Stored *stored, const crop_transform *transforms,
                                      unsigned side, unsigned blocks_of_crop)
{
    const unsigned crop = blockIdx.x / blocks_of_crop, groups = side / width;
    const unsigned group = (blockIdx.x - crop * blocks_of_crop) * blockDim.x + threadIdx.x;
    const unsigned row = group / groups;
    if (row >= side * side) {
        return;
    }
    const crop_transform t = transforms[crop];
    const int z = (int)((group - row * groups) * width), x = (int)(row / side);
    const int y = (int)(row - (unsigned)x * side), backwards = t.step[2] < 0;
    const size_t first = (size_t)crop * side * side * side;
    const vector<Stored, width> from = load_vector<width>(stored + first + (size_t)row * side + z);
    float changed[width];
#pragma unroll
    for (int i = 0; i < width; i++) { /* not fused: as everywhere */
        changed[i] = __fadd_rn(__fmul_rn(t.scale, (float)from.value[i]), t.shift);
    }
    vector<float, width> to;
#pragma unroll
    for (int i = 0; i < width; i++) {
        to.value[i] = backwards ? changed[width - 1 - i] : changed[i];
    }
    const ptrdiff_t at = t.origin + x * t.step[0] + y * t.step[1] + z * t.step[2];
    store_vector(out + first + (backwards ? at - (width - 1) : at), to);
}

template <typename Stored, int width>
static void launch_for_rows(struct compute *c, float *out, const Stored *stored,
                            const crop_transform *transforms, int n, int side)
{
    enum { threads = 256 };
    const size_t groups = (size_t)side * side * (side / width), blocks = divide_up(groups, threads);
    launch(c, transform_rows<Stored, width>, dim3((unsigned)(n * blocks)), dim3(threads), 0, out, stored,
           transforms, (unsigned)side, (unsigned)blocks);
}

template <typename Stored>
static void transform(struct compute *c, float *out, const Stored *stored, const crop_transform *transforms,
                      int n, int side)
{
    if (side % 4 == 0 && all_aligned(out, stored)) {
        launch_for_rows<Stored, 4>(c, out, stored, transforms, n, side);
    } else {
        launch_for_rows<Stored, 1>(c, out, stored, transforms, n, side);
    }
}

void cuda_transform_crops(struct compute *c, float *out, const void *stored, int voxel_bytes,
                          const struct crop_transform *transforms, int n, int side)
{
    if (voxel_bytes == 1) {
        transform(c, out, (const uint8_t *)stored, transforms, n, side);
    } else {
        transform(c, out, (const uint16_t *)stored, transforms, n, side);
    }
}
