/* The walk of own_conv3d_forward.cu on Hopper, by three warpgroups.
 *
 * Two of them have two squares of 8 x 8 voxels each, of 64 rows: a product is one instruction per square, tap
 * and 16 input channels, which reads both sides from shared memory. Neither waits for the other: while one
 * writes what it has finished, the other multiplies, so that tensor cores are busy all the time. The third
 * has planes brought (box_copy.cuh), applies norm and activation to them, and is ahead of the others by as
 * many planes as there is place for, across columns as well: a block stays with its weights and does one
 * share after the other. */
#include "compute/cuda/box_copy.cuh"
#include "compute/cuda/own_conv3d_walk.cuh"
#include "compute/cuda/own_conv3d_warpgroups.cuh"

enum {
    warpgroups = own_conv3d_warpgroups,
    all_threads = 128 + warpgroups * 128, /* the first warpgroup brings planes */
    warpgroup_warps = 4,
    norming_warps = warpgroup_warps - 1, /* of the first warpgroup; its first warp asks for planes */
};

/* What is read in boxes: the input, and what the output is the gradient behind. */
struct walk_boxes {
    box_map input, behind;
};

/* In shared memory: weights, planes, and for each warpgroup that multiplies what is behind its part of a
 * plane of the output, its warps' sums and the norm behind; barriers. */
template <int ins, int outs, epilogue what> struct walk_memory {
    static constexpr int channels = walk_part<ins, outs>::channels;
    typedef octet_plane<halo_edge, halo_edge, channels> halo;
    typedef octet_plane<tile_edge / warpgroups, tile_edge, outs> part; /* of the output */
    static constexpr int planes_at = weight_tile<ins, outs>::bytes;
    static constexpr int sums_bytes = warpgroup_warps * outs * 2 * (int)sizeof(float);
    static constexpr int norm_bytes = outs * (int)sizeof(float2);
    static constexpr int rest = warpgroups * (sums_bytes + norm_bytes) + 192;
    static constexpr int left = own_conv3d_shared - planes_at - rest; /* for planes, and for what is behind */
    static constexpr bool behind_comes =
        is_through_norm(what) && left >= 2 * halo::bytes + warpgroups * part::bytes;
    static constexpr int behind_bytes = behind_comes ? part::bytes : 0;
    static constexpr int planes = left >= 3 * halo::bytes + warpgroups * behind_bytes ? 3 : 2;
    static constexpr int behind_at = planes_at + planes * halo::bytes;
    static constexpr int sums_at = behind_at + warpgroups * behind_bytes;
    static constexpr int norms_at = sums_at + warpgroups * sums_bytes;
    static constexpr int barriers_at = norms_at + warpgroups * norm_bytes;
    static constexpr int bytes = barriers_at + 192;
    /* Of a thread, of the 168 that it begins with: more where planes are normalised. */
    static constexpr int bringing_registers = is_through_norm(what) ? 56 : 72;
    static constexpr int multiplying_registers = is_through_norm(what) ? 224 : 216;

    unsigned char *shared;

    __device__ __forceinline__ unsigned char *plane(int k) const
    {
        return shared + planes_at + k * halo::bytes;
    }

    __device__ __forceinline__ unsigned char *behind(int warpgroup) const
    {
        return shared + behind_at + warpgroup * behind_bytes;
    }

    __device__ __forceinline__ float *sums(int warpgroup) const
    {
        return (float *)(shared + sums_at + warpgroup * sums_bytes);
    }

    __device__ __forceinline__ float2 *norm(int warpgroup) const
    {
        return (float2 *)(shared + norms_at + warpgroup * norm_bytes);
    }

    /* A plane has come; it is ready to be multiplied; it may be overwritten. */
    __device__ __forceinline__ copy_barrier *came(int k) const
    {
        return (copy_barrier *)(shared + barriers_at) + k;
    }

    __device__ __forceinline__ copy_barrier *ready(int k) const
    {
        return came(planes + k);
    }

    __device__ __forceinline__ copy_barrier *done(int k) const
    {
        return came(2 * planes + k);
    }

    /* What is behind the output has come; it may be overwritten. */
    __device__ __forceinline__ copy_barrier *behind_came(int warpgroup) const
    {
        return came(3 * planes + warpgroup);
    }

    __device__ __forceinline__ copy_barrier *behind_done(int warpgroup) const
    {
        return came(3 * planes + warpgroups + warpgroup);
    }

    /* All of the warpgroup's warps are here. */
    __device__ __forceinline__ copy_barrier *meeting(int warpgroup) const
    {
        return came(3 * planes + 2 * warpgroups + warpgroup);
    }

    /* By one thread. */
    __device__ __forceinline__ void make_barriers() const
    {
        for (int k = 0; k < planes; k++) {
            copy_barrier_make(came(k), 1);
            copy_barrier_make(ready(k), norming_warps);
            copy_barrier_make(done(k), warpgroups * warpgroup_warps);
        }
        for (int k = 0; k < warpgroups; k++) {
            copy_barrier_make(behind_came(k), 1);
            copy_barrier_make(behind_done(k), warpgroup_warps);
            copy_barrier_make(meeting(k), warpgroup_warps);
        }
    }
};

/* For the whole warp. */
static __device__ __forceinline__ void say(copy_barrier *barrier)
{
    __syncwarp();
    if (threadIdx.x % warp_size == 0) {
        copy_barrier_arrive(barrier);
    }
}

/* Where a plane lies, of those that come one after the other. */
template <int planes> struct ring_place {
    int place = 0, parity = 0;

    __device__ __forceinline__ void advance()
    {
        parity ^= place + 1 == planes;
        place = place + 1 < planes ? place + 1 : 0;
    }
};

/* ---- the warpgroup that brings planes ---- */

/* One thread asks for all planes, in the order in which they are multiplied. */
template <int ins, int outs, epilogue what>
static __device__ __forceinline__ void ask_for_planes(const walk &w, const walk_boxes &boxes,
                                                      const walk_memory<ins, outs, what> &memory, int shares)
{
    typedef walk_memory<ins, outs, what> memory_of;
    constexpr int parts = walk_part<ins, outs>::parts;
    ring_place<memory_of::planes> at;
#pragma unroll 1
    for (int share = (int)blockIdx.x; share < shares; share += (int)gridDim.x) {
        const walk_share its(w, share);
#pragma unroll 1
        for (int step = its.begin * parts; step < its.end * parts; step++) {
            const box_corner corner = {its.sample * w.d + step / parts, its.h0 - 1,
                                       step % parts * (memory_of::channels / 8), its.w0 - 1};
            copy_barrier_wait(memory.done(at.place), at.parity ^ 1);
            copy_barrier_announce(memory.came(at.place), memory_of::halo::bytes);
            copy_octets(memory.plane(at.place), &boxes.input, corner, memory.came(at.place));
            at.advance();
        }
    }
}

/* Another one for what is behind a warpgroup's part of the output. */
template <int ins, int outs, epilogue what>
static __device__ __forceinline__ void ask_for_behind(const walk &w, const walk_boxes &boxes,
                                                      const walk_memory<ins, outs, what> &memory,
                                                      int warpgroup, int shares)
{
    typedef typename walk_memory<ins, outs, what>::part part;
    int parity = 1;
#pragma unroll 1
    for (int share = (int)blockIdx.x; share < shares; share += (int)gridDim.x) {
        const walk_share its(w, share);
#pragma unroll 1
        for (int p = its.first; p < its.last; p++, parity ^= 1) {
            const box_corner corner = {its.sample * w.d + p, its.h0 + warpgroup * part::rows,
                                       (int)blockIdx.y * (outs / 8), its.w0};
            copy_barrier_wait(memory.behind_done(warpgroup), parity);
            copy_barrier_announce(memory.behind_came(warpgroup), part::bytes);
            copy_octets(memory.behind(warpgroup), &boxes.behind, corner, memory.behind_came(warpgroup));
        }
    }
}

/* Norm and activation of the planes that have come. Each warp has every third octet of channels. */
template <int ins, int outs, epilogue what>
static __device__ __forceinline__ void
normalise_planes(const walk &w, const walk_memory<ins, outs, what> &memory, int warp, int shares)
{
    typedef walk_memory<ins, outs, what> memory_of;
    typedef typename memory_of::halo halo;
    constexpr int parts = walk_part<ins, outs>::parts;
    ring_place<memory_of::planes> at;
#pragma unroll 1
    for (int share = (int)blockIdx.x; share < shares; share += (int)gridDim.x) {
        const walk_share its(w, share);
        const unsigned inside = halo::inside(its.h0 - 1, its.w0 - 1, w.h, w.w);
#pragma unroll 1
        for (int step = its.begin * parts; step < its.end * parts; step++) {
            const size_t moment = (size_t)its.sample * ins + step % parts * memory_of::channels;
            const tile_norm norm = {w.norm.mean + moment, w.norm.rstd + moment, w.norm.slope};
            copy_barrier_wait(memory.came(at.place), at.parity);
#pragma unroll 1
            for (int octet = warp; octet < halo::groups; octet += norming_warps) {
                halo::normalise(memory.plane(at.place), octet, inside, norm);
            }
            show_to_warpgroup_products();
            say(memory.ready(at.place));
            at.advance();
        }
    }
}

/* ---- those that multiply ---- */

/* Both sides of a warpgroup's products with a part of a plane. */
template <int ins, int outs, typename halo> struct walk_operands {
    typedef weight_tile<ins, outs> tile;
    uint64_t a, b; /* a: of the first square */

    /* weights: those of the part's channels. */
    __device__ __forceinline__ walk_operands(const unsigned char *plane, const unsigned char *weights,
                                             const place &at)
    {
        a = not_ahead(operand_at(shared_address(plane) + at.tile_h * halo::row_bytes, halo::row_bytes,
                                 halo::group_bytes));
        b = not_ahead(operand_at(shared_address(weights), 128, tile::group_bytes));
    }

    /* sums += the product, begun, a group of products for each square. */
    __device__ __forceinline__ void multiply(float (&sums)[squares][3 * outs / 2]) const
    {
        begin_warpgroup_products();
#pragma unroll
        for (int square = 0; square < squares; square++) {
#pragma unroll
            for (int area = 0; area < kernel_area; area++) {
#pragma unroll
                for (int k = 0; k < halo::channels / 16; k++) {
                    warpgroup_multiply(sums[square],
                                       a + operand_shift(square * 8 * 16 + area / 3 * halo::row_bytes +
                                                         area % 3 * 16 + 2 * k * halo::group_bytes),
                                       b + operand_shift(area * tile::tap_bytes + 2 * k * tile::group_bytes));
                }
            }
            commit_warpgroup_products();
        }
    }
};

/* Parities of what a warpgroup waits for. */
struct waiting {
    int meeting = 0, behind = 0;

    __device__ __forceinline__ void meet(copy_barrier *barrier)
    {
        say(barrier);
        copy_barrier_wait(barrier, meeting);
        meeting ^= 1;
    }
};

template <int ins, int outs, epilogue what>
static __device__ __forceinline__ void
multiply_planes(const walk &w, const walk_memory<ins, outs, what> &memory, int warpgroup, int shares)
{
    typedef walk_memory<ins, outs, what> memory_of;
    typedef typename memory_of::halo halo;
    constexpr int parts = walk_part<ins, outs>::parts;
    const place at(warpgroup);
    const int first_out = (int)blockIdx.y * outs, thread = (int)threadIdx.x % 128;
    const bool normed = !is_through_norm(what) && w.norm.mean != NULL;
    const float2 *norm = memory.norm(warpgroup);
    ring_place<memory_of::planes> ring;
    waiting wait;
    float sums[squares][3 * outs / 2];
    moment_sums<outs> moments;
    values_behind<outs> behind;
#pragma unroll 1
    for (int share = (int)blockIdx.x; share < shares; share += (int)gridDim.x) {
        const walk_share its(w, share);
        const int sample = its.sample, h0 = its.h0 + at.tile_h, w0 = its.w0, first = its.first,
                  last = its.last;
        /* What is done with the output's plane p. */
        const auto finish = [&](int p) {
            if (memory_of::behind_comes) {
                copy_barrier_wait(memory.behind_came(warpgroup), wait.behind);
                wait.behind ^= 1;
            }
#pragma unroll
            for (int square = 0; square < squares; square++) {
                if (memory_of::behind_comes) {
                    behind.load(memory.behind(warpgroup), 8 * square, at);
                } else if (is_through_norm(what)) {
                    behind.load(w, sample, p, h0, w0 + 8 * square, first_out, at);
                }
                if (memory_of::behind_comes && square + 1 == squares) {
                    say(memory.behind_done(warpgroup));
                }
                finish_square<outs, what>(w, &sums[square][outs], moments, behind, sample, p, h0,
                                          w0 + 8 * square, first_out, norm, at);
            }
        };
#pragma unroll
        for (int k = 0; k < 3 * outs / 2; k++) {
            sums[0][k] = sums[1][k] = 0;
        }
        moments.clear();
        if (is_through_norm(what) && thread < outs) {
            const size_t moment = (size_t)sample * w.out_channels + first_out + thread;
            memory.norm(warpgroup)[thread] =
                make_float2(w.behind_norm.mean[moment], w.behind_norm.rstd[moment]);
        }
        if (what != ONLY_WRITE) {
            wait.meet(memory.meeting(warpgroup));
        }
#pragma unroll 1
        for (int step = its.begin * parts; step < its.end * parts; step++) {
            const int p = step / parts, part = step % parts;
            const walk_operands<ins, outs, halo> operands(
                memory.plane(ring.place),
                memory.shared + part * (halo::groups * weight_tile<ins, outs>::group_bytes), at);
            pin(sums[0]); /* what is left of the step before is done before there is something to wait for */
            pin(sums[1]);
            copy_barrier_wait(normed ? memory.ready(ring.place) : memory.came(ring.place), ring.parity);
            operands.multiply(sums);
            wait_for_warpgroup_products<0>(sums[0]);
            pin(sums[1]);
            say(memory.done(ring.place));
            ring.advance();
            if (part + 1 == parts) {
                if (p - 1 >= first) {
                    finish(p - 1);
                }
                step_forward<outs>(sums[0], (float)blockDim.z);
                step_forward<outs>(sums[1], (float)blockDim.z);
            }
        }
        if (its.end == last) { /* there is no plane behind the last one to finish it */
            finish(last - 1);
        }
        if (what != ONLY_WRITE) {
            float *to =
                w.sums + (((size_t)its.part * warpgroups + warpgroup) * w.out_channels + first_out) * 2;
            moments.put(memory.sums(warpgroup), at.warp);
            wait.meet(memory.meeting(warpgroup));
            moments.gather(to, memory.sums(warpgroup), warpgroup_warps, thread);
        }
    }
}

/* Blocks: x: the shares, one after the other; y: the slices of output channels. */
template <int ins, int outs, epilogue what>
static __global__ void __launch_bounds__(all_threads, 1)
    walk_by_warpgroups(const walk w, int shares, const __grid_constant__ walk_boxes boxes)
{
    dynamic_shared(unsigned char, shared);
    if (WARPGROUP_PRODUCTS) {
        typedef walk_memory<ins, outs, what> memory_of;
        const memory_of memory = {shared};
        /* by way of a lane: so that the compiler knows a whole warp to have the same */
        const int warp = __shfl_sync(whole_warp, (int)threadIdx.x / warp_size, 0);
        copy_weights<ins, outs, all_threads>(shared, w.weights, (int)blockIdx.y * outs, w.out_channels);
        copy_async_commit();
        if (threadIdx.x == 0) {
            memory.make_barriers();
        }
        copy_async_wait<0>();
        show_to_warpgroup_products();
        __syncthreads();
        if (warp >= warpgroup_warps) {
            ask_for_registers<memory_of::multiplying_registers>();
            multiply_planes<ins, outs, what>(w, memory, warp / warpgroup_warps - 1, shares);
        } else {
            keep_registers<memory_of::bringing_registers>();
            if (threadIdx.x == 0) {
                ask_for_planes<ins, outs, what>(w, boxes, memory, shares);
            } else if (!is_through_norm(what) && warp > 0 && w.norm.mean != NULL) {
                normalise_planes<ins, outs, what>(w, memory, warp - 1, shares);
            } else if (memory_of::behind_comes && warp > 0 && warp <= warpgroups &&
                       threadIdx.x % warp_size == 0) {
                ask_for_behind<ins, outs, what>(w, boxes, memory, warp - 1, shares);
            }
        }
    }
#if !WARPGROUP_PRODUCTS
    __trap(); /* a Hopper with code for sm_90 in place of sm_90a: an error, not a wrong result */
#endif
}

template <int ins, int outs, epilogue what>
static void launch_by_warpgroups(struct compute *c, const struct walk &w, int n, int shares, int slices)
{
    typedef walk_memory<ins, outs, what> memory;
    typedef typename memory::halo halo;
    typedef typename memory::part part;
    const box_shape input = {n * w.d, w.h, w.w, ins, halo::rows, halo::columns, halo::groups};
    const box_shape behind = {n * w.d, w.h, w.w, w.out_channels, part::rows, part::columns, part::groups};
    const int blocks = max(1, min(shares, cuda_state(c)->multiprocessors / slices));
    walk_boxes boxes = {};
    if (!make_octet_map(c, &boxes.input, w.inp, &input) ||
        (memory::behind_comes && !make_octet_map(c, &boxes.behind, w.behind, &behind))) {
        compute_failed(c, VOCO_UNSUPPORTED, "this driver has no maps of boxes");
        return;
    }
    launch(c, walk_by_warpgroups<ins, outs, what>, dim3((unsigned)blocks, (unsigned)slices),
           dim3(all_threads), (size_t)memory::bytes, w, shares, boxes);
}

template <int ins, int outs>
static void launch_walk(struct compute *c, const struct walk &w, int n, int shares, int slices)
{
    if (w.behind != NULL && w.kept != NULL) {
        launch_by_warpgroups<ins, outs, THROUGH_NORM_KEPT>(c, w, n, shares, slices);
    } else if (w.behind != NULL) {
        launch_by_warpgroups<ins, outs, THROUGH_NORM>(c, w, n, shares, slices);
    } else if (w.sums != NULL) {
        launch_by_warpgroups<ins, outs, SUM_MOMENTS>(c, w, n, shares, slices);
    } else {
        launch_by_warpgroups<ins, outs, ONLY_WRITE>(c, w, n, shares, slices);
    }
}

int own_conv3d_walks_by_warpgroups(const struct compute *c)
{
    return cuda_state(c)->major == 9 && cuda_state(c)->shared_per_block >= own_conv3d_shared &&
           has_box_maps();
}

void own_conv3d_walk_by_warpgroups(struct compute *c, const struct walk &w, int ins, int slice, int n,
                                   int shares)
{
    with_walk_channels(ins, slice, [&](auto channels) {
        launch_walk<decltype(channels)::ins, decltype(channels)::outs>(c, w, n, shares,
                                                                       w.out_channels / slice);
    });
}
