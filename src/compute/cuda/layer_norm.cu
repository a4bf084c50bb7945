#include "compute/cuda/channel_sums.cuh"
#include "compute/cuda/leaves.cuh"

/* Rows are shared by `lanes` neighbouring threads of a warp, a power of two: lane l has the groups l, l +
 * lanes ... of `width` channels. `parts` groups at most are kept in registers between the sums and the
 * result; where a row has more of them, parts is 0 and they are read again. The network's channels are 3 x
 * 2^k groups: 3 parts leave no lane without work. */
enum { row_threads = 256, row_warps = row_threads / warp_size };

template <typename T, int width, int parts> struct row_values {
    vector<T, width> kept[parts > 0 ? parts : 1];

    __device__ __forceinline__ void load(const T *row, int lane, int lanes, int groups)
    {
#pragma unroll
        for (int i = 0; i < parts; i++) {
            if (lane + i * lanes < groups) {
                kept[i] = load_vector<width>(row + (lane + i * lanes) * width);
            }
        }
    }

    __device__ __forceinline__ vector<T, width> part(const T *row, int i, int group) const
    {
        return parts > 0 ? kept[parts > 0 ? i : 0] : load_vector<width>(row + group * width);
    }
};

/* Over the lanes of a row, in each of them. */
static __device__ __forceinline__ float row_sum(float x, int lanes)
{
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(whole_warp, x, offset);
    }
    return x;
}

/* `width` neighbours of weight or bias, in as few loads as can be: they are read again for every row. */
template <int width> static __device__ __forceinline__ vector<float, width> load_factors(const float *from)
{
    constexpr int at_once = width % 4 == 0 ? 4 : 1;
    vector<float, width> result;
#pragma unroll
    for (int k = 0; k < width; k += at_once) {
        const vector<float, at_once> part = load_vector<at_once>(from + k);
#pragma unroll
        for (int i = 0; i < at_once; i++) {
            result.value[k + i] = part.value[i];
        }
    }
    return result;
}

/* How a grid shares rows. */
struct row_layout {
    size_t rows;
    int channels;
    int groups; /* of `width` channels, in a row; a thread has `count` of them */
    int lanes, count;
};

/* The first row of a warp of the grid, and how far it is to its next ones. */
static __device__ __forceinline__ size_t first_row(const row_layout &l)
{
    return ((size_t)blockIdx.x * row_warps + threadIdx.x / warp_size) * (warp_size / l.lanes);
}

static __device__ __forceinline__ size_t row_step(const row_layout &l)
{
    return (size_t)gridDim.x * row_warps * (warp_size / l.lanes);
}

template <typename T, int width, int parts>
static __global__ void __launch_bounds__(row_threads)
    normalise_rows(T *out, float *mean, float *rstd, const T *inp, const float *weight, const float *bias,
                   row_layout l)
{
    const int lane = (int)threadIdx.x % l.lanes, own = (int)threadIdx.x % warp_size / l.lanes;
    constexpr int unrolled = parts > 0 ? parts : 1;
    const int count = parts > 0 ? unrolled : l.count;
    const float share = 1.0f / (float)l.channels;
    for (size_t first = first_row(l); first < l.rows; first += row_step(l)) {
        const size_t row = first + own;
        const int groups = row < l.rows ? l.groups : 0; /* the warp's last rows may not be there */
        const T *from = inp + row * l.channels;
        row_values<T, width, parts> x;
        float sum = 0, square = 0;
        x.load(from, lane, l.lanes, groups);
#pragma unroll unrolled
        for (int i = 0; i < count; i++) {
            const int group = lane + i * l.lanes;
            if (group < groups) {
                const vector<T, width> v = x.part(from, i, group);
#pragma unroll
                for (int k = 0; k < width; k++) {
                    sum += element_of(v, k);
                }
            }
        }
        const float average = row_sum(sum, l.lanes) * share;
#pragma unroll unrolled
        for (int i = 0; i < count; i++) {
            const int group = lane + i * l.lanes;
            if (group < groups) {
                const vector<T, width> v = x.part(from, i, group);
#pragma unroll
                for (int k = 0; k < width; k++) {
                    const float distance = element_of(v, k) - average;
                    square += distance * distance;
                }
            }
        }
        const float variance = row_sum(square, l.lanes) * share;
        const float scale = 1 / sqrtf(variance + (float)normalisation_epsilon);
#pragma unroll unrolled
        for (int i = 0; i < count; i++) {
            const int group = lane + i * l.lanes;
            if (group < groups) {
                const vector<T, width> v = x.part(from, i, group);
                vector<float, width> factor = {}, shift = {};
                vector<T, width> result;
                if (weight != NULL) {
                    factor = load_factors<width>(weight + group * width);
                    shift = load_factors<width>(bias + group * width);
                }
#pragma unroll
                for (int k = 0; k < width; k++) {
                    float normal = (element_of(v, k) - average) * scale;
                    if (weight != NULL) {
                        normal = normal * factor.value[k] + shift.value[k];
                    }
                    result.value[k] = from_float<T>(normal);
                }
                store_vector(out + row * l.channels + group * width, result);
            }
        }
        if (groups > 0 && lane == 0) {
            mean[row] = average;
            rstd[row] = scale;
        }
    }
}

/* What a thread has of the gradients of weight and bias, at its parts' channels. */
template <int width, int parts> struct affine_gradients {
    float weight[parts > 0 ? parts : 1][width], bias[parts > 0 ? parts : 1][width];
};

/* partials (2, blocks, channels): the block's sums of the gradients of weight and bias. */
template <int width, int parts>
static __device__ void write_affine_partials(double *partials, const affine_gradients<width, parts> &sums,
                                             const row_layout &l)
{
    dynamic_shared(double, shared);
    const int rows = row_threads / l.lanes;
    for (int i = 0; i < parts; i++) {
        const int channel = ((int)threadIdx.x + i * l.lanes) * width;
        double value[2 * width];
#pragma unroll
        for (int k = 0; k < width; k++) {
            value[k] = sums.weight[i][k];
            value[width + k] = sums.bias[i][k];
        }
        sum_over_rows<2 * width>(value, l.lanes, rows, rows / 2, shared);
        if ((int)threadIdx.x < l.lanes && channel < l.channels) {
#pragma unroll
            for (int k = 0; k < width; k++) {
                partials[(size_t)blockIdx.x * l.channels + channel + k] = value[k];
                partials[((size_t)gridDim.x + blockIdx.x) * l.channels + channel + k] = value[width + k];
            }
        }
    }
}

/* With xhat = (x - mean) rstd and g = dout weight: dinp = rstd (g - mean(g) - xhat mean(g xhat)), + residual
 * where it is not NULL. partials: NULL, or where parts of the gradients of weight and bias go; 3 parts at
 * most have registers for them. */
template <typename T, int width, int parts, int affine>
static __global__ void __launch_bounds__(row_threads)
    rows_backward(T *dinp, double *partials, const T *dout, const T *inp, const float *mean,
                  const float *rstd, const float *weight, const T *residual, row_layout l)
{
    const int lane = (int)threadIdx.x % l.lanes, own = (int)threadIdx.x % warp_size / l.lanes;
    constexpr int unrolled = parts > 0 ? parts : 1;
    const int count = parts > 0 ? unrolled : l.count;
    const float share = 1.0f / (float)l.channels;
    const bool weighted = affine || weight != NULL;
    affine_gradients<width, affine ? parts : 0> sums = {};
    for (size_t first = first_row(l); first < l.rows; first += row_step(l)) {
        const size_t row = first + own;
        const int groups = row < l.rows ? l.groups : 0;
        const T *from = inp + row * l.channels, *gradient = dout + row * l.channels;
        const float average = groups > 0 ? mean[row] : 0, scale = groups > 0 ? rstd[row] : 0;
        const T *beside = residual + (residual != NULL ? row * l.channels : 0);
        row_values<T, width, parts> x, dy;
        row_values<T, width, parts <= 3 ? parts : 0> past; /* early where there are registers to wait in */
        float g_sum = 0, g_xhat_sum = 0;
        x.load(from, lane, l.lanes, groups);
        dy.load(gradient, lane, l.lanes, groups);
        past.load(beside, lane, l.lanes, residual != NULL ? groups : 0);
#pragma unroll unrolled
        for (int i = 0; i < count; i++) {
            const int group = lane + i * l.lanes;
            if (group < groups) {
                const vector<T, width> v = x.part(from, i, group), d = dy.part(gradient, i, group);
                vector<float, width> factor = {};
                if (weighted) {
                    factor = load_factors<width>(weight + group * width);
                }
#pragma unroll
                for (int k = 0; k < width; k++) {
                    const float xhat = (element_of(v, k) - average) * scale, dvalue = element_of(d, k);
                    const float g = weighted ? dvalue * factor.value[k] : dvalue;
                    g_sum += g;
                    g_xhat_sum += g * xhat;
                    if (affine) {
                        sums.weight[affine ? i : 0][k] += dvalue * xhat;
                        sums.bias[affine ? i : 0][k] += dvalue;
                    }
                }
            }
        }
        const float g_mean = row_sum(g_sum, l.lanes) * share,
                    g_xhat_mean = row_sum(g_xhat_sum, l.lanes) * share;
#pragma unroll unrolled
        for (int i = 0; i < count; i++) {
            const int group = lane + i * l.lanes;
            if (group < groups) {
                const vector<T, width> v = x.part(from, i, group), d = dy.part(gradient, i, group);
                vector<T, width> result, added = {};
                vector<float, width> factor = {};
                if (weighted) {
                    factor = load_factors<width>(weight + group * width);
                }
                if (residual != NULL) {
                    added = past.part(beside, i, group);
                }
#pragma unroll
                for (int k = 0; k < width; k++) {
                    const float xhat = (element_of(v, k) - average) * scale, dvalue = element_of(d, k);
                    const float g = weighted ? dvalue * factor.value[k] : dvalue;
                    result.value[k] =
                        from_float<T>(scale * (g - g_mean - xhat * g_xhat_mean) + element_of(added, k));
                }
                store_vector(dinp + row * l.channels + group * width, result);
            }
        }
    }
    if (affine) {
        write_affine_partials<width, affine ? parts : 0>(partials, sums, l);
    }
}

/* The gradients of weight and bias as sums over rows as if they were space: by themselves where rows are
 * long, and the end of what rows_backward begins. */
template <typename T, int vector_width> struct affine_sum {
    enum { width = vector_width, sums = 2, unroll = 2, blocks = 4 };
    struct elements {
        vector<T, width> dout, x;
        float mean, rstd;
    };
    struct state {
        float weight[width], bias[width];
    };

    float *dweight, *dbias;
    const T *dout, *inp;
    const float *mean, *rstd;
    int channels;

    __device__ elements load(size_t row, int channel) const
    {
        elements e;
        e.dout = load_vector<width>(dout + row * channels + channel);
        e.x = load_vector<width>(inp + row * channels + channel);
        e.mean = mean[row];
        e.rstd = rstd[row];
        return e;
    }

    __device__ void begin(state &s, int, int, const elements &) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.weight[k] = s.bias[k] = 0;
        }
    }

    __device__ void add(state &s, const elements &e) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float d = element_of(e.dout, k);
            s.weight[k] += d * ((element_of(e.x, k) - e.mean) * e.rstd);
            s.bias[k] += d;
        }
    }

    __device__ void total(double total[][width], const state &s) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            total[0][k] = s.weight[k];
            total[1][k] = s.bias[k];
        }
    }

    __device__ void finish(int, int channel, const double *total) const
    {
        dweight[channel] += (float)total[0];
        dbias[channel] += (float)total[1];
    }
};

/* ---- the host's side ---- */

/* Few lanes, so that each has 3 parts where it can. */
static row_layout row_layout_of(size_t rows, int channels, int width)
{
    row_layout l = {};
    l.rows = rows;
    l.channels = channels;
    l.groups = channels / width;
    l.lanes = 1;
    while (l.lanes < warp_size && 3 * l.lanes < l.groups) {
        l.lanes *= 2;
    }
    l.count = (int)divide_up((size_t)l.groups, (size_t)l.lanes);
    return l;
}

/* Each warp has its rows once. */
static dim3 row_grid(const row_layout &l)
{
    return dim3((unsigned)divide_up(l.rows, (size_t)row_threads / l.lanes));
}

/* Where blocks leave partial sums: no more of them than run at a time, of which each warp has a few rows. */
static dim3 summing_row_grid(const struct compute *c, const row_layout &l)
{
    const size_t blocks = divide_up(row_grid(l).x, 4), most = 2 * (size_t)cuda_state(c)->multiprocessors;
    return dim3((unsigned)(blocks < most ? blocks : most));
}

/* How many parts a kernel keeps. */
template <int value> struct parts_kind {
    enum { parts = value };
};

template <typename Operation> static void with_parts(int count, Operation operation)
{
    if (count <= 3) {
        operation(parts_kind<3>());
    } else if (count <= 6) {
        operation(parts_kind<6>());
    } else {
        operation(parts_kind<0>());
    }
}

void cuda_layer_norm_forward(struct compute *c, activation *out, float *mean, float *rstd,
                             const activation *inp, const float *weight, const float *bias, size_t rows,
                             int channels)
{
    const struct written_ranges written(
        c, {range_of(c, out, rows * (size_t)channels), range_of(mean, rows), range_of(rstd, rows)});
    with_vectors(c, (size_t)channels, all_aligned(out, inp, weight, bias), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        const row_layout l = row_layout_of(rows, channels, decltype(kind)::width);
        with_parts(l.count, [&](auto kept) {
            launch(c, normalise_rows<T, decltype(kind)::width, decltype(kept)::parts>, row_grid(l),
                   dim3(row_threads), 0, (T *)out, mean, rstd, (const T *)inp, weight, bias, l);
        });
    });
}

/* Both gradients in one pass: rows are short enough for a thread to keep its sums in registers. */
template <typename T, int width>
static void affine_backward(struct compute *c, T *dinp, const affine_sum<T, width> &sum, const float *weight,
                            const T *residual, const row_layout &l)
{
    const dim3 grid = summing_row_grid(c, l);
    const size_t shared = (size_t)row_threads / 2 * 2 * width * sizeof(double);
    const size_t count = (size_t)2 * grid.x * l.channels;
    double *partials = (double *)leaf_input(c, count * sizeof *partials);
    struct channel_layout finish = {};
    launch(c, rows_backward<T, width, 3, 1>, grid, dim3(row_threads), shared, dinp, partials, sum.dout,
           sum.inp, sum.mean, sum.rstd, weight, residual, l);
    finish.n = 1;
    finish.channels = l.channels;
    finish.chunks = (int)grid.x;
    leaf_begin(c);
    launch_finish(c, sum, &finish, partials);
    leaf_end(c, {range_of(sum.dweight, (size_t)l.channels),
                 range_of(sum.dbias, (size_t)l.channels),
                 {partials, count * sizeof *partials}});
}

/* dinp may be dout: the gradients of weight and bias are summed first. */
template <typename T, int width>
static void separate_backward(struct compute *c, T *dinp, const affine_sum<T, width> &sum,
                              const float *weight, const T *residual, const row_layout &l)
{
    if (weight != NULL) {
        double *partials =
            (double *)cuda_scratch(c, channel_sums_scratch(c, width, sum.sums, 1, l.rows, l.channels));
        const struct written_ranges written(
            c, {range_of(sum.dweight, (size_t)l.channels), range_of(sum.dbias, (size_t)l.channels)});
        channel_sums(c, sum, partials, 1, l.rows, l.channels);
    }
    with_parts(l.count, [&](auto kept) {
        launch(c, rows_backward<T, width, decltype(kept)::parts, 0>, row_grid(l), dim3(row_threads), 0, dinp,
               (double *)NULL, sum.dout, sum.inp, sum.mean, sum.rstd, weight, residual, l);
    });
}

void cuda_layer_norm_backward(struct compute *c, activation *dinp, float *dweight, float *dbias,
                              const activation *dout, const activation *inp, const float *mean,
                              const float *rstd, const float *weight, const activation *residual, size_t rows,
                              int channels)
{
    if (rows == 0) {
        return;
    }
    const struct written_ranges written(c, {range_of(c, dinp, rows * (size_t)channels)});
    with_vectors(c, (size_t)channels, all_aligned(dinp, dout, inp, residual, weight), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        const row_layout l = row_layout_of(rows, channels, decltype(kind)::width);
        affine_sum<T, decltype(kind)::width> sum = {};
        sum.dweight = dweight;
        sum.dbias = dbias;
        sum.dout = (const T *)dout;
        sum.inp = (const T *)inp;
        sum.mean = mean;
        sum.rstd = rstd;
        sum.channels = channels;
        if (weight != NULL && l.count <= 3) {
            affine_backward(c, (T *)dinp, sum, weight, (const T *)residual, l);
        } else {
            separate_backward(c, (T *)dinp, sum, weight, (const T *)residual, l);
        }
    });
}
