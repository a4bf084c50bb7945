/* Attention's gradient on tensor cores: the sums of the bias table, of the scores' gradient in the strip.
 *
 * A row of queries and a row of keys (whose d and h are the same) give a matrix of 8 x 8, of which the table
 * takes sums along diagonals. All those of the same difference in d and h are added up first, four at a time,
 * by a product with ones and zeros, and the diagonals are summed when the block ends. */
#ifndef COMPUTE_CUDA_WINDOW_TABLE_SUMS_CUH
#define COMPUTE_CUDA_WINDOW_TABLE_SUMS_CUH

#include "compute/cuda/window_queries.cuh"

/* For each row of a plane that a lane asks for in add_to_table: its query there, counted from the plane's
 * first; or one that is beyond all others. The eighth lane, whose sums nobody asks for, has the query of the
 * seventh: a row of its own would lie in the banks of another. */
struct plane_rows {
    int query[side];
};

static __device__ __forceinline__ plane_rows rows_of_planes(const query_list &list)
{
    const int lane = (int)threadIdx.x % warp_size, w = min(lane % 8, side - 1);
    const int rank_of_w = list.in_w >> w & 1 ? __popc(list.in_w & bits_below(w)) : slots;
    const uint32_t ranks = list.h_ranks >> lane / 16 * 4;
    plane_rows rows;
#pragma unroll
    for (int h = 0; h < side; h++) {
        const int rank = (int)(ranks >> 4 * h & 15);
        rows.query[h] = rank < side ? rank * list.row_length + rank_of_w : slots;
    }
    return rows;
}

/* Where the strip has them, as offsets in bytes, for the plane of queries from `first` on; the row of zeros
 * for what there is not. */
template <int strip_row>
static __device__ __forceinline__ plane_rows rows_in_strip(const plane_rows &rows, const query_list &list,
                                                           int first)
{
    const int start = first % strip_rows, queries = list.count - first;
    plane_rows in_strip;
#pragma unroll
    for (int h = 0; h < side; h++) {
        const unsigned row = (unsigned)(start + rows.query[h]);
        const unsigned wrapped = min(row, row - strip_rows); /* of unsigned numbers */
        in_strip.query[h] =
            (rows.query[h] < queries ? (int)wrapped : strip_rows) * strip_row * (int)sizeof(bf16);
    }
    return in_strip;
}

/* The products' sums of a difference in d. */
struct table_tiles {
    float sum[side][4];
};

static __device__ __forceinline__ void load_tiles(table_tiles *t, const float4 from[side][warp_size])
{
#pragma unroll
    for (int apart = 0; apart < side; apart++) {
        const float4 four = from[apart][threadIdx.x % warp_size];
        t->sum[apart][0] = four.x;
        t->sum[apart][1] = four.y;
        t->sum[apart][2] = four.z;
        t->sum[apart][3] = four.w;
    }
}

static __device__ __forceinline__ void store_tiles(float4 to[side][warp_size], const table_tiles *t)
{
#pragma unroll
    for (int apart = 0; apart < side; apart++) {
        const float *four = t->sum[apart];
        to[apart][threadIdx.x % warp_size] = make_float4(four[0], four[1], four[2], four[3]);
    }
}

/* A plane of queries and some planes of keys, with the sums of each: adds the rows' 8 x 8 matrices to those
 * of the same difference in h. The sums have the differences `apart` in rows 0 to 7, and -apart in rows 8 to
 * 15 (both have halves of difference 0): a row of sums is a place w of queries, a column one of keys. Both
 * halves of the columns of the left-hand side, and so two rows of the planes, are added. All planes of keys
 * at once, so that products wait less for each other. */
template <int planes>
static __device__ __forceinline__ void add_to_table(table_tiles t[planes], const char *strip,
                                                    const char *zeros, const plane_rows &in_strip,
                                                    const int key_plane[planes])
{
    const int lane = (int)threadIdx.x % warp_size, below = lane / 8 % 2, next = lane / 16;
    const uint32_t one = lane / 8 == lane % 4 ? one_bits << lane / 4 % 2 * 16 : 0;
    const uint32_t ones[2] = {one, one};
    int row[side]; /* with what of_pair adds: queries in row h above; below keys in row h, queries in row k */
#pragma unroll
    for (int h = 0; h < side; h++) {
        row[h] = below ? h * 16 : in_strip.query[h];
    }
#pragma unroll
    for (int k = 0; k < side; k += 2) {
        const char *of_pair = strip + next * 16 + (below ? in_strip.query[k] : k * 16);
#pragma unroll
        for (int apart = 0; apart < side; apart++) {
            const int pairs = apart > 0 ? side - apart : (side + 1) / 2;
            const int odd = apart > 0 && k + 1 == pairs;
            if (k < pairs) {
                const char *from = of_pair + row[apart + k];
                if (apart == 0) {
                    from = strip + (next + k) * 16 +
                           (below ? in_strip.query[pairs + k] + pairs * 16 : in_strip.query[k]);
                }
#pragma unroll
                for (int p = 0; p < planes; p++) {
                    uint32_t ds[4];
                    const char *of_plane = from + key_plane[p] * side * 16;
                    load_matrices(ds, odd && next ? zeros : of_plane);
                    multiply_add_bf16(t[p].sum[apart], ds, ones);
                }
            }
        }
    }
}

/* The table's sums of the block, to scratch memory. */
template <int threads>
static __device__ __forceinline__ void store_table_sums(float *partials,
                                                        const float4 table_sums[table_side][side][warp_size])
{
    for (int r = (int)threadIdx.x; r < relative_table_rows; r += threads) {
        const int d = r / table_plane, h = r / table_side % table_side - (side - 1);
        const int w = r % table_side - (side - 1);
        const float4 *from = table_sums[d][h < 0 ? -h : h];
        float sum = 0;
        for (int key = max(-w, 0); key < min(side - w, side); key++) {
            const float *four = (const float *)&from[(key + w) * 4 + key / 2] + key % 2;
            sum += (h >= 0 ? four[0] : 0) + (h <= 0 ? four[2] : 0);
        }
        partials[r] = sum;
    }
}

#endif
