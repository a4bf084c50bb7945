#include "compute/reference/operations.h"
#include "compute/supported_shapes.h"

#include <stdint.h>
#include <stdlib.h>

struct grid {
    int n, d, h, w;
};

static const size_t outside = SIZE_MAX;

static struct grid input_grid(const struct conv3d_shape *s)
{
    return (struct grid){s->n, s->d, s->h, s->w};
}

static struct grid output_grid(const struct conv3d_shape *s)
{
    return (struct grid){s->n, s->d / s->stride, s->h / s->stride, s->w / s->stride};
}

static size_t voxels(struct grid g)
{
    return (size_t)g.n * g.d * g.h * g.w;
}

static struct grid position(size_t voxel, struct grid g)
{
    const struct grid p = {.w = (int)(voxel % g.w),
                           .h = (int)(voxel / g.w % g.h),
                           .d = (int)(voxel / g.w / g.h % g.d),
                           .n = (int)(voxel / g.w / g.h / g.d)};
    return p;
}

static size_t voxel_at(struct grid p, struct grid g)
{
    if (p.d < 0 || p.d >= g.d || p.h < 0 || p.h >= g.h || p.w < 0 || p.w >= g.w) {
        return outside;
    }
    return (((size_t)p.n * g.d + p.d) * g.h + p.h) * g.w + p.w;
}

static int taps(const struct conv3d_shape *s)
{
    return s->kernel * s->kernel * s->kernel;
}

/* How far tap `tap` of the kernel lies from the padded window's corner; the padding is taken off. */
static struct grid tap_offset(int tap, const struct conv3d_shape *s)
{
    const int padding = s->stride == 1 ? (s->kernel - 1) / 2 : 0;
    const int k = s->kernel;
    return (struct grid){.d = tap / k / k - padding, .h = tap / k % k - padding, .w = tap % k - padding};
}

/* The input voxel that tap `tap` of output voxel `o` reads, or `outside`. */
static size_t input_of(size_t o, int tap, const struct conv3d_shape *s)
{
    const struct grid p = position(o, output_grid(s)), t = tap_offset(tap, s);
    const struct grid q = {p.n, p.d * s->stride + t.d, p.h * s->stride + t.h, p.w * s->stride + t.w};
    return voxel_at(q, input_grid(s));
}

/* The output voxel whose tap `tap` reads input voxel `i`, or `outside`. */
static size_t output_of(size_t i, int tap, const struct conv3d_shape *s)
{
    const struct grid p = position(i, input_grid(s)), t = tap_offset(tap, s);
    struct grid q = {p.n, p.d - t.d, p.h - t.h, p.w - t.w};
    if (q.d % s->stride != 0 || q.h % s->stride != 0 || q.w % s->stride != 0) {
        return outside;
    }
    q.d /= s->stride;
    q.h /= s->stride;
    q.w /= s->stride;
    return voxel_at(q, output_grid(s));
}

/* sum (columns) += row (rows) matrix (rows, columns) */
static void add_row_times_matrix(double *sum, const activation *row, const double *matrix, int rows,
                                 int columns)
{
    for (int r = 0; r < rows; r++) {
        const double factor = row[r].value;
        for (int k = 0; k < columns; k++) {
            sum[k] += factor * matrix[(size_t)r * columns + k];
        }
    }
}

void reference_conv3d_forward(struct compute *c, activation *out, const activation *inp, const real *weight,
                              const real *bias, const struct conv3d_shape *s)
{
    if (!conv3d_is_supported(c, s)) {
        return;
    }
    const int in = s->in_channels, outs = s->out_channels;
    double *matrices = zeroed_doubles(c, (size_t)taps(s) * in * outs); /* (taps, in, out) */
    double *sum = zeroed_doubles(c, outs);
    if (matrices == NULL || sum == NULL) {
        goto done;
    }
    for (int tap = 0; tap < taps(s); tap++) {
        for (int i = 0; i < in; i++) {
            for (int o = 0; o < outs; o++) {
                matrices[((size_t)tap * in + i) * outs + o] = weight[((size_t)o * in + i) * taps(s) + tap];
            }
        }
    }
    const size_t count = voxels(output_grid(s));
    for (size_t v = 0; v < count; v++) {
        for (int o = 0; o < outs; o++) {
            sum[o] = bias != NULL ? bias[o] : 0;
        }
        for (int tap = 0; tap < taps(s); tap++) {
            const size_t u = input_of(v, tap, s);
            if (u != outside) {
                add_row_times_matrix(sum, inp + u * in, matrices + (size_t)tap * in * outs, in, outs);
            }
        }
        for (int o = 0; o < outs; o++) {
            out[v * outs + o].value = (real)sum[o];
        }
    }
done:
    free(sum);
    free(matrices);
}

static void input_gradient(struct compute *c, activation *dinp, const activation *dout, const real *weight,
                           const struct conv3d_shape *s)
{
    const int in = s->in_channels, outs = s->out_channels;
    double *matrices = zeroed_doubles(c, (size_t)taps(s) * in * outs); /* (taps, out, in) */
    double *sum = zeroed_doubles(c, in);
    if (matrices == NULL || sum == NULL) {
        goto done;
    }
    for (int tap = 0; tap < taps(s); tap++) {
        for (int o = 0; o < outs; o++) {
            for (int i = 0; i < in; i++) {
                matrices[((size_t)tap * outs + o) * in + i] = weight[((size_t)o * in + i) * taps(s) + tap];
            }
        }
    }
    const size_t count = voxels(input_grid(s));
    for (size_t u = 0; u < count; u++) {
        for (int i = 0; i < in; i++) {
            sum[i] = 0;
        }
        for (int tap = 0; tap < taps(s); tap++) {
            const size_t v = output_of(u, tap, s);
            if (v != outside) {
                add_row_times_matrix(sum, dout + v * outs, matrices + (size_t)tap * in * outs, outs, in);
            }
        }
        for (int i = 0; i < in; i++) {
            dinp[u * in + i].value = (real)sum[i];
        }
    }
done:
    free(sum);
    free(matrices);
}

static void weight_gradient(struct compute *c, real *dweight, const activation *dout, const activation *inp,
                            const struct conv3d_shape *s)
{
    const int in = s->in_channels, outs = s->out_channels;
    double *matrices = zeroed_doubles(c, (size_t)taps(s) * in * outs); /* (taps, out, in) */
    if (matrices == NULL) {
        return;
    }
    const size_t count = voxels(output_grid(s));
    for (size_t v = 0; v < count; v++) {
        for (int tap = 0; tap < taps(s); tap++) {
            const size_t u = input_of(v, tap, s);
            for (int o = 0; u != outside && o < outs; o++) {
                const double factor = dout[v * outs + o].value;
                double *row = matrices + ((size_t)tap * outs + o) * in;
                for (int i = 0; i < in; i++) {
                    row[i] += factor * inp[u * in + i].value;
                }
            }
        }
    }
    for (int o = 0; o < outs; o++) {
        for (int i = 0; i < in; i++) {
            for (int tap = 0; tap < taps(s); tap++) {
                dweight[((size_t)o * in + i) * taps(s) + tap] +=
                    (real)matrices[((size_t)tap * outs + o) * in + i];
            }
        }
    }
    free(matrices);
}

static void bias_gradient(struct compute *c, real *dbias, const activation *dout,
                          const struct conv3d_shape *s)
{
    double *sum = zeroed_doubles(c, s->out_channels);
    if (sum == NULL) {
        return;
    }
    const size_t count = voxels(output_grid(s));
    for (size_t v = 0; v < count; v++) {
        for (int o = 0; o < s->out_channels; o++) {
            sum[o] += dout[v * s->out_channels + o].value;
        }
    }
    for (int o = 0; o < s->out_channels; o++) {
        dbias[o] += (real)sum[o];
    }
    free(sum);
}

void reference_conv3d_backward(struct compute *c, activation *dinp, real *dweight, real *dbias,
                               const activation *dout, const activation *inp, const real *weight,
                               const struct conv3d_shape *s)
{
    if (!conv3d_is_supported(c, s)) {
        return;
    }
    if (dinp != NULL) {
        input_gradient(c, dinp, dout, weight, s);
    }
    if (dweight != NULL) {
        weight_gradient(c, dweight, dout, inp, s);
    }
    if (dbias != NULL) {
        bias_gradient(c, dbias, dout, s);
    }
}
