#include "compute/cuda/vector.cuh"

template <int vector_width> struct averaging {
    enum { width = vector_width };

    float *average, *previous; /* previous: NULL where it is not wanted */
    const float *value;
    float decay, rest; /* 1 - decay */

    __device__ void operator()(size_t k) const
    {
        const float before = average[k];
        if (previous != NULL) {
            previous[k] = before;
        }
        average[k] = decay * before + rest * value[k];
    }

    __device__ void vectors(size_t k) const
    {
        const vector<float, width> before = load_vector<width>(average + k),
                                   x = load_vector<width>(value + k);
        vector<float, width> after;
#pragma unroll
        for (int i = 0; i < width; i++) {
            after.value[i] = decay * before.value[i] + rest * x.value[i];
        }
        if (previous != NULL) {
            store_vector(previous + k, before);
        }
        store_vector(average + k, after);
    }
};

void cuda_moving_average(struct compute *c, float *average, float *previous, const float *value, float decay,
                         size_t count)
{
    const float rest = (float)(1 - (double)decay);
    if (all_aligned(average, previous, value)) {
        const averaging<4> four = {average, previous, value, decay, rest};
        launch_for_elements(c, four, count);
    } else {
        const averaging<1> one = {average, previous, value, decay, rest};
        launch_for_elements(c, one, count);
    }
}

template <typename T, int vector_width> struct ordered_sum {
    enum { width = vector_width };

    float *out;
    const T *parts;
    int n;
    size_t count; /* from one part to the next */
    float scale;

    __device__ void operator()(size_t k) const
    {
        float sum = to_float(parts[k]);
        for (int part = 1; part < n; part++) {
            sum += to_float(parts[part * count + k]);
        }
        out[k] = sum * scale;
    }

    __device__ void vectors(size_t k) const
    {
        vector<float, width> sum;
        const vector<T, width> first = load_vector<width>(parts + k);
#pragma unroll
        for (int i = 0; i < width; i++) {
            sum.value[i] = to_float(first.value[i]);
        }
        for (int part = 1; part < n; part++) {
            const vector<T, width> more = load_vector<width>(parts + part * count + k);
#pragma unroll
            for (int i = 0; i < width; i++) {
                sum.value[i] += to_float(more.value[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < width; i++) {
            sum.value[i] *= scale;
        }
        store_vector(out + k, sum);
    }
};

void cuda_sum_in_order(struct compute *c, float *out, const activation *parts, int n, size_t count,
                       float scale)
{
    with_vectors(c, count, all_aligned(out, parts), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        const ordered_sum<T, decltype(kind)::width> sum = {out, (const T *)parts, n, count, scale};
        launch_for_elements(c, sum, count);
    });
}

void cuda_zero(struct compute *c, float *x, size_t count)
{
    cuda_fill_zero(c, x, count * sizeof *x);
}

enum { square_threads = 256, square_blocks = 1024 };

/* The sum over the block's threads, in the first of them. */
static __device__ double block_sum(double x)
{
    __shared__ double of_warp[square_threads / warp_size];
    x = warp_sum(x);
    if (threadIdx.x % warp_size == 0) {
        of_warp[threadIdx.x / warp_size] = x;
    }
    __syncthreads();
    x = 0;
    for (int k = 0; threadIdx.x == 0 && k < square_threads / warp_size; k++) {
        x += of_warp[k];
    }
    return x;
}

/* The grid's size depends on count alone, and so does the order of the sum. */
template <int width> static __global__ void sum_squares(double *partials, const float *x, size_t count)
{
    const size_t step = (size_t)gridDim.x * blockDim.x, whole = count / width;
    const size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    double sum = 0;
#pragma unroll 4
    for (size_t k = thread; k < whole; k += step) {
        const vector<float, width> v = load_vector<width>(x + k * width);
#pragma unroll
        for (int i = 0; i < width; i++) {
            sum += (double)v.value[i] * v.value[i];
        }
    }
    if (thread < count - whole * width) {
        const double rest = x[whole * width + thread];
        sum += rest * rest;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partials[blockIdx.x] = sum;
    }
}

static __global__ void sum_partials(double *result, const double *partials, int count)
{
    double sum = 0;
    for (int k = (int)threadIdx.x; k < count; k += square_threads) {
        sum += partials[k];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        *result = sum;
    }
}

void cuda_sum_of_squares(struct compute *c, double *sum, const float *x, size_t count)
{
    const size_t most = divide_up(count, square_threads);
    const int blocks = (int)(most < square_blocks ? most : (size_t)square_blocks);
    double *partials = (double *)cuda_scratch(c, square_blocks * sizeof *partials);
    if (c->status != VOCO_OK) {
        return;
    }
    launch(c, all_aligned(x) ? sum_squares<4> : sum_squares<1>, dim3((unsigned)blocks), dim3(square_threads),
           0, partials, x, count);
    launch(c, sum_partials, dim3(1), dim3(square_threads), 0, sum, (const double *)partials, blocks);
}
