/* What src/compute/cuda/box_copy.cuh means where there is no CUDA compiler. A box's place is full of NaNs
 * from when it is asked for until a thread waits for the barrier that it was announced to, or, in every other
 * launch, is there at once. */
#ifndef BOX_COPY_ON_HOST_H
#define BOX_COPY_ON_HOST_H

struct box_map {
    const bf16 *array;
    box_shape shape;
};

static inline int make_box_map(struct compute *, struct box_map *map, const bf16 *array,
                               const struct box_shape *shape)
{
    *map = box_map{array, *shape};
    return 1;
}

namespace cuda_on_host
{

static inline void bring_box(unsigned char *to, const box_map &map, const box_corner &corner)
{
    const box_shape &s = map.shape;
    int at = (int)(to - block_shared());
    for (int row = 0; row < s.rows; row++) {
        for (int sixteen = 0; sixteen < s.sixteens; sixteen++) {
            for (int column = 0; column < s.columns; column++) {
                const int h = corner.h + row, w = corner.w + column, from = corner.sixteen + sixteen;
                const int inside = corner.plane >= 0 && corner.plane < s.planes && h >= 0 && h < s.h &&
                                   w >= 0 && w < s.w && from >= 0 && from < s.channels / box_channels;
                const size_t voxel = inside ? ((size_t)corner.plane * s.h + h) * s.w + w : 0;
                for (int octet = 0; octet < 2; octet++, at += 16) {
                    unsigned char *place = block_shared() + box_place(at);
                    if (inside) {
                        memcpy(place, map.array + voxel * s.channels + from * box_channels + 8 * octet, 16);
                    } else {
                        memset(place, 0, 16);
                    }
                }
            }
        }
    }
}

} // namespace cuda_on_host

static inline void copy_barrier_make(copy_barrier *barrier, int arrivals)
{
    cuda_on_host::barrier_make(barrier, arrivals);
}

static inline void copy_barrier_arrive(copy_barrier *barrier)
{
    cuda_on_host::barrier_arrive(barrier, 0);
}

static inline void copy_barrier_announce(copy_barrier *barrier, int bytes)
{
    cuda_on_host::barrier_arrive(barrier, bytes);
}

static inline void copy_barrier_wait(copy_barrier *barrier, int parity)
{
    cuda_on_host::barrier_wait(barrier, parity);
}

static inline void copy_box(void *to, const box_map *map, const box_corner &corner, copy_barrier *barrier)
{
    const box_map own = *map;
    const int bytes = own.shape.rows * own.shape.columns * own.shape.sixteens * 2 * box_channels;
    if (((unsigned char *)to - cuda_on_host::block_shared()) % box_alignment != 0 ||
        !cuda_on_host::in_shared_memory(to, (size_t)bytes)) {
        cuda_on_host::stop("copy_box to %p, which is not aligned or not in shared memory", to);
    }
    cuda_on_host::barrier_copy(barrier, to, bytes,
                               [=] { cuda_on_host::bring_box((unsigned char *)to, own, corner); });
}

#endif
