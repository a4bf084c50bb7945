#include "case_list.h"

#include "tensors.h"

#include <math.h>
#include <stddef.h>

struct linear {
    size_t rows;
    int in_features, out_features, has_bias, wants_dinp;
};

static void multiply(struct compute *c, const void *chosen, struct results *r)
{
    const struct linear *t = chosen;
    const size_t inputs = t->rows * t->in_features, outputs = t->rows * t->out_features;
    const size_t weights = (size_t)t->in_features * t->out_features;
    activation *inp = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    real *weight = given_reals(r, random_tensor(3, weights, 1), weights);
    real *bias = given_reals(r, random_tensor(4, t->out_features, 1), t->out_features);
    activation *out = new_activations(r, "out", outputs, 77);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    activation *dinp = t->wants_dinp ? new_activations(r, "dinp", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", t->out_features, accumulated_start) : NULL;
    c->linear_forward(c, out, inp, weight, t->has_bias ? bias : NULL, t->rows, t->in_features,
                      t->out_features);
    c->linear_backward(c, dinp, dweight, dbias, dout, inp, weight, t->rows, t->in_features, t->out_features);
}

static int has_linear(const struct compute *c)
{
    return c->linear_forward != NULL && c->linear_backward != NULL;
}

static void list_linear_layers(struct case_list *list)
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
        struct operation_case *it = append_case(list, "linear", multiply, t, work, is_large);
        name_case(it, "linear %zu x %d to %d", t->rows, t->in_features, t->out_features);
        it->is_there = has_linear;
    }
}

/* Fused with what is next to it. */
static void multiply_and_more(struct compute *c, const void *chosen, struct results *r)
{
    const struct linear *t = chosen;
    const size_t inputs = t->rows * t->in_features, outputs = t->rows * t->out_features;
    const size_t weights = (size_t)t->in_features * t->out_features;
    activation *inp = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    real *weight = given_reals(r, random_tensor(3, weights, 1 / sqrt(t->in_features)), weights);
    real *bias = given_reals(r, random_tensor(4, t->out_features, 1), t->out_features);
    activation *residual = given_activations(r, random_tensor(5, outputs, 1), outputs);
    activation *wide = given_activations(r, random_tensor(6, inputs, 1), inputs);
    activation *out = new_activations(r, "out", outputs, 77);
    activation *activated = new_activations(r, "activated", outputs, 77);
    activation *sum = new_activations(r, "out + residual", outputs, 77);
    real *dweight = new_result(r, "dweight", weights, accumulated_start);
    activation *dwide = t->wants_dinp ? new_activations(r, "dwide", inputs, 77) : NULL;
    real *dbias = t->has_bias ? new_result(r, "dbias", t->out_features, accumulated_start) : NULL;
    c->linear_gelu_forward(c, out, activated, inp, weight, t->has_bias ? bias : NULL, t->rows, t->in_features,
                           t->out_features);
    c->linear_add_forward(c, sum, inp, weight, t->has_bias ? bias : NULL, residual, t->rows, t->in_features,
                          t->out_features);
    c->linear_gelu_backward(c, dwide, dweight, dbias, dout, inp, wide, weight, t->rows, t->in_features,
                            t->out_features);
}

static int has_fused_linear(const struct compute *c)
{
    return c->linear_gelu_forward != NULL && c->linear_gelu_backward != NULL && c->linear_add_forward != NULL;
}

static void list_fused_linear_layers(struct case_list *list)
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
        struct operation_case *it = append_case(list, "fused_linear", multiply_and_more, t, work, is_large);
        name_case(it, "linear and more %zu x %d to %d", t->rows, t->in_features, t->out_features);
        it->is_there = has_fused_linear;
    }
}

struct normed_linear_of_rows {
    size_t rows;
    int in_features, out_features;
};

/* No results where c does not fuse it. */
static void normalise_and_multiply(struct compute *c, const void *chosen, struct results *r)
{
    if (c->normed_linear_forward == NULL) {
        return;
    }
    const struct normed_linear_of_rows *t = chosen;
    const size_t in = t->in_features, out_features = t->out_features;
    const size_t inputs = t->rows * in, outputs = t->rows * out_features, weights = in * out_features;
    activation *x = given_activations(r, random_tensor(1, inputs, 1), inputs);
    activation *dout = given_activations(r, random_tensor(2, outputs, 1), outputs);
    activation *residual = given_activations(r, random_tensor(3, inputs, 1), inputs);
    const struct normed_linear layer = {
        .in_features = t->in_features,
        .out_features = t->out_features,
        .norm_weight = given_reals(r, random_tensor(4, in, 1), in),
        .norm_bias = given_reals(r, random_tensor(5, in, 1), in),
        .weight = given_reals(r, random_tensor(6, weights, 1 / sqrt(t->in_features)), weights),
        .bias = given_reals(r, random_tensor(7, out_features, 1), out_features),
    };
    activation *out = new_activations(r, "out", outputs, 77);
    activation *dx = new_activations(r, "dx", inputs, 77);
    const struct normed_linear_gradients gradients = {
        .norm_weight = new_result(r, "dnorm_weight", in, accumulated_start),
        .norm_bias = new_result(r, "dnorm_bias", in, accumulated_start),
        .weight = new_result(r, "dweight", weights, accumulated_start),
        .bias = new_result(r, "dbias", out_features, accumulated_start),
    };
    c->normed_linear_forward(c, out, x, &layer, t->rows);
    c->normed_linear_backward(c, dx, &gradients, dout, x, residual, &layer, t->rows);
}

static int has_normed_linear(const struct compute *c)
{
    return c->normed_linear_forward != NULL && c->normed_linear_backward != NULL;
}

static void list_normed_linear_layers(struct case_list *list)
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
        struct operation_case *it =
            append_case(list, "normed_linear", normalise_and_multiply, t, work, is_large);
        name_case(it, "normed linear %zu x %d to %d", t->rows, t->in_features, t->out_features);
        it->is_there = has_normed_linear;
    }
}

struct mlp_of_rows {
    size_t rows;
    int channels, hidden;
};

/* Likewise. */
static void pass_through_mlp(struct compute *c, const void *chosen, struct results *r)
{
    if (c->mlp_forward == NULL) {
        return;
    }
    const struct mlp_of_rows *t = chosen;
    const size_t channels = t->channels, hidden = t->hidden, size = t->rows * channels;
    const size_t weights = channels * hidden;
    activation *x = given_activations(r, random_tensor(1, size, 1), size);
    activation *dout = given_activations(r, random_tensor(2, size, 1), size);
    const struct mlp mlp = {
        .channels = t->channels,
        .hidden = t->hidden,
        .norm_weight = given_reals(r, random_tensor(3, channels, 1), channels),
        .norm_bias = given_reals(r, random_tensor(4, channels, 1), channels),
        .weight1 = given_reals(r, random_tensor(5, weights, 1 / sqrt(t->channels)), weights),
        .bias1 = given_reals(r, random_tensor(6, hidden, 1), hidden),
        .weight2 = given_reals(r, random_tensor(7, weights, 1 / sqrt(t->hidden)), weights),
        .bias2 = given_reals(r, random_tensor(8, channels, 1), channels),
    };
    activation *out = new_activations(r, "out", size, 77);
    activation *dx = new_activations(r, "dx", size, 77);
    const struct mlp_gradients gradients = {
        .norm_weight = new_result(r, "dnorm_weight", channels, accumulated_start),
        .norm_bias = new_result(r, "dnorm_bias", channels, accumulated_start),
        .weight1 = new_result(r, "dweight1", weights, accumulated_start),
        .bias1 = new_result(r, "dbias1", hidden, accumulated_start),
        .weight2 = new_result(r, "dweight2", weights, accumulated_start),
        .bias2 = new_result(r, "dbias2", channels, accumulated_start),
    };
    c->mlp_forward(c, out, x, &mlp, t->rows);
    c->mlp_backward(c, dx, &gradients, dout, x, &mlp, t->rows);
}

static int has_mlp(const struct compute *c)
{
    return c->mlp_forward != NULL && c->mlp_backward != NULL;
}

/* Rows around blocks of 64 and 128; widths of one tile of columns, of an odd number of tiles and of several
 * chunks. */
static void list_mlps(struct case_list *list)
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
        struct operation_case *it = append_case(list, "mlp", pass_through_mlp, t, work, is_large);
        name_case(it, "mlp %zu x %d, %d hidden", t->rows, t->channels, t->hidden);
        it->is_there = has_mlp;
    }
}

void list_linear_cases(struct case_list *list)
{
    list_linear_layers(list);
    list_fused_linear_layers(list);
    list_normed_linear_layers(list);
    list_mlps(list);
}
