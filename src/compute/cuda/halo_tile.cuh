/* Planes of a volume in shared memory, with what lies around them, as tensor cores read them.
 *
 * A plane is [group of 8 channels][row][column], 16 bytes each: any 8 neighbours of a row are an 8 x 8 matrix
 * of 128 bytes without bank conflicts, wherever they start, so that a tap of a convolution is nothing but
 * another start. */
#ifndef COMPUTE_CUDA_HALO_TILE_CUH
#define COMPUTE_CUDA_HALO_TILE_CUH

#include "compute/cuda/tensor_core.cuh"

template <int rows_, int columns_, int channels_> struct tile_plane {
    static constexpr int rows = rows_, columns = columns_, channels = channels_;
    static constexpr int groups = channels / 8;
    static constexpr int row_bytes = columns * 16;
    static constexpr int group_bytes =
        rows * row_bytes + 16; /* so that neighbouring groups lie in other banks */
    static constexpr int bytes = groups * group_bytes;
};

/* A plane of a volume: h x w voxels whose wanted channels start at `first`, `stride` elements apart. */
struct volume_plane {
    const bf16 *first;
    int h, w, stride;
};

/* The norm before the convolution, at the wanted channels of one sample. */
struct tile_norm {
    const float *mean, *rstd; /* NULL: none */
    float slope;
};

/* Which chunks of a plane a thread has: those of one group of channels at every `step`-th voxel from `first`,
 * so that neighbouring threads have neighbouring channels. The last threads may have none. */
template <typename plane, int threads> struct tile_share {
    static constexpr int step = threads / plane::groups;
    static constexpr int count = (plane::rows * plane::columns + step - 1) / step;
    int group, first;

    __device__ __forceinline__ tile_share()
    {
        group = (int)threadIdx.x % plane::groups;
        first = (int)threadIdx.x / plane::groups;
        first = first < step ? first : plane::rows * plane::columns;
    }
};

static __device__ __forceinline__ int inside_plane(const volume_plane &plane, int h, int w)
{
    return (unsigned)h < (unsigned)plane.h && (unsigned)w < (unsigned)plane.w;
}

/* Begins to copy the plane whose corner is (h0, w0); zeros outside the volume. `at_once` chunks at a time,
 * where registers allow. */
template <typename plane, int threads, int at_once>
static __device__ __forceinline__ void copy_plane(unsigned char *to, const volume_plane &from, int h0, int w0)
{
    const tile_share<plane, threads> share;
    to += share.group * plane::group_bytes;
    const bf16 *channels = from.first + share.group * 8;
#pragma unroll at_once
    for (int k = 0; k < share.count; k++) {
        const int voxel = share.first + k * share.step;
        const int h = h0 + voxel / plane::columns, w = w0 + voxel % plane::columns;
        const int inside = inside_plane(from, h, w);
        const size_t source = inside ? (size_t)h * from.w + w : 0;
        if (voxel < plane::rows * plane::columns) {
            copy_async(to + voxel * 16, channels + source * from.stride, inside);
        }
    }
}

/* slope: between 0 and 1. */
static __device__ __forceinline__ float normalised(float x, float mean, float rstd, float slope)
{
    const float v = (x - mean) * rstd;
    return fmaxf(v, slope * v);
}

static __device__ __forceinline__ uint32_t normalised_pair(uint32_t pair, float mean0, float mean1,
                                                           float rstd0, float rstd1, float slope)
{
    return pack_bf16(normalised(low_of(pair), mean0, rstd0, slope),
                     normalised(high_of(pair), mean1, rstd1, slope));
}

static __device__ __forceinline__ uint4 normalised_octet(uint4 v, float4 mean0, float4 mean1, float4 rstd0,
                                                         float4 rstd1, float slope)
{
    v.x = normalised_pair(v.x, mean0.x, mean0.y, rstd0.x, rstd0.y, slope);
    v.y = normalised_pair(v.y, mean0.z, mean0.w, rstd0.z, rstd0.w, slope);
    v.z = normalised_pair(v.z, mean1.x, mean1.y, rstd1.x, rstd1.y, slope);
    v.w = normalised_pair(v.w, mean1.z, mean1.w, rstd1.z, rstd1.w, slope);
    return v;
}

/* Norm and activation of what this very thread has copied, in place: the loop is copy_plane's. */
template <typename plane, int threads, int at_once>
static __device__ __forceinline__ void normalise_plane(unsigned char *tile, const volume_plane &from, int h0,
                                                       int w0, const tile_norm &norm)
{
    const tile_share<plane, threads> share;
    tile += share.group * plane::group_bytes;
    const float4 *mean = (const float4 *)(norm.mean + share.group * 8);
    const float4 *rstd = (const float4 *)(norm.rstd + share.group * 8);
    const float4 m0 = mean[0], m1 = mean[1], r0 = rstd[0], r1 = rstd[1];
#pragma unroll at_once
    for (int k = 0; k < share.count; k++) {
        const int voxel = share.first + k * share.step;
        if (voxel < plane::rows * plane::columns &&
            inside_plane(from, h0 + voxel / plane::columns, w0 + voxel % plane::columns)) {
            uint4 *values = (uint4 *)(tile + voxel * 16);
            *values = normalised_octet(*values, m0, m1, r0, r1, norm.slope);
        }
    }
}

/* A plane that comes in boxes of octets (box_copy.cuh): as tile_plane, but dense, and a warp's lanes have
 * neighbouring voxels. */
template <int rows_, int columns_, int channels_> struct octet_plane {
    static constexpr int rows = rows_, columns = columns_, channels = channels_;
    static constexpr int groups = channels / 8;
    static constexpr int row_bytes = columns * 16;
    static constexpr int group_bytes = rows * row_bytes;
    static constexpr int bytes = groups * group_bytes;
    static constexpr int voxels = rows * columns, rounds = (voxels + warp_size - 1) / warp_size;
    static constexpr int at_once = 4; /* of the rounds */

    /* Which of this lane's voxels lie in a volume's plane of h x w voxels: a bit for each round. */
    static __device__ __forceinline__ unsigned inside(int h0, int w0, int h, int w)
    {
        const volume_plane plane = {NULL, h, w, 0};
        unsigned bits = 0;
        static_assert(rounds <= 32, "more rounds than bits");
        for (int round = 0; round < rounds; round++) {
            const int voxel = round * warp_size + (int)threadIdx.x % warp_size;
            const int is = voxel < voxels && inside_plane(plane, h0 + voxel / columns, w0 + voxel % columns);
            bits |= (unsigned)is << round;
        }
        return bits;
    }

    /* Norm and activation of an octet of channels, by a warp. norm: of all of the plane's channels. */
    static __device__ __forceinline__ void normalise(unsigned char *plane, int octet, unsigned inside,
                                                     const tile_norm &norm)
    {
        uint4 *const lane = (uint4 *)(plane + octet * group_bytes) + threadIdx.x % warp_size;
        const float4 *mean = (const float4 *)(norm.mean + octet * 8);
        const float4 *rstd = (const float4 *)(norm.rstd + octet * 8);
        const float4 m0 = mean[0], m1 = mean[1], r0 = rstd[0], r1 = rstd[1];
#pragma unroll 1
        for (int round = 0; round < rounds; round += at_once) {
            uint4 v[at_once];
#pragma unroll
            for (int k = 0; k < at_once; k++) {
                const int is = inside >> (round + k) & 1;
                v[k] = is ? lane[(round + k) * warp_size] : make_uint4(0, 0, 0, 0);
            }
#pragma unroll
            for (int k = 0; k < at_once; k++) {
                v[k] = normalised_octet(v[k], m0, m1, r0, r1, norm.slope);
            }
#pragma unroll
            for (int k = 0; k < at_once; k++) {
                if (inside >> (round + k) & 1) {
                    lane[(round + k) * warp_size] = v[k];
                }
            }
        }
    }
};

#endif
