/* Holds own convolutions (compute/cuda/own_conv3d.cuh) against plain loops on the GPU, and times them
 * (-DVOCO_BENCH=ON; build/bench/bench_own_conv3d). Ends with status 1 where one is wrong. With arguments,
 * three for each shape (how many volumes, their edge, channels), it only times these. VOCO_CUDA_CONV=own
 * leaves cuDNN out of the choices. */
#include "timed_kernels.cuh"

#include "compute/cuda/kernel.cuh"
#include "compute/cuda/memory.cuh"
#include "compute/cuda/own_conv3d.cuh"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

static const float slope = 0.01f;

static __device__ float read_input(const bf16 *inp, const float *mean, const float *rstd, conv3d_shape s,
                                   int n, int d, int h, int w, int i)
{
    if (d < 0 || d >= s.d || h < 0 || h >= s.h || w < 0 || w >= s.w) {
        return 0;
    }
    const float x = to_float(inp[((((size_t)n * s.d + d) * s.h + h) * s.w + w) * s.in_channels + i]);
    if (mean == NULL) {
        return x;
    }
    const float v = (x - mean[n * s.in_channels + i]) * rstd[n * s.in_channels + i];
    return to_float(from_float<bf16>(v > 0 ? v : slope * v));
}

static __global__ void plain_forward(float *out, const bf16 *inp, const float *mean, const float *rstd,
                                     const float *weight, conv3d_shape s)
{
    const size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const size_t count = (size_t)s.n * s.d * s.h * s.w * s.out_channels;
    if (k < count) {
        const int o = (int)(k % s.out_channels);
        const size_t v = k / s.out_channels;
        const int w = (int)(v % s.w), h = (int)(v / s.w % s.h), d = (int)(v / s.w / s.h % s.d);
        const int n = (int)(v / s.w / s.h / s.d);
        float sum = 0;
        for (int tap = 0; tap < 27; tap++) {
            for (int i = 0; i < s.in_channels; i++) {
                sum += read_input(inp, mean, rstd, s, n, d + tap / 9 - 1, h + tap / 3 % 3 - 1,
                                  w + tap % 3 - 1, i) *
                       to_float(from_float<bf16>(weight[((size_t)o * s.in_channels + i) * 27 + tap]));
            }
        }
        out[k] = sum;
    }
}

/* Also of dout: the gradient of the input is a convolution with the weights flipped and transposed. */
static __global__ void flip_weights(float *flipped, const float *weight, int outs, int ins)
{
    const int k = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (k < outs * ins * 27) {
        const int tap = k % 27, i = k / 27 % ins, o = k / 27 / ins;
        flipped[((size_t)i * outs + o) * 27 + 26 - tap] = weight[k];
    }
}

static __global__ void plain_weight_gradient(float *dweight, const bf16 *dout, const bf16 *inp,
                                             const float *mean, const float *rstd, conv3d_shape s)
{
    const int k = (int)blockIdx.x, tap = k % 27, i = k / 27 % s.in_channels, o = k / 27 / s.in_channels;
    __shared__ float parts[32];
    float sum = 0;
    for (int v = (int)threadIdx.x; v < s.n * s.d * s.h * s.w; v += (int)blockDim.x) {
        const int w = v % s.w, h = v / s.w % s.h, d = v / s.w / s.h % s.d, n = v / s.w / s.h / s.d;
        sum += read_input(inp, mean, rstd, s, n, d + tap / 9 - 1, h + tap / 3 % 3 - 1, w + tap % 3 - 1, i) *
               to_float(dout[(size_t)v * s.out_channels + o]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        parts[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < (int)blockDim.x / 32; warp++) {
            sum += parts[warp];
        }
        dweight[k] = sum;
    }
}

static __global__ void to_floats(float *out, const bf16 *inp, size_t count)
{
    for (size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x; k < count;
         k += (size_t)gridDim.x * blockDim.x) {
        out[k] = to_float(inp[k]);
    }
}

struct arrays {
    conv3d_shape s;
    size_t ins, outs, weights; /* elements */
    bf16 *inp, *out, *dout, *dinp, *kept;
    float *weight, *flipped, *dweight, *expected, *found, *mean, *rstd, *out_mean, *out_rstd;
    norm_activation norm;
};

static void open_arrays(compute *c, arrays *a, conv3d_shape s, int check)
{
    const size_t voxels = (size_t)s.n * s.d * s.h * s.w;
    const size_t moments = (size_t)s.n * (s.in_channels + s.out_channels);
    a->s = s;
    a->ins = voxels * s.in_channels;
    a->outs = voxels * s.out_channels;
    a->weights = (size_t)s.in_channels * s.out_channels * 27;
    const size_t most = (a->ins > a->outs ? a->ins : a->outs) > a->weights
                            ? (a->ins > a->outs ? a->ins : a->outs)
                            : a->weights;
    a->inp = (bf16 *)c->allocate(c, 2 * a->ins);
    a->dinp = (bf16 *)c->allocate(c, 2 * a->ins);
    a->kept = (bf16 *)c->allocate(c, 2 * a->ins);
    a->out = (bf16 *)c->allocate(c, 2 * a->outs);
    a->dout = (bf16 *)c->allocate(c, 2 * a->outs);
    a->weight = (float *)c->allocate(c, 4 * a->weights);
    a->flipped = (float *)c->allocate(c, 4 * a->weights);
    a->dweight = (float *)c->allocate(c, 4 * a->weights);
    a->expected = (float *)c->allocate(c, check ? 4 * most : 4);
    a->found = (float *)c->allocate(c, check ? 4 * most : 4);
    a->mean = (float *)c->allocate(c, 4 * moments);
    a->rstd = (float *)c->allocate(c, 4 * moments);
    a->out_mean = (float *)c->allocate(c, 4 * moments);
    a->out_rstd = (float *)c->allocate(c, 4 * moments);
    launch(c, fill<bf16>, dim3(1024), dim3(256), 0, a->inp, a->ins, 1.0f, 0.2f, 1u);
    launch(c, fill<bf16>, dim3(1024), dim3(256), 0, a->dout, a->outs, 1.0f, 0.0f, 2u);
    launch(c, fill<float>, dim3(1024), dim3(256), 0, a->weight, a->weights, 0.1f, 0.0f, 3u);
    launch(c, fill<float>, dim3(16), dim3(256), 0, a->mean, moments, 0.5f, 0.0f, 4u);
    launch(c, fill<float>, dim3(16), dim3(256), 0, a->rstd, moments, 0.5f, 1.0f, 5u);
    a->norm = norm_activation{a->mean, a->rstd, slope};
}

static void close_arrays(compute *c, arrays *a)
{
    cuda_wait(c);
    void *all[] = {a->inp,     a->dinp,     a->kept,  a->out,  a->dout, a->weight,   a->flipped,
                   a->dweight, a->expected, a->found, a->mean, a->rstd, a->out_mean, a->out_rstd};
    for (void *one : all) {
        c->release(c, one);
    }
    cuda_weights_free(c);
}

static std::vector<float> on_host(compute *c, const float *x, size_t count)
{
    std::vector<float> result(count);
    cuda_to_host(c, result.data(), x, 4 * count);
    cuda_wait(c);
    return result;
}

static int bad = 0;

static void compare(compute *c, const char *what, const float *found, const float *expected, size_t count,
                    double most)
{
    const std::vector<float> f = on_host(c, found, count), e = on_host(c, expected, count);
    double error = 0, size = 0;
    for (size_t k = 0; k < count; k++) {
        error += ((double)f[k] - e[k]) * ((double)f[k] - e[k]);
        size += (double)e[k] * e[k];
    }
    const double relative = sqrt(error / size);
    const int wrong = !(relative <= most);
    bad += wrong;
    printf("  %-16s %.2e%s\n", what, relative, wrong ? "  WRONG" : "");
}

static void check_moments(compute *c, arrays *a)
{
    const std::vector<float> y = on_host(c, a->expected, a->outs);
    const int channels = a->s.out_channels, count = a->s.n * channels;
    const size_t space = a->outs / count;
    const std::vector<float> mean = on_host(c, a->out_mean, count), rstd = on_host(c, a->out_rstd, count);
    double worst = 0;
    for (int k = 0; k < count; k++) {
        double sum = 0, square = 0;
        for (size_t v = 0; v < space; v++) {
            const double x = y[((size_t)(k / channels) * space + v) * channels + k % channels];
            sum += x;
            square += x * x;
        }
        const double m = sum / space, r = 1 / sqrt(square / space - m * m + normalisation_epsilon);
        worst = fmax(worst, fmax(fabs(mean[k] - m) * r, fabs(rstd[k] / r - 1)));
    }
    bad += !(worst < 1e-3);
    printf("  %-16s %.2e%s\n", "moments", worst, worst < 1e-3 ? "" : "  WRONG");
}

/* Bit for bit what reads act(norm(inp)) without it. */
static void check_kept(compute *c, arrays *a)
{
    const conv3d_shape *s = &a->s;
    own_conv3d_input_gradient(c, (activation *)a->dinp, (activation *)a->dout, a->weight, s,
                              (activation *)a->inp, &a->norm, (activation *)a->kept);
    launch(c, to_floats, dim3(1024), dim3(256), 0, a->found, a->dinp, a->ins);
    compare(c, "the same, kept", a->found, a->expected, a->ins, 5e-3);
    cuda_instance_norm_apply(c, (activation *)a->dinp, (activation *)a->inp, &a->norm, NULL, s->n,
                             (size_t)s->d * s->h * s->w, s->in_channels);
    launch(c, to_floats, dim3(1024), dim3(256), 0, a->expected, a->dinp, a->ins);
    launch(c, to_floats, dim3(1024), dim3(256), 0, a->found, a->kept, a->ins);
    compare(c, "what is kept", a->found, a->expected, a->ins, 0);
}

static void check(compute *c, conv3d_shape s, int with_norm)
{
    arrays a;
    open_arrays(c, &a, s, 1);
    const norm_activation *norm = with_norm ? &a.norm : NULL;
    const float *mean = with_norm ? a.mean : NULL, *rstd = with_norm ? a.rstd : NULL;
    printf("(%d, %d x %d x %d) %d -> %d, %s, %s\n", s.n, s.d, s.h, s.w, s.in_channels, s.out_channels,
           with_norm ? "norm" : "no norm", own_conv3d_by_warps ? "by warps" : "by warpgroups");
    if (!own_conv3d_fits(c, &s)) {
        printf("  does not fit\n");
        bad++;
    }
    launch(c, plain_forward, dim3((unsigned)divide_up(a.outs, 128)), dim3(128), 0, a.expected, a.inp, mean,
           rstd, a.weight, s);
    own_conv3d_forward(c, (activation *)a.out, (activation *)a.inp, norm, a.weight, &s, a.out_mean,
                       a.out_rstd);
    launch(c, to_floats, dim3(1024), dim3(256), 0, a.found, a.out, a.outs);
    compare(c, "forward", a.found, a.expected, a.outs, 4e-3);
    check_moments(c, &a);
    own_conv3d_forward(c, (activation *)a.out, (activation *)a.inp, norm, a.weight, &s);
    launch(c, to_floats, dim3(1024), dim3(256), 0, a.found, a.out, a.outs);
    compare(c, "without moments", a.found, a.expected, a.outs, 4e-3);

    const conv3d_shape back = {s.n, s.d, s.h, s.w, s.out_channels, s.in_channels, 3, 1};
    launch(c, flip_weights, dim3((unsigned)divide_up(a.weights, 128)), dim3(128), 0, a.flipped, a.weight,
           s.out_channels, s.in_channels);
    launch(c, plain_forward, dim3((unsigned)divide_up(a.ins, 128)), dim3(128), 0, a.expected, a.dout,
           (float *)NULL, (float *)NULL, a.flipped, back);
    own_conv3d_input_gradient(c, (activation *)a.dinp, (activation *)a.dout, a.weight, &s);
    launch(c, to_floats, dim3(1024), dim3(256), 0, a.found, a.dinp, a.ins);
    compare(c, "input gradient", a.found, a.expected, a.ins, 4e-3);

    if (with_norm) {
        own_conv3d_input_gradient(c, (activation *)a.dinp, (activation *)a.dout, a.weight, &s);
        cuda_normed_input_gradient(c, (activation *)a.dinp, (activation *)a.inp, norm, s.n,
                                   (size_t)s.d * s.h * s.w, s.in_channels);
        launch(c, to_floats, dim3(1024), dim3(256), 0, a.expected, a.dinp, a.ins);
        own_conv3d_input_gradient(c, (activation *)a.dinp, (activation *)a.dout, a.weight, &s,
                                  (activation *)a.inp, norm);
        launch(c, to_floats, dim3(1024), dim3(256), 0, a.found, a.dinp, a.ins);
        compare(c, "through the norm", a.found, a.expected, a.ins, 5e-3);
        check_kept(c, &a);
    }

    launch(c, plain_weight_gradient, dim3((unsigned)a.weights), dim3(256), 0, a.expected, a.dout, a.inp, mean,
           rstd, s);
    cuda_fill_zero(c, a.dweight, 4 * a.weights);
    own_conv3d_weight_gradient(c, a.dweight, (activation *)a.dout, (activation *)a.inp, norm, &s);
    compare(c, "weight gradient", a.dweight, a.expected, a.weights, 1e-4);
    close_arrays(c, &a);
}

enum timed {
    FORWARD,
    FORWARD_PLAIN,
    INPUT_GRADIENT,
    INPUT_GRADIENT_NORM,
    INPUT_GRADIENT_KEPT,
    WEIGHT_GRADIENT,
    WEIGHT_GRADIENT_PLAIN,
    BOTH_GRADIENTS,
    timed_count
};
static const char *timed_names[] = {"forward, norm, moments", "forward alone",    "input gradient",
                                    "input gradient, norm",   "the same, x kept", "weight gradient, norm",
                                    "weight gradient alone",  "both, norm"};

static void run_timed(compute *c, arrays *a, int what)
{
    activation *out = (activation *)a->out, *inp = (activation *)a->inp, *dout = (activation *)a->dout;
    switch (what) {
    case FORWARD:
        own_conv3d_forward(c, out, inp, &a->norm, a->weight, &a->s, a->out_mean, a->out_rstd);
        break;
    case FORWARD_PLAIN:
        own_conv3d_forward(c, out, inp, NULL, a->weight, &a->s);
        break;
    case INPUT_GRADIENT:
        own_conv3d_input_gradient(c, (activation *)a->dinp, dout, a->weight, &a->s);
        break;
    case INPUT_GRADIENT_NORM:
        own_conv3d_input_gradient(c, (activation *)a->dinp, dout, a->weight, &a->s, inp, &a->norm);
        break;
    case INPUT_GRADIENT_KEPT:
        own_conv3d_input_gradient(c, (activation *)a->dinp, dout, a->weight, &a->s, inp, &a->norm,
                                  (activation *)a->kept);
        break;
    case BOTH_GRADIENTS:
        cuda_normed_conv3d_backward(c, (activation *)a->dinp, a->dweight, dout, inp, &a->norm,
                                    (activation *)a->kept, a->weight, &a->s);
        break;
    case WEIGHT_GRADIENT:
        own_conv3d_weight_gradient(c, a->dweight, dout, inp, &a->norm, &a->s);
        break;
    default:
        own_conv3d_weight_gradient(c, a->dweight, dout, inp, NULL, &a->s);
        break;
    }
}

static void time_shape(compute *c, conv3d_shape s)
{
    arrays a;
    open_arrays(c, &a, s, 0);
    const double flops = 2.0 * a.outs * s.in_channels * 27;
    printf("(%d, %d x %d x %d) %d -> %d, %.3f TFLOP, %s\n", s.n, s.d, s.h, s.w, s.in_channels, s.out_channels,
           flops * 1e-12, own_conv3d_by_warps ? "by warps" : "by warpgroups");
    for (int what = 0; what < timed_count; what++) {
        const double ms = time_of(c, [&] { run_timed(c, &a, what); });
        printf("  %-24s %8.3f ms  %6.1f TFLOP/s\n", timed_names[what], ms, flops / ms * 1e-9);
    }
    close_arrays(c, &a);
}

int main(int argc, char **argv)
{
    struct compute c;
    if (compute_open(&c, "cuda", 0, PRECISION_BF16) != VOCO_OK) {
        printf("skipped: %s\n", voco_error_message());
        return 77;
    }
    printf("compute capability %d.%d, %d multiprocessors\n", cuda_state(&c)->major, cuda_state(&c)->minor,
           cuda_state(&c)->multiprocessors);
    if (argc > 3) {
        for (int k = 1; k + 2 < argc; k += 3) {
            const int edge = atoi(argv[k + 1]), channels = atoi(argv[k + 2]);
            time_shape(&c, conv3d_shape{atoi(argv[k]), edge, edge, edge, channels, channels, 3, 1});
        }
        compute_close(&c);
        return 0;
    }
    for (own_conv3d_by_warps = 1; own_conv3d_by_warps >= 0; own_conv3d_by_warps--) {
        check(&c, conv3d_shape{2, 5, 9, 13, 48, 48, 3, 1}, 1);
        check(&c, conv3d_shape{3, 37, 20, 33, 48, 48, 3, 1}, 0);
        check(&c, conv3d_shape{2, 16, 16, 16, 96, 96, 3, 1}, 1);
        check(&c, conv3d_shape{1, 7, 5, 19, 16, 16, 3, 1}, 1);
        check(&c, conv3d_shape{3, 37, 20, 33, 48, 48, 3, 1}, 1);
        check(&c, conv3d_shape{2, 9, 18, 16, 96, 48, 3, 1}, 0);
    }
    const int by_warps[] = {0, 1};
    for (int one : by_warps) {
        own_conv3d_by_warps = one;
        time_shape(&c, conv3d_shape{44, 64, 64, 64, 48, 48, 3, 1});
        time_shape(&c, conv3d_shape{11, 64, 64, 64, 48, 48, 3, 1});
        time_shape(&c, conv3d_shape{44, 32, 32, 32, 48, 48, 3, 1});
        time_shape(&c, conv3d_shape{44, 16, 16, 16, 96, 96, 3, 1});
    }
    printf(bad || c.status != VOCO_OK ? "WRONG: %d %s\n" : "all right\n", bad, c.message);
    const int failed = bad || c.status != VOCO_OK;
    compute_close(&c);
    return failed;
}
