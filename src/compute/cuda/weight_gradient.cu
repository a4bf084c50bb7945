#include "compute/cuda/gradient_unit.cuh"
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/products.cuh"
#include "compute/cuda/row_sums.cuh"
#include "compute/cuda/tensor_core.cuh"

/* The gradient of a linear layer's weights is a small matrix summed over very many rows. A block takes a
 * share of the rows and streams them through shared memory; each warp keeps 48 x 48 of the matrix in
 * registers. Where the block's part of the matrix gives work to few warps, several share a part and take the
 * rows in turn. What blocks have summed is added up in a second pass, in their order. The bias's gradient
 * falls off as a product with ones. */
enum {
    unit_pieces = unit / 8,
    slab = 64, /* rows in one stage */
    stages = 3,
    most_warps = 8,
    sums_per_lane = unit_tiles * (unit_columns + 1) * 4,
    fewest_rows = 4 * slab, /* of a block */
};

/* What a block computes: units of out features and of in features, each by `sharing` warps. */
struct gradient_tile {
    int out_units, in_units, sharing;
};

struct gradient_sizes {
    size_t rows, rows_per_block;
    int out_features, in_features;
};

static HOST_DEVICE int pitch_of(int units)
{
    return units * unit + 8; /* an odd multiple of 16 bytes */
}

static HOST_DEVICE int stage_elements(const struct gradient_tile &tile)
{
    return slab * (pitch_of(tile.out_units) + pitch_of(tile.in_units));
}

/* `units` units of the columns from `first` on of rows [row, end). */
static __device__ __forceinline__ void load_slab(bf16 *to, const bf16 *from, size_t row, size_t end,
                                                 int first, int units, int features)
{
    const int pieces = units * unit_pieces, pitch = pitch_of(units);
    const unsigned inverse =
        (1u << 20) / (unsigned)pieces + 1; /* index / pieces, exact below 2^20 / pieces */
    for (int index = (int)threadIdx.x; index < slab * pieces; index += (int)blockDim.x) {
        const int r = (int)((unsigned)index * inverse >> 20), column = (index - r * pieces) * 8;
        const int valid = row + (size_t)r < end && first + column < features;
        copy_async(to + r * pitch + column,
                   valid ? from + (row + (size_t)r) * (size_t)features + first + column : from, valid);
    }
}

/* The sums of warps that share a unit, in the first of them, added in their order. All of the block comes
 * here. */
static __device__ __forceinline__ void add_shared_sums(float sum[unit_tiles][unit_columns + 1][4],
                                                       float *kept, int share, int sharing, int lane)
{
    for (int from = 1; from < sharing; from++) {
        __syncthreads();
        if (share == from) {
#pragma unroll
            for (int k = 0; k < sums_per_lane; k++) {
                kept[k * warp_size + lane] =
                    sum[k / 4 / (unit_columns + 1)][k / 4 % (unit_columns + 1)][k % 4];
            }
        }
        __syncthreads();
        if (share == 0) {
#pragma unroll
            for (int k = 0; k < sums_per_lane; k++) {
                sum[k / 4 / (unit_columns + 1)][k / 4 % (unit_columns + 1)][k % 4] +=
                    kept[k * warp_size + lane];
            }
        }
    }
}

static __device__ __forceinline__ void store_unit(float *partial, float *bias_partial,
                                                  const float sum[unit_tiles][unit_columns + 1][4],
                                                  int first_out, int first_in,
                                                  const struct gradient_sizes &sizes, int lane)
{
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < unit_tiles; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int o = first_out + i * 16 + half * 8 + g;
            if (o >= sizes.out_features) {
                continue;
            }
#pragma unroll
            for (int j = 0; j < unit_columns; j++) {
                const int in = first_in + j * 8 + 2 * t;
                if (in < sizes.in_features) {
                    float2 v;
                    v.x = sum[i][j][2 * half];
                    v.y = sum[i][j][2 * half + 1];
                    *reinterpret_cast<float2 *>(partial + (size_t)o * (size_t)sizes.in_features + in) = v;
                }
            }
            if (bias_partial != NULL && first_in == 0 && t == 0) {
                bias_partial[o] = sum[i][unit_columns][2 * half];
            }
        }
    }
}

/* Block (x, y): part x of the matrix, rows from y rows_per_block on. Its sums lie `pitch` floats behind those
 * of block y - 1: the matrix, then the bias if with_bias. */
static __global__ void __launch_bounds__(most_warps *warp_size, 2)
    sum_weight_gradient(float *partial, const bf16 *dout, const bf16 *inp, struct gradient_sizes sizes,
                        struct gradient_tile tile, size_t pitch, int with_bias)
{
    dynamic_shared(bf16, shared);
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int share = warp % tile.sharing, own_unit = warp / tile.sharing;
    const int out_unit = own_unit % tile.out_units, in_unit = own_unit / tile.out_units;
    const int out_blocks = (sizes.out_features + tile.out_units * unit - 1) / (tile.out_units * unit);
    const int first_out = (int)blockIdx.x % out_blocks * tile.out_units * unit;
    const int first_in = (int)blockIdx.x / out_blocks * tile.in_units * unit;
    const int dout_pitch = pitch_of(tile.out_units), inp_pitch = pitch_of(tile.in_units);
    const int own_bias = with_bias && first_in + in_unit * unit == 0;
    const size_t begin = (size_t)blockIdx.y * sizes.rows_per_block;
    const size_t end = begin + sizes.rows_per_block < sizes.rows ? begin + sizes.rows_per_block : sizes.rows;
    const int slabs = (int)((end - begin + slab - 1) / slab);
    float sum[unit_tiles][unit_columns + 1][4] = {};
    int stage = 0;

    const auto load = [&](int index) {
        if (index < slabs) {
            bf16 *to = shared + index % stages * stage_elements(tile);
            const size_t row = begin + (size_t)index * slab;
            load_slab(to, dout, row, end, first_out, tile.out_units, sizes.out_features);
            load_slab(to + slab * dout_pitch, inp, row, end, first_in, tile.in_units, sizes.in_features);
        }
        copy_async_commit();
    };
    for (int ahead = 0; ahead < stages - 1; ahead++) {
        load(ahead);
    }
    for (int index = 0; index < slabs; index++) {
        copy_async_wait<stages - 2>();
        __syncthreads(); /* this stage is there, and nobody reads the one that is loaded next */
        load(index + stages - 1);
        const bf16 *dout_slab = shared + stage * stage_elements(tile) + out_unit * unit;
        const bf16 *inp_slab = shared + stage * stage_elements(tile) + slab * dout_pitch + in_unit * unit;
        for (int row = share * 16; row < slab; row += tile.sharing * 16) {
            add_unit_rows(sum, dout_slab + row * dout_pitch, dout_pitch, inp_slab + row * inp_pitch,
                          inp_pitch, own_bias, lane);
        }
        stage = stage + 1 < stages ? stage + 1 : 0;
    }
    copy_async_wait<0>();
    add_shared_sums(sum, reinterpret_cast<float *>(shared) + own_unit * sums_per_lane * warp_size, share,
                    tile.sharing, lane);
    if (share == 0) {
        float *to = partial + (size_t)blockIdx.y * pitch;
        store_unit(to, with_bias ? to + (size_t)sizes.out_features * (size_t)sizes.in_features : NULL, sum,
                   first_out + out_unit * unit, first_in + in_unit * unit, sizes, lane);
    }
}

/* The tile of at most most_warps units that reads least, the smallest of these. */
static struct gradient_tile choose_tile(size_t out_units, size_t in_units)
{
    struct gradient_tile best = {1, 1, 1};
    size_t best_cost = 0;
    for (size_t a = 1; a <= most_warps; a++) {
        for (size_t b = 1; a * b <= most_warps; b++) {
            const size_t cost = divide_up(out_units, a) * divide_up(in_units, b) * (a + b);
            if (best_cost == 0 || cost < best_cost ||
                (cost == best_cost && (int)(a * b) < best.out_units * best.in_units)) {
                best_cost = cost;
                best.out_units = (int)a;
                best.in_units = (int)b;
            }
        }
    }
    const int units = best.out_units * best.in_units;
    best.sharing = units <= most_warps / 4 ? 4 : units <= most_warps / 2 ? 2 : 1;
    return best;
}

int weight_gradient(struct compute *c, float *dweight, float *dbias, const activation *dout,
                    const activation *inp, size_t rows, int in_features, int out_features)
{
    const struct cuda_state *state = cuda_state(c);
    if (c->status != VOCO_OK || rows == 0 || in_features % 8 != 0 || out_features % 8 != 0 ||
        ((uintptr_t)dout | (uintptr_t)inp) % 16 != 0) {
        return 0;
    }
    const size_t out_units = divide_up((size_t)out_features, unit),
                 in_units = divide_up((size_t)in_features, unit);
    const struct gradient_tile tile = choose_tile(out_units, in_units);
    const size_t shared = (size_t)(stages * stage_elements(tile)) * sizeof(bf16);
    if (shared > state->shared_per_block) {
        return 0;
    }
    const size_t parts =
        divide_up(out_units, (size_t)tile.out_units) * divide_up(in_units, (size_t)tile.in_units);
    const size_t together =
        2 * (shared + 1024) <= state->shared_per_block + 1024 ? 2 : 1; /* blocks of a processor */
    const size_t count = (size_t)out_features * (size_t)in_features;
    const size_t pitch = (count + (size_t)out_features + 3) / 4 * 4;
    size_t shares = (size_t)state->multiprocessors * together / parts;
    const size_t most = divide_up(rows, fewest_rows);
    shares = shares == 0 ? 1 : shares < most ? shares : most;
    const size_t rows_per_block = divide_up(divide_up(rows, shares), slab) * slab;
    shares = divide_up(rows, rows_per_block);
    const struct gradient_sizes sizes = {rows, rows_per_block, out_features, in_features};
    float *partial = (float *)cuda_scratch(c, shares * pitch * sizeof(float));
    launch(c, sum_weight_gradient, dim3((unsigned)parts, (unsigned)shares),
           dim3((unsigned)(tile.out_units * tile.in_units * tile.sharing * warp_size)), shared, partial,
           (const bf16 *)dout, (const bf16 *)inp, sizes, tile, pitch, (int)(dbias != NULL));
    cuda_add_parts(c, dweight, count, dbias, (size_t)out_features, partial, shares, pitch);
    return 1;
}
