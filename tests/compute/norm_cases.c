#include "case_list.h"

#include "tensors.h"

#include <math.h>
#include <stddef.h>

struct layer_norm {
    size_t rows;
    int channels, affine, in_place, has_residual;
};

static void normalise_rows(struct compute *c, const void *chosen, struct results *r)
{
    const struct layer_norm *t = chosen;
    const size_t count = t->rows * t->channels;
    real *values = random_tensor(1, count, 1);
    for (size_t k = 0; k < count; k++) {
        values[k] += 1;
    }
    activation *inp = given_activations(r, values, count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    real *weight = given_reals(r, random_tensor(3, t->channels, 1), t->channels);
    real *bias = given_reals(r, random_tensor(4, t->channels, 1), t->channels);
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    real *mean = new_result(r, "mean", t->rows, 77);
    real *rstd = new_result(r, "rstd", t->rows, 77);
    real *dweight = t->affine ? new_result(r, "dweight", t->channels, accumulated_start) : NULL;
    real *dbias = t->affine ? new_result(r, "dbias", t->channels, accumulated_start) : NULL;
    activation *residual = t->has_residual ? given_activations(r, random_tensor(5, count, 1), count) : NULL;
    if (t->in_place) {
        c->copy(c, dinp, dout, count * c->activation_size);
    }
    c->layer_norm_forward(c, out, mean, rstd, inp, t->affine ? weight : NULL, t->affine ? bias : NULL,
                          t->rows, t->channels);
    c->layer_norm_backward(c, dinp, dweight, dbias, t->in_place ? dinp : dout, inp, mean, rstd,
                           t->affine ? weight : NULL, residual, t->rows, t->channels);
}

static int has_layer_norm(const struct compute *c)
{
    return c->layer_norm_forward != NULL && c->layer_norm_backward != NULL;
}

static void list_layer_norms(struct case_list *list)
{
    static const struct layer_norm shapes[] = {
        {5, 7, 1, 0, 0},      {5, 7, 0, 1, 0},    {35, 3, 1, 1, 0},    {13824, 12, 1, 0, 0},
        {13824, 12, 0, 0, 0}, {4096, 6, 1, 0, 0}, {1728, 24, 1, 1, 0}, {512, 48, 1, 0, 0},
        {27, 384, 1, 0, 0},   {8, 768, 0, 0, 0},  {64, 192, 1, 1, 0},  {35, 7, 1, 0, 1},
        {5, 7, 0, 1, 1},      {516, 48, 1, 1, 1}, {129, 96, 1, 0, 1},  {64, 192, 0, 1, 1},
        {9, 1536, 1, 1, 1},
    };
    static const struct layer_norm large[] = {
        {131072, 48, 1, 0, 0}, {65536, 48, 0, 1, 0}, {16384, 384, 1, 0, 0}, {4096, 768, 1, 1, 0},
        {512, 1536, 1, 0, 0},  {512, 3072, 1, 0, 0}, {64, 6144, 1, 1, 0},   {4096, 96, 1, 0, 0},
        {131072, 48, 1, 1, 1}, {4096, 384, 1, 1, 1}, {65536, 48, 0, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct layer_norm *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        struct operation_case *it = append_case(list, "layer_norm", normalise_rows, t,
                                                60.0 * (double)t->rows * t->channels, is_large);
        name_case(it, "layer_norm %zu x %d%s%s%s", t->rows, t->channels, t->affine ? "" : ", plain",
                  t->in_place ? ", in place" : "", t->has_residual ? ", residual" : "");
        it->is_there = has_layer_norm;
    }
}

struct instance_norm {
    int n, space, channels;
    real slope;
    int has_residual, in_place;
};

/* Inputs in two humps around a mean of 3, so that no argument of the activation lies where rounding decides
 * on its sign. */
static void normalise_channels(struct compute *c, const void *chosen, struct results *r)
{
    const struct instance_norm *t = chosen;
    const size_t count = (size_t)t->n * t->space * t->channels, statistics = (size_t)t->n * t->channels;
    real *values = random_tensor(1, count, 0.2);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    activation *inp = given_activations(r, values, count);
    activation *dout = given_activations(r, random_tensor(2, count, 1), count);
    activation *residual = t->has_residual ? given_activations(r, random_tensor(3, count, 0.1), count) : NULL;
    activation *out = new_activations(r, "out", count, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    real *mean = new_result(r, "mean", statistics, 77);
    real *rstd = new_result(r, "rstd", statistics, 77);
    activation *dresidual = t->has_residual ? new_activations(r, "dresidual", count, 77) : NULL;
    if (t->in_place) {
        c->copy(c, dinp, dout, count * c->activation_size);
    }
    c->instance_norm_forward(c, out, mean, rstd, inp, residual, t->slope, t->n, t->space, t->channels);
    c->instance_norm_backward(c, dinp, dresidual, t->in_place ? dinp : dout, t->slope == 1 ? NULL : out, inp,
                              mean, rstd, t->slope, t->n, t->space, t->channels);
}

static int has_instance_norm(const struct compute *c)
{
    return c->instance_norm_forward != NULL && c->instance_norm_backward != NULL;
}

/* The moments alone, and the norm from moments that are given. */
static void normalise_in_two_steps(struct compute *c, const void *chosen, struct results *r)
{
    const struct instance_norm *t = chosen;
    const size_t count = (size_t)t->n * t->space * t->channels, moments = (size_t)t->n * t->channels;
    real *values = random_tensor(1, count, 0.2), *rstds = random_tensor(5, moments, 0.2);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    for (size_t k = 0; k < moments; k++) {
        rstds[k] = (real)1 + (real)fabs((double)rstds[k]);
    }
    activation *inp = given_activations(r, values, count);
    activation *residual = t->has_residual ? given_activations(r, random_tensor(3, count, 0.1), count) : NULL;
    const struct norm_activation norm = {.mean = given_reals(r, filled_tensor(moments, 3), moments),
                                         .rstd = given_reals(r, rstds, moments),
                                         .slope = t->slope};
    activation *out = new_activations(r, "out", count, 77);
    real *mean = new_result(r, "mean", moments, 77), *rstd = new_result(r, "rstd", moments, 77);
    c->instance_norm_moments(c, mean, rstd, inp, t->n, t->space, t->channels);
    c->instance_norm_apply(c, out, inp, &norm, residual, t->n, t->space, t->channels);
}

static int has_norm_in_steps(const struct compute *c)
{
    return c->instance_norm_moments != NULL && c->instance_norm_apply != NULL;
}

static void list_instance_norms(struct case_list *list)
{
    static const struct instance_norm shapes[] = {
        {2, 105, 3, 0.01F, 1, 0},     {2, 105, 5, 1, 0, 1},        {3, 105, 7, 0, 0, 0},
        {1, 110592, 12, 0.01F, 0, 0}, {2, 13824, 12, 0.01F, 1, 1}, {1, 13824, 12, 1, 0, 0},
        {1, 32768, 6, 0.01F, 1, 0},   {2, 1728, 24, 0.01F, 1, 0},  {1, 4096, 48, 0.01F, 0, 1},
        {3, 216, 48, 0.01F, 1, 0},    {3, 27, 96, 0.01F, 0, 0},    {11, 8, 192, 0.01F, 1, 0},
        {1, 22, 256, 0, 0, 0},        {1, 11, 1024, 0, 0, 1},      {2, 262144, 48, 0.01F, 1, 0},
        {3, 32768, 48, 0.01F, 1, 1},  {3, 4096, 96, 0.01F, 0, 0},  {5, 512, 192, 0.01F, 1, 0},
        {11, 64, 384, 0.01F, 1, 1},   {11, 8, 768, 0.01F, 0, 0},   {1, 88, 2048, 0, 0, 0},
        {4, 110592, 12, 0.01F, 1, 0},
    };
    enum { first_large = 14 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct instance_norm *t = &shapes[i];
        const double work = 60.0 * t->n * t->space * t->channels;
        struct operation_case *it =
            append_case(list, "instance_norm", normalise_channels, t, work, i >= first_large);
        name_case(it, "instance_norm %d x %d x %d, slope %g%s", t->n, t->space, t->channels, (double)t->slope,
                  t->has_residual ? ", residual" : "");
        it->is_there = has_instance_norm;
        it = append_case(list, "norm_in_steps", normalise_in_two_steps, t, work, i >= first_large);
        name_case(it, "moments and norm of them %d x %d x %d, slope %g%s", t->n, t->space, t->channels,
                  (double)t->slope, t->has_residual ? ", residual" : "");
        it->is_there = has_norm_in_steps;
    }
}

struct pool {
    int n, space, channels, scaled;
};

/* Inputs in two humps, as in normalise_channels; a residual of one channel lies around 3. */
static void normalise_and_pool(struct compute *c, const void *chosen, struct results *r)
{
    const struct pool *t = chosen;
    const size_t stride = (size_t)t->channels + 4, rows = (size_t)t->n * t->space,
                 moments = (size_t)t->n * t->channels;
    const size_t count = rows * t->channels, residuals = t->scaled ? rows : count;
    real *values = random_tensor(1, count, 0.2), *added = random_tensor(3, residuals, 0.1);
    for (size_t k = 0; k < count; k++) {
        values[k] += k / t->channels % 2 == 0 ? 4 : 2;
    }
    for (size_t k = 0; k < residuals && t->scaled; k++) {
        added[k] += 3;
    }
    activation *inp = given_activations(r, values, count);
    const struct pooled_residual residual = {
        .x = given_activations(r, added, residuals),
        .scale = t->scaled ? given_reals(r, random_tensor(4, moments, 1), moments) : NULL,
        .centre = t->scaled ? given_reals(r, filled_tensor(t->n, 3), t->n) : NULL};
    real *dpooled = given_reals(r, random_tensor(2, t->n * stride, 1), t->n * stride);
    real *mean = new_result(r, "mean", moments, 77), *rstd = new_result(r, "rstd", moments, 77);
    real *pooled = new_result(r, "pooled", t->n * stride, 77);
    real *bends = new_result(r, "bends", 3 * moments, 77);
    activation *dinp = new_activations(r, "dinp", count, 77);
    activation *dresidual = t->scaled ? NULL : new_activations(r, "dresidual", count, 77);
    real *dscale = t->scaled ? new_result(r, "dscale", moments, 77) : NULL;
    const struct norm_activation norm = {.mean = mean, .rstd = rstd, .slope = (real)0.01};
    c->instance_norm_moments(c, mean, rstd, inp, t->n, t->space, t->channels);
    c->pooled_norm_forward(c, pooled + 3, stride, bends, inp, &norm, &residual, t->n, t->space, t->channels);
    c->pooled_norm_backward(c, dinp, dresidual, dscale, dpooled + 3, stride, bends, inp, &norm, &residual,
                            t->n, t->space, t->channels);
}

static int has_pooled_norm(const struct compute *c)
{
    return c->pooled_norm_forward != NULL && c->pooled_norm_backward != NULL &&
           c->instance_norm_moments != NULL;
}

static void list_pooled_norms(struct case_list *list)
{
    static const struct pool shapes[] = {
        {2, 105, 3, 0},    {2, 105, 5, 1},   {1, 110592, 12, 1}, {3, 13824, 6, 0},   {2, 216, 48, 0},
        {11, 8, 192, 0},   {2, 5, 5, 1},     {2, 262144, 48, 1}, {3, 32768, 48, 0},  {3, 4096, 96, 0},
        {11, 512, 192, 0}, {11, 64, 384, 0}, {11, 8, 768, 0},    {4, 110592, 12, 1},
    };
    enum { first_large = 7 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct pool *t = &shapes[i];
        struct operation_case *it = append_case(list, "pooled_norm", normalise_and_pool, t,
                                                60.0 * t->n * t->space * t->channels, i >= first_large);
        name_case(it, "pooled_norm %d x %d x %d%s", t->n, t->space, t->channels,
                  t->scaled ? ", scaled residual" : "");
        it->is_there = has_pooled_norm;
    }
}

struct channel_scale {
    int n, channels;
};

static void scale_channels(struct compute *c, const void *chosen, struct results *r)
{
    const struct channel_scale *t = chosen;
    const size_t count = (size_t)t->n * t->channels;
    real *rstds = random_tensor(2, t->n, 1);
    for (int i = 0; i < t->n; i++) {
        rstds[i] = (real)exp(3 * (double)rstds[i]); /* deviations from far above to far below 1 */
    }
    real *weight = given_reals(r, random_tensor(1, t->channels, 1), t->channels);
    real *rstd = given_reals(r, rstds, t->n);
    real *dscale = given_reals(r, random_tensor(3, count, 1), count);
    real *scale = new_result(r, "scale", count, 77);
    real *dscale_dweight = new_result(r, "dscale_dweight", count, 77);
    real *dweight = new_sum(r, "dweight", t->channels);
    c->channel_scale_forward(c, scale, dscale_dweight, weight, rstd, t->n, t->channels);
    c->channel_scale_backward(c, dweight, dscale, dscale_dweight, t->n, t->channels);
}

static int has_channel_scale(const struct compute *c)
{
    return c->channel_scale_forward != NULL && c->channel_scale_backward != NULL;
}

static void list_channel_scales(struct case_list *list)
{
    static const struct channel_scale shapes[] = {{1, 1}, {2, 3}, {5, 12}, {11, 48}, {44, 48}, {300, 192}};
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        struct operation_case *it = append_case(list, "channel_scale", scale_channels, &shapes[i],
                                                20.0 * shapes[i].n * shapes[i].channels, 0);
        name_case(it, "channel_scale %d x %d", shapes[i].n, shapes[i].channels);
        it->is_there = has_channel_scale;
    }
}

void list_norm_cases(struct case_list *list)
{
    list_layer_norms(list);
    list_instance_norms(list);
    list_pooled_norms(list);
    list_channel_scales(list);
}
