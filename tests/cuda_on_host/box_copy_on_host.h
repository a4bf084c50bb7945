/* What src/compute/cuda/box_copy.cuh means where there is no CUDA compiler. A box's place is full of NaNs
 * from when it is asked for until a thread waits for the barrier that it was announced to, or, in every other
 * launch, is there at once. */
#ifndef BOX_COPY_ON_HOST_H
#define BOX_COPY_ON_HOST_H

struct box_map {
    const bf16 *array;
    box_shape shape;
};

static inline int has_box_maps()
{
    return 1;
}

static inline int make_box_map(struct compute *, struct box_map *map, const bf16 *array,
                               const struct box_shape *shape)
{
    *map = box_map{array, *shape};
    return 1;
}

static inline int make_octet_map(struct compute *c, struct box_map *map, const bf16 *array,
                                 const struct box_shape *shape)
{
    return make_box_map(c, map, array, shape);
}

namespace cuda_on_host
{

static inline void bring_octets(unsigned char *to, const box_map &map, const box_corner &corner)
{
    const box_shape &s = map.shape;
    for (int octet = corner.sixteen; octet < corner.sixteen + s.sixteens; octet++) {
        for (int h = corner.h; h < corner.h + s.rows; h++) {
            for (int w = corner.w; w < corner.w + s.columns; w++, to += 16) {
                const int inside = corner.plane >= 0 && corner.plane < s.planes && h >= 0 && h < s.h &&
                                   w >= 0 && w < s.w && octet >= 0 && octet < s.channels / octet_channels;
                const size_t voxel = inside ? ((size_t)corner.plane * s.h + h) * s.w + w : 0;
                if (inside) {
                    memcpy(to, map.array + voxel * s.channels + octet * octet_channels, 16);
                } else {
                    memset(to, 0, 16);
                }
            }
        }
    }
}

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

static inline void copy_later(void *to, int bytes, int alignment, copy_barrier *barrier,
                              const std::function<void()> &copy)
{
    if (((unsigned char *)to - cuda_on_host::block_shared()) % alignment != 0 ||
        !cuda_on_host::in_shared_memory(to, (size_t)bytes)) {
        cuda_on_host::stop("a box to %p, which is not aligned or not in shared memory", to);
    }
    cuda_on_host::barrier_copy(barrier, to, bytes, copy);
}

static inline void copy_box(void *to, const box_map *map, const box_corner &corner, copy_barrier *barrier)
{
    const box_map own = *map;
    copy_later(to, own.shape.rows * own.shape.columns * own.shape.sixteens * 2 * box_channels, box_alignment,
               barrier, [=] { cuda_on_host::bring_box((unsigned char *)to, own, corner); });
}

static inline void copy_octets(void *to, const box_map *map, const box_corner &corner, copy_barrier *barrier)
{
    const box_map own = *map;
    copy_later(to, own.shape.rows * own.shape.columns * own.shape.sixteens * 2 * octet_channels,
               octet_box_alignment, barrier,
               [=] { cuda_on_host::bring_octets((unsigned char *)to, own, corner); });
}

#endif
