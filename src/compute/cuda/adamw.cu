#include "compute/cuda/vector.cuh"

#include <cfloat>

/* As those of compute/gradient_scale.h. */
static __device__ __forceinline__ bool can_update(const double *squares)
{
    return *squares <= FLT_MAX;
}

static __device__ __forceinline__ float gradient_scale(const double *squares, float clip_norm)
{
    const float norm = sqrtf((float)*squares);
    return clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1;
}

/* What one step does to an element, with the factors of all elements computed in double before. */
template <int vector_width> struct adamw {
    enum { width = vector_width };

    float *param, *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
    const float *grad;
    const double *squares;
    float clip_norm;
    float beta1, beta2, rest1, rest2; /* rest: 1 - beta */
    float decay;                      /* learning rate times weight decay */
    float step_size, inverse_root_correction, epsilon;

    /* The decay is subtracted, not multiplied by: 1 - decay as a float keeps few of its digits. */
    __device__ __forceinline__ void step(float &p, float &m, float &v, float &largest, float g) const
    {
        m = beta1 * m + rest1 * g;
        v = beta2 * v + rest2 * g * g;
        largest = fmaxf(largest, v);
        const float denominator = sqrtf(largest) * inverse_root_correction + epsilon;
        p -= decay * p + step_size * m / denominator;
    }

    __device__ void operator()(size_t k) const
    {
        if (can_update(squares)) {
            const float scale = gradient_scale(squares, clip_norm);
            step(param[k], exp_avg[k], exp_avg_sq[k], max_exp_avg_sq[k], scale * grad[k]);
        }
    }

    __device__ void vectors(size_t k) const
    {
        if (!can_update(squares)) {
            return;
        }
        const float scale = gradient_scale(squares, clip_norm);
        vector<float, width> p = load_vector<width>(param + k), m = load_vector<width>(exp_avg + k);
        vector<float, width> v = load_vector<width>(exp_avg_sq + k),
                             most = load_vector<width>(max_exp_avg_sq + k);
        const vector<float, width> g = load_vector<width>(grad + k);
#pragma unroll
        for (int i = 0; i < width; i++) {
            step(p.value[i], m.value[i], v.value[i], most.value[i], scale * g.value[i]);
        }
        store_vector(param + k, p);
        store_vector(exp_avg + k, m);
        store_vector(exp_avg_sq + k, v);
        store_vector(max_exp_avg_sq + k, most);
    }
};

template <int width>
static void take_step(struct compute *c, float *param, float *exp_avg, float *exp_avg_sq,
                      float *max_exp_avg_sq, const float *grad, const double *squares,
                      const struct adamw_settings *settings, size_t count)
{
    const double step = (double)settings->step;
    adamw<width> function = {};
    function.param = param;
    function.exp_avg = exp_avg;
    function.exp_avg_sq = exp_avg_sq;
    function.max_exp_avg_sq = max_exp_avg_sq;
    function.grad = grad;
    function.squares = squares;
    function.clip_norm = (float)settings->clip_norm;
    function.beta1 = (float)settings->beta1;
    function.beta2 = (float)settings->beta2;
    function.rest1 = (float)(1 - settings->beta1);
    function.rest2 = (float)(1 - settings->beta2);
    function.decay = (float)(settings->learning_rate * settings->weight_decay);
    function.step_size = (float)(settings->learning_rate / (1 - pow(settings->beta1, step)));
    function.inverse_root_correction = (float)(1 / sqrt(1 - pow(settings->beta2, step)));
    function.epsilon = (float)settings->epsilon;
    launch_for_elements(c, function, count);
}

void cuda_adamw_step(struct compute *c, float *param, float *exp_avg, float *exp_avg_sq,
                     float *max_exp_avg_sq, const float *grad, const double *squares,
                     const struct adamw_settings *settings, size_t count)
{
    if (all_aligned(param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad)) {
        take_step<4>(c, param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, squares, settings, count);
    } else {
        take_step<1>(c, param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad, squares, settings, count);
    }
}

struct undoing {
    enum { width = 4 };

    float *array;
    const float *before;
    const double *squares;

    __device__ void operator()(size_t k) const
    {
        if (!can_update(squares)) {
            array[k] = before[k];
        }
    }

    __device__ void vectors(size_t k) const
    {
        for (int i = 0; i < width; i++) {
            (*this)(k + i);
        }
    }
};

void cuda_undo_if_skipped(struct compute *c, float *array, const float *before, const double *squares,
                          size_t count)
{
    const undoing function = {array, before, squares};
    launch_for_elements(c, function, count);
}
