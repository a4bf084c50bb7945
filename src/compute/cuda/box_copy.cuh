/* Boxes of an array of bf16 that Hopper brings to shared memory by itself (PTX ISA, "cp.async.bulk.tensor",
 * "mbarrier"): one thread asks for a whole box, and a barrier in shared memory tells when it is there. Where
 * there is no CUDA compiler, tests/cuda_on_host does the same.
 *
 * An array is seen as (planes, rows, sixteens of channels, columns, 16 channels), whatever lies how far apart
 * in memory, and so is the box in shared memory, dense: 32 bytes for each column. What of a box lies outside
 * of the array is zeros. The box begins at a multiple of 256 bytes, and what would lie at byte x of shared
 * memory lies at box_place(x): any 8 neighbouring columns of 16 bytes lie in different banks.
 *
 * Or in octets of channels instead of sixteens: (octets of channels, rows, columns, 8 channels), 16 bytes for
 * each column, all where it is, from a multiple of 128 bytes on. */
#ifndef COMPUTE_CUDA_BOX_COPY_CUH
#define COMPUTE_CUDA_BOX_COPY_CUH

#include "compute/cuda/warpgroup.cuh"

enum { box_channels = 16, box_alignment = 256, octet_channels = 8, octet_box_alignment = 128 };

/* A volume's array: (planes, h, w, channels), and the box: so many rows, columns and sixteens of channels of
 * one plane. */
struct box_shape {
    int planes, h, w, channels;
    int rows, columns, sixteens; /* or octets */
};

/* Where a box begins; plane, h and w may lie outside of the array. */
struct box_corner {
    int plane, h, sixteen, w; /* or octet, of a map of octets */
};

/* One barrier in shared memory, 8 bytes. It has phases: one ends when as many threads as it was made for have
 * arrived and the bytes that they announced are there. */
struct copy_barrier {
    uint64_t state;
};

static __device__ __forceinline__ int box_place(int at)
{
    return at ^ (at >> 3 & 16);
}

#ifndef __CUDACC__
#include "box_copy_on_host.h"
#else

#include <cuda.h>

/* What a kernel takes, by value, as a __grid_constant__. */
struct box_map {
    CUtensorMap map;
};

/* 0 where the driver has no such maps, as has_box_maps says beforehand. */
int has_box_maps(void);
int make_box_map(struct compute *c, struct box_map *map, const bf16 *array, const struct box_shape *shape);
int make_octet_map(struct compute *c, struct box_map *map, const bf16 *array, const struct box_shape *shape);

#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 900
#define BOX_COPY_ASM(...) asm volatile(__VA_ARGS__)
#else
#define BOX_COPY_ASM(...) ((void)0)
#endif

/* By one thread, and then a barrier of the block. */
static __device__ __forceinline__ void copy_barrier_make(copy_barrier *barrier, int arrivals)
{
    BOX_COPY_ASM("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
                 : "memory");
    BOX_COPY_ASM("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void copy_barrier_arrive(copy_barrier *barrier)
{
    BOX_COPY_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/* Arrives and announces bytes that copy_box brings. */
static __device__ __forceinline__ void copy_barrier_announce(copy_barrier *barrier, int bytes)
{
    BOX_COPY_ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

/* Until the phase with this parity has ended; the first one's is 0. */
static __device__ __forceinline__ void copy_barrier_wait(copy_barrier *barrier, int parity)
{
    uint32_t ended = 1;
    do {
        BOX_COPY_ASM("{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; "
                     "selp.u32 %0, 1, 0, ended; }"
                     : "=r"(ended)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    } while (!ended);
}

/* The box whose first element has these coordinates, the nearest in memory first. */
static __device__ __forceinline__ void copy_from(void *to, const box_map *map, int w, int x, int y, int plane,
                                                 copy_barrier *barrier)
{
    BOX_COPY_ASM("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(shared_address(to)),
                 "l"(&map->map), "r"(0), "r"(w), "r"(x), "r"(y), "r"(plane), "r"(shared_address(barrier))
                 : "memory");
}

/* Begins to copy a box; the barrier has been told of its bytes. */
static __device__ __forceinline__ void copy_box(void *to, const box_map *map, const box_corner &corner,
                                                copy_barrier *barrier)
{
    copy_from(to, map, corner.w, corner.sixteen, corner.h, corner.plane, barrier);
}

/* The same of a map of octets. */
static __device__ __forceinline__ void copy_octets(void *to, const box_map *map, const box_corner &corner,
                                                   copy_barrier *barrier)
{
    copy_from(to, map, corner.w, corner.h, corner.sixteen, corner.plane, barrier);
}

#endif

#endif
