#include "compute/cuda/channel_sums.cuh"
#include "compute/cuda/leaves.cuh"

/* act(norm(inp) + residual) at the channels of a thread. The residual is x itself or, where `scaled`, a
 * multiple of x's one channel. */
template <typename T, int vector_width, int scaled> struct pooled_argument {
    enum { width = vector_width };
    struct elements {
        vector<T, width> x;
        vector<T, scaled ? 1 : width> residual;
    };
    struct state {
        float mean[width], rstd[scaled ? 1 : width];
        float bound[scaled ? width : 1], centre; /* of inp - mean, by the residual's distance */
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
            if (scaled) {
                s.bound[scaled ? k : 0] = -scale[moment + k] / rstd[moment + k];
            } else {
                s.rstd[scaled ? 0 : k] = rstd[moment + k];
            }
        }
    }

    __device__ __forceinline__ float from_mean(const state &s, const elements &e, int k) const
    {
        return element_of(e.x, k) - s.mean[k];
    }

    /* The one channel's distance from its centre. */
    __device__ __forceinline__ float distance(const state &s, const elements &e) const
    {
        return to_float(e.residual.value[0]) - s.centre;
    }

    /* Where the residual has all channels. */
    __device__ __forceinline__ float before_activation(const state &s, const elements &e, int k,
                                                       float from_mean) const
    {
        return from_mean * s.rstd[scaled ? 0 : k] + element_of(e.residual, scaled ? 0 : k);
    }

    /* What the activation takes. */
    __device__ __forceinline__ bool is_positive(const state &s, const elements &e, int k,
                                                float from_mean) const
    {
        return scaled ? from_mean > s.bound[scaled ? k : 0] * distance(s, e)
                      : before_activation(s, e, k, from_mean) > 0;
    }
};

/* With the activation's bend b, slope or 1: sums of b, of b (inp - mean), and of b (x - centre) where the
 * residual is scaled, else of the activation's result. */
template <typename T, int vector_width, int scaled> struct pooled_sum {
    enum { width = vector_width, sums = 3, unroll = scaled ? 4 : 2, blocks = 3 };
    typedef pooled_argument<T, width, scaled> argument;
    typedef typename argument::elements elements;
    struct state {
        typename argument::state norm;
        float bend[width], bend_x[width], third[width];
    };

    argument of;
    float *pooled, *bends; /* bends (3, n, channels) */
    size_t stride, space, moments;

    __device__ elements load(size_t row, int channel) const
    {
        return of.load(row, channel);
    }

    __device__ void begin(state &s, int sample, int channel, const elements &) const
    {
        of.begin(s.norm, sample, channel);
#pragma unroll
        for (int k = 0; k < width; k++) {
            s.bend[k] = s.bend_x[k] = s.third[k] = 0;
        }
    }

    __device__ void add(state &s, const elements &e) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float from_mean = of.from_mean(s.norm, e, k);
            const float bend = of.is_positive(s.norm, e, k, from_mean) ? 1 : of.slope;
            s.bend[k] += bend;
            s.bend_x[k] += bend * from_mean;
            s.third[k] +=
                bend * (scaled ? of.distance(s.norm, e) : of.before_activation(s.norm, e, k, from_mean));
        }
    }

    __device__ void total(double total[][width], const state &s) const
    {
#pragma unroll
        for (int k = 0; k < width; k++) {
            total[0][k] = s.bend[k];
            total[1][k] = s.bend_x[k];
            total[2][k] = s.third[k];
        }
    }

    __device__ void finish(int sample, int channel, const double *total) const
    {
        const size_t moment = (size_t)sample * of.channels + channel;
        const double bend_xhat = of.rstd[moment] * (total[1] / (double)space);
        const double third = total[2] / (double)space;
        bends[moment] = (float)(total[0] / (double)space);
        bends[moments + moment] = (float)bend_xhat;
        bends[2 * moments + moment] = (float)third;
        pooled[sample * stride + channel] = (float)(scaled ? bend_xhat + of.scale[moment] * third : third);
    }
};

/* The gradient before the activation is dpooled / space times b: dresidual. Behind the norm it is
 *     dinp = rstd dpooled / space (b - mean(b) - xhat mean(b xhat)). */
template <typename T, int vector_width, int scaled> struct pooled_gradient_result {
    enum { width = vector_width, unroll = 4, blocks = scaled ? 3 : 2, steps = scaled ? 16 : 8 };
    typedef pooled_argument<T, width, scaled> argument;
    typedef typename argument::elements elements;
    struct state {
        typename argument::state norm;
        float positive[width], negative[width], by_distance[width]; /* dinp = one of two - by_distance
                                                                       (inp - mean) */
        float factor[scaled ? 1 : width];
    };

    argument of;
    const float *dpooled, *bends;
    T *dinp, *dresidual; /* dresidual: where the residual has no scale */
    size_t stride, space, moments;

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
            const float factor = dpooled[sample * stride + channel + k] / (float)space;
            const float rstd = of.rstd[moment + k], through_norm = factor * rstd, mean = bends[moment + k];
            s.factor[scaled ? 0 : k] = factor;
            s.positive[k] = through_norm * (1 - mean);
            s.negative[k] = through_norm * (of.slope - mean);
            s.by_distance[k] = through_norm * rstd * bends[moments + moment + k];
        }
    }

    __device__ void write(const state &s, size_t row, int channel, const elements &e) const
    {
        vector<T, width> result, before;
#pragma unroll
        for (int k = 0; k < width; k++) {
            const float from_mean = of.from_mean(s.norm, e, k);
            const bool is_positive = of.is_positive(s.norm, e, k, from_mean);
            result.value[k] =
                from_float<T>((is_positive ? s.positive[k] : s.negative[k]) - from_mean * s.by_distance[k]);
            if (!scaled) {
                const float factor = s.factor[scaled ? 0 : k];
                before.value[k] = from_float<T>(is_positive ? factor : of.slope * factor);
            }
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
static void pool(struct compute *c, float *pooled, size_t stride, float *bends, const activation *inp,
                 const struct norm_activation *norm, const struct pooled_residual *residual, int n,
                 size_t space, int channels)
{
    const int aligned = all_aligned(inp) && (scaled || all_aligned(residual->x));
    with_vectors(c, (size_t)channels, aligned, [&](auto kind) {
        pooled_sum<typename decltype(kind)::element, decltype(kind)::width, scaled> sum = {};
        sum.of = argument_of<typename decltype(kind)::element, decltype(kind)::width, scaled>(
            inp, norm, residual, channels);
        sum.pooled = pooled;
        sum.bends = bends;
        sum.moments = (size_t)n * channels;
        sum.stride = stride;
        sum.space = space;
        double *partials =
            (double *)cuda_scratch(c, channel_sums_scratch(c, sum.width, sum.sums, n, space, channels));
        channel_sums(c, sum, partials, n, space, channels);
    });
}

void cuda_pooled_norm_forward(struct compute *c, float *pooled, size_t stride, float *bends,
                              const activation *inp, const struct norm_activation *norm,
                              const struct pooled_residual *residual, int n, size_t space, int channels)
{
    if (residual->scale != NULL) {
        pool<1>(c, pooled, stride, bends, inp, norm, residual, n, space, channels);
    } else {
        pool<0>(c, pooled, stride, bends, inp, norm, residual, n, space, channels);
    }
}

template <int scaled>
static void pool_backward(struct compute *c, activation *dinp, activation *dresidual, const float *dpooled,
                          size_t stride, const float *bends, const activation *inp,
                          const struct norm_activation *norm, const struct pooled_residual *residual, int n,
                          size_t space, int channels)
{
    const int aligned = all_aligned(dinp, inp) && (scaled || all_aligned(dresidual, residual->x));
    with_vectors(c, (size_t)channels, aligned, [&](auto kind) {
        typedef typename decltype(kind)::element T;
        pooled_gradient_result<T, decltype(kind)::width, scaled> result = {};
        result.of = argument_of<T, decltype(kind)::width, scaled>(inp, norm, residual, channels);
        result.dpooled = dpooled;
        result.bends = bends;
        result.stride = stride;
        result.space = space;
        result.moments = (size_t)n * channels;
        result.dinp = (T *)dinp;
        result.dresidual = (T *)dresidual;
        channel_result(c, result, n, space, channels);
    });
}

/* dscale (n, channels) from the means of b (x - centre). */
static __global__ void scale_gradients(float *dscale, const float *dpooled, size_t stride,
                                       const float *bend_distance, int channels, int count)
{
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (k < count) {
        dscale[k] = dpooled[k / channels * stride + k % channels] * bend_distance[k];
    }
}

void cuda_pooled_norm_backward(struct compute *c, activation *dinp, activation *dresidual, float *dscale,
                               const float *dpooled, size_t stride, const float *bends, const activation *inp,
                               const struct norm_activation *norm, const struct pooled_residual *residual,
                               int n, size_t space, int channels)
{
    const struct written_ranges written(c, {range_of(c, dinp, (size_t)n * space * channels),
                                            range_of(c, dresidual, (size_t)n * space * channels),
                                            range_of(dscale, (size_t)n * channels)});
    const int count = n * channels;
    if (residual->scale != NULL) {
        launch(c, scale_gradients, dim3((unsigned)divide_up((size_t)count, 128)), dim3(128), 0, dscale,
               dpooled, stride, bends + (size_t)2 * count, channels, count);
        pool_backward<1>(c, dinp, dresidual, dpooled, stride, bends, inp, norm, residual, n, space, channels);
    } else {
        pool_backward<0>(c, dinp, dresidual, dpooled, stride, bends, inp, norm, residual, n, space, channels);
    }
}
