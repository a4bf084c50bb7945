#include "operation_cases.h"

#include "operation_runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

const char *const operation_families[] = {
    "conv3d",        "normed_conv3d", "linear",        "fused_linear",  "mlp",
    "normed_linear", "layer_norm",    "instance_norm", "norm_in_steps", "pooled_norm",
    "attention",     "large_scores",  "channel_scale", "gelu",          "gelu_sweep",
    "patch_merge",   "add",           "optimiser",     "sum_in_order",  "not_finite",
    "parameters",    "mask",          "contrast_loss", "crops",         NULL};

/* Cases are appended here. `large`: how many of a family's last ones are. */
struct list {
    struct operation_case *cases;
    size_t count, max;
};

static struct operation_case *append(struct list *list, const char *family, operation run, const void *shape,
                                     double work, int large)
{
    assert_true(list->count < list->max);
    struct operation_case *it = &list->cases[list->count++];
    *it = (struct operation_case){.family = family, .run = run, .shape = shape, .work = work, .large = large};
    snprintf(it->name, sizeof it->name, "%s", family);
    return it;
}

#define NAME(it, ...) snprintf((it)->name, sizeof(it)->name, __VA_ARGS__)

static int has_conv3d(const struct compute *c)
{
    return c->conv3d_forward != NULL && c->conv3d_backward != NULL;
}

static void list_convolutions(struct list *list)
{
    static const struct convolution shapes[] = {
        /* n d h w in out kernel stride */
        {{2, 5, 3, 7, 3, 2, 3, 1}, 1, 1},      {{1, 1, 2, 5, 2, 5, 3, 1}, 0, 1},
        {{3, 5, 3, 7, 5, 7, 1, 1}, 0, 1},      {{2, 6, 10, 4, 1, 6, 2, 2}, 1, 0},
        {{1, 48, 48, 48, 1, 12, 2, 2}, 1, 0}, /* patch embedding */
        {{1, 48, 48, 48, 1, 12, 3, 1}, 0, 0}, /* encoder1 */
        {{1, 48, 48, 48, 1, 12, 1, 1}, 0, 0},  {{1, 32, 32, 32, 6, 6, 3, 1}, 0, 1},
        {{1, 24, 24, 24, 12, 12, 3, 1}, 0, 1}, {{2, 12, 12, 12, 24, 24, 3, 1}, 0, 1},
        {{1, 16, 16, 16, 48, 48, 3, 1}, 0, 1}, {{1, 8, 8, 8, 48, 48, 3, 1}, 0, 1},
        {{2, 6, 6, 6, 48, 48, 3, 1}, 0, 1},    {{2, 4, 4, 4, 96, 96, 3, 1}, 0, 1},
        {{3, 3, 3, 3, 96, 96, 3, 1}, 0, 1},    {{2, 2, 2, 2, 192, 192, 3, 1}, 0, 1},
        {{1, 4, 5, 6, 16, 24, 3, 1}, 0, 1},    {{2, 3, 3, 2, 48, 48, 3, 1}, 0, 1},
        {{1, 5, 4, 3, 32, 16, 1, 1}, 0, 1},
    };
    static const struct convolution large[] = {
        {{2, 64, 64, 64, 1, 48, 2, 2}, 1, 0},  {{1, 64, 64, 64, 1, 48, 3, 1}, 0, 0},
        {{1, 64, 64, 64, 1, 48, 1, 1}, 0, 0},  {{1, 32, 32, 32, 48, 48, 3, 1}, 0, 1},
        {{2, 16, 16, 16, 96, 96, 3, 1}, 0, 1}, {{3, 8, 8, 8, 192, 192, 3, 1}, 0, 1},
        {{3, 4, 4, 4, 384, 384, 3, 1}, 0, 1},  {{5, 2, 2, 2, 768, 768, 3, 1}, 0, 1},
        {{3, 2, 2, 2, 768, 384, 1, 1}, 0, 1},  {{1, 64, 16, 16, 48, 48, 3, 1}, 0, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct convolution *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const struct conv3d_shape *s = &t->shape;
        const int d = s->d / s->stride, h = s->h / s->stride, w = s->w / s->stride;
        const double work =
            3.0 * s->n * d * h * w * s->in_channels * s->out_channels * s->kernel * s->kernel * s->kernel;
        struct operation_case *it = append(list, "conv3d", convolve, t, work, is_large);
        NAME(it, "conv3d %d^3 /%d, %d x (%d %d %d), %d to %d", s->kernel, s->stride, s->n, s->d, s->h, s->w,
             s->in_channels, s->out_channels);
        it->is_there = has_conv3d;
    }
}

static int has_normed_conv3d(const struct compute *c)
{
    return c->normed_conv3d_forward != NULL && c->normed_conv3d_backward != NULL &&
           c->instance_norm_moments != NULL;
}

/* By Winograd's algorithm, by oneDNN and by products over small grids; even and odd sides. */
static void list_normed_convolutions(struct list *list)
{
    static const struct normed_convolution shapes[] = {
        {{2, 8, 8, 8, 12, 12, 3, 1}, 1},   {{1, 7, 5, 9, 48, 48, 3, 1}, 1},
        {{3, 6, 6, 6, 20, 33, 3, 1}, 1},   {{2, 7, 6, 5, 16, 12, 3, 1}, 0},
        {{2, 9, 4, 6, 1, 12, 3, 1}, 0},    {{2, 6, 5, 7, 5, 6, 3, 1}, 1},
        {{3, 2, 2, 2, 192, 192, 3, 1}, 1}, {{1, 22, 10, 12, 24, 24, 3, 1}, 1},
        {{2, 5, 3, 4, 16, 32, 3, 1}, 1},   {{1, 3, 4, 5, 48, 48, 3, 1}, 1},
        {{2, 7, 9, 11, 1, 48, 3, 1}, 0},   {{1, 4, 5, 71, 1, 96, 3, 1}, 0},
        {{1, 3, 2, 2, 96, 96, 3, 1}, 1},   {{1, 2, 3, 3, 96, 16, 3, 1}, 1},
    };
    static const struct normed_convolution large[] = {
        {{1, 64, 64, 64, 1, 48, 3, 1}, 0},  {{1, 32, 32, 32, 48, 48, 3, 1}, 1},
        {{2, 16, 16, 16, 96, 96, 3, 1}, 1}, {{3, 8, 8, 8, 192, 192, 3, 1}, 1},
        {{3, 4, 4, 4, 384, 384, 3, 1}, 1},  {{5, 2, 2, 2, 768, 768, 3, 1}, 1},
        {{1, 48, 48, 48, 12, 12, 3, 1}, 1}, {{2, 24, 24, 24, 12, 12, 3, 1}, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct normed_convolution *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const struct conv3d_shape *s = &t->shape;
        const double work = 81.0 * s->n * s->d * s->h * s->w * s->in_channels * s->out_channels;
        struct operation_case *it = append(list, "normed_conv3d", normalise_and_convolve, t, work, is_large);
        NAME(it, "normed_conv3d %d x (%d %d %d), %d to %d%s", s->n, s->d, s->h, s->w, s->in_channels,
             s->out_channels, t->normed ? "" : ", no norm");
        it->is_there = has_normed_conv3d;
    }
}

static int has_normed_conv3d_pair(const struct compute *c)
{
    return has_normed_conv3d(c) && c->normed_conv3d_pair_backward != NULL;
}

/* The second one's. */
static void list_pairs_of_convolutions(struct list *list)
{
    static const struct conv3d_shape shapes[] = {
        {2, 2, 3, 5, 48, 48, 3, 1},    {1, 7, 3, 3, 48, 48, 3, 1},    {1, 1, 3, 20, 48, 48, 3, 1},
        {1, 16, 2, 2, 48, 48, 3, 1},   {1, 2, 1, 71, 48, 16, 3, 1},   {3, 2, 9, 3, 48, 16, 3, 1},
        {2, 3, 4, 5, 12, 12, 3, 1},    {1, 5, 4, 3, 20, 33, 3, 1},    {1, 64, 64, 64, 48, 48, 3, 1},
        {3, 21, 33, 70, 48, 48, 3, 1}, {1, 24, 16, 16, 96, 96, 3, 1}, {2, 24, 24, 24, 12, 12, 3, 1},
    };
    enum { first_large = 8 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct conv3d_shape *s = &shapes[i];
        const double work = 81.0 * s->n * s->d * s->h * s->w * s->in_channels * s->out_channels;
        struct operation_case *it =
            append(list, "normed_conv3d", convolve_twice_from_one_channel, s, work, i >= first_large);
        NAME(it, "two convolutions %d x (%d %d %d), 1 to %d to %d", s->n, s->d, s->h, s->w, s->in_channels,
             s->out_channels);
        it->is_there = has_normed_conv3d_pair;
    }
}

static int has_linear(const struct compute *c)
{
    return c->linear_forward != NULL && c->linear_backward != NULL;
}

static void list_linear_layers(struct list *list)
{
    static const struct linear shapes[] = {
        {5, 7, 3, 1, 1},       {1, 1, 1, 1, 1},      {33, 3, 9, 1, 1},     {13824, 12, 36, 1, 1},
        {13824, 48, 12, 1, 1}, {1728, 96, 24, 0, 1}, {216, 48, 192, 1, 1}, {512, 192, 576, 1, 1},
        {27, 384, 96, 1, 1},   {8, 768, 192, 0, 1},  {11, 288, 256, 1, 1}, {22, 256, 256, 1, 0},
        {4, 1152, 1024, 1, 1}, {130, 97, 101, 1, 1}, {65, 24, 25, 0, 1},
    };
    static const struct linear large[] = {
        {65536, 48, 144, 1, 1}, {65536, 48, 48, 1, 1},  {65536, 48, 192, 1, 1},  {65536, 192, 48, 1, 1},
        {8192, 384, 96, 0, 1},  {2048, 768, 192, 0, 1}, {1024, 768, 2304, 1, 1}, {44, 1152, 1024, 1, 1},
        {100003, 12, 48, 1, 1}, {88, 2304, 2048, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct linear *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const double work = 3.0 * (double)t->rows * t->in_features * t->out_features;
        struct operation_case *it = append(list, "linear", multiply, t, work, is_large);
        NAME(it, "linear %zu x %d to %d", t->rows, t->in_features, t->out_features);
        it->is_there = has_linear;
    }
}

static int has_fused_linear(const struct compute *c)
{
    return c->linear_gelu_forward != NULL && c->linear_gelu_backward != NULL && c->linear_add_forward != NULL;
}

static void list_fused_linear_layers(struct list *list)
{
    static const struct linear shapes[] = {
        {5, 7, 3, 1, 1},     {1, 1, 1, 1, 1},       {33, 3, 9, 0, 1},     {216, 24, 96, 1, 1},
        {300, 48, 48, 1, 1}, {257, 48, 192, 1, 1},  {130, 192, 48, 1, 1}, {1728, 12, 48, 1, 1},
        {27, 384, 96, 0, 0}, {216, 192, 192, 1, 1}, {130, 144, 16, 1, 0},
    };
    static const struct linear large[] = {
        {65536, 48, 48, 1, 1}, {65536, 48, 192, 1, 1}, {65536, 192, 48, 1, 1},  {8192, 96, 384, 1, 1},
        {8192, 384, 96, 1, 1}, {2048, 768, 192, 1, 1}, {1024, 384, 1536, 1, 1}, {100003, 12, 48, 1, 1},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct linear *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const double work = 4.0 * (double)t->rows * t->in_features * t->out_features;
        struct operation_case *it = append(list, "fused_linear", multiply_and_more, t, work, is_large);
        NAME(it, "linear and more %zu x %d to %d", t->rows, t->in_features, t->out_features);
        it->is_there = has_fused_linear;
    }
}

static int has_normed_linear(const struct compute *c)
{
    return c->normed_linear_forward != NULL && c->normed_linear_backward != NULL;
}

static void list_normed_linear_layers(struct list *list)
{
    static const struct normed_linear_of_rows shapes[] = {
        {1, 48, 144},   {63, 48, 144}, {65, 48, 144}, {130, 48, 144},
        {700, 48, 144}, {130, 24, 72}, {33, 7, 5},    {1, 1, 1},
    };
    static const struct normed_linear_of_rows large[] = {{65536, 48, 144}, {8192, 96, 288}};
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct normed_linear_of_rows *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const double work = 3.0 * (double)t->rows * t->in_features * t->out_features;
        struct operation_case *it = append(list, "normed_linear", normalise_and_multiply, t, work, is_large);
        NAME(it, "normed linear %zu x %d to %d", t->rows, t->in_features, t->out_features);
        it->is_there = has_normed_linear;
    }
}

static int has_mlp(const struct compute *c)
{
    return c->mlp_forward != NULL && c->mlp_backward != NULL;
}

/* Rows around blocks of 64 and 128; widths of one tile of columns, of an odd number of tiles and of several
 * chunks. */
static void list_mlps(struct list *list)
{
    static const struct mlp_of_rows shapes[] = {
        {1, 3, 12},     {63, 3, 12},     {65, 12, 48},   {130, 20, 80},  {1, 48, 192},   {63, 48, 192},
        {65, 48, 192},  {130, 48, 192},  {700, 48, 192}, {130, 96, 384}, {65, 192, 768}, {33, 40, 17},
        {130, 17, 100}, {64, 384, 1536}, {70, 13, 51},   {259, 51, 203}, {1, 1, 1},
    };
    static const struct mlp_of_rows large[] = {
        {65536, 48, 192}, {8192, 96, 384}, {2048, 192, 768}, {704, 384, 1536}, {100003, 12, 48},
    };
    for (size_t i = 0; i < COUNT_OF(shapes) + COUNT_OF(large); i++) {
        const int is_large = i >= COUNT_OF(shapes);
        const struct mlp_of_rows *t = is_large ? &large[i - COUNT_OF(shapes)] : &shapes[i];
        const double work = 8.0 * (double)t->rows * t->channels * t->hidden;
        struct operation_case *it = append(list, "mlp", pass_through_mlp, t, work, is_large);
        NAME(it, "mlp %zu x %d, %d hidden", t->rows, t->channels, t->hidden);
        it->is_there = has_mlp;
    }
}

static int has_layer_norm(const struct compute *c)
{
    return c->layer_norm_forward != NULL && c->layer_norm_backward != NULL;
}

static void list_layer_norms(struct list *list)
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
        struct operation_case *it =
            append(list, "layer_norm", normalise_rows, t, 60.0 * (double)t->rows * t->channels, is_large);
        NAME(it, "layer_norm %zu x %d%s%s%s", t->rows, t->channels, t->affine ? "" : ", plain",
             t->in_place ? ", in place" : "", t->has_residual ? ", residual" : "");
        it->is_there = has_layer_norm;
    }
}

static int has_instance_norm(const struct compute *c)
{
    return c->instance_norm_forward != NULL && c->instance_norm_backward != NULL;
}

static int has_norm_in_steps(const struct compute *c)
{
    return c->instance_norm_moments != NULL && c->instance_norm_apply != NULL;
}

static void list_instance_norms(struct list *list)
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
            append(list, "instance_norm", normalise_channels, t, work, i >= first_large);
        NAME(it, "instance_norm %d x %d x %d, slope %g%s", t->n, t->space, t->channels, (double)t->slope,
             t->has_residual ? ", residual" : "");
        it->is_there = has_instance_norm;
        it = append(list, "norm_in_steps", normalise_in_two_steps, t, work, i >= first_large);
        NAME(it, "moments and norm of them %d x %d x %d, slope %g%s", t->n, t->space, t->channels,
             (double)t->slope, t->has_residual ? ", residual" : "");
        it->is_there = has_norm_in_steps;
    }
}

static int has_pooled_norm(const struct compute *c)
{
    return c->pooled_norm_forward != NULL && c->pooled_norm_backward != NULL &&
           c->instance_norm_moments != NULL;
}

static void list_pooled_norms(struct list *list)
{
    static const struct pool shapes[] = {
        {2, 105, 3, 0},    {2, 105, 5, 1},   {1, 110592, 12, 1}, {3, 13824, 6, 0},   {2, 216, 48, 0},
        {11, 8, 192, 0},   {2, 5, 5, 1},     {2, 262144, 48, 1}, {3, 32768, 48, 0},  {3, 4096, 96, 0},
        {11, 512, 192, 0}, {11, 64, 384, 0}, {11, 8, 768, 0},    {4, 110592, 12, 1},
    };
    enum { first_large = 7 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct pool *t = &shapes[i];
        struct operation_case *it = append(list, "pooled_norm", normalise_and_pool, t,
                                           60.0 * t->n * t->space * t->channels, i >= first_large);
        NAME(it, "pooled_norm %d x %d x %d%s", t->n, t->space, t->channels,
             t->scaled ? ", scaled residual" : "");
        it->is_there = has_pooled_norm;
    }
}

static int has_attention(const struct compute *c)
{
    return c->window_attention_forward != NULL && c->window_attention_backward != NULL;
}

static int has_attention_forward(const struct compute *c)
{
    return c->window_attention_forward != NULL;
}

static double attention_work(const struct attention *t)
{
    const int extent[3] = {t->d, t->h, t->w};
    double tokens = t->n, window_tokens = 1;
    for (int axis = 0; axis < 3; axis++) {
        int window, shift;
        attention_window_of_axis(extent[axis], t->odd_block, &window, &shift);
        tokens *= extent[axis];
        window_tokens *= window;
    }
    return 8 * tokens * window_tokens * t->heads * (t->head_dim + 4);
}

static void list_attentions(struct list *list)
{
    static const struct attention shapes[] = {
        /* n d h w heads head_dim */
        {2, 5, 3, 7, 2, 3, 1},     {1, 2, 9, 3, 3, 2, 0},     {2, 9, 4, 8, 3, 5, 1},
        {1, 13, 12, 13, 1, 7, 1},  {1, 1, 1, 1, 1, 1, 0},     {1, 24, 24, 24, 3, 4, 1},
        {1, 32, 9, 8, 3, 16, 1},   {2, 12, 12, 12, 6, 4, 1},  {1, 16, 16, 16, 3, 8, 1},
        {1, 12, 12, 12, 3, 2, 1},  {1, 12, 12, 12, 3, 1, 0},  {2, 6, 6, 6, 12, 4, 1},
        {2, 8, 8, 8, 12, 16, 1},   {2, 8, 8, 8, 3, 32, 0},    {3, 3, 3, 3, 24, 4, 0},
        {2, 4, 4, 4, 24, 16, 1},   {3, 2, 2, 2, 24, 8, 0},    {1, 32, 32, 32, 3, 16, 1},
        {1, 32, 32, 32, 3, 16, 0}, {3, 16, 16, 16, 6, 16, 1}, {5, 8, 8, 8, 12, 16, 1},
        {11, 4, 4, 4, 24, 16, 0},  {1, 16, 16, 16, 6, 32, 1}, {2, 8, 8, 8, 12, 32, 1},
        {1, 16, 16, 16, 3, 64, 1}, {2, 8, 8, 8, 6, 64, 1},    {11, 2, 2, 2, 24, 32, 0},
    };
    /* heads that tensor cores take, in few windows: padded, shifted, and of less than 7^3 */
    static const struct attention of_tensor_cores[] = {
        {1, 7, 7, 7, 1, 16, 0}, {1, 5, 8, 9, 1, 16, 1}, {1, 5, 8, 9, 1, 32, 1}, {1, 8, 6, 9, 1, 32, 1},
        {3, 4, 4, 4, 2, 32, 0}, {1, 6, 8, 9, 1, 64, 1}, {1, 7, 9, 7, 1, 64, 1}, {1, 8, 3, 9, 2, 64, 1},
        {3, 4, 4, 4, 2, 64, 0}, {9, 4, 4, 4, 1, 16, 0},
    };
    static const struct attention_shape masked = {
        .n = 1, .d = 12, .h = 4, .w = 13, .heads = 2, .head_dim = 4, .window = {7, 4, 7}, .shift = {3, 0, 3}};
    static const struct attention_shape wide_and_masked_64 = {
        .n = 1, .d = 8, .h = 5, .w = 4, .heads = 1, .head_dim = 64, .window = {7, 5, 4}, .shift = {3, 0, 0}};
    static const struct attention_shape wide_and_masked = {
        .n = 1, .d = 8, .h = 9, .w = 10, .heads = 3, .head_dim = 16, .window = {7, 7, 7}, .shift = {3, 3, 3}};
    static const struct attention_shape growing = {
        .n = 3, .d = 4, .h = 8, .w = 7, .heads = 2, .head_dim = 16, .window = {4, 7, 7}, .shift = {0, 3, 0}};
    enum { first_large = 17 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct attention *t = &shapes[i];
        struct operation_case *it = append(list, "attention", attend, t, attention_work(t), i >= first_large);
        NAME(it, "window_attention %d x (%d %d %d), %d heads of %d, block %d", t->n, t->d, t->h, t->w,
             t->heads, t->head_dim, t->odd_block);
        it->is_there = has_attention;
    }
    for (size_t i = 0; i < COUNT_OF(of_tensor_cores); i++) {
        const struct attention *t = &of_tensor_cores[i];
        struct operation_case *it = append(list, "attention", attend, t, 1e7, 0);
        NAME(it, "window_attention %d x (%d %d %d), %d heads of %d, block %d", t->n, t->d, t->h, t->w,
             t->heads, t->head_dim, t->odd_block);
        it->is_there = has_attention;
    }
    struct operation_case *it = append(list, "large_scores", attend_with_large_scores, &masked, 4e6, 0);
    NAME(it, "window_attention with large scores");
    it->is_there = has_attention_forward;
    it = append(list, "large_scores", attend_with_large_scores, &wide_and_masked, 4e7, 0);
    NAME(it, "window_attention with large scores, heads of 16");
    it->is_there = has_attention_forward;
    it = append(list, "large_scores", attend_with_large_scores, &wide_and_masked_64, 4e6, 0);
    NAME(it, "window_attention with large scores, heads of 64");
    it->is_there = has_attention_forward;
    it = append(list, "large_scores", attend_with_growing_scores, &growing, 4e6, 0);
    NAME(it, "window_attention with growing scores, heads of 16");
    it->is_there = has_attention_forward;
}

static int has_channel_scale(const struct compute *c)
{
    return c->channel_scale_forward != NULL && c->channel_scale_backward != NULL;
}

static void list_channel_scales(struct list *list)
{
    static const struct channel_scale shapes[] = {{1, 1}, {2, 3}, {5, 12}, {11, 48}, {44, 48}, {300, 192}};
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        struct operation_case *it = append(list, "channel_scale", scale_channels, &shapes[i],
                                           20.0 * shapes[i].n * shapes[i].channels, 0);
        NAME(it, "channel_scale %d x %d", shapes[i].n, shapes[i].channels);
        it->is_there = has_channel_scale;
    }
}

static int has_gelu(const struct compute *c)
{
    return c->gelu_forward != NULL && c->gelu_backward != NULL;
}

static void list_gelus(struct list *list)
{
    static const size_t counts[] = {1, 7, 8, 15, 16, 105, 2051, 13824UL * 48, 65537UL * 192};
    static const size_t points = 6001;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct operation_case *it =
            append(list, "gelu", apply_gelu, &counts[i], 60.0 * (double)counts[i], i + 1 == COUNT_OF(counts));
        NAME(it, "gelu %zu", counts[i]);
        it->is_there = has_gelu;
    }
    struct operation_case *it = append(list, "gelu_sweep", sweep_gelu, &points, 60.0 * (double)points, 0);
    NAME(it, "gelu from -30 to 30");
    it->is_there = has_gelu;
}

static int has_patch_merge(const struct compute *c)
{
    return c->patch_merge_forward != NULL && c->patch_merge_backward != NULL;
}

static void list_patch_mergings(struct list *list)
{
    static const int grids[][5] = {{2, 5, 3, 7, 3},    {1, 1, 2, 9, 5}, {2, 24, 24, 24, 12},
                                   {3, 3, 3, 3, 96},   {2, 4, 5, 6, 8}, {3, 32, 32, 32, 48},
                                   {5, 16, 16, 16, 96}};
    enum { count = COUNT_OF(grids) * 3, first_large = 15 };
    static struct merging shapes[count];
    for (int i = 0; i < count; i++) {
        const int *g = grids[i / 3];
        shapes[i] = (struct merging){g[0], g[1], g[2], g[3], g[4], (enum patch_merging)(i % 3)};
        struct operation_case *it = append(list, "patch_merge", merge, &shapes[i],
                                           10.0 * g[0] * g[1] * g[2] * g[3] * g[4], i >= first_large);
        NAME(it, "patch_merge %d x (%d %d %d) x %d, order %d", g[0], g[1], g[2], g[3], g[4], i % 3);
        it->is_there = has_patch_merge;
    }
}

static int has_add(const struct compute *c)
{
    return c->add != NULL;
}

static int has_optimiser(const struct compute *c)
{
    return c->adamw_step != NULL && c->moving_average != NULL && c->zero != NULL && c->sum_of_squares != NULL;
}

static int has_sum_of_squares(const struct compute *c)
{
    return c->sum_of_squares != NULL;
}

static int has_sum_in_order(const struct compute *c)
{
    return c->sum_in_order != NULL;
}

static int has_mask(const struct compute *c)
{
    return c->apply_mask != NULL;
}

static int has_contrast_loss(const struct compute *c)
{
    return c->contrast_loss != NULL;
}

static void list_losses(struct list *list)
{
    static const size_t counts[] = {1, 7, 1024, 50691};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct operation_case *it = append(list, "mask", mask, &counts[i], 4.0 * (double)counts[i], 0);
        NAME(it, "mask of %zu", counts[i]);
        it->is_there = has_mask;
    }
    static const struct contrast_shape shapes[] = {
        {1, 1, 1, 3},   {1, 3, 2, 40},  {2, 3, 4, 5},    {3, 2, 9, 33},
        {5, 4, 1, 130}, {2, 17, 9, 64}, {4, 2, 9, 1024},
    };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct contrast_shape *s = &shapes[i];
        const double pairs = (double)s->volumes * s->bases * (3.0 * s->crops + s->bases);
        struct operation_case *it = append(list, "contrast_loss", contrast, s, 4 * pairs * s->width, 0);
        NAME(it, "loss of %d volumes, %d crops, %d bases, %d wide", s->volumes, s->crops, s->bases, s->width);
        it->is_there = has_contrast_loss;
    }
}

static int has_transform_crops(const struct compute *c)
{
    return c->transform_crops != NULL;
}

static void list_stored_crops(struct list *list)
{
    static const struct stored_crops shapes[] = {
        {1, 1, 1},  {17, 5, 1}, {16, 8, 1},  {19, 7, 2},  {16, 12, 2},
        {3, 33, 1}, {2, 64, 1}, {44, 64, 1}, {16, 48, 2},
    };
    enum { first_large = 7 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct stored_crops *s = &shapes[i];
        struct operation_case *it =
            append(list, "crops", transform, s, 4.0 * s->n * s->side * s->side * s->side, i >= first_large);
        NAME(it, "%d stored crops of %d^3, %d bits", s->n, s->side, 8 * s->voxel_bytes);
        it->is_there = has_transform_crops;
    }
}

static int has_linear_and_conv3d(const struct compute *c)
{
    return c->linear_forward != NULL && c->conv3d_forward != NULL;
}

static void list_updates(struct list *list)
{
    static const size_t counts[] = {1, 7, 105, 2050, 100003, 8000003};
    static const size_t few = 1003;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        const int large = i + 1 == COUNT_OF(counts);
        struct operation_case *it = append(list, "add", add, &counts[i], 4.0 * (double)counts[i], large);
        NAME(it, "add %zu", counts[i]);
        it->is_there = has_add;
        it = append(list, "optimiser", update, &counts[i], 100.0 * (double)counts[i], large);
        NAME(it, "adamw and sums %zu", counts[i]);
        it->is_there = has_optimiser;
    }
    static const struct parts parts[] = {{1, 33}, {2, 1}, {3, 20}, {8, 1024}, {5, 1003}, {8, 524288}};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        const double work = (double)parts[i].n * (double)parts[i].count;
        struct operation_case *it =
            append(list, "sum_in_order", add_parts, &parts[i], 4 * work, i + 1 == COUNT_OF(parts));
        NAME(it, "sum of %d parts of %zu", parts[i].n, parts[i].count);
        it->is_there = has_sum_in_order;
    }
    struct operation_case *it = append(list, "not_finite", sum_what_is_not_finite, &few, 2e4, 0);
    NAME(it, "sums of squares show what is not finite");
    it->is_there = has_sum_of_squares;
    it = append(list, "parameters", change_parameters, NULL, 2e5, 0);
    NAME(it, "changed parameters are used");
    it->is_there = has_linear_and_conv3d;
}

size_t list_operation_cases(struct operation_case *cases, size_t max)
{
    struct list list = {cases, 0, max};
    list_convolutions(&list);
    list_normed_convolutions(&list);
    list_pairs_of_convolutions(&list);
    list_linear_layers(&list);
    list_fused_linear_layers(&list);
    list_mlps(&list);
    list_normed_linear_layers(&list);
    list_layer_norms(&list);
    list_instance_norms(&list);
    list_pooled_norms(&list);
    list_attentions(&list);
    list_channel_scales(&list);
    list_gelus(&list);
    list_patch_mergings(&list);
    list_updates(&list);
    list_losses(&list);
    list_stored_crops(&list);
    return list.count;
}
