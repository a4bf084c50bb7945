#include "compute/cuda/channel_sums.cuh"

/* act(norm(inp) + residual) at the channels of a thread. The residual is x itself or, where `scaled`, a
 * multiple of x's one channel. */
template <typename T, int vector_width, int scaled> struct pooled_argument {
    enum { width = vector_width };
    struct elements {
        vector<T, width> x;
        vector<T, scaled ? 1 : width> residual;
    };
    struct state {
        float mean[width], rstd[width];
        float scale[scaled ? width : 1], centre;
    };

    const T *inp, *residual;
    const float *mean, *rstd, *scale, *centre;
    float slope;
    int channels;

    __device__ __forceinline__ elements load(size_t row, int channel) const
    {
        elements e;
        e.x = load_vector<width>(inp + row * channels + channel);
        if (scaled) {
            e.residual.value[0] = residual[row];
        } else {
            e.residual = load_vector < scaled ? 1 : width > (residual + row * channels + channel);
        }
        return e;
    }

    __device__ __forceinline__ void begin(state &s, int sample, int channel) const
    {
        const size_t moment = (size_t)sample * channels + channel;
        s.centre = scaled ? centre[sample] : 0;
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.mean[k] = mean[moment + k];
            s.rstd[k] = rstd[moment + k];
            if (scaled) {
                s.scale[scaled ? k : 0] = scale[moment + k];
            }
        }
    }

    __device__ __forceinline__ float xhat(const state &s, const elements &e, int k) const
    {
        return (to_float(e.x.value[k]) - s.mean[k]) * s.rstd[k];
    }

    /* The one channel's distance from its centre. */
    __device__ __forceinline__ float distance(const state &s, const elements &e) const
    {
        return to_float(e.residual.value[0]) - s.centre;
    }

    __device__ __forceinline__ float before_activation(const state &s, const elements &e, int k,
                                                       float normal) const
    {
        return normal + (scaled ? s.scale[scaled ? k : 0] * distance(s, e)
                                : to_float(e.residual.value[scaled ? 0 : k]));
    }
};

template <typename T, int vector_width, int scaled> struct pooled_sum {
    enum { width = vector_width, sums = 1, unroll = 4, blocks = scaled ? 3 : 4 };
    typedef pooled_argument<T, width, scaled> argument;
    typedef typename argument::elements elements;
    struct state {
        typename argument::state norm;
        float sum[width];
    };

    argument of;
    float *pooled;
    size_t stride, space;

    __device__ elements load(size_t row, int channel) const
    {
        return of.load(row, channel);
    }

    __device__ void begin(state &s, int sample, int channel, const elements &) const
    {
        of.begin(s.norm, sample, channel);
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.sum[k] = 0;
        }
    }

    __device__ void add(state &s, const elements &e) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float v = of.before_activation(s.norm, e, k, of.xhat(s.norm, e, k));
            s.sum[k] += v > 0 ? v : of.slope * v;
        }
    }

    __device__ void total(double total[][width], const state &s) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            total[0][k] = s.sum[k];
        }
    }

    __device__ void finish(int sample, int channel, const double *total) const
    {
        pooled[sample * stride + channel] = (float)(total[0] / (double)space);
    }
};

/* The gradient before the activation is dpooled / space times its bend b, slope or 1: what is summed is b, b
 * xhat and, for dscale, b (x - centre). */
template <typename T, int vector_width, int scaled> struct pooled_gradient_sum {
    enum { width = vector_width, sums = scaled ? 3 : 2, unroll = scaled ? 4 : 2, blocks = scaled ? 3 : 4 };
    typedef pooled_argument<T, width, scaled> argument;
    typedef typename argument::elements elements;
    struct state {
        typename argument::state norm;
        float bend[width], bend_xhat[width], bend_distance[scaled ? width : 1];
    };

    argument of;
    const float *dpooled;
    float *bend_mean, *bend_xhat_mean; /* (n, channels) */
    float *dscale;
    size_t stride, space;

    __device__ elements load(size_t row, int channel) const
    {
        return of.load(row, channel);
    }

    __device__ void begin(state &s, int sample, int channel, const elements &) const
    {
        of.begin(s.norm, sample, channel);
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.bend[k] = s.bend_xhat[k] = s.bend_distance[scaled ? k : 0] = 0;
        }
    }

    __device__ void add(state &s, const elements &e) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float xhat = of.xhat(s.norm, e, k);
            const float bend = of.before_activation(s.norm, e, k, xhat) > 0 ? 1 : of.slope;
            s.bend[k] += bend;
            s.bend_xhat[k] += bend * xhat;
            if (scaled) {
                s.bend_distance[scaled ? k : 0] += bend * of.distance(s.norm, e);
            }
        }
    }

    __device__ void total(double total[][width], const state &s) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            total[0][k] = s.bend[k];
            total[1][k] = s.bend_xhat[k];
            if (scaled) {
                total[scaled ? 2 : 0][k] = s.bend_distance[scaled ? k : 0];
            }
        }
    }

    __device__ void finish(int sample, int channel, const double *total) const
    {
        const size_t moment = (size_t)sample * of.channels + channel;
        bend_mean[moment] = (float)(total[0] / (double)space);
        bend_xhat_mean[moment] = (float)(total[1] / (double)space);
        if (scaled) {
            dscale[moment] =
                (float)(dpooled[sample * stride + channel] / (double)space * total[scaled ? 2 : 0]);
        }
    }
};

/* dinp = rstd dpooled / space (b - mean(b) - xhat mean(b xhat)); dresidual = dpooled / space b */
template <typename T, int vector_width, int scaled> struct pooled_gradient_result {
    enum { width = vector_width, unroll = 2, blocks = scaled ? 3 : 2 };
    typedef pooled_argument<T, width, scaled> argument;
    typedef typename argument::elements elements;
    struct state {
        typename argument::state norm;
        float factor[width], bend_mean[width], bend_xhat_mean[width];
    };

    argument of;
    const float *dpooled, *bend_mean, *bend_xhat_mean;
    T *dinp, *dresidual; /* dresidual: where the residual has no scale */
    size_t stride, space;

    __device__ elements load(size_t row, int channel) const
    {
        return of.load(row, channel);
    }

    __device__ void begin(state &s, int sample, int channel) const
    {
        const size_t moment = (size_t)sample * of.channels + channel;
        of.begin(s.norm, sample, channel);
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.factor[k] = dpooled[sample * stride + channel + k] / (float)space;
            s.bend_mean[k] = bend_mean[moment + k];
            s.bend_xhat_mean[k] = bend_xhat_mean[moment + k];
        }
    }

    __device__ void write(const state &s, size_t row, int channel, const elements &e) const
    {
        vector<T, width> result, before;
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float xhat = of.xhat(s.norm, e, k);
            const float bend = of.before_activation(s.norm, e, k, xhat) > 0 ? 1 : of.slope;
            const float normal = bend - s.bend_mean[k] - xhat * s.bend_xhat_mean[k];
            result.value[k] = from_float<T>(s.norm.rstd[k] * s.factor[k] * normal);
            before.value[k] = from_float<T>(s.factor[k] * bend);
        }
        store_vector(dinp + row * of.channels + channel, result);
        if (!scaled) {
            store_vector(dresidual + row * of.channels + channel, before);
        }
    }
};

template <typename T, int width, int scaled>
static pooled_argument<T, width, scaled> argument_of(const activation *inp,
                                                     const struct norm_activation *norm,
                                                     const struct pooled_residual *residual, int channels)
{
    pooled_argument<T, width, scaled> of = {};
    of.inp = (const T *)inp;
    of.residual = (const T *)residual->x;
    of.mean = norm->mean;
    of.rstd = norm->rstd;
    of.scale = residual->scale;
    of.centre = residual->centre;
    of.slope = norm->slope;
    of.channels = channels;
    return of;
}

template <int scaled>
static void pool(struct compute *c, float *pooled, size_t stride, const activation *inp,
                 const struct norm_activation *norm, const struct pooled_residual *residual, int n,
                 size_t space, int channels)
{
    const int aligned = all_aligned(inp) && (scaled || all_aligned(residual->x));
    with_vectors(c, (size_t)channels, aligned, [&](auto kind) {
        pooled_sum<typename decltype(kind)::element, decltype(kind)::width, scaled> sum = {};
        sum.of = argument_of<typename decltype(kind)::element, decltype(kind)::width, scaled>(
            inp, norm, residual, channels);
        sum.pooled = pooled;
        sum.stride = stride;
        sum.space = space;
        double *partials =
            (double *)cuda_scratch(c, channel_sums_scratch(c, sum.width, sum.sums, n, space, channels));
        channel_sums(c, sum, partials, n, space, channels);
    });
}

void cuda_pooled_norm_forward(struct compute *c, float *pooled, size_t stride, const activation *inp,
                              const struct norm_activation *norm, const struct pooled_residual *residual,
                              int n, size_t space, int channels)
{
    if (residual->scale != NULL) {
        pool<1>(c, pooled, stride, inp, norm, residual, n, space, channels);
    } else {
        pool<0>(c, pooled, stride, inp, norm, residual, n, space, channels);
    }
}

template <int scaled>
static void pool_backward(struct compute *c, activation *dinp, activation *dresidual, float *dscale,
                          const float *dpooled, size_t stride, const activation *inp,
                          const struct norm_activation *norm, const struct pooled_residual *residual, int n,
                          size_t space, int channels)
{
    const int aligned = all_aligned(dinp, inp) && (scaled || all_aligned(dresidual, residual->x));
    with_vectors(c, (size_t)channels, aligned, [&](auto kind) {
        typedef typename decltype(kind)::element T;
        pooled_gradient_sum<T, decltype(kind)::width, scaled> sum = {};
        pooled_gradient_result<T, decltype(kind)::width, scaled> result = {};
        const size_t means = cuda_aligned((size_t)n * channels * 2 * sizeof(float));
        unsigned char *scratch = (unsigned char *)cuda_scratch(
            c, means + channel_sums_scratch(c, sum.width, sum.sums, n, space, channels));
        if (scratch == NULL) {
            return;
        }
        sum.of = result.of = argument_of<T, decltype(kind)::width, scaled>(inp, norm, residual, channels);
        sum.dpooled = result.dpooled = dpooled;
        sum.stride = result.stride = stride;
        sum.space = result.space = space;
        sum.bend_mean = (float *)scratch;
        sum.bend_xhat_mean = (float *)scratch + (size_t)n * channels;
        sum.dscale = dscale;
        result.bend_mean = sum.bend_mean;
        result.bend_xhat_mean = sum.bend_xhat_mean;
        result.dinp = (T *)dinp;
        result.dresidual = (T *)dresidual;
        channel_sums_and_result(c, sum, result, (double *)(scratch + means), n, space, channels);
    });
}

void cuda_pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, float *dscale,
                               const float *dpooled, size_t stride, const activation *inp,
                               const struct norm_activation *norm, const struct pooled_residual *residual,
                               int n, size_t space, int channels)
{
    if (residual->scale != NULL) {
        pool_backward<1>(c, dinp, dresidual, dscale, dpooled, stride, inp, norm, residual, n, space,
                         channels);
    } else {
        pool_backward<0>(c, dinp, dresidual, dscale, dpooled, stride, inp, norm, residual, n, space,
                         channels);
    }
}
