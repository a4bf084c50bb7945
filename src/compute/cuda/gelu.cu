#include "compute/cuda/gelu.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/vector.cuh"

template <typename T, int vector_width> struct gelu_values {
    enum { width = vector_width };

    T *out;
    const T *inp;

    __device__ void operator()(size_t k) const
    {
        out[k] = from_float<T>(gelu<T>(to_float(inp[k])));
    }

    __device__ void vectors(size_t k) const
    {
        vector<T, width> x = load_vector<width>(inp + k);
#pragma unroll
        for (int i = 0; i < width; i++) {
            x.value[i] = from_float<T>(gelu<T>(to_float(x.value[i])));
        }
        store_vector(out + k, x);
    }
};

template <typename T, int vector_width> struct gelu_gradients {
    enum { width = vector_width };

    T *dinp;
    const T *dout, *inp;

    __device__ void operator()(size_t k) const
    {
        dinp[k] = from_float<T>(to_float(dout[k]) * gelu_derivative<T>(to_float(inp[k])));
    }

    __device__ void vectors(size_t k) const
    {
        const vector<T, width> x = load_vector<width>(inp + k);
        vector<T, width> g = load_vector<width>(dout + k);
#pragma unroll
        for (int i = 0; i < width; i++) {
            g.value[i] = from_float<T>(to_float(g.value[i]) * gelu_derivative<T>(to_float(x.value[i])));
        }
        store_vector(dinp + k, g);
    }
};

void cuda_gelu_forward(struct compute *c, activation *out, const activation *inp, size_t count)
{
    const struct written_ranges written(c, {range_of(c, out, count)});
    with_vectors(c, 0, all_aligned(out, inp), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        const gelu_values<T, decltype(kind)::width> values = {(T *)out, (const T *)inp};
        launch_for_elements(c, values, count);
    });
}

void cuda_gelu_backward(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                        size_t count)
{
    const struct written_ranges written(c, {range_of(c, dinp, count)});
    with_vectors(c, 0, all_aligned(dinp, dout, inp), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        const gelu_gradients<T, decltype(kind)::width> gradients = {(T *)dinp, (const T *)dout,
                                                                    (const T *)inp};
        launch_for_elements(c, gradients, count);
    });
}
