#include "compute/cuda/channel_sums.cuh"
#include "compute/cuda/leaves.cuh"

/* The sums of x - shift and (x - shift)^2, where shift is the thread's first element: they lose no digits
 * where the mean is far from 0. As sums about 0 they are then in double, which has digits to lose. */
template <typename T, int vector_width> struct moments_sum {
    enum { width = vector_width, sums = 2, unroll = 4, blocks = 4 };
    typedef vector<T, width> elements;
    struct state {
        float shift[width], sum[width], square[width];
        int count;
    };

    const T *inp;
    float *mean, *rstd;
    int channels;
    size_t space;

    __device__ elements load(size_t row, int channel) const
    {
        return load_vector<width>(inp + row * channels + channel);
    }

    __device__ void begin(state &s, int, int, const elements &first) const
    {
        s.count = 0;
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.shift[k] = to_float(first.value[k]);
            s.sum[k] = s.square[k] = 0;
        }
    }

    __device__ void add(state &s, const elements &e) const
    {
        s.count++;
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float x = to_float(e.value[k]) - s.shift[k];
            s.sum[k] += x;
            s.square[k] += x * x;
        }
    }

    __device__ void total(double total[][width], const state &s) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            const double shift = s.shift[k], sum = s.sum[k];
            total[0][k] = s.count * shift + sum;
            total[1][k] = s.square[k] + shift * (2 * sum + s.count * shift);
        }
    }

    __device__ void finish(int sample, int channel, const double *total) const
    {
        const size_t moment = (size_t)sample * channels + channel;
        const double average = total[0] / (double)space;
        const double variance = total[1] / (double)space - average * average;
        mean[moment] = (float)average;
        rstd[moment] = (float)(1 / sqrt((variance > 0 ? variance : 0) + normalisation_epsilon));
    }
};

/* act((x - mean) rstd + residual) */
template <typename T, int vector_width> struct apply_norm {
    enum { width = vector_width, unroll = 2, blocks = 4, steps = 8 };
    struct elements {
        vector<T, width> x, residual;
    };
    struct state {
        float mean[width], rstd[width];
    };

    T *out;
    const T *inp, *residual; /* NULL: none */
    const float *mean, *rstd;
    float slope;
    int channels;

    __device__ elements load(size_t row, int channel) const
    {
        elements e;
        e.x = load_vector<width>(inp + row * channels + channel);
        if (residual != NULL) {
            e.residual = load_vector<width>(residual + row * channels + channel);
        }
        return e;
    }

    __device__ void begin(state &s, int sample, int channel) const
    {
        const size_t moment = (size_t)sample * channels + channel;
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.mean[k] = mean[moment + k];
            s.rstd[k] = rstd[moment + k];
        }
    }

    __device__ void write(const state &s, size_t row, int channel, const elements &e) const
    {
        vector<T, width> result;
#pragma unroll
        for (int k = 0; k < width; k++) {
            float v = (element_of(e.x, k) - s.mean[k]) * s.rstd[k];
            if (residual != NULL) {
                v += element_of(e.residual, k);
            }
            result.value[k] = from_float<T>(v > 0 ? v : slope * v);
        }
        store_vector(out + row * channels + channel, result);
    }
};

/* Whose sign tells on which side of act's bend its argument was. */
enum sign_from {
    SIGN_NONE, /* act has no bend */
    SIGN_OUT,  /* act's result */
    SIGN_INP,  /* act's argument, norm(inp) */
};

/* What both passes of the gradient through act and norm read. With xhat = (x - mean) rstd and g = dout, times
 * slope where act's argument was not positive, dinp = rstd (g - mean(g) - xhat mean(g xhat)). */
template <typename T, int vector_width, sign_from sign> struct norm_gradient {
    enum { width = vector_width };
    struct elements {
        vector<T, width> dout, out, x;
    };

    const T *dout, *out, *inp; /* out: where sign is SIGN_OUT */
    const float *mean, *rstd;
    float slope;
    int channels;
    float *g_mean, *g_xhat_mean; /* (n, channels) */

    __device__ __forceinline__ elements load(size_t row, int channel) const
    {
        const size_t k = row * channels + channel;
        elements e;
        e.dout = load_vector<width>(dout + k);
        e.x = load_vector<width>(inp + k);
        if (sign == SIGN_OUT) {
            e.out = load_vector<width>(out + k);
        }
        return e;
    }

    __device__ __forceinline__ float before_activation(const elements &e, int k, float xhat) const
    {
        const float g = element_of(e.dout, k);
        if (sign == SIGN_OUT) {
            return element_of(e.out, k) > 0 ? g : slope * g;
        }
        return sign == SIGN_NONE || xhat > 0 ? g : slope * g;
    }
};

template <typename T, int vector_width, sign_from sign> struct norm_gradient_sum {
    enum { width = vector_width, sums = 2, unroll = 2, blocks = sign == SIGN_OUT ? 3 : 4 };
    typedef norm_gradient<T, width, sign> gradient;
    typedef typename gradient::elements elements;
    struct state {
        float mean[width], rstd[width], g[width], g_xhat[width];
    };

    gradient of;
    size_t space;

    __device__ elements load(size_t row, int channel) const
    {
        return of.load(row, channel);
    }

    __device__ void begin(state &s, int sample, int channel, const elements &) const
    {
        const size_t moment = (size_t)sample * of.channels + channel;
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.mean[k] = of.mean[moment + k];
            s.rstd[k] = of.rstd[moment + k];
            s.g[k] = s.g_xhat[k] = 0;
        }
    }

    __device__ void add(state &s, const elements &e) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float xhat = (element_of(e.x, k) - s.mean[k]) * s.rstd[k];
            const float g = of.before_activation(e, k, xhat);
            s.g[k] += g;
            s.g_xhat[k] += g * xhat;
        }
    }

    __device__ void total(double total[][width], const state &s) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            total[0][k] = s.g[k];
            total[1][k] = s.g_xhat[k];
        }
    }

    __device__ void finish(int sample, int channel, const double *total) const
    {
        const size_t moment = (size_t)sample * of.channels + channel;
        of.g_mean[moment] = (float)(total[0] / (double)space);
        of.g_xhat_mean[moment] = (float)(total[1] / (double)space);
    }
};

template <typename T, int vector_width, sign_from sign> struct norm_gradient_result {
    enum {
        width = vector_width,
        unroll = sign == SIGN_OUT ? 2 : 4,
        blocks = sign == SIGN_OUT ? 3 : 2,
        steps = 8
    };
    typedef norm_gradient<T, width, sign> gradient;
    typedef typename gradient::elements elements;
    struct state {
        float mean[width], rstd[width], g_mean[width], g_xhat_mean[width];
    };

    gradient of;
    T *dinp, *dresidual; /* dresidual: NULL where it is not wanted */

    __device__ elements load(size_t row, int channel) const
    {
        return of.load(row, channel);
    }

    __device__ void begin(state &s, int sample, int channel) const
    {
        const size_t moment = (size_t)sample * of.channels + channel;
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.mean[k] = of.mean[moment + k];
            s.rstd[k] = of.rstd[moment + k];
            s.g_mean[k] = of.g_mean[moment + k];
            s.g_xhat_mean[k] = of.g_xhat_mean[moment + k];
        }
    }

    __device__ void write(const state &s, size_t row, int channel, const elements &e) const
    {
        vector<T, width> result, before;
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float xhat = (element_of(e.x, k) - s.mean[k]) * s.rstd[k];
            const float g = of.before_activation(e, k, xhat);
            before.value[k] = from_float<T>(g);
            result.value[k] = from_float<T>(s.rstd[k] * (g - s.g_mean[k] - xhat * s.g_xhat_mean[k]));
        }
        store_vector(dinp + row * of.channels + channel, result);
        if (dresidual != NULL) {
            store_vector(dresidual + row * of.channels + channel, before);
        }
    }
};

template <typename Kind>
static moments_sum<typename Kind::element, Kind::width>
moments_of(float *mean, float *rstd, const activation *inp, size_t space, int channels)
{
    moments_sum<typename Kind::element, Kind::width> sum = {};
    sum.inp = (const typename Kind::element *)inp;
    sum.mean = mean;
    sum.rstd = rstd;
    sum.channels = channels;
    sum.space = space;
    return sum;
}

template <typename Kind>
static apply_norm<typename Kind::element, Kind::width> apply_of(activation *out, const activation *inp,
                                                                const struct norm_activation *norm,
                                                                const activation *residual, int channels)
{
    typedef typename Kind::element T;
    apply_norm<T, Kind::width> result = {};
    result.out = (T *)out;
    result.inp = (const T *)inp;
    result.residual = (const T *)residual;
    result.mean = norm->mean;
    result.rstd = norm->rstd;
    result.slope = norm->slope;
    result.channels = channels;
    return result;
}

void cuda_instance_norm_moments(struct compute *c, float *mean, float *rstd, const activation *inp, int n,
                                size_t space, int channels)
{
    with_vectors(c, (size_t)channels, all_aligned(inp), [&](auto kind) {
        const auto sum = moments_of<decltype(kind)>(mean, rstd, inp, space, channels);
        double *partials =
            (double *)cuda_scratch(c, channel_sums_scratch(c, sum.width, sum.sums, n, space, channels));
        channel_sums(c, sum, partials, n, space, channels);
    });
}

void cuda_instance_norm_apply(struct compute *c, activation *out, const activation *inp,
                              const struct norm_activation *norm, const activation *residual, int n,
                              size_t space, int channels)
{
    with_vectors(c, (size_t)channels, all_aligned(out, inp, residual), [&](auto kind) {
        channel_result(c, apply_of<decltype(kind)>(out, inp, norm, residual, channels), n, space, channels);
    });
}

void cuda_instance_norm_forward(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const activation *residual, float slope, int n,
                                size_t space, int channels)
{
    const struct norm_activation norm = {mean, rstd, slope};
    with_vectors(c, (size_t)channels, all_aligned(out, inp, residual), [&](auto kind) {
        const auto sum = moments_of<decltype(kind)>(mean, rstd, inp, space, channels);
        const auto result = apply_of<decltype(kind)>(out, inp, &norm, residual, channels);
        double *partials =
            (double *)cuda_scratch(c, channel_sums_scratch(c, sum.width, sum.sums, n, space, channels));
        channel_sums_and_result(c, sum, result, partials, n, space, channels);
    });
}

/* The two passes of one gradient; `out` is read where sign is SIGN_OUT. */
template <sign_from sign>
static void norm_backward(struct compute *c, activation *dinp, activation *dresidual, const activation *dout,
                          const activation *out, const activation *inp, const struct norm_activation *norm,
                          int n, size_t space, int channels)
{
    with_vectors(c, (size_t)channels, all_aligned(dinp, dresidual, dout, out, inp), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        enum { width = decltype(kind)::width };
        norm_gradient_sum<T, width, sign> sum = {};
        norm_gradient_result<T, width, sign> result = {};
        const size_t means = cuda_aligned((size_t)n * channels * 2 * sizeof(float));
        unsigned char *scratch = (unsigned char *)cuda_scratch(
            c, means + channel_sums_scratch(c, sum.width, sum.sums, n, space, channels));
        if (scratch == NULL) {
            return;
        }
        sum.of.dout = (const T *)dout;
        sum.of.out = (const T *)out;
        sum.of.inp = (const T *)inp;
        sum.of.mean = norm->mean;
        sum.of.rstd = norm->rstd;
        sum.of.slope = norm->slope;
        sum.of.channels = channels;
        sum.of.g_mean = (float *)scratch;
        sum.of.g_xhat_mean = (float *)scratch + (size_t)n * channels;
        sum.space = space;
        result.of = sum.of;
        result.dinp = (T *)dinp;
        result.dresidual = (T *)dresidual;
        channel_sums_and_result(c, sum, result, (double *)(scratch + means), n, space, channels);
    });
}

void cuda_instance_norm_backward(struct compute *c, activation *dinp, activation *dresidual,
                                 const activation *dout, const activation *out, const activation *inp,
                                 const float *mean, const float *rstd, float slope, int n, size_t space,
                                 int channels)
{
    const struct written_ranges written(c, {range_of(c, dinp, (size_t)n * space * channels),
                                            range_of(c, dresidual, (size_t)n * space * channels)});
    const struct norm_activation norm = {mean, rstd, slope};
    if (slope == 1) {
        norm_backward<SIGN_NONE>(c, dinp, dresidual, dout, NULL, inp, &norm, n, space, channels);
    } else {
        norm_backward<SIGN_OUT>(c, dinp, dresidual, dout, out, inp, &norm, n, space, channels);
    }
}

void cuda_normed_input_gradient(struct compute *c, activation *dinp, const activation *inp,
                                const struct norm_activation *norm, int n, size_t space, int channels)
{
    norm_backward<SIGN_INP>(c, dinp, NULL, dinp, NULL, inp, norm, n, space, channels);
}

void cuda_normed_input_gradient_result(struct compute *c, activation *dinp, const activation *inp,
                                       const struct norm_activation *norm, float *g_mean, float *g_xhat_mean,
                                       int n, size_t space, int channels)
{
    with_vectors(c, (size_t)channels, all_aligned(dinp, inp), [&](auto kind) {
        typedef typename decltype(kind)::element T;
        norm_gradient_result<T, decltype(kind)::width, SIGN_NONE> result = {};
        result.of.dout = (const T *)dinp;
        result.of.inp = (const T *)inp;
        result.of.mean = norm->mean;
        result.of.rstd = norm->rstd;
        result.of.slope = 1;
        result.of.channels = channels;
        result.of.g_mean = g_mean;
        result.of.g_xhat_mean = g_xhat_mean;
        result.dinp = (T *)dinp;
        channel_result(c, result, n, space, channels);
    });
}
