/* Gradients of the reference window attention against finite differences in double, on grids with padding and
 * shifts in some axes and axes shorter than a window. */
#include "finite_difference.h"
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct attention {
    struct compute c;
    struct attention_shape shape;
    size_t tokens, channels, table;
    real *qkv, *qkv_bias, *bias_table, *out, *logsumexp, *dout;
    real *dqkv, *dqkv_bias, *dbias_table;
};

struct grid {
    int n, d, h, w, heads, head_dim, odd_block;
};
static const struct grid grids[] = {
    {2, 5, 3, 7, 2, 3, 1}, /* one window a grid, nothing to pad or shift */
    {1, 2, 9, 3, 3, 2, 0}, /* padding in one axis, no shift */
    {2, 2, 3, 8, 1, 5, 1}, /* padding and shift in one axis */
    {1, 9, 4, 8, 2, 2, 1}, /* ... in two */
    {1, 8, 9, 8, 1, 2, 1}, /* ... in all */
    {1, 1, 14, 2, 1, 3, 1} /* shift without padding */
};
enum { grid_count = sizeof grids / sizeof *grids };

static void open_attention(struct attention *t, const struct grid *g)
{
    const int extent[3] = {g->d, g->h, g->w};
    open_implementation(&t->c, "reference", 1);
    t->shape = (struct attention_shape){
        .n = g->n, .d = g->d, .h = g->h, .w = g->w, .heads = g->heads, .head_dim = g->head_dim};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(extent[axis], g->odd_block, &t->shape.window[axis], &t->shape.shift[axis]);
    }
    t->tokens = (size_t)g->n * g->d * g->h * g->w;
    t->channels = (size_t)g->heads * g->head_dim;
    t->table = (size_t)relative_table_rows * g->heads;
    t->qkv = random_tensor(1, t->tokens * 3 * t->channels, 1);
    t->qkv_bias = random_tensor(2, 3 * t->channels, 1);
    t->bias_table = random_tensor(3, t->table, 1);
    t->dout = random_tensor(4, t->tokens * t->channels, 1);
    t->out = filled_tensor(t->tokens * t->channels, 77);
    t->logsumexp = filled_tensor(t->tokens * g->heads, 77);
    t->dqkv = filled_tensor(t->tokens * 3 * t->channels, 77);
    t->dqkv_bias = accumulator(3 * t->channels);
    t->dbias_table = accumulator(t->table);
}

static void close_attention(struct attention *t)
{
    require_no_failure(&t->c);
    real *const tensors[] = {t->qkv,  t->qkv_bias, t->bias_table, t->out,        t->logsumexp,
                             t->dout, t->dqkv,     t->dqkv_bias,  t->dbias_table};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
}

static void forward(struct attention *t)
{
    t->c.window_attention_forward(&t->c, as_activations(t->out), t->logsumexp, as_activations(t->qkv),
                                  t->qkv_bias, t->bias_table, &t->shape);
}

static void backward(struct attention *t)
{
    forward(t);
    t->c.window_attention_backward(&t->c, as_activations(t->dqkv), t->dqkv_bias, t->dbias_table,
                                   as_activations(t->dout), as_activations(t->out), t->logsumexp,
                                   as_activations(t->qkv), t->qkv_bias, t->bias_table, &t->shape);
    take_off_start(t->dqkv_bias, 3 * t->channels);
    take_off_start(t->dbias_table, t->table);
}

static double loss(void *context)
{
    struct attention *t = context;
    forward(t);
    return inner_product(t->out, t->dout, t->tokens * t->channels);
}

static void backward_is_the_derivative_of_forward(void **state)
{
    (void)state;
    for (int i = 0; i < grid_count; i++) {
        struct attention t;
        open_attention(&t, &grids[i]);
        backward(&t);
        print_message("  grid %d x %d x %d\n", grids[i].d, grids[i].h, grids[i].w);
        check_gradient("dqkv", loss, &t, t.qkv, t.dqkv, t.tokens * 3 * t.channels);
        check_gradient("dqkv_bias", loss, &t, t.qkv_bias, t.dqkv_bias, 3 * t.channels);
        check_gradient("dbias_table", loss, &t, t.bias_table, t.dbias_table, t.table);
        close_attention(&t);
    }
}

/* Padded tokens are keys and values but their queries are skipped; without padding nothing reaches the bias
 * here. */
static void the_bias_is_reached_through_padded_keys_and_values_only(void **state)
{
    (void)state;
    for (int i = 0; i < grid_count; i++) {
        struct attention t;
        open_attention(&t, &grids[i]);
        backward(&t);
        const int padded = i != 0 && i != 5;
        for (size_t k = 0; k < 3 * t.channels; k++) {
            const int is_query = k < t.channels;
            assert_true((t.dqkv_bias[k] != 0) == (padded && !is_query));
        }
        close_attention(&t);
    }
}

/* The table entries that no pair of the window's first n numbers refers to stay as they are. */
static void table_entries_that_are_not_read_get_no_gradient(void **state)
{
    (void)state;
    struct attention t;
    open_attention(&t, &grids[0]); /* 105 tokens: number 104 is (2, 0, 6) of a 7^3 window */
    backward(&t);
    for (size_t k = 0; k < t.table; k++) {
        const int d = (int)(k / t.shape.heads / 169) - 6;
        if (abs(d) > 2) {
            assert_true(t.dbias_table[k] == 0);
        }
    }
    assert_true(t.dbias_table[(6 * 169 + 6 * 13 + 6) * t.shape.heads] != 0);
    close_attention(&t);
}

/* The whole bias of the qkv layer: real tokens reach it through the linear layer, padded ones through
 * attention. */
struct qkv_layer {
    struct attention attention;
    real *inp, *weight;
};

static double qkv_layer_loss(void *context)
{
    struct qkv_layer *t = context;
    struct attention *a = &t->attention;
    a->c.linear_forward(&a->c, as_activations(a->qkv), as_activations(t->inp), t->weight, a->qkv_bias,
                        a->tokens, (int)a->channels, 3 * (int)a->channels);
    return loss(a);
}

static void both_ways_to_the_qkv_bias_add_up(void **state)
{
    (void)state;
    struct qkv_layer t;
    struct attention *a = &t.attention;
    open_attention(a, &grids[2]);
    t.inp = random_tensor(5, a->tokens * a->channels, 1);
    t.weight = random_tensor(6, 3 * a->channels * a->channels, 0.5);
    (void)qkv_layer_loss(&t);
    backward(a);
    a->c.linear_backward(&a->c, NULL, NULL, a->dqkv_bias, as_activations(a->dqkv), as_activations(t.inp),
                         t.weight, a->tokens, (int)a->channels, 3 * (int)a->channels);
    check_gradient("qkv bias, both ways", qkv_layer_loss, &t, a->qkv_bias, a->dqkv_bias, 3 * a->channels);
    free(t.inp);
    free(t.weight);
    close_attention(a);
}

static void a_window_beyond_the_table_is_refused(void **state)
{
    (void)state;
    struct attention t;
    open_attention(&t, &grids[1]);
    t.shape.window[1] = 8;
    forward(&t);
    assert_int_equal(compute_status(&t.c), VOCO_UNSUPPORTED);
    close_attention(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backward_is_the_derivative_of_forward),
        cmocka_unit_test(the_bias_is_reached_through_padded_keys_and_values_only),
        cmocka_unit_test(table_entries_that_are_not_read_get_no_gradient),
        cmocka_unit_test(both_ways_to_the_qkv_bias_add_up),
        cmocka_unit_test(a_window_beyond_the_table_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
