#include "compute/reference/operations.h"

static size_t space_of(const struct conv3d_shape *s)
{
    return (size_t)s->d * s->h * s->w;
}

size_t reference_normed_conv3d_work(struct compute *c, const struct conv3d_shape *s)
{
    (void)c;
    return s->n * space_of(s) * s->in_channels;
}

/* What the convolution reads. */
static const activation *normed_input(struct compute *c, const activation *inp,
                                      const struct norm_activation *norm, activation *work,
                                      const struct conv3d_shape *s)
{
    if (norm == NULL) {
        return inp;
    }
    reference_instance_norm_apply(c, work, inp, norm, NULL, s->n, space_of(s), s->in_channels);
    return work;
}

void reference_normed_conv3d_forward(struct compute *c, activation *out, real *mean, real *rstd,
                                     const activation *inp, const struct norm_activation *norm,
                                     activation *work, const real *weight, const struct conv3d_shape *s)
{
    const activation *normed = normed_input(c, inp, norm, work, s);
    reference_conv3d_forward(c, out, normed, weight, NULL, s);
    reference_instance_norm_moments(c, mean, rstd, out, s->n, space_of(s), s->out_channels);
}

void reference_normed_conv3d_backward(struct compute *c, activation *dinp, real *dweight,
                                      const activation *dout, const activation *inp,
                                      const struct norm_activation *norm, activation *work,
                                      const real *weight, const struct conv3d_shape *s)
{
    const activation *normed = normed_input(c, inp, norm, work, s);
    reference_conv3d_backward(c, dinp, dweight, NULL, dout, normed, weight, s);
    if (norm != NULL && dinp != NULL) {
        reference_instance_norm_backward(c, dinp, NULL, dinp, normed, inp, norm->mean, norm->rstd,
                                         norm->slope, s->n, space_of(s), s->in_channels);
    }
}

void reference_normed_conv3d_pair_backward(struct compute *c, real *dweight1, real *dweight2,
                                           activation *dbetween, const activation *dout,
                                           const activation *between, const struct norm_activation *norm,
                                           activation *work, const activation *x, const real *weight1,
                                           const real *weight2, const struct conv3d_shape *s)
{
    struct conv3d_shape first = *s;
    first.in_channels = 1;
    first.out_channels = s->in_channels;
    c->normed_conv3d_backward(c, dbetween, dweight2, dout, between, norm, work, weight2, s);
    c->normed_conv3d_backward(c, NULL, dweight1, dbetween, x, NULL, NULL, weight1, &first);
}
