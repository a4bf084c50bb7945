/* The weights' gradient of own_conv3d.cuh on Hopper, for multiples of 48 channels.
 *
 * dweight (tap, out, in) is a sum over voxels u of the input of dout[u - tap] inp[u]. A product multiplies 16
 * voxels of a row: on the left 64 rows, four slabs of 16 output channels at one (kd, kw) each, one for each
 * warp, from registers; on the right 144 columns, 48 input channels of the three rows (kh) around, from
 * shared memory, where a row of the plane is [group of 8 channels][column], so that the octets of three rows
 * lie equally far apart. Wide products read little shared memory for what they multiply.
 *
 * The 27 slabs (9 pairs (kd, kw) of 48 channels) are too many sums for one multiprocessor. There are two
 * kinds of blocks: the early kind has the first five pairs, four products for each row, the late kind the
 * other four, three products. Each walks along columns of 16 x 16 voxels in the direction in which it needs
 * the plane of dout at hand and the one before: early ones from the last plane to the first (kd 0 and 1),
 * late ones from the first to the last (kd 1 and 2). While tensor cores multiply, the next planes are fetched
 * and normalised by the same warps, a chunk each row. */
#include "compute/cuda/own_conv3d.cuh"
#include "compute/cuda/own_conv3d_gradient.cuh"
#include "compute/cuda/warpgroup.cuh"

enum {
    block_threads = 256,
    slice = 48, /* channels of a block, on either side */
    groups = slice / 8,
    pairs = 9,        /* (kd, kw) */
    early_pairs = 5,  /* of the first kind of block */
    early_share = 52, /* percent of the blocks that are early: the fastest of 48 to 60 on an H200 */
    sixteens = slice / 16,
    columns = 3 * slice, /* of a product */
    sums = columns / 2,  /* of a thread, for each product */
};

/* partial: of each block (pairs, kh, out, in) of its slices: the early ones', then the late ones'. */
struct wide_gradient : gradient_planes {
    int early, late; /* blocks of each kind */
};

/* Planes in shared memory. */
struct wide_tiles {
    /* of the input, with a row more above and below: [row][group][column], 16 bytes each, and 16 bytes behind
     * each group so that neighbours lie in other banks */
    static constexpr int group_bytes = tile_edge * 16 + 16;
    static constexpr int row_bytes = groups * group_bytes;
    static constexpr int input_bytes = (tile_edge + 2) * row_bytes;
    static constexpr int zeros = tile_edge * 16; /* where 16 bytes of zeros are: behind the first group */
    /* of the output, with a column more on both sides */
    typedef tile_plane<tile_edge, tile_edge + 2, slice> output;
    static constexpr int chunks = (tile_edge + 2) * tile_edge; /* of a plane's group, of either */
    static constexpr int bytes = 2 * input_bytes + 3 * output::bytes;
};

/* This thread's share of a plane: the chunks of one group at every step-th voxel. */
struct wide_share {
    static constexpr int step = block_threads / groups;
    static constexpr int count = (wide_tiles::chunks + step - 1) / step; /* an odd number */
    int group, first;

    __device__ __forceinline__ wide_share()
    {
        group = (int)threadIdx.x % groups;
        first = (int)threadIdx.x / groups;
        first = first < step ? first : wide_tiles::chunks;
    }
};

/* Where a step's planes lie, as this thread reads them. */
struct wide_step {
    const bf16 *input, *output; /* its group at voxel (0, 0) of the planes */
    const float *mean, *rstd;   /* of its group */
    int h0, w0;
    int first; /* of its column's planes: what is behind it is zeros */

    __device__ __forceinline__ wide_step(const wide_gradient &g, int step, bool early, int first_in,
                                         int first_out)
    {
        const int along = step % g.d, d = early ? g.d - 1 - along : along;
        const int column = step / g.d, tile = column % (g.tiles_h * g.tiles_w);
        const int sample = column / (g.tiles_h * g.tiles_w), group = (int)threadIdx.x % groups;
        const size_t voxel = ((size_t)sample * g.d + d) * g.h * g.w;
        const size_t moment = (size_t)sample * g.in_channels + first_in + group * 8;
        first = along == 0;
        h0 = tile / g.tiles_w * tile_edge;
        w0 = tile % g.tiles_w * tile_edge;
        input = g.inp + voxel * g.in_channels + first_in + group * 8;
        output = g.dout + voxel * g.out_channels + first_out + group * 8;
        mean = g.norm.mean != NULL ? g.norm.mean + moment : NULL;
        rstd = g.norm.rstd + moment;
    }
};

static __device__ __forceinline__ void copy_output_chunk(unsigned char *plane, const wide_gradient &g,
                                                         const wide_step &step, const bf16 *from, int k)
{
    typedef wide_tiles::output out;
    const wide_share share;
    const int voxel = share.first + k * share.step;
    const int h = step.h0 + voxel / out::columns, w = step.w0 - 1 + voxel % out::columns;
    const int inside = h < g.h && (unsigned)w < (unsigned)g.w;
    if (voxel < wide_tiles::chunks) {
        copy_async(plane + share.group * out::group_bytes + voxel * 16,
                   from + (size_t)(unsigned)(inside ? h * g.w + w : 0) * (unsigned)g.out_channels, inside);
    }
}

/* Where the chunk of a voxel is in a plane of the input. */
static __device__ __forceinline__ int input_chunk(int group, int voxel)
{
    return voxel / tile_edge * wide_tiles::row_bytes + group * wide_tiles::group_bytes +
           voxel % tile_edge * 16;
}

static __device__ __forceinline__ void copy_input_chunk(unsigned char *plane, const wide_gradient &g,
                                                        const wide_step &step, int k)
{
    const wide_share share;
    const int voxel = share.first + k * share.step;
    const int h = step.h0 - 1 + voxel / tile_edge, w = step.w0 + voxel % tile_edge;
    const int inside = (unsigned)h < (unsigned)g.h && w < g.w;
    if (voxel < wide_tiles::chunks) {
        copy_async(plane + input_chunk(share.group, voxel),
                   step.input + (size_t)(unsigned)(inside ? h * g.w + w : 0) * (unsigned)g.in_channels,
                   inside);
    }
}

static __device__ __forceinline__ void normalise_chunk(unsigned char *plane, const wide_gradient &g,
                                                       const wide_step &step, int k)
{
    const wide_share share;
    const int voxel = share.first + k * share.step;
    const int h = step.h0 - 1 + voxel / tile_edge, w = step.w0 + voxel % tile_edge;
    if (voxel < wide_tiles::chunks && (unsigned)h < (unsigned)g.h && w < g.w) {
        uint4 *values = (uint4 *)(plane + input_chunk(share.group, voxel));
        const float4 m0 = *(const float4 *)step.mean, m1 = *(const float4 *)(step.mean + 4);
        const float4 r0 = *(const float4 *)step.rstd, r1 = *(const float4 *)(step.rstd + 4);
        uint4 v = *values;
        v.x = normalised_pair(v.x, m0.x, m0.y, r0.x, r0.y, g.norm.slope);
        v.y = normalised_pair(v.y, m0.z, m0.w, r0.z, r0.w, g.norm.slope);
        v.z = normalised_pair(v.z, m1.x, m1.y, r1.x, r1.y, g.norm.slope);
        v.w = normalised_pair(v.w, m1.z, m1.w, r1.z, r1.w, g.norm.slope);
        *values = v;
    }
}

/* The slab of this warp in product p of its warpgroup; beyond the last one the last one again, which nobody
 * writes. */
struct wide_slab {
    int pair, sixteen, there;

    __device__ __forceinline__ wide_slab(bool early, int p)
    {
        const int first = early ? 0 : early_pairs * sixteens, last = early ? early_pairs : (int)pairs;
        const int slab = first + 8 * p + (int)threadIdx.x / warp_size;
        there = slab < last * sixteens;
        pair = min(slab, last * sixteens - 1) / sixteens;
        sixteen = min(slab, last * sixteens - 1) % sixteens;
    }
};

/* The left sides of a thread's products. */
template <int products> struct wide_left {
    typedef wide_tiles::output out;
    int row[products];     /* where this lane's rows start in a plane of the output, in bytes */
    int at_hand[products]; /* whether that is the plane at hand (kd 1), not the one before */
    const unsigned char *next[products];
    int apart[products]; /* rows of the plane */

    __device__ __forceinline__ wide_left(bool early)
    {
        const int lane = (int)threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
        for (int p = 0; p < products; p++) {
            const wide_slab slab(early, p);
            at_hand[p] = slab.pair / 3 == 1;
            row[p] = (2 * slab.sixteen + matrix % 2) * out::group_bytes +
                     (2 - slab.pair % 3 + matrix / 2 * 8 + lane % 8) * 16;
        }
    }

    /* A plane outside the volume is the same 16 zeros everywhere. */
    __device__ __forceinline__ void begin_step(int first, const unsigned char *current,
                                               const unsigned char *before, const unsigned char *zeros)
    {
#pragma unroll
        for (int p = 0; p < products; p++) {
            const int outside = first && !at_hand[p];
            next[p] = outside ? zeros : (at_hand[p] ? current : before) + row[p];
            apart[p] = outside ? 0 : out::row_bytes;
        }
    }

    __device__ __forceinline__ void load(uint32_t (&a)[products][4])
    {
#pragma unroll
        for (int p = 0; p < products; p++) {
            load_matrices_transposed(a[p], next[p]);
            next[p] += apart[p];
        }
    }
};

/* A part of what there is to do for the next step while row h of this one is multiplied. */
static __device__ __forceinline__ void prepare(const wide_gradient &g, const wide_step &next,
                                               unsigned char *input, unsigned char *output, int h)
{
    if (2 * h < wide_share::count) {
        copy_input_chunk(input, g, next, 2 * h);
        copy_output_chunk(output, g, next, next.output, 2 * h);
        if (2 * h + 1 < wide_share::count) {
            copy_input_chunk(input, g, next, 2 * h + 1);
            copy_output_chunk(output, g, next, next.output, 2 * h + 1);
        } else {
            copy_async_commit();
        }
    } else if (next.mean != NULL && h >= tile_edge - 1 - wide_share::count && h < tile_edge - 1) {
        if (h == tile_edge - 1 - wide_share::count) {
            copy_async_wait<0>();
        }
        normalise_chunk(input, g, next, h - (tile_edge - 1 - wide_share::count));
    }
}

/* The products of one row, begun; and then the row before is done, and the next row's left sides are read. */
template <int products>
static __device__ __forceinline__ void begin_row(float (&sum)[products][sums], uint32_t (&a)[products][4],
                                                 uint64_t b)
{
    begin_warpgroup_products();
#pragma unroll
    for (int p = 0; p < products; p++) {
        warpgroup_multiply_transposed(sum[p], a[p], b);
    }
    commit_warpgroup_products();
}

template <int products> static __device__ __forceinline__ void end_row_before(uint32_t (&a)[products][4])
{
    wait_for_warpgroup_products<1>();
#pragma unroll
    for (int p = 0; p < products; p++) {
        keep_until_here(a[p]);
    }
}

/* Fetches what the first step needs, with the plane before where there is one. */
static __device__ __forceinline__ void fetch_first(const wide_gradient &g, const wide_step &step, bool early,
                                                   unsigned char *input, unsigned char *output,
                                                   unsigned char *output_before)
{
    const size_t plane = (size_t)g.h * g.w * g.out_channels;
#pragma unroll 1
    for (int k = 0; k < wide_share::count; k++) {
        copy_input_chunk(input, g, step, k);
        copy_output_chunk(output, g, step, step.output, k);
        if (!step.first) {
            copy_output_chunk(output_before, g, step, early ? step.output + plane : step.output - plane, k);
        }
    }
    if (threadIdx.x == 0) {
        *(uint4 *)(input + wide_tiles::zeros) = make_uint4(0, 0, 0, 0);
    }
    copy_async_commit();
    copy_async_wait<0>();
    if (step.mean != NULL) {
#pragma unroll 1
        for (int k = 0; k < wide_share::count; k++) {
            normalise_chunk(input, g, step, k);
        }
    }
    show_to_warpgroup_products();
    __syncthreads();
}

/* What a warpgroup of a block does: `products` of every row of the steps, to its partial sums. */
template <int products>
static __device__ __forceinline__ void sum_steps(const wide_gradient &g, bool early, int begin, int end,
                                                 int first_in, int first_out, float *partial,
                                                 unsigned char *shared)
{
    unsigned char *inputs = shared, *outputs = shared + 2 * wide_tiles::input_bytes;
    int current = 0, before = 2 * wide_tiles::output::bytes; /* planes of the output */
    float sum[products][sums];
    wide_left<products> left(early);
#pragma unroll
    for (int p = 0; p < products; p++) {
#pragma unroll
        for (int k = 0; k < sums; k++) {
            sum[p][k] = 0;
        }
    }
    wide_step next(g, begin, early, first_in, first_out);
    fetch_first(g, next, early, inputs, outputs + current, outputs + before);
#pragma unroll 1
    for (int step = begin; step < end; step++) {
        const int coming = 3 * wide_tiles::output::bytes - current - before;
        const int odd = (step - begin) % 2, more = step + 1 < end;
        unsigned char *other = inputs + (1 - odd) * wide_tiles::input_bytes;
        uint64_t b =
            operand_at(shared_address(inputs + odd * wide_tiles::input_bytes), wide_tiles::group_bytes, 128);
        uint32_t even_a[products][4], odd_a[products][4];
        left.begin_step(next.first, outputs + current, outputs + before, shared + wide_tiles::zeros);
        left.load(even_a);
        next = wide_step(g, more ? step + 1 : step, early, first_in, first_out);
#pragma unroll 1
        for (int h = 0; h < tile_edge; h += 2) {
            begin_row<products>(sum, even_a, b);
            if (more) {
                prepare(g, next, other, outputs + coming, h);
            }
            end_row_before(odd_a);
            left.load(odd_a);
            begin_row<products>(sum, odd_a, b + operand_shift(wide_tiles::row_bytes));
            if (more) {
                prepare(g, next, other, outputs + coming, h + 1);
            }
            end_row_before(even_a);
            if (h + 2 < tile_edge) {
                left.load(even_a);
            }
            b += operand_shift(2 * wide_tiles::row_bytes);
        }
        copy_async_wait<0>();
        show_to_warpgroup_products();
#pragma unroll
        for (int p = 0; p < products; p++) {
            wait_for_warpgroup_products<0>(sum[p]);
        }
        __syncthreads();
        before = current;
        current = coming;
    }
    const int lane = (int)threadIdx.x % warp_size;
#pragma unroll
    for (int p = 0; p < products; p++) {
        const wide_slab slab(early, p);
        const int pair = slab.pair - (early ? 0 : early_pairs), o = slab.sixteen * 16 + lane / 4;
        float *to = partial + (size_t)pair * 3 * g.out_channels * g.in_channels +
                    (size_t)(first_out + o) * g.in_channels + first_in + lane % 4 * 2;
        if (slab.there) {
#pragma unroll
            for (int octet = 0; octet < columns / 8; octet++) {
                float *at =
                    to + (size_t)(octet / groups) * g.out_channels * g.in_channels + octet % groups * 8;
                *(float2 *)at = make_float2(sum[p][4 * octet], sum[p][4 * octet + 1]);
                *(float2 *)(at + (size_t)8 * g.in_channels) =
                    make_float2(sum[p][4 * octet + 2], sum[p][4 * octet + 3]);
            }
        }
    }
}

/* Where a block's partial sums begin, in floats. */
static HOST_DEVICE __forceinline__ size_t partial_at(const wide_gradient &g, int block)
{
    const size_t pair = (size_t)3 * g.out_channels * g.in_channels;
    return block < g.early
               ? block * early_pairs * pair
               : (g.early * early_pairs + (size_t)(block - g.early) * (pairs - early_pairs)) * pair;
}

/* Blocks: x: the early ones, then the late ones; y: the slices of input and output channels. */
static __global__ void __launch_bounds__(block_threads, 1) sum_wide_gradient(const wide_gradient g)
{
    dynamic_shared(unsigned char, shared);
    if (WARPGROUP_PRODUCTS) {
        const int slices_out = g.out_channels / slice;
        const int first_out = (int)blockIdx.y % slices_out * slice;
        const int first_in = (int)blockIdx.y / slices_out * slice;
        const bool early = (int)blockIdx.x < g.early;
        const int part = early ? (int)blockIdx.x : (int)blockIdx.x - g.early;
        const int parts = early ? g.early : g.late;
        const int begin = (int)((long long)g.steps * part / parts);
        const int end = (int)((long long)g.steps * (part + 1) / parts);
        float *partial = g.partial + partial_at(g, (int)blockIdx.x);
        if (!early && threadIdx.x / 128 == 1) {
            sum_steps<1>(g, early, begin, end, first_in, first_out, partial, shared);
        } else {
            sum_steps<2>(g, early, begin, end, first_in, first_out, partial, shared);
        }
    }
#if !WARPGROUP_PRODUCTS
    __trap(); /* a Hopper with code for sm_90 in place of sm_90a: an error, not a wrong gradient */
#endif
}

/* dweight (out, in, taps) += the blocks' sums, in their order. */
static __global__ void add_wide_partials(float *dweight, const wide_gradient g)
{
    const int ins = g.in_channels, outs = g.out_channels, count = kernel_taps * ins * outs;
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (k < count) {
        const int i = k % ins, o = k / ins % outs, kh = k / ins / outs % 3, pair = k / ins / outs / 3;
        const int tap = pair / 3 * 9 + kh * 3 + pair % 3;
        const bool early = pair < early_pairs;
        const size_t apart = (size_t)(early ? early_pairs : pairs - early_pairs) * 3 * outs * ins;
        const float *from =
            g.partial + partial_at(g, early ? 0 : g.early) + (early ? k : k - early_pairs * 3 * outs * ins);
        float sum = 0;
#pragma unroll 8
        for (int part = 0; part < (early ? g.early : g.late); part++) {
            sum += from[part * apart];
        }
        dweight[((size_t)o * ins + i) * kernel_taps + tap] += sum;
    }
}

void own_conv3d_wide_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                     const activation *inp, const struct norm_activation *norm,
                                     const struct conv3d_shape *shape)
{
    const int ins = shape->in_channels, outs = shape->out_channels;
    const int slices = (ins / slice) * (outs / slice);
    wide_gradient g = {gradient_planes_of(dout, inp, norm, shape), 0, 0};
    const int blocks =
        cuda_state(c)->multiprocessors / slices > 2 ? cuda_state(c)->multiprocessors / slices : 2;
    g.early = (blocks * early_share + 50) / 100;
    g.late = blocks - g.early;
    g.early = g.early < 1 ? 1 : g.early < g.steps ? g.early : g.steps;
    g.late = g.late < 1 ? 1 : g.late < g.steps ? g.late : g.steps;
    const int count = kernel_taps * ins * outs;
    g.partial = (float *)cuda_scratch(c, partial_at(g, g.early + g.late) * sizeof(float));
    launch(c, sum_wide_gradient, dim3((unsigned)(g.early + g.late), (unsigned)slices), dim3(block_threads),
           (size_t)wide_tiles::bytes, g);
    launch(c, add_wide_partials, dim3((unsigned)divide_up((size_t)count, 128)), dim3(128), 0, dweight, g);
}
