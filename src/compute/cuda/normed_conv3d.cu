#include "compute/cuda/conv_choice.cuh"
#include "compute/cuda/direct_conv3d.cuh"
#include "compute/cuda/leaves.cuh"
#include "compute/cuda/measured.cuh"
#include "compute/cuda/own_conv3d.cuh"
#include "compute/cuda/vector.cuh"

#include <stdio.h>

static size_t space_of(const struct conv3d_shape *s)
{
    return (size_t)s->d * (size_t)s->h * (size_t)s->w;
}

static size_t input_count(const struct conv3d_shape *s)
{
    return (size_t)s->n * space_of(s) * (size_t)s->in_channels;
}

size_t cuda_normed_conv3d_work(struct compute *c, const struct conv3d_shape *s)
{
    (void)c;
    return input_count(s);
}

void cuda_normed_conv3d_forward(struct compute *c, activation *out, float *mean, float *rstd,
                                const activation *inp, const struct norm_activation *norm, activation *work,
                                const float *weight, const struct conv3d_shape *shape)
{
    struct conv_call call = {};
    call.direction = CONV_FORWARD;
    call.shape = shape;
    call.written = out;
    call.mean = mean;
    call.rstd = rstd;
    call.inp = inp;
    call.norm = norm;
    call.work = work;
    call.weight = weight;
    convolve(c, &call);
}

static void weight_gradient_as_leaf(struct compute *c, const struct conv_call *call)
{
    const struct conv3d_shape *s = call->shape;
    const size_t weights = (size_t)conv3d_taps(s) * s->in_channels * s->out_channels;
    const size_t moments = call->norm != NULL ? (size_t)s->n * s->in_channels : 0;
    leaf_begin(c);
    convolve(c, call);
    leaf_end(c, {range_of(call->dweight, weights),
                 range_of(c, call->dout, conv3d_output_voxels(s) * (size_t)s->out_channels),
                 range_of(c, call->inp, input_count(s)), range_of(c, call->work, input_count(s)),
                 range_of(moments > 0 ? call->norm->mean : NULL, moments),
                 range_of(moments > 0 ? call->norm->rstd : NULL, moments)});
}

/* Both gradients, or one of them; those that are NULL are not wanted. */
static void gradients(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                      const activation *inp, const struct norm_activation *norm, activation *work,
                      const float *weight, const struct conv3d_shape *shape)
{
    struct conv_call call = {};
    call.shape = shape;
    call.written = dinp;
    call.dweight = dweight;
    call.inp = inp;
    call.dout = dout;
    call.norm = norm;
    call.work = work;
    call.weight = weight;
    if (dweight != NULL) {
        call.direction = CONV_WEIGHT_GRADIENT;
        weight_gradient_as_leaf(c, &call);
    }
    if (dinp != NULL) {
        const struct written_ranges written(c, {range_of(c, dinp, input_count(shape))});
        call.direction = CONV_INPUT_GRADIENT;
        convolve(c, &call);
    }
}

/* ---- gradients that share what the convolution read ---- */

/* The own kernel of the input's gradient has act(norm(inp)) in registers: it can leave it in `work`, and then
 * the weights' gradient has no norm to apply. */
static void shared_gradients(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                             const activation *inp, const struct norm_activation *norm, activation *work,
                             const float *weight, const struct conv3d_shape *shape)
{
    const size_t inputs = input_count(shape);
    const struct written_ranges written(c, {range_of(c, dinp, inputs), range_of(c, work, inputs)});
    own_conv3d_input_gradient(c, dinp, dout, weight, shape, inp, norm, work);
    gradients(c, NULL, dweight, dout, work, NULL, NULL, weight, shape);
}

enum { GRADIENTS_SHARED, GRADIENTS_APART };

static struct measured_key key_of(const struct conv3d_shape *s)
{
    return measured_key{{'n', (size_t)s->n, (size_t)s->d << 42 | (size_t)s->h << 21 | (size_t)s->w,
                         (size_t)s->in_channels, (size_t)s->out_channels, 0}};
}

/* dinp and work are written. */
static int measure_sharing(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                           const struct norm_activation *norm, activation *work, const float *weight,
                           const struct conv3d_shape *s)
{
    const size_t weights = (size_t)conv3d_taps(s) * (size_t)s->in_channels * (size_t)s->out_channels;
    float *dweight = (float *)c->allocate(c, weights * sizeof *dweight);
    const float together = measured_time(c, [&] {
        shared_gradients(c, dinp, dweight, dout, inp, norm, work, weight, s);
        return c->status == VOCO_OK;
    });
    const float apart = measured_time(c, [&] {
        gradients(c, dinp, dweight, dout, inp, norm, work, weight, s);
        return c->status == VOCO_OK;
    });
    c->release(c, dweight);
    if (measuring_is_verbose()) {
        fprintf(stderr,
                "gradients of a convolution %d x %d x %d x %d, %d -> %d: shared %.3f, apart %.3f ms\n", s->n,
                s->d, s->h, s->w, s->in_channels, s->out_channels, (double)together, (double)apart);
    }
    return measured_is_faster(apart, together) ? GRADIENTS_APART : GRADIENTS_SHARED;
}

/* Whether the gradients of this convolution, both of which are wanted, are best made so. */
static int sharing_is_best(struct compute *c, activation *dinp, const activation *dout, const activation *inp,
                           const struct norm_activation *norm, activation *work, const float *weight,
                           const struct conv3d_shape *s)
{
    if (norm == NULL || !conv_may_be_own(c, s) || !all_aligned(dinp, dout, inp, work)) {
        return 0;
    }
    const struct measured_key key = key_of(s);
    int choice = measured_choice(&key);
    if (choice < 0) {
        choice = measuring_wanted() ? measure_sharing(c, dinp, dout, inp, norm, work, weight, s)
                                    : (int)GRADIENTS_SHARED;
        if (c->status == VOCO_OK) {
            measured_remember(&key, choice);
        }
    }
    return choice == GRADIENTS_SHARED;
}

void cuda_normed_conv3d_backward(struct compute *c, activation *dinp, float *dweight, const activation *dout,
                                 const activation *inp, const struct norm_activation *norm, activation *work,
                                 const float *weight, const struct conv3d_shape *shape)
{
    if (dinp != NULL && dweight != NULL && sharing_is_best(c, dinp, dout, inp, norm, work, weight, shape)) {
        shared_gradients(c, dinp, dweight, dout, inp, norm, work, weight, shape);
    } else {
        gradients(c, dinp, dweight, dout, inp, norm, work, weight, shape);
    }
}

/* Both norm and convolution of the first one's output in one pass each: its gradient is never written. kept:
 * NULL, or where act(norm(between)) is left. */
static void fused_pair(struct compute *c, float *dweight1, activation *dbetween, const activation *dout,
                       const activation *between, const struct norm_activation *norm, activation *kept,
                       const activation *x, const float *weight1, const float *weight2,
                       const struct conv3d_shape *first, const struct conv3d_shape *second)
{
    const size_t moments = cuda_aligned((size_t)first->n * first->out_channels * sizeof(float));
    const size_t by_walk = cuda_aligned(own_conv3d_norm_gradient_scratch(c, second));
    char *scratch = (char *)cuda_scratch(c, 2 * moments + by_walk +
                                                single_channel_bf16_normed_gradient_scratch(c, first));
    float *mean = (float *)scratch, *xhat_mean = (float *)(scratch + moments);
    own_conv3d_norm_gradient(c, dbetween, mean, xhat_mean, dout, weight2, second, between, norm, kept,
                             scratch + 2 * moments);
    single_channel_bf16_normed_gradient(c, dweight1, dbetween, mean, xhat_mean, norm, x, weight1,
                                        scratch + 2 * moments + by_walk, first);
}

void cuda_normed_conv3d_pair_backward(struct compute *c, float *dweight1, float *dweight2,
                                      activation *dbetween, const activation *dout, const activation *between,
                                      const struct norm_activation *norm, activation *work,
                                      const activation *x, const float *weight1, const float *weight2,
                                      const struct conv3d_shape *shape)
{
    struct conv3d_shape first = *shape;
    first.in_channels = 1;
    first.out_channels = shape->in_channels;
    const int fused = conv_may_be_own(c, shape) && single_channel_bf16_fits(c, &first, dbetween) &&
                      all_aligned(dout, between);
    if (!fused) {
        cuda_normed_conv3d_backward(c, dbetween, dweight2, dout, between, norm, work, weight2, shape);
        cuda_normed_conv3d_backward(c, NULL, dweight1, dbetween, x, NULL, NULL, weight1, &first);
        return;
    }
    const int shared = sharing_is_best(c, dbetween, dout, between, norm, work, weight2, shape);
    if (!shared) {
        gradients(c, NULL, dweight2, dout, between, norm, work, weight2, shape);
    }
    if (c->status == VOCO_OK) {
        fused_pair(c, dweight1, dbetween, dout, between, norm, shared ? work : NULL, x, weight1, weight2,
                   &first, shape);
    }
    if (shared) {
        gradients(c, NULL, dweight2, dout, work, NULL, NULL, weight2, shape);
    }
}
