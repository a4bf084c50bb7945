/* The walk of own_conv3d_forward.cu on Hopper, by three warpgroups.
 *
 * Two of them have two squares of 8 x 8 voxels each, of 64 rows: a product is one instruction per square, tap
 * and 16 input channels, which reads both sides from shared memory. They take turns: while one multiplies,
 * the other writes what it has finished, so that tensor cores are busy all the time. The third brings planes,
 * applies norm and activation to them, and is ahead of the others by as many planes as there is place for,
 * across columns as well: a block stays with its weights and does one share after the other. */
#include "compute/cuda/box_copy.cuh"
#include "compute/cuda/own_conv3d_turns.cuh"
#include "compute/cuda/own_conv3d_walk.cuh"

enum {
    bringing_threads = 128, /* the first warpgroup */
    turns = 2,              /* and the others */
    all_threads = bringing_threads + turns * 128,
    warpgroup_warps = 4,
    bringing_registers = 40,
    multiplying_registers = 232, /* of 168 each that they begin with */
    shared_limit = 227 << 10,
};

/* In shared memory: weights, planes, and for each warpgroup that multiplies its warps' sums and the norm
 * behind the output; barriers. */
template <int ins, int outs> struct turns_memory {
    typedef walk_part<ins, outs> part;
    typedef typename part::halo halo;
    static constexpr int planes_at = weight_tile<ins, outs>::bytes;
    static constexpr int sums_bytes = warpgroup_warps * outs * 2 * (int)sizeof(float);
    static constexpr int norm_bytes = outs * (int)sizeof(float2);
    static constexpr int rest = turns * (sums_bytes + norm_bytes) + 128;
    static constexpr int planes = planes_at + 3 * halo::bytes + rest <= shared_limit ? 3 : 2;
    static constexpr int sums_at = planes_at + planes * halo::bytes;
    static constexpr int norms_at = sums_at + turns * sums_bytes;
    static constexpr int barriers_at = norms_at + turns * norm_bytes;
    static constexpr int bytes = barriers_at + 128;

    unsigned char *shared;

    __device__ __forceinline__ unsigned char *plane(int k) const
    {
        return shared + planes_at + k * halo::bytes;
    }

    __device__ __forceinline__ float *sums(int warpgroup) const
    {
        return (float *)(shared + sums_at + warpgroup * sums_bytes);
    }

    __device__ __forceinline__ float2 *norm(int warpgroup) const
    {
        return (float2 *)(shared + norms_at + warpgroup * norm_bytes);
    }

    /* A plane is there; it may be overwritten. */
    __device__ __forceinline__ copy_barrier *there(int k) const
    {
        return (copy_barrier *)(shared + barriers_at) + k;
    }

    __device__ __forceinline__ copy_barrier *done(int k) const
    {
        return there(planes + k);
    }

    /* It is the warpgroup's turn; all its warps are here. */
    __device__ __forceinline__ copy_barrier *turn(int warpgroup) const
    {
        return there(2 * planes + warpgroup);
    }

    __device__ __forceinline__ copy_barrier *meeting(int warpgroup) const
    {
        return there(2 * planes + turns + warpgroup);
    }

    /* By one thread. */
    __device__ __forceinline__ void make_barriers() const
    {
        for (int k = 0; k < planes; k++) {
            copy_barrier_make(there(k), warpgroup_warps);
            copy_barrier_make(done(k), turns * warpgroup_warps);
        }
        for (int k = 0; k < turns; k++) {
            copy_barrier_make(turn(k), warpgroup_warps);
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

/* A part of a plane on its way. */
struct coming_plane {
    unsigned char *to;
    volume_plane from;
    tile_norm norm;
    int h0, w0;
};

/* What has come becomes what is multiplied. */
template <typename halo>
static __device__ __forceinline__ void finish_plane(const coming_plane &coming, copy_barrier *there)
{
    if (coming.norm.mean != NULL) {
        normalise_plane<halo, bringing_threads, 1>(coming.to, coming.from, coming.h0, coming.w0, coming.norm);
    }
    show_to_warpgroup_products();
    say(there);
}

template <int ins, int outs>
static __device__ __forceinline__ void bring_planes(const walk &w, const turns_memory<ins, outs> &memory,
                                                    tile_norm norm, int shares)
{
    typedef walk_part<ins, outs> part;
    typedef typename part::halo halo;
    constexpr int planes = turns_memory<ins, outs>::planes;
    constexpr bool ahead = planes > 2; /* there is place for one that comes while another one is normalised */
    const size_t plane_elements = (size_t)w.h * w.w * ins;
    ring_place<planes> at;
    coming_plane before = {};
    int before_at = -1;
#pragma unroll 1
    for (int share = (int)blockIdx.x; share < shares; share += (int)gridDim.x) {
        const walk_share its(w, share);
        const int begin = max(its.first - 1, 0), end = min(its.last + 1, w.d);
#pragma unroll 1
        for (int step = begin * part::parts; step < end * part::parts; step++) {
            const int channel = step % part::parts * part::channels;
            const bf16 *from =
                w.inp + ((size_t)its.sample * w.d + step / part::parts) * plane_elements + channel;
            coming_plane now = {memory.plane(at.place), {from, w.h, w.w, ins}, norm, its.h0 - 1, its.w0 - 1};
            if (norm.mean != NULL) {
                now.norm.mean += (size_t)its.sample * ins + channel;
                now.norm.rstd += (size_t)its.sample * ins + channel;
            }
            copy_barrier_wait(memory.done(at.place), at.parity ^ 1);
            copy_plane<halo, bringing_threads, 1>(now.to, now.from, now.h0, now.w0);
            copy_async_commit();
            if (ahead && before_at >= 0) {
                copy_async_wait<1>();
                finish_plane<halo>(before, memory.there(before_at));
            } else if (!ahead) {
                copy_async_wait<0>();
                finish_plane<halo>(now, memory.there(at.place));
            }
            before = now;
            before_at = at.place;
            at.advance();
        }
    }
    if (ahead && before_at >= 0) {
        copy_async_wait<0>();
        finish_plane<halo>(before, memory.there(before_at));
    }
}

/* ---- those that multiply ---- */

/* Both sides of a warpgroup's products with a part of a plane. */
template <int ins, int outs> struct turn_operands {
    typedef walk_part<ins, outs> part;
    typedef typename part::halo halo;
    typedef weight_tile<ins, outs> tile;
    uint64_t a, b; /* a: of the first square */

    /* weights: those of the part's channels. */
    __device__ __forceinline__ turn_operands(const unsigned char *plane, const unsigned char *weights,
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
                for (int k = 0; k < part::channels / 16; k++) {
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

/* What is waited for, the phases being counted. */
struct waiting {
    int turn, meeting; /* parities */

    __device__ __forceinline__ explicit waiting(int warpgroup)
    {
        turn = warpgroup == 0; /* the first one begins */
        meeting = 0;
    }

    __device__ __forceinline__ void meet(copy_barrier *barrier)
    {
        say(barrier);
        copy_barrier_wait(barrier, meeting);
        meeting ^= 1;
    }
};

template <int ins, int outs, epilogue what>
static __device__ __forceinline__ void multiply_planes(const walk &w, const turns_memory<ins, outs> &memory,
                                                       int warpgroup, int shares)
{
    typedef walk_part<ins, outs> part;
    constexpr int planes = turns_memory<ins, outs>::planes;
    const place at(warpgroup);
    const int first_out = (int)blockIdx.y * outs, thread = (int)threadIdx.x % 128;
    const float2 *norm = memory.norm(warpgroup);
    ring_place<planes> ring;
    waiting its_turns(warpgroup);
    float sums[squares][3 * outs / 2];
    moment_sums<outs> moments;
    values_behind<outs> behind;
#pragma unroll 1
    for (int share = (int)blockIdx.x; share < shares; share += (int)gridDim.x) {
        const walk_share its(w, share);
        const int sample = its.sample, h0 = its.h0 + at.tile_h, w0 = its.w0, first = its.first,
                  last = its.last;
        const int begin = max(first - 1, 0), end = min(last + 1, w.d); /* of the input's planes */
#pragma unroll
        for (int k = 0; k < 3 * outs / 2; k++) {
            sums[0][k] = sums[1][k] = 0;
        }
        moments.clear();
        if (is_through_norm(what)) {
            if (thread < outs) {
                const size_t moment = (size_t)sample * w.out_channels + first_out + thread;
                memory.norm(warpgroup)[thread] =
                    make_float2(w.behind_norm.mean[moment], w.behind_norm.rstd[moment]);
            }
        }
        if (what != ONLY_WRITE) {
            its_turns.meet(memory.meeting(warpgroup));
        }
#pragma unroll 1
        for (int step = begin * part::parts; step < end * part::parts; step++) {
            const int p = step / part::parts, half = step % part::parts, finished = half + 1 == part::parts;
            const turn_operands<ins, outs> operands(
                memory.plane(ring.place),
                memory.shared + half * (part::channels / 8 * weight_tile<ins, outs>::group_bytes), at);
            pin(sums[0]); /* what is left of the step before is done before the turn */
            pin(sums[1]);
            copy_barrier_wait(memory.there(ring.place), ring.parity);
            copy_barrier_wait(memory.turn(warpgroup), its_turns.turn);
            its_turns.turn ^= 1;
            operands.multiply(sums);
            say(memory.turn(1 - warpgroup));
            if (is_through_norm(what) && finished && p - 1 >= first) {
                behind.load(w, sample, p - 1, h0, w0, first_out, at);
            }
#pragma unroll
            for (int square = 0; square < squares; square++) {
                /* the second square's are still being computed while the first is written */
                if (square == 0) {
                    wait_for_warpgroup_products<1>(sums[0]);
                } else {
                    wait_for_warpgroup_products<0>(sums[1]);
                    say(memory.done(ring.place));
                }
                if (!finished) {
                    continue;
                }
                if (p - 1 >= first) {
                    finish_square<outs, what>(w, &sums[square][outs], moments, behind, sample, p - 1, h0,
                                              w0 + 8 * square, first_out, norm, at);
                    if (is_through_norm(what) && square + 1 < squares) {
                        behind.load(w, sample, p - 1, h0, w0 + 8 * (square + 1), first_out, at);
                    }
                }
                step_forward<outs>(sums[square], (float)blockDim.z);
            }
            ring.advance();
        }
        if (end == last) { /* there is no plane behind the last one to finish it */
#pragma unroll
            for (int square = 0; square < squares; square++) {
                if (is_through_norm(what)) {
                    behind.load(w, sample, last - 1, h0, w0 + 8 * square, first_out, at);
                }
                finish_square<outs, what>(w, &sums[square][outs], moments, behind, sample, last - 1, h0,
                                          w0 + 8 * square, first_out, norm, at);
            }
        }
        if (what != ONLY_WRITE) {
            float *to = w.sums + (((size_t)its.part * turns + warpgroup) * w.out_channels + first_out) * 2;
            moments.put(memory.sums(warpgroup), at.warp);
            its_turns.meet(memory.meeting(warpgroup));
            moments.gather(to, memory.sums(warpgroup), warpgroup_warps, thread);
        }
    }
}

/* Blocks: x: the shares, by turns; y: the slices of output channels. */
template <int ins, int outs, epilogue what>
static __global__ void __launch_bounds__(all_threads, 1) walk_by_turns(const walk w, int shares)
{
    dynamic_shared(unsigned char, shared);
    if (WARPGROUP_PRODUCTS) {
        const turns_memory<ins, outs> memory = {shared};
        copy_weights<ins, outs, all_threads>(shared, w.weights, (int)blockIdx.y * outs, w.out_channels);
        copy_async_commit();
        if (threadIdx.x == 0) {
            memory.make_barriers();
        }
        copy_async_wait<0>();
        show_to_warpgroup_products();
        __syncthreads();
        if (threadIdx.x < bringing_threads) {
            keep_registers<bringing_registers>();
            tile_norm norm = w.norm;
            if (is_through_norm(what)) {
                norm.mean = NULL;
            }
            bring_planes<ins, outs>(w, memory, norm, shares);
        } else {
            ask_for_registers<multiplying_registers>();
            /* by way of a lane: so that the compiler knows a whole warp to have the same */
            const int warpgroup = __shfl_sync(whole_warp, (int)threadIdx.x / 128 - 1, 0);
            multiply_planes<ins, outs, what>(w, memory, warpgroup, shares);
        }
    }
#if !WARPGROUP_PRODUCTS
    __trap(); /* a Hopper with code for sm_90 in place of sm_90a: an error, not a wrong result */
#endif
}

template <int ins, int outs>
static void launch_by_turns(struct compute *c, const struct walk &w, int shares, int slices)
{
    const int blocks = max(1, min(shares, cuda_state(c)->multiprocessors / slices));
    void (*kernel)(struct walk, int) = w.behind != NULL && w.kept != NULL
                                           ? walk_by_turns<ins, outs, THROUGH_NORM_KEPT>
                                       : w.behind != NULL ? walk_by_turns<ins, outs, THROUGH_NORM>
                                       : w.sums != NULL   ? walk_by_turns<ins, outs, SUM_MOMENTS>
                                                          : walk_by_turns<ins, outs, ONLY_WRITE>;
    launch(c, kernel, dim3((unsigned)blocks, (unsigned)slices), dim3(all_threads),
           (size_t)turns_memory<ins, outs>::bytes, w, shares);
}

void own_conv3d_walk_by_turns(struct compute *c, const struct walk &w, int ins, int slice, int shares)
{
    const int slices = w.out_channels / slice;
    if (slice == 48) {
        launch_by_turns<48, 48>(c, w, shares, slices);
    } else if (slice == 32) {
        launch_by_turns<96, 32>(c, w, shares, slices);
    } else if (ins == 96) {
        launch_by_turns<96, 16>(c, w, shares, slices);
    } else if (ins == 48) {
        launch_by_turns<48, 16>(c, w, shares, slices);
    } else {
        launch_by_turns<16, 16>(c, w, shares, slices);
    }
}
