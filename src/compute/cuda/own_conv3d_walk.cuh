/* The walk of own_conv3d_forward.cu along columns of the output, and what is done with what it has finished.
 */
#ifndef COMPUTE_CUDA_OWN_CONV3D_WALK_CUH
#define COMPUTE_CUDA_OWN_CONV3D_WALK_CUH

#include "compute/cuda/halo_tile.cuh"
#include "compute/cuda/warpgroup.cuh"

enum {
    tile_edge = 16, /* of the output's tile, in h and w */
    halo_edge = tile_edge + 2,
    block_threads = 256,
    squares = 2, /* of a warpgroup, side by side in w */
    kernel_area = 9,
    kernel_taps = 27,
};

struct walk {
    bf16 *out;
    const bf16 *inp;
    const bf16 *weights; /* (taps, out, in) */
    struct tile_norm norm;
    float *sums; /* (n, tiles, segments, out channels, 2): sums by column of the output and of its squares, or
                    of the gradient and of its product with xhat; zeros before; NULL: not wanted */
    const bf16 *behind; /* what the output is the gradient behind: act(norm(behind)), of the output's shape */
    struct tile_norm behind_norm;
    bf16 *kept; /* where act(norm(behind)) is written; NULL: it is not wanted */
    int d, h, w, out_channels;
    int tiles;                        /* columns of a sample */
    int whole;                        /* shares, the first ones, that are a whole column each */
    int segments, planes_per_segment; /* into which the other columns are cut, a share for each */
};

/* With more the compiler takes other ways, for which there are not enough registers. */
static_assert(sizeof(struct walk) <= 128, "a walk's description is too long");

/* A share of the work: the planes `first` to `last` of a column. */
struct walk_share {
    int sample, h0, w0, first, last;
    int begin, end; /* of the input's planes that it reads */
    int part;       /* where its sums are: (n, tiles, segments) */

    __device__ __forceinline__ walk_share(const walk &w, int share)
    {
        const int whole = share < w.whole, tiles = w.tiles, tiles_w = (w.w + tile_edge - 1) / tile_edge;
        const int column = whole ? share : w.whole + (share - w.whole) / w.segments;
        const int segment = whole ? 0 : (share - w.whole) % w.segments, tile = column % tiles;
        sample = column / tiles;
        h0 = tile / tiles_w * tile_edge;
        w0 = tile % tiles_w * tile_edge;
        first = segment * w.planes_per_segment;
        last = whole ? w.d : min(first + w.planes_per_segment, w.d);
        begin = max(first - 1, 0);
        end = min(last + 1, w.d);
        part = column * w.segments + segment;
    }
};

/* Input channels, and those of the output that a block makes. */
template <int ins_, int outs_> struct walk_channels {
    static constexpr int ins = ins_, outs = outs_;
};

/* Calls what to do with the walk_channels of a convolution; slice: slice_of, own_conv3d_forward.cu. */
template <typename Call> static void with_walk_channels(int ins, int slice, Call call)
{
    if (slice == 48) {
        call(walk_channels<48, 48>());
    } else if (slice == 32) {
        call(walk_channels<96, 32>());
    } else if (ins == 96) {
        call(walk_channels<96, 16>());
    } else if (ins == 48) {
        call(walk_channels<48, 16>());
    } else {
        call(walk_channels<16, 16>());
    }
}

/* The weights in shared memory: [kh, kw][group of 8 input channels][kd][output channel] x 16 bytes. */
template <int ins, int outs> struct weight_tile {
    static constexpr int columns = 3 * outs;
    static constexpr int group_bytes = columns * 16;
    static constexpr int tap_bytes = ins / 8 * group_bytes;
    static constexpr int bytes = kernel_area * tap_bytes;
};

/* What is in shared memory of the input at a time: of 96 channels beside the weights for 32 only half. */
template <int ins, int outs> struct walk_part {
    static constexpr int channels = ins == 96 && outs == 32 ? ins / 2 : ins;
    static constexpr int parts = ins / channels; /* of a plane */
    typedef tile_plane<halo_edge, halo_edge, channels> halo;
};

/* Begins to copy the weights for `outs` output channels, by so many threads. */
template <int ins, int outs, int threads>
static __device__ __forceinline__ void copy_weights(unsigned char *to, const bf16 *weights, int first_out,
                                                    int out_channels)
{
    const int groups = ins / 8;
    for (int k = (int)threadIdx.x; k < kernel_taps * outs * groups; k += threads) {
        const int group = k % groups, o = k / groups % outs, tap = k / groups / outs;
        const int kd = tap / kernel_area, area = tap % kernel_area;
        copy_async(to + area * weight_tile<ins, outs>::tap_bytes +
                       group * weight_tile<ins, outs>::group_bytes + (kd * outs + o) * 16,
                   weights + ((size_t)tap * out_channels + first_out + o) * ins + group * 8, 1);
    }
}

/* What is done with a finished output beside writing it. */
enum epilogue {
    ONLY_WRITE,
    SUM_MOMENTS,
    THROUGH_NORM, /* it is taken through the activation's slope, and its two sums for the norm's gradient made
                   */
    THROUGH_NORM_KEPT, /* and act(norm(behind)) is written, too */
};

static HOST_DEVICE constexpr bool is_through_norm(epilogue what)
{
    return what == THROUGH_NORM || what == THROUGH_NORM_KEPT;
}

/* Where this thread's values lie. */
struct place {
    int tile_h;     /* of its warpgroup's squares */
    int warp, lane; /* within the warpgroup */

    __device__ __forceinline__ place(int warpgroup)
    {
        tile_h = warpgroup * 8;
        warp = (int)threadIdx.x / warp_size % 4;
        lane = (int)threadIdx.x % warp_size;
    }
};

/* Writes a square of the output's plane p to an array of its shape; (h0, w0): the square's corner;
 * pair_of(half, octet): what this thread has of it. Two neighbours of a row share the 32 bytes of two octets
 * of channels: the even lane takes the first octet's, the odd one the second's. */
template <int outs, typename PairOf>
static __device__ __forceinline__ void write_pairs(const walk &w, bf16 *array, int sample, int p, int h0,
                                                   int w0, int first_out, const place &at, PairOf pair_of)
{
    const int g = at.lane / 4, t = at.lane % 4, odd = t % 2;
    const int column = first_out + (odd ? 8 + 2 * (t - 1) : 2 * t);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int h = h0 + 2 * at.warp + half, x = w0 + g;
        const int inside = h < w.h && x < w.w;
        bf16 *to = array + ((((size_t)sample * w.d + p) * w.h + h) * w.w + x) * w.out_channels + column;
#pragma unroll
        for (int pair = 0; pair < outs / 16; pair++) {
            const uint32_t first = pair_of(half, 2 * pair), second = pair_of(half, 2 * pair + 1);
            const uint32_t other = __shfl_xor_sync(whole_warp, odd ? first : second, 1);
            if (inside) {
                *(uint2 *)(to + 16 * pair) = odd ? make_uint2(other, second) : make_uint2(first, other);
            }
        }
    }
}

/* The finished third of a square's sums. */
template <int outs>
static __device__ __forceinline__ void write_square(const walk &w, const float *finished, int sample, int p,
                                                    int h0, int w0, int first_out, const place &at)
{
    write_pairs<outs>(w, w.out, sample, p, h0, w0, first_out, at, [&](int half, int octet) {
        return pack_bf16(finished[4 * octet + 2 * half], finished[4 * octet + 2 * half + 1]);
    });
}

/* What this thread has seen of its output channels: for each of outs / 4 of them the sum and that of squares.
 */
template <int outs> struct moment_sums {
    float sum[outs / 4], square[outs / 4];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int k = 0; k < outs / 4; k++) {
            sum[k] = square[k] = 0;
        }
    }

    /* The gradient g at xhat instead of a value and itself. */
    __device__ __forceinline__ void add_product(int k, float g, float xhat)
    {
        sum[k] += g;
        square[k] = fmaf(g, xhat, square[k]);
    }

    __device__ __forceinline__ void add(const float *finished, int half)
    {
#pragma unroll
        for (int k = 0; k < outs / 4; k++) {
            const float v = finished[k / 2 * 4 + 2 * half + k % 2];
            sum[k] += v;
            square[k] = fmaf(v, v, square[k]);
        }
    }

    /* Over the warp's rows, to `shared` (warps, outs, 2). */
    __device__ __forceinline__ void put(float *shared, int warp)
    {
        const int lane = (int)threadIdx.x % warp_size;
#pragma unroll
        for (int k = 0; k < outs / 4; k++) {
            for (int offset = 4; offset < warp_size; offset *= 2) {
                sum[k] += __shfl_xor_sync(whole_warp, sum[k], offset);
                square[k] += __shfl_xor_sync(whole_warp, square[k], offset);
            }
            if (lane < 4) {
                const int channel = k / 2 * 8 + 2 * lane + k % 2;
                shared[(warp * outs + channel) * 2] = sum[k];
                shared[(warp * outs + channel) * 2 + 1] = square[k];
            }
        }
    }

    /* Over the warps, to `to` (outs, 2). */
    static __device__ __forceinline__ void gather(float *to, const float *shared, int warps, int thread)
    {
        if (thread < 2 * outs) {
            float total = 0;
            for (int k = 0; k < warps; k++) {
                total += shared[k * outs * 2 + thread];
            }
            to[thread] = total;
        }
    }
};

template <int outs>
static __device__ __forceinline__ void add_moments(moment_sums<outs> &moments, const walk &w,
                                                   const float *finished, int h0, int w0, const place &at)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (h0 + 2 * at.warp + half < w.h && w0 + at.lane / 4 < w.w) {
            moments.add(finished, half);
        }
    }
}

/* What this thread reads of `behind`, for the values of a square that it has. */
template <int outs> struct values_behind {
    uint32_t pair[2][outs / 8];

    __device__ __forceinline__ void load(const walk &w, int sample, int p, int h0, int w0, int first_out,
                                         const place &at)
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int h = h0 + 2 * at.warp + half, x = w0 + at.lane / 4;
            const int inside = h < w.h && x < w.w;
            const size_t voxel =
                not_ahead(((size_t)sample * w.d + p) * w.h * w.w + (inside ? h * w.w + x : 0));
            const bf16 *from = w.behind + voxel * w.out_channels + first_out + at.lane % 4 * 2;
#pragma unroll
            for (int octet = 0; octet < outs / 8; octet++) {
                pair[half][octet] = *(const uint32_t *)(from + 8 * octet);
            }
        }
    }

    /* The same from what has come to shared memory: half of a tile's plane, octet by octet; w: the square's
     * corner within. */
    __device__ __forceinline__ void load(const unsigned char *half_tile, int w, const place &at)
    {
        typedef octet_plane<tile_edge / 2, tile_edge, outs> tile;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const unsigned char *from =
                half_tile + (2 * at.warp + half) * tile::row_bytes + (w + at.lane / 4) * 16 + at.lane % 4 * 4;
#pragma unroll
            for (int octet = 0; octet < outs / 8; octet++) {
                pair[half][octet] = *(const uint32_t *)(from + octet * tile::group_bytes);
            }
        }
    }

    /* Takes the finished values through the activation, and adds them up. norm: mean and rstd of each output
     * channel, in shared memory. keep: what was read becomes act(norm) of it. */
    template <bool keep>
    __device__ __forceinline__ void apply(float *finished, moment_sums<outs> &totals, const walk &w, int h0,
                                          int w0, const float2 *norm, const place &at)
    {
        const float slope = w.behind_norm.slope;
#pragma unroll
        for (int octet = 0; octet < outs / 8; octet++) {
            const float4 moments = *(const float4 *)(norm + 8 * octet + at.lane % 4 * 2);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int inside = h0 + 2 * at.warp + half < w.h && w0 + at.lane / 4 < w.w;
                float *g = finished + 4 * octet + 2 * half;
                const float xhat0 = (low_of(pair[half][octet]) - moments.x) * moments.y;
                const float xhat1 = (high_of(pair[half][octet]) - moments.z) * moments.w;
                g[0] *= xhat0 > 0 ? 1.0f : slope;
                g[1] *= xhat1 > 0 ? 1.0f : slope;
                totals.add_product(2 * octet, inside ? g[0] : 0.0f, xhat0);
                totals.add_product(2 * octet + 1, inside ? g[1] : 0.0f, xhat1);
                if (keep) {
                    pair[half][octet] =
                        pack_bf16(xhat0 > 0 ? xhat0 : slope * xhat0, xhat1 > 0 ? xhat1 : slope * xhat1);
                }
            }
        }
    }

    __device__ __forceinline__ void write(const walk &w, int sample, int p, int h0, int w0, int first_out,
                                          const place &at) const
    {
        write_pairs<outs>(w, w.kept, sample, p, h0, w0, first_out, at,
                          [&](int half, int octet) { return pair[half][octet]; });
    }
};

/* What becomes of a square of the output's plane p, whose corner is (h0, w0), when its sums are done. norm:
 * as values_behind::apply has it. */
template <int outs, epilogue what>
static __device__ __forceinline__ void
finish_square(const walk &w, float *finished, moment_sums<outs> &totals, values_behind<outs> &behind,
              int sample, int p, int h0, int w0, int first_out, const float2 *norm, const place &at)
{
    if (is_through_norm(what)) {
        behind.template apply<what == THROUGH_NORM_KEPT>(finished, totals, w, h0, w0, norm, at);
    }
    if (what == THROUGH_NORM_KEPT) {
        behind.write(w, sample, p, h0, w0, first_out, at);
    }
    write_square<outs>(w, finished, sample, p, h0, w0, first_out, at);
    if (what == SUM_MOMENTS) {
        add_moments<outs>(totals, w, finished, h0, w0, at);
    }
}

/* The sums of a plane become those of the next. `one` is 1, which the compiler does not know: it would take
 * plain moves for other names of the same registers, and then finds no place for the warpgroups' products. */
template <int outs>
static __device__ __forceinline__ void step_forward(float (&sums)[3 * outs / 2], float one)
{
#pragma unroll
    for (int k = 0; k < outs / 2; k++) {
        sums[outs + k] = sums[outs / 2 + k] * one;
        sums[outs / 2 + k] = sums[k] * one;
        sums[k] = 0;
    }
}

#endif
