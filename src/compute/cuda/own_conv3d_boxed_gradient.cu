/* The weights' gradient of own_conv3d.cuh on Hopper, for multiples of 48 channels and an input that needs no
 * norm: what own_conv3d_wide_gradient.cu does, with planes that come by themselves (box_copy.cuh).
 *
 * dweight (tap, out, in) is a sum over voxels u of the input of dout[u - tap] inp[u]. A product multiplies 16
 * voxels of a row: on the left 64 rows, four slabs of 16 output channels at one (kd, kw) each, one for each
 * warp, from registers; on the right 144 columns, 48 input channels of the three rows (kh) around, from
 * shared memory.
 *
 * The 27 slabs are seven products for each row, whose sums are too many for one multiprocessor: two blocks
 * have three of them each, and the seventh in every other row, one in even, one in odd rows. Both walk along
 * the same columns of 16 x 16 voxels at the same time, so that what one reads the other finds in the cache,
 * and have three planes of the input and five of the output: that at hand, the two beside it, and two to
 * come, for which one thread asks. No one waits for the whole block: a plane's place is free when all warps
 * have said that they are done with it. */
#include "compute/cuda/box_copy.cuh"
#include "compute/cuda/own_conv3d.cuh"
#include "compute/cuda/own_conv3d_gradient.cuh"

enum {
    block_threads = 256,
    block_warps = block_threads / warp_size,
    sides = 2,  /* blocks of the same planes */
    slice = 48, /* channels of a block, on either side */
    sixteens = slice / box_channels,
    octets = 3 * slice / 8,         /* of columns of a product */
    sums = 3 * slice / 2,           /* of a thread, for each product */
    own_products = 3,               /* of a side, and the one that both have */
    slabs = 4 * (own_products + 1), /* of a side, the last one of the 28 being nothing */
    slab_elements = 16 * 3 * slice,
    input_planes = 3,
    output_planes = 5,
    asking_thread = 128, /* of the warpgroup that has less to multiply */
};

/* partial: of each slice, part and side (slabs, kh, 16 out, in). */
struct boxed_gradient : gradient_planes {
    box_map input, output;
    int parts;
};

/* Planes in shared memory, behind them 16 zeros and the barriers. */
struct boxed_tiles {
    static constexpr int strip_bytes = tile_edge * 32; /* a row's 16 channels */
    static constexpr int input_row_bytes = sixteens * strip_bytes;
    static constexpr int input_bytes = (tile_edge + 2) * input_row_bytes;
    static constexpr int output_strip_bytes = (tile_edge + 2) * 32;
    static constexpr int output_row_bytes = sixteens * output_strip_bytes;
    static constexpr int output_bytes = tile_edge * output_row_bytes;
    static constexpr int outputs = input_planes * input_bytes;
    static constexpr int zeros = outputs + output_planes * output_bytes;
    static constexpr int barriers = zeros + 32;
    static constexpr int bytes = barriers + 2 * input_planes * (int)sizeof(copy_barrier) + box_alignment;
};

/* What a block does. */
struct boxed_work {
    int side, part, first_in, first_out;
    int begin, end; /* steps */
    unsigned char *planes;
    copy_barrier *there, *done; /* of each plane of the input, with the output's plane behind it */

    __device__ __forceinline__ boxed_work(const boxed_gradient &g, unsigned char *shared)
    {
        const int slices_out = g.out_channels / slice;
        first_out = (int)blockIdx.y % slices_out * slice;
        first_in = (int)blockIdx.y / slices_out * slice;
        side = (int)blockIdx.x % sides;
        part = (int)blockIdx.x / sides;
        begin = (int)((long long)g.steps * part / g.parts);
        end = (int)((long long)g.steps * (part + 1) / g.parts);
        planes = shared + (-shared_address(shared) & (box_alignment - 1));
        there = (copy_barrier *)(planes + boxed_tiles::barriers);
        done = there + input_planes;
    }

    __device__ __forceinline__ unsigned char *input(int place) const
    {
        return planes + place * boxed_tiles::input_bytes;
    }

    __device__ __forceinline__ unsigned char *output(int place) const
    {
        return planes + boxed_tiles::outputs + place * boxed_tiles::output_bytes;
    }
};

/* ---- the thread that asks for planes ---- */

static __device__ __forceinline__ box_corner corner_of(const boxed_gradient &g, int step, int first)
{
    const int column = step / g.d, tile = column % (g.tiles_h * g.tiles_w);
    const int sample = column / (g.tiles_h * g.tiles_w);
    return box_corner{sample * g.d + step % g.d, tile / g.tiles_w * tile_edge, first / box_channels,
                      tile % g.tiles_w * tile_edge};
}

static __device__ __forceinline__ void ask_for_output(const boxed_gradient &g, const boxed_work &work,
                                                      int step, copy_barrier *there)
{
    box_corner corner = corner_of(g, step, work.first_out);
    corner.w--;
    copy_box(work.output((step - work.begin + 1) % output_planes), &g.output, corner, there);
}

/* With a step come its plane of the input and the output's next one, where it is read; `more` planes of the
 * output come with it that are asked for elsewhere. */
static __device__ __forceinline__ void ask_for_step(const boxed_gradient &g, const boxed_work &work, int step,
                                                    int more)
{
    const int place = (step - work.begin) % input_planes;
    const int next = step + 1 < work.end || (step + 1) % g.d > 0;
    copy_barrier *there = &work.there[place];
    copy_barrier_announce(there, boxed_tiles::input_bytes + (more + next) * boxed_tiles::output_bytes);
    box_corner corner = corner_of(g, step, work.first_in);
    corner.h--;
    copy_box(work.input(place), &g.input, corner, there);
    if (next) {
        ask_for_output(g, work, step + 1, there);
    }
}

/* The first steps' planes, and with the first step all of the output that it needs. */
static __device__ __forceinline__ void ask_for_first_steps(const boxed_gradient &g, const boxed_work &work)
{
    const int before = work.begin % g.d > 0, steps = min(work.end - work.begin, (int)input_planes);
#pragma unroll 1
    for (int k = 0; k < steps; k++) {
        ask_for_step(g, work, work.begin + k, k == 0 ? before + 1 : 0);
    }
#pragma unroll 1
    for (int step = work.begin - before; step <= work.begin && steps > 0; step++) {
        ask_for_output(g, work, step, work.there);
    }
}

/* ---- products ---- */

/* The slab of this warp in product p of its warpgroup. */
static __device__ __forceinline__ int slab_of(const boxed_work &work, int p)
{
    const int group = (int)threadIdx.x / 128, product = 2 * group + p;
    const int all = product < own_products ? work.side * own_products + product : sides * own_products;
    return 4 * all + (int)threadIdx.x / warp_size % 4;
}

enum { pairs = 9, true_slabs = pairs * sixteens };

/* The left sides of a thread's products. */
struct boxed_left {
    int within[2]; /* where this lane's rows start in a plane of the output, in bytes */
    int kd[2];
    const unsigned char *plane[2];
    int at[2], apart[2]; /* the next row in the plane, and rows of the plane */

    __device__ __forceinline__ boxed_left(const boxed_work &work)
    {
        const int lane = (int)threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const int slab =
                min(slab_of(work, p), (int)true_slabs - 1); /* nobody writes the last one twice */
            kd[p] = slab / sixteens / 3;
            within[p] = slab % sixteens * boxed_tiles::output_strip_bytes +
                        (2 - slab / sixteens % 3 + matrix / 2 * 8 + lane % 8) * 32 + matrix % 2 * 16;
        }
    }

    /* place: of the plane at hand; along: the step's plane. A plane outside of the volume is the same 16
     * zeros everywhere. */
    __device__ __forceinline__ void begin_step(const boxed_work &work, int place, int along, int planes)
    {
#pragma unroll
        for (int p = 0; p < 2; p++) {
            const int other = place + 1 - kd[p], outside = (unsigned)(along + 1 - kd[p]) >= (unsigned)planes;
            plane[p] = outside ? work.planes + boxed_tiles::zeros
                               : work.output(other < 0                ? output_planes - 1
                                             : other == output_planes ? 0
                                                                      : other);
            at[p] = outside ? 0 : within[p];
            apart[p] = outside ? 0 : boxed_tiles::output_row_bytes;
        }
    }

    /* The next row's, of `products`. */
    __device__ __forceinline__ void load(uint32_t (&a)[2][4], int products)
    {
#pragma unroll
        for (int p = 0; p < 2; p++) {
            if (p < products) {
                load_matrices_transposed(a[p], plane[p] + box_place(at[p]));
            }
            at[p] += apart[p];
        }
    }
};

/* The products of one row, begun. */
static __device__ __forceinline__ void begin_row(float (&sum)[2][sums], uint32_t (&a)[2][4], uint64_t b,
                                                 int products)
{
    begin_warpgroup_products();
#pragma unroll
    for (int p = 0; p < 2; p++) {
        if (p < products) {
            warpgroup_multiply_transposed(sum[p], a[p], b);
        }
    }
    commit_warpgroup_products();
}

/* All rows but the last two are done. */
static __device__ __forceinline__ void end_row_before_last(uint32_t (&a)[2][4])
{
    wait_for_warpgroup_products<2>();
#pragma unroll
    for (int p = 0; p < 2; p++) {
        keep_until_here(a[p]);
    }
}

static __device__ __forceinline__ void write_partial(const boxed_gradient &g, const boxed_work &work,
                                                     const float (&sum)[2][sums])
{
    const int lane = (int)threadIdx.x % warp_size, group = (int)threadIdx.x / 128;
    float *partial =
        g.partial + (((size_t)blockIdx.y * g.parts + work.part) * sides + work.side) * slabs * slab_elements;
#pragma unroll
    for (int p = 0; p < 2; p++) {
        const int slab = (2 * group + p) * 4 + (int)threadIdx.x / warp_size % 4;
        float *to = partial + slab * slab_elements + lane / 4 * slice + lane % 4 * 2;
#pragma unroll
        for (int octet = 0; octet < octets; octet++) {
            float *at = to + octet / (slice / 8) * 16 * slice + octet % (slice / 8) * 8;
            *(float2 *)at = make_float2(sum[p][4 * octet], sum[p][4 * octet + 1]);
            *(float2 *)(at + 8 * slice) = make_float2(sum[p][4 * octet + 2], sum[p][4 * octet + 3]);
        }
    }
}

/* This warp has read all of a place that it will. */
static __device__ __forceinline__ void say_done(const boxed_work &work, int place)
{
    __syncwarp();
    if (threadIdx.x % warp_size == 0) {
        copy_barrier_arrive(&work.done[place]);
    }
}

/* Where a step's planes lie. */
struct boxed_place {
    int along;         /* the plane of its column */
    int input, output; /* places of the planes at hand */
    int parity;        /* of the phase of `there` */

    __device__ __forceinline__ void advance(int planes)
    {
        along = along + 1 < planes ? along + 1 : 0;
        output = output + 1 < output_planes ? output + 1 : 0;
        parity ^= input + 1 == input_planes;
        input = input + 1 < input_planes ? input + 1 : 0;
    }
};

/* What a warpgroup does: so many products in even, and in odd rows of its planes. Two rows are being
 * multiplied while the left sides of the next two are there or on their way, across steps as well. */
template <int even, int odd>
static __device__ __forceinline__ void sum_planes(const boxed_gradient &g, const boxed_work &work)
{
    float sum[2][sums];
    uint32_t a[4][2][4]; /* of rows, in turn */
    boxed_left left(work);
    boxed_place next = {work.begin % g.d, 0, 1, 0}, at_hand = next, before = next;
#pragma unroll
    for (int p = 0; p < 2; p++) {
#pragma unroll
        for (int k = 0; k < sums; k++) {
            sum[p][k] = 0;
        }
    }
    left.begin_step(work, next.output, next.along, g.d);
    copy_barrier_wait(&work.there[next.input], next.parity);
    left.load(a[0], even);
    left.load(a[1], odd);
#pragma unroll 1
    for (int step = work.begin; step < work.end; step++) {
        before = at_hand;
        at_hand = next;
        next.advance(g.d);
        uint64_t b =
            boxed_operand_at(shared_address(work.input(at_hand.input)), boxed_tiles::strip_bytes, 256);
#pragma unroll 1
        for (int h = 0; h < tile_edge; h += 4) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const int products = k % 2 == 0 ? even : odd;
                begin_row(sum, a[k], b, products);
                b += operand_shift(boxed_tiles::input_row_bytes);
                end_row_before_last(a[(k + 2) % 4]);
                if (k == 1 && h == 0 && step > work.begin) {
                    say_done(work, before.input);
                }
                if (k == 3 && h == 0 && threadIdx.x == asking_thread && step > work.begin &&
                    step + input_planes - 1 < work.end) {
                    copy_barrier_wait(&work.done[before.input], before.parity);
                    ask_for_step(g, work, step + input_planes - 1, 0);
                }
                if (k == 2 && h + 4 == tile_edge && step + 1 < work.end) {
                    left.begin_step(work, next.output, next.along, g.d);
                    copy_barrier_wait(&work.there[next.input], next.parity);
                }
                if (k < 2 || h + 4 < tile_edge || step + 1 < work.end) {
                    left.load(a[(k + 2) % 4], products);
                }
            }
        }
    }
#pragma unroll
    for (int p = 0; p < 2; p++) {
        wait_for_warpgroup_products<0>(sum[p]);
    }
    write_partial(g, work, sum);
}

/* Blocks: x: the parts of the steps, and of each the sides; y: the slices of input and output channels. */
static __global__ void __launch_bounds__(block_threads, 1)
    sum_boxed_gradient(const __grid_constant__ boxed_gradient g)
{
    dynamic_shared(unsigned char, shared);
    if (WARPGROUP_PRODUCTS) {
        const boxed_work work(g, shared);
        if (threadIdx.x == asking_thread) {
            for (int k = 0; k < input_planes; k++) {
                copy_barrier_make(&work.there[k], 1);
                copy_barrier_make(&work.done[k], block_warps);
            }
            *(uint4 *)(work.planes + boxed_tiles::zeros) = make_uint4(0, 0, 0, 0);
            show_to_warpgroup_products();
            ask_for_first_steps(g, work);
        }
        __syncthreads();
        if (threadIdx.x < 128) {
            sum_planes<2, 2>(g, work);
        } else if (work.side == 0) {
            sum_planes<2, 1>(g, work);
        } else {
            sum_planes<1, 2>(g, work);
        }
    }
#if !WARPGROUP_PRODUCTS
    __trap(); /* a Hopper with code for sm_90 in place of sm_90a: an error, not a wrong gradient */
#endif
}

enum { lanes = 32, layers = 8 }; /* of a block that adds partial sums: values, and parts at a time */

/* dweight (out, in, taps) += the blocks' sums, always in the same order. */
static __global__ void add_boxed_partials(float *dweight, const boxed_gradient g)
{
    __shared__ float layer_sums[layers][lanes];
    const int k = (int)(blockIdx.x * lanes + threadIdx.x), slab = k / slab_elements;
    const int own = 4 * own_products, of_both = slab >= sides * own;
    const int side = of_both ? 0 : slab / own, local = of_both ? slab - own : slab % own;
    const size_t apart = (size_t)slabs * slab_elements;
    const float *from = g.partial + ((size_t)blockIdx.y * g.parts * sides + side) * apart +
                        (size_t)local * slab_elements + k % slab_elements;
    const int step = of_both ? 1 : sides, blocks = g.parts * sides / step;
    float sum = 0;
    for (int block = (int)threadIdx.y; block < blocks; block += layers) {
        sum += from[block * step * apart];
    }
    layer_sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0) {
        for (int layer = 1; layer < layers; layer++) {
            sum += layer_sums[layer][threadIdx.x];
        }
        const int i = k % slice, o = k / slice % 16, kh = k / slice / 16 % 3, pair = slab / sixteens;
        const int slices_out = g.out_channels / slice, tap = pair / 3 * 9 + kh * 3 + pair % 3;
        const int out = (int)blockIdx.y % slices_out * slice + slab % sixteens * 16 + o;
        const int in = (int)blockIdx.y / slices_out * slice + i;
        dweight[((size_t)out * g.in_channels + in) * kernel_taps + tap] += sum;
    }
}

int own_conv3d_boxed_weight_gradient(struct compute *c, float *dweight, const activation *dout,
                                     const activation *inp, const struct conv3d_shape *shape)
{
    const int slices = (shape->in_channels / slice) * (shape->out_channels / slice);
    boxed_gradient g = {};
    (gradient_planes &)g = gradient_planes_of(dout, inp, NULL, shape);
    const box_shape input = {shape->n * shape->d, shape->h,  shape->w, shape->in_channels,
                             tile_edge + 2,       tile_edge, sixteens};
    const box_shape output = {shape->n * shape->d, shape->h,      shape->w, shape->out_channels,
                              tile_edge,           tile_edge + 2, sixteens};
    if (cuda_state(c)->shared_per_block < (size_t)boxed_tiles::bytes ||
        !make_box_map(c, &g.input, g.inp, &input) || !make_box_map(c, &g.output, g.dout, &output)) {
        return 0;
    }
    const int blocks = cuda_state(c)->multiprocessors / slices / sides;
    g.parts = blocks < 1 ? 1 : blocks < g.steps ? blocks : g.steps;
    g.partial =
        (float *)cuda_scratch(c, (size_t)slices * g.parts * sides * slabs * slab_elements * sizeof(float));
    launch(c, sum_boxed_gradient, dim3((unsigned)(g.parts * sides), (unsigned)slices), dim3(block_threads),
           (size_t)boxed_tiles::bytes, g);
    launch(c, add_boxed_partials, dim3((unsigned)(true_slabs * slab_elements / lanes), (unsigned)slices),
           dim3(lanes, layers), 0, dweight, g);
    return 1;
}
