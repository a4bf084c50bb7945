#include "compute/cuda/leaves.cuh"
#include "compute/cuda/vector.cuh"

/* out = (To)inp */
template <typename To, typename From, int vector_width> struct conversion {
    enum { width = vector_width };

    To *out;
    const From *inp;

    __device__ void operator()(size_t k) const
    {
        out[k] = from_float<To>(to_float(inp[k]));
    }

    __device__ void vectors(size_t k) const
    {
        const vector<From, width> from = load_vector<width>(inp + k);
        vector<To, width> to;
#pragma unroll
        for (int i = 0; i < width; i++) {
            to.value[i] = from_float<To>(to_float(from.value[i]));
        }
        store_vector(out + k, to);
    }
};

template <typename T, int vector_width> struct addition {
    enum { width = vector_width };

    T *out;
    const T *a, *b;

    __device__ void operator()(size_t k) const
    {
        out[k] = from_float<T>(to_float(a[k]) + to_float(b[k]));
    }

    __device__ void vectors(size_t k) const
    {
        const vector<T, width> x = load_vector<width>(a + k), y = load_vector<width>(b + k);
        vector<T, width> sum;
#pragma unroll
        for (int i = 0; i < width; i++) {
            sum.value[i] = from_float<T>(to_float(x.value[i]) + to_float(y.value[i]));
        }
        store_vector(out + k, sum);
    }
};

template <int vector_width> struct masking {
    enum { width = vector_width };

    float *out;
    const float *inp, *mask;

    static __device__ float masked(float m, float x)
    {
        return m == 0 ? 0 : m * x;
    }

    __device__ void operator()(size_t k) const
    {
        out[k] = masked(mask[k], inp[k]);
    }

    __device__ void vectors(size_t k) const
    {
        const vector<float, width> m = load_vector<width>(mask + k), x = load_vector<width>(inp + k);
        vector<float, width> result;
#pragma unroll
        for (int i = 0; i < width; i++) {
            result.value[i] = masked(m.value[i], x.value[i]);
        }
        store_vector(out + k, result);
    }
};

template <typename To, typename From>
static void convert(struct compute *c, To *out, const From *inp, size_t count)
{
    if (all_aligned(out, inp)) {
        const conversion<To, From, 4> four = {out, inp};
        launch_for_elements(c, four, count);
    } else {
        const conversion<To, From, 1> one = {out, inp};
        launch_for_elements(c, one, count);
    }
}

void cuda_activations_from_reals(struct compute *c, activation *out, const float *inp, size_t count)
{
    if (c->precision == PRECISION_BF16) {
        convert(c, (bf16 *)out, inp, count);
    } else {
        c->copy(c, out, inp, count * sizeof(float));
    }
}

void cuda_reals_from_activations(struct compute *c, float *out, const activation *inp, size_t count)
{
    if (c->precision == PRECISION_BF16) {
        convert(c, out, (const bf16 *)inp, count);
    } else {
        c->copy(c, out, inp, count * sizeof(float));
    }
}

void cuda_add(struct compute *c, activation *out, const activation *a, const activation *b, size_t count)
{
    const struct written_ranges written(c, {range_of(c, out, count)});
    with_vectors(c, 0, all_aligned(out, a, b), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        const addition<T, decltype(kind)::width> sum = {(T *)out, (const T *)a, (const T *)b};
        launch_for_elements(c, sum, count);
    });
}

void cuda_apply_mask(struct compute *c, float *out, const float *inp, const float *mask, size_t count)
{
    if (all_aligned(out, inp, mask)) {
        const masking<4> four = {out, inp, mask};
        launch_for_elements(c, four, count);
    } else {
        const masking<1> one = {out, inp, mask};
        launch_for_elements(c, one, count);
    }
}
