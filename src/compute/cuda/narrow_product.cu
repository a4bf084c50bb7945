#include "compute/cuda/gelu.cuh"
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/products.cuh"
#include "compute/cuda/tensor_core.cuh"

/* Products with few columns and a short depth are bound by memory: every row is read once and written once. A
 * block keeps its columns of the weights in shared memory and lets tiles of rows stream past, a chunk of the
 * depth at a time, two chunks ahead of the one it multiplies. Depth and columns are padded with zeros in
 * shared memory. */
enum {
    threads_per_block = 256,
    tile_rows = 128,
    chunk = 48, /* of the depth: three steps of the tensor cores */
    chunk_pieces = chunk / 8,
    chunk_pitch = chunk + 8, /* an odd multiple of 16 bytes: rows of a fragment lie in different banks */
    stages = 3,
    warp_rows = 32, /* four warps, one above the other, and two side by side */
    row_warps = tile_rows / warp_rows,
    kept_pad = 8,
    most_chunks = 64,
};

struct narrow_sizes {
    size_t rows;
    int depth, columns;
    int chunks; /* of the depth */
};

/* Where things lie in shared memory, in elements of bf16 from its start. */
struct narrow_layout {
    int weight_pitch;
    int stage, kept, bias; /* the first stage, what warps keep before they store it, the bias in float */
    int end;
};

static HOST_DEVICE struct narrow_layout layout_of(int chunks, int tiles)
{
    struct narrow_layout layout;
    layout.weight_pitch = chunks * chunk + 8;
    layout.stage = 16 * tiles * layout.weight_pitch;
    layout.kept = layout.stage + stages * tile_rows * chunk_pitch;
    layout.bias = layout.kept + (threads_per_block / warp_size) * 16 * (tiles * 8 + kept_pad);
    layout.end = layout.bias + 2 * 16 * tiles;
    return layout;
}

/* Two neighbours of what is written, from those of the product and of the other array. */
template <enum narrow_finish finish>
static __device__ __forceinline__ uint32_t finished(uint32_t pair, uint32_t other)
{
    switch (finish) {
    case FINISH_GELU:
        return pack_bf16(gelu<bf16>(low_of(pair)), gelu<bf16>(high_of(pair)));
    case FINISH_ADD:
        return pack_bf16(low_of(pair) + low_of(other), high_of(pair) + high_of(other));
    case FINISH_GELU_GRADIENT:
        return pack_bf16(low_of(pair) * gelu_derivative<bf16>(low_of(other)),
                         high_of(pair) * gelu_derivative<bf16>(high_of(other)));
    default:
        return pair;
    }
}

template <enum narrow_finish finish>
static __device__ __forceinline__ uint4 finished_piece(const uint4 &v, const uint4 &other)
{
    uint4 result;
    result.x = finished<finish>(v.x, other.x);
    result.y = finished<finish>(v.y, other.y);
    result.z = finished<finish>(v.z, other.z);
    result.w = finished<finish>(v.w, other.w);
    return result;
}

/* The block's columns of the weights, from `first` on. */
static __device__ void load_weights(bf16 *to, const bf16 *weight, int first, int block_columns, int pitch,
                                    const struct narrow_sizes &sizes)
{
    const int pieces = sizes.chunks * chunk_pieces;
    for (int index = (int)threadIdx.x; index < block_columns * pieces; index += threads_per_block) {
        const int column = index / pieces, k = index % pieces * 8;
        const int valid = first + column < sizes.columns && k < sizes.depth;
        copy_async(to + column * pitch + k,
                   valid ? weight + (size_t)(first + column) * (size_t)sizes.depth + k : weight, valid);
    }
}

/* Chunk q of the rows from `row` on. */
static __device__ __forceinline__ void load_chunk(bf16 *to, const bf16 *inp, size_t row, int q,
                                                  const struct narrow_sizes &sizes)
{
    for (int index = (int)threadIdx.x; index < tile_rows * chunk_pieces; index += threads_per_block) {
        const int r = index / chunk_pieces, k = index % chunk_pieces * 8;
        const int valid = row + (size_t)r < sizes.rows && q * chunk + k < sizes.depth;
        copy_async(to + r * chunk_pitch + k,
                   valid ? inp + (row + (size_t)r) * (size_t)sizes.depth + q * chunk + k : inp, valid);
    }
}

/* sum += the warp's 32 rows of a chunk times its 8 `tiles` columns. */
template <int tiles>
static __device__ __forceinline__ void multiply_chunk(float sum[2][tiles][4], const bf16 *rows,
                                                      const bf16 *weights, int weight_pitch, int lane)
{
    const bf16 *a_from = rows + lane % 16 * chunk_pitch + lane / 16 * 8;
    const bf16 *b_from = weights + (lane / 16 * 8 + lane % 8) * weight_pitch + lane / 8 % 2 * 8;
    const bf16 *last_from = weights + ((tiles - 1) * 8 + lane % 8) * weight_pitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < chunk; k += 16) {
        uint32_t a[2][4];
        load_matrices(a[0], a_from + k);
        load_matrices(a[1], a_from + 16 * chunk_pitch + k);
#pragma unroll
        for (int j = 0; j + 1 < tiles; j += 2) {
            uint32_t b[4];
            load_matrices(b, b_from + j * 8 * weight_pitch + k);
            for (int i = 0; i < 2; i++) {
                multiply_add_bf16(sum[i][j], a[i], b);
                multiply_add_bf16(sum[i][j + 1], a[i], b + 2);
            }
        }
        if (tiles % 2 == 1) {
            uint32_t b[2];
            load_two_matrices(b, last_from + k);
            for (int i = 0; i < 2; i++) {
                multiply_add_bf16(sum[i][tiles - 1], a[i], b);
            }
        }
    }
}

static const size_t nowhere = (size_t)-1;

/* Stores 16 rows of a warp: bias added, through shared memory of its own so that 16 bytes are written at
 * once. */
template <int tiles, enum narrow_finish finish>
static __device__ __forceinline__ void store_rows(bf16 *out, bf16 *other, const float sum[tiles][4],
                                                  const float *bias, bf16 *kept, size_t row, int column,
                                                  const struct narrow_sizes &sizes, int lane)
{
    const int pitch = tiles * 8 + kept_pad;
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < tiles; j++) {
        const float low = bias[j * 8 + 2 * t], high = bias[j * 8 + 2 * t + 1];
        *reinterpret_cast<uint32_t *>(kept + g * pitch + j * 8 + 2 * t) =
            pack_bf16(sum[j][0] + low, sum[j][1] + high);
        *reinterpret_cast<uint32_t *>(kept + (g + 8) * pitch + j * 8 + 2 * t) =
            pack_bf16(sum[j][2] + low, sum[j][3] + high);
    }
    __syncwarp();
    /* Pieces of 16 bytes in turn, two at once where another array is waited for. */
    const bool reads = finish == FINISH_ADD || finish == FINISH_GELU_GRADIENT;
    const int batch = reads ? 2 : 1;
#pragma unroll 1
    for (int first = lane; first < 16 * tiles; first += batch * warp_size) {
        size_t to[batch];
        uint4 others[batch];
#pragma unroll
        for (int k = 0; k < batch; k++) {
            const int index = first + k * warp_size, r = index / tiles, at = column + index % tiles * 8;
            const bool wanted = index < 16 * tiles && row + (size_t)r < sizes.rows && at < sizes.columns;
            to[k] = wanted ? (row + (size_t)r) * (size_t)sizes.columns + (size_t)at : nowhere;
            if (reads && wanted) {
                others[k] = *reinterpret_cast<const uint4 *>(other + to[k]);
            }
        }
#pragma unroll
        for (int k = 0; k < batch; k++) {
            const int index = first + k * warp_size;
            if (to[k] == nowhere) {
                continue;
            }
            uint4 v = *reinterpret_cast<const uint4 *>(kept + index / tiles * pitch + index % tiles * 8);
            if (finish == FINISH_GELU) {
                *reinterpret_cast<uint4 *>(other + to[k]) = finished_piece<finish>(v, v);
            } else if (reads) {
                v = finished_piece<finish>(v, others[k]);
            }
            *reinterpret_cast<uint4 *>(out + to[k]) = v;
        }
    }
    __syncwarp();
}

/* Blocks that a multiprocessor's registers are to hold. */
static constexpr int blocks_by_registers(int tiles)
{
    return tiles <= 3 ? 3 : tiles <= 9 ? 2 : 1;
}

/* Block (x, y): columns from 16 tiles x on; row tiles y, y + gridDim.y, ... */
template <int tiles, enum narrow_finish finish>
static __global__ void __launch_bounds__(threads_per_block, blocks_by_registers(tiles))
    multiply_narrow(bf16 *out, bf16 *other, const bf16 *inp, const bf16 *weight, const float *bias,
                    struct narrow_sizes sizes)
{
    dynamic_shared(bf16, shared);
    const struct narrow_layout layout = layout_of(sizes.chunks, tiles);
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int first_column = (int)blockIdx.x * 16 * tiles;
    const int warp_row = warp % row_warps * warp_rows, warp_column = warp / row_warps * tiles * 8;
    float *biases = reinterpret_cast<float *>(shared + layout.bias);
    bf16 *kept = shared + layout.kept + warp * 16 * (tiles * 8 + kept_pad);
    /* What is loaded next, and what is multiplied: a tile of rows and a chunk of the depth. */
    const int row_tiles = (int)((sizes.rows + tile_rows - 1) / tile_rows);
    int load_tile = (int)blockIdx.y, load_q = 0, load_stage = 0;
    int q = 0, stage = 0;
    float sum[2][tiles][4] = {};

    for (int k = (int)threadIdx.x; k < 16 * tiles; k += threads_per_block) {
        biases[k] = bias != NULL && first_column + k < sizes.columns ? bias[first_column + k] : 0;
    }
    load_weights(shared, weight, first_column, 16 * tiles, layout.weight_pitch, sizes);
    const auto load_next = [&] {
        if (load_tile < row_tiles) {
            load_chunk(shared + layout.stage + load_stage * tile_rows * chunk_pitch, inp,
                       (size_t)load_tile * tile_rows, load_q, sizes);
            load_stage = load_stage + 1 < stages ? load_stage + 1 : 0;
            if (++load_q == sizes.chunks) {
                load_q = 0;
                load_tile += (int)gridDim.y;
            }
        }
        copy_async_commit();
    };
    for (int ahead = 0; ahead < stages - 1; ahead++) {
        load_next();
    }
    for (int tile = (int)blockIdx.y; tile < row_tiles;) {
        copy_async_wait<stages - 2>();
        __syncthreads(); /* this stage is there, and nobody reads the one that is loaded next */
        load_next();
        multiply_chunk<tiles>(sum, shared + layout.stage + (stage * tile_rows + warp_row) * chunk_pitch,
                              shared + warp_column * layout.weight_pitch + q * chunk, layout.weight_pitch,
                              lane);
        stage = stage + 1 < stages ? stage + 1 : 0;
        if (++q == sizes.chunks) {
            const size_t row = (size_t)tile * tile_rows + (size_t)warp_row;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                store_rows<tiles, finish>(out, other, sum[i], biases + warp_column, kept,
                                          row + (size_t)(i * 16), first_column + warp_column, sizes, lane);
                for (int j = 0; j < tiles; j++) {
                    for (int k = 0; k < 4; k++) {
                        sum[i][j][k] = 0;
                    }
                }
            }
            q = 0;
            tile += (int)gridDim.y;
        }
    }
}

static size_t shared_bytes(int chunks, int tiles)
{
    return (size_t)layout_of(chunks, tiles).end * sizeof(bf16);
}

static const int widths[narrow_variants] = {12, 9, 6, 3};

/* Columns that blocks of a width compute, those past the last included. */
static size_t padded(int columns, int tiles)
{
    return divide_up((size_t)columns, 16 * (size_t)tiles) * 16 * (size_t)tiles;
}

/* Whether a width's weights fit, and no other pads less. */
static int width_serves(const struct cuda_state *state, int tiles, int chunks, int columns)
{
    if (shared_bytes(chunks, tiles) > state->shared_per_block) {
        return 0;
    }
    for (int other : widths) {
        if (shared_bytes(chunks, other) <= state->shared_per_block &&
            padded(columns, other) < padded(columns, tiles)) {
            return 0;
        }
    }
    return 1;
}

typedef void (*narrow_kernel)(bf16 *, bf16 *, const bf16 *, const bf16 *, const float *, struct narrow_sizes);

template <enum narrow_finish finish> static narrow_kernel kernel_of(int tiles)
{
    return tiles == 12  ? multiply_narrow<12, finish>
           : tiles == 9 ? multiply_narrow<9, finish>
           : tiles == 6 ? multiply_narrow<6, finish>
                        : multiply_narrow<3, finish>;
}

int narrow_product(struct compute *c, int variant, enum narrow_finish finish, activation *out,
                   activation *other, const activation *inp, const void *weight, const float *bias,
                   size_t rows, int depth, int columns)
{
    const struct cuda_state *state = cuda_state(c);
    const uintptr_t addresses = (uintptr_t)out | (uintptr_t)other | (uintptr_t)inp | (uintptr_t)weight;
    const int chunks = (depth + chunk - 1) / chunk;
    const int tiles = widths[variant];
    if (c->status != VOCO_OK || rows == 0 || depth % 8 != 0 || columns % 8 != 0 || addresses % 16 != 0 ||
        chunks > most_chunks || !width_serves(state, tiles, chunks, columns)) {
        return 0;
    }
    const struct narrow_sizes sizes = {rows, depth, columns, chunks};
    const size_t shared = shared_bytes(chunks, tiles);
    const size_t by_memory =
        (state->shared_per_block + 1024) / (shared + 1024); /* the system takes 1 KiB of each */
    const size_t by_registers = (size_t)blocks_by_registers(tiles);
    const size_t together = by_memory < by_registers ? by_memory : by_registers;
    const size_t column_blocks = padded(columns, tiles) / (16 * (size_t)tiles);
    const size_t row_tiles = divide_up(rows, tile_rows);
    size_t row_blocks = (size_t)state->multiprocessors * together / column_blocks;
    row_blocks = row_blocks == 0 ? 1 : row_blocks < row_tiles ? row_blocks : row_tiles;
    const dim3 grid((unsigned)column_blocks, (unsigned)row_blocks);
    const auto kernel = finish == FINISH_GELU            ? kernel_of<FINISH_GELU>(tiles)
                        : finish == FINISH_ADD           ? kernel_of<FINISH_ADD>(tiles)
                        : finish == FINISH_GELU_GRADIENT ? kernel_of<FINISH_GELU_GRADIENT>(tiles)
                                                         : kernel_of<FINISH_PLAIN>(tiles);
    launch(c, kernel, grid, dim3(threads_per_block), shared, (bf16 *)out, (bf16 *)other, (const bf16 *)inp,
           (const bf16 *)weight, bias, sizes);
    return 1;
}
