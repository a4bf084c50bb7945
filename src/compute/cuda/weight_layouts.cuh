/* Kernels that bring a weight (out, in, taps) of floats into other layouts, and a gradient back from (out,
 * taps, in). Where 8 neighbours of what is written are there to be had, they come from strips: 8 rows of a
 * matrix, which are read along the rows, 16 bytes at a time, laid down in shared memory, and written as
 * columns, again 16 bytes at a time. */
#ifndef COMPUTE_CUDA_WEIGHT_LAYOUTS_CUH
#define COMPUTE_CUDA_WEIGHT_LAYOUTS_CUH

#include "compute/cuda/vector.cuh"

/* One entry of a launch, which derives many: blocks from first_block on. */
struct derivation {
    const float *weight;
    void *values;
    int form, out, in, taps;
    int in_tile; /* of a block, where there are no strips */
    int first_block;
};

enum {
    derive_threads = 256,
    derive_warps = derive_threads / warp_size,
    derived_at_once = 64, /* so that they fit into a launch's parameters */
    most_taps = 27,
};

struct derivations {
    int count;
    struct derivation list[derived_at_once];
};

/* The last entry that begins at this block or before. */
static __device__ __forceinline__ const derivation &derivation_of_block(const derivations &all)
{
    int low = 0, high = all.count;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (all.list[middle].first_block <= (int)blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return all.list[low];
}

/* ---- in strips ---- */

/* Of a weight whose taps move, a strip is 8 of in with all their taps: a row is one of in. Of one that is
 * flipped, it is 8 of out with 64 of (in, taps). A strip's rows lie one behind the other, strips 4 floats
 * further apart: 8 strips by 4 columns are a warp's, and lie in different banks. */
enum {
    strip_rows = 8,
    strips_across = 8, /* of a warp that writes */
    columns_across = warp_size / strips_across,
    tap_strips = 16, /* of a block */
    tap_loads = 4,   /* of a thread: tap_strips x 2 most_taps in all */
    tap_columns = 2, /* of a thread: tap_strips x most_taps in all */
    flip_columns = 64,
    flip_loads = strips_across * strip_rows * flip_columns / 4 / derive_threads,
    plain_loads = 4,
    plain_block = derive_threads * plain_loads * 8, /* elements */
};

static HOST_DEVICE constexpr int strip_pitch(int columns)
{
    return strip_rows * columns + 4;
}

enum {
    tap_floats = tap_strips * strip_pitch(most_taps),
    flip_floats = strips_across * strip_pitch(flip_columns),
    strip_floats = tap_floats > flip_floats ? tap_floats : flip_floats, /* of shared memory */
};

/* One column. */
static __device__ __forceinline__ void load_column(float (&column)[strip_rows], const float *strip,
                                                   int columns)
{
#pragma unroll
    for (int j = 0; j < strip_rows; j++) {
        column[j] = strip[j * columns];
    }
}

template <typename T, typename Values>
static __device__ __forceinline__ void store_eight(T *to, const Values &value)
{
    constexpr int width = 16 / (int)sizeof(T);
#pragma unroll
    for (int first = 0; first < strip_rows; first += width) {
        vector<T, width> v;
#pragma unroll
        for (int j = 0; j < width; j++) {
            v.value[j] = from_float<T>(value[first + j]);
        }
        store_vector(to + first, v);
    }
}

/* Eight neighbours as they lie in memory. */
template <typename T> struct eight {
    enum { width = 16 / (int)sizeof(T) };
    vector<T, width> part[strip_rows / width];

    __device__ __forceinline__ void load(const T *from)
    {
#pragma unroll
        for (int k = 0; k < strip_rows / width; k++) {
            part[k] = load_vector<width>(from + k * width);
        }
    }

    __device__ __forceinline__ float operator[](int k) const
    {
        return to_float(part[k / width].value[k % width]);
    }
};

/* A column of a block's strips of taps: number `index` of a thread, whose warp has 8 strips by 4 taps of
 * each. */
struct tap_column {
    int strip, tap;
    bool there;
};

static __device__ __forceinline__ tap_column tap_column_of(int index, int strips, int taps)
{
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int groups = (taps + columns_across - 1) / columns_across, group = warp + index * derive_warps;
    tap_column column;
    column.strip = group / groups * strips_across + lane % strips_across;
    column.tap = group % groups * columns_across + lane / strips_across;
    column.there = column.strip < strips && column.tap < taps;
    return column;
}

/* Where in shared memory the float4 k of the block's strips lies, inverse being that of the float4s of one.
 */
static __device__ __forceinline__ float4 *strip_place(float *tile, int k, unsigned inverse)
{
    const int strip = (int)((unsigned)k * inverse >> 20);
    return reinterpret_cast<float4 *>(tile + 4 * (k + strip));
}

/* 1 / (float4s of a strip), so that its product with an index of the block, shifted by 20, is exact. */
static __device__ __forceinline__ unsigned strip_inverse(int taps)
{
    return (1u << 20) / (unsigned)(2 * taps) + 1;
}

template <typename T>
static __device__ __forceinline__ void move_taps(const derivation &d, int block, float *tile)
{
    const int in_strips = d.in / strip_rows, first = block * tap_strips, taps = d.taps;
    const int strips = min((int)tap_strips, d.out * in_strips - first);
    const int pieces = strips * 2 * taps;
    const float4 *from = reinterpret_cast<const float4 *>(d.weight) + (size_t)first * (2 * taps);
    const unsigned inverse = strip_inverse(taps);
    float4 loaded[tap_loads];
#pragma unroll
    for (int i = 0; i < tap_loads; i++) {
        const int k = (int)threadIdx.x + i * derive_threads;
        if (k < pieces) {
            loaded[i] = from[k];
        }
    }
#pragma unroll
    for (int i = 0; i < tap_loads; i++) {
        const int k = (int)threadIdx.x + i * derive_threads;
        if (k < pieces) {
            *strip_place(tile, k, inverse) = loaded[i];
        }
    }
    __syncthreads();
    T *values = (T *)d.values;
#pragma unroll
    for (int k = 0; k < tap_columns; k++) {
        const tap_column c = tap_column_of(k, strips, taps);
        if (c.there) {
            const int o = (first + c.strip) / in_strips, i = (first + c.strip) % in_strips * strip_rows;
            const size_t row =
                d.form == WEIGHTS_OUT_TAP_IN ? (size_t)o * taps + c.tap : (size_t)c.tap * d.out + o;
            float value[strip_rows];
            load_column(value, tile + c.strip * strip_pitch(taps) + c.tap, taps);
            store_eight(values + row * d.in + i, value);
        }
    }
}

template <typename T> static __device__ __forceinline__ void flip(const derivation &d, int block, float *tile)
{
    const int all = d.in * d.taps, across = (all + flip_columns - 1) / flip_columns;
    const int first_out = block / across * strips_across * strip_rows;
    const int first = block % across * flip_columns;
    const int rows = min(strips_across * strip_rows, d.out - first_out),
              columns = min((int)flip_columns, all - first);
    const float *from = d.weight + (size_t)first_out * all + first;
    float4 loaded[flip_loads];
#pragma unroll
    for (int i = 0; i < flip_loads; i++) {
        const int k = (int)threadIdx.x + i * derive_threads;
        const int row = k / (flip_columns / 4), column = k % (flip_columns / 4) * 4;
        if (row < rows && column < columns) {
            loaded[i] = *reinterpret_cast<const float4 *>(from + (size_t)row * all + column);
        }
    }
#pragma unroll
    for (int i = 0; i < flip_loads; i++) {
        const int k = (int)threadIdx.x + i * derive_threads;
        const int row = k / (flip_columns / 4), column = k % (flip_columns / 4) * 4;
        if (row < rows && column < columns) {
            *reinterpret_cast<float4 *>(tile + row / strip_rows * strip_pitch(flip_columns) +
                                        row % strip_rows * flip_columns + column) = loaded[i];
        }
    }
    __syncthreads();
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const int strip = lane % strips_across, o = first_out + strip * strip_rows;
    T *values = (T *)d.values;
#pragma unroll 2
    for (int group = warp; group < flip_columns / columns_across; group += derive_warps) {
        const int column = group * columns_across + lane / strips_across, k = first + column;
        if (column < columns && o < d.out) {
            const int tap = d.taps - 1 - k % d.taps, i = k / d.taps;
            float column_values[strip_rows];
            load_column(column_values, tile + strip * strip_pitch(flip_columns) + column, flip_columns);
            store_eight(values + ((size_t)tap * d.in + i) * d.out + o, column_values);
        }
    }
}

template <typename T> static __device__ __forceinline__ void copy_plain(const derivation &d, int block)
{
    const size_t count = (size_t)d.out * d.in * d.taps, first = (size_t)block * plain_block;
    T *values = (T *)d.values;
    eight<float> loaded[plain_loads];
#pragma unroll
    for (int i = 0; i < plain_loads; i++) {
        const size_t k = first + (size_t)(threadIdx.x + i * derive_threads) * 8;
        if (k < count) {
            loaded[i].load(d.weight + k);
        }
    }
#pragma unroll
    for (int i = 0; i < plain_loads; i++) {
        const size_t k = first + (size_t)(threadIdx.x + i * derive_threads) * 8;
        if (k < count) {
            store_eight(values + k, loaded[i]);
        }
    }
}

/* Entries of which 8 neighbours can be written at once. */
template <typename T>
static __global__ void __launch_bounds__(derive_threads)
    derive_strips(const __grid_constant__ derivations all)
{
    __shared__ __align__(16) float tile[strip_floats];
    const derivation &d = derivation_of_block(all);
    const int block = (int)blockIdx.x - d.first_block;
    if (d.form == WEIGHTS_PLAIN) {
        copy_plain<T>(d, block);
    } else if (d.form == WEIGHTS_FLIPPED) {
        flip<T>(d, block, tile);
    } else {
        move_taps<T>(d, block, tile);
    }
}

/* dweight (out, in, taps) += gradient (out, taps, in); a block has tap_strips strips. */
template <typename T>
static __global__ void __launch_bounds__(derive_threads, 4)
    add_strips(float *dweight, const T *gradient, int out, int in, int taps)
{
    __shared__ __align__(16) float tile[tap_floats];
    const int in_strips = in / strip_rows, first = (int)blockIdx.x * tap_strips;
    const int strips = min((int)tap_strips, out * in_strips - first);
    const int pieces = strips * 2 * taps;
    float4 *to = reinterpret_cast<float4 *>(dweight) + (size_t)first * (2 * taps);
    const unsigned inverse = strip_inverse(taps);
    float4 sum[tap_loads];
#pragma unroll
    for (int i = 0; i < tap_loads; i++) {
        const int k = (int)threadIdx.x + i * derive_threads;
        if (k < pieces) {
            sum[i] = to[k];
        }
    }
    eight<T> value[tap_columns];
#pragma unroll
    for (int k = 0; k < tap_columns; k++) {
        const tap_column c = tap_column_of(k, strips, taps);
        if (c.there) {
            const int o = (first + c.strip) / in_strips, i = (first + c.strip) % in_strips * strip_rows;
            value[k].load(gradient + ((size_t)o * taps + c.tap) * in + i);
        }
    }
#pragma unroll
    for (int k = 0; k < tap_columns; k++) {
        const tap_column c = tap_column_of(k, strips, taps);
        if (c.there) {
#pragma unroll
            for (int j = 0; j < strip_rows; j++) {
                tile[c.strip * strip_pitch(taps) + j * taps + c.tap] = value[k][j];
            }
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < tap_loads; i++) {
        const int k = (int)threadIdx.x + i * derive_threads;
        if (k < pieces) {
            const float4 more = *strip_place(tile, k, inverse);
            sum[i].x += more.x;
            sum[i].y += more.y;
            sum[i].z += more.z;
            sum[i].w += more.w;
            to[k] = sum[i];
        }
    }
}

/* ---- of any sizes ---- */

enum {
    tile_bytes = 32,    /* of neighbours along out: the least that memory writes at once */
    tile_row = 27 * 32, /* (in, taps) of a tile, at most */
    columns = 64,
};

/* Of in, that a block has. */
static int in_tile_of(int taps)
{
    return taps == 1 ? 256 : taps <= 8 ? 64 : 32;
}

/* A block turns a few of out, with in_tile of in and all taps, around in shared memory: both sides are read
 * and written along their rows. */
template <typename T>
static __global__ void __launch_bounds__(derive_threads) derive(const __grid_constant__ derivations all)
{
    enum { out_tile = tile_bytes / (int)sizeof(T), pitch = tile_row + 8 / (int)sizeof(T) + 1 };
    __shared__ T tile[out_tile][pitch];
    const int lane = (int)threadIdx.x % warp_size, warp = (int)threadIdx.x / warp_size;
    const derivation &d = derivation_of_block(all);
    const int block = (int)blockIdx.x - d.first_block, across = (d.in + d.in_tile - 1) / d.in_tile;
    const int first_out = block / across * out_tile, first_in = block % across * d.in_tile;
    const int outs = min(out_tile, d.out - first_out), ins = min(d.in_tile, d.in - first_in);
    const int taps = d.taps, form = d.form, row = ins * taps;
    T *values = (T *)d.values;
    for (int o = warp; o < outs; o += derive_warps) {
        const size_t from = ((size_t)(first_out + o) * d.in + first_in) * taps;
#pragma unroll 9
        for (int k = lane; k < row; k += warp_size) {
            const T value = from_float<T>(d.weight[from + k]);
            if (form == WEIGHTS_PLAIN) {
                values[from + k] = value;
            } else {
                tile[o][k] = value;
            }
        }
    }
    __syncthreads();
    if (form == WEIGHTS_FLIPPED) { /* neighbours along out */
        const int o = lane % out_tile;
        for (int k = warp * (warp_size / out_tile) + lane / out_tile; k < row;
             k += derive_warps * (warp_size / out_tile)) {
            const size_t tap = taps - 1 - k % taps, i = first_in + k / taps;
            if (o < outs) {
                values[(tap * d.in + i) * d.out + first_out + o] = tile[o][k];
            }
        }
    } else if (form != WEIGHTS_PLAIN) { /* along in */
        for (int k = warp; k < outs * taps; k += derive_warps) {
            const int o = k / taps, tap = k % taps;
            const size_t to = form == WEIGHTS_OUT_TAP_IN ? (size_t)(first_out + o) * taps + tap
                                                         : (size_t)tap * d.out + first_out + o;
            for (int i = lane; i < ins; i += warp_size) {
                values[to * d.in + first_in + i] = tile[o][i * taps + tap];
            }
        }
    }
}

/* A block turns (taps, 64 of in) of one of out around in shared memory, so that both sides are read and
 * written along their rows. */
template <typename T>
static __global__ void add_out_tap_in(float *dweight, const T *gradient, int in, int taps)
{
    __shared__ float tile[most_taps][columns + 1];
    const size_t out = blockIdx.y;
    const int first = (int)blockIdx.x * columns, width = min(columns, in - first);
    for (int k = (int)threadIdx.x; k < taps * columns; k += (int)blockDim.x) {
        const int tap = k / columns, i = k % columns;
        if (i < width) {
            tile[tap][i] =
                to_float(gradient[(out * (size_t)taps + (size_t)tap) * (size_t)in + (size_t)(first + i)]);
        }
    }
    __syncthreads();
    for (int k = (int)threadIdx.x; k < taps * width; k += (int)blockDim.x) {
        dweight[(out * (size_t)in + (size_t)first) * (size_t)taps + (size_t)k] += tile[k % taps][k / taps];
    }
}

#endif
