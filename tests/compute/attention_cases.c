#include "case_list.h"

#include "tensors.h"

#include <math.h>
#include <stddef.h>

struct attention {
    int n, d, h, w, heads, head_dim, odd_block;
};

/* Of tokens and biases this large. */
static void attend_tokens(struct compute *c, const struct attention *t, double of_tokens, double of_bias,
                          struct results *r)
{
    const int extent[3] = {t->d, t->h, t->w};
    struct attention_shape s = {
        .n = t->n, .d = t->d, .h = t->h, .w = t->w, .heads = t->heads, .head_dim = t->head_dim};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(extent[axis], t->odd_block, &s.window[axis], &s.shift[axis]);
    }
    const size_t tokens = (size_t)t->n * t->d * t->h * t->w, channels = (size_t)t->heads * t->head_dim;
    const size_t table = (size_t)relative_table_rows * t->heads;
    activation *qkv =
        given_activations(r, random_tensor(1, tokens * 3 * channels, of_tokens), tokens * 3 * channels);
    real *qkv_bias = given_reals(r, random_tensor(2, 3 * channels, 1), 3 * channels);
    real *bias_table = given_reals(r, random_tensor(3, table, of_bias), table);
    activation *dout = given_activations(r, random_tensor(4, tokens * channels, 1), tokens * channels);
    activation *out = new_activations(r, "out", tokens * channels, 77);
    real *logsumexp = new_result(r, "logsumexp", tokens * t->heads, 77);
    activation *dqkv = new_activations(r, "dqkv", tokens * 3 * channels, 77);
    real *dqkv_bias = new_result(r, "dqkv_bias", 3 * channels, accumulated_start);
    real *dbias_table = new_result(r, "dbias_table", table, accumulated_start);
    c->window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, &s);
    c->window_attention_backward(c, dqkv, dqkv_bias, dbias_table, dout, out, logsumexp, qkv, qkv_bias,
                                 bias_table, &s);
}

static void attend(struct compute *c, const void *chosen, struct results *r)
{
    attend_tokens(c, chosen, 1, 1, r);
}

/* Some tokens attend those that the mask keeps from them. */
static void attend_masked_tokens(struct compute *c, const void *chosen, struct results *r)
{
    attend_tokens(c, chosen, 6, 1, r);
}

/* The exponentials of biases are apart by factors of 2^60 and more. */
static void attend_with_far_biases(struct compute *c, const void *chosen, struct results *r)
{
    attend_tokens(c, chosen, 1, 40, r);
}

static int has_attention(const struct compute *c)
{
    return c->window_attention_forward != NULL && c->window_attention_backward != NULL;
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

static void list_attentions(struct case_list *list)
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
    enum { first_large = 17 };
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        const struct attention *t = &shapes[i];
        struct operation_case *it =
            append_case(list, "attention", attend, t, attention_work(t), i >= first_large);
        name_case(it, "window_attention %d x (%d %d %d), %d heads of %d, block %d", t->n, t->d, t->h, t->w,
                  t->heads, t->head_dim, t->odd_block);
        it->is_there = has_attention;
    }
    for (size_t i = 0; i < COUNT_OF(of_tensor_cores); i++) {
        const struct attention *t = &of_tensor_cores[i];
        struct operation_case *it = append_case(list, "attention", attend, t, 1e7, 0);
        name_case(it, "window_attention %d x (%d %d %d), %d heads of %d, block %d", t->n, t->d, t->h, t->w,
                  t->heads, t->head_dim, t->odd_block);
        it->is_there = has_attention;
    }
}

/* Every value is a multiple of 1/4 and head_dim a power of 4, so that scores are exact and rounding decides
 * nothing. The first token's values are `first` times as large as the last one's. */
static void attend_exactly(struct compute *c, const struct attention_shape *s, double first,
                           struct results *r)
{
    const size_t tokens = (size_t)s->n * s->d * s->h * s->w, channels = (size_t)s->heads * s->head_dim;
    const size_t count = tokens * 3 * channels;
    real *values = random_tensor(1, count, 40), *biases = random_tensor(2, 3 * channels, 40);
    for (size_t k = 0; k < count; k++) {
        const size_t token = k / (3 * channels);
        const double passed = (double)token / (double)tokens;
        values[k] = rintf((float)(values[k] * (first + (1 - first) * passed))) / 4;
    }
    for (size_t k = 0; k < 3 * channels; k++) {
        biases[k] = rintf((float)biases[k]) / 4;
    }
    activation *qkv = given_activations(r, values, count);
    real *qkv_bias = given_reals(r, biases, 3 * channels);
    real *bias_table = given_reals(r, filled_tensor((size_t)relative_table_rows * s->heads, 0.25),
                                   (size_t)relative_table_rows * s->heads);
    activation *out = new_activations(r, "out", tokens * channels, 77);
    real *logsumexp = new_result(r, "logsumexp", tokens * s->heads, 77);
    c->window_attention_forward(c, out, logsumexp, qkv, qkv_bias, bias_table, s);
}

/* Scores of a few hundred on 12 padded to 14 tokens: masked keys win where they are larger by 100 (see
 * test_window_attention_oracle_f64.c), which a mask of minus infinity, or none, would miss. */
static void attend_with_large_scores(struct compute *c, const void *chosen, struct results *r)
{
    attend_exactly(c, chosen, 1, r);
}

/* From next to nothing to a few hundred: some queries' exponentials overflow unless the largest score is
 * taken off first, others' do not. */
static void attend_with_growing_scores(struct compute *c, const void *chosen, struct results *r)
{
    attend_exactly(c, chosen, 0, r);
}

static int has_attention_forward(const struct compute *c)
{
    return c->window_attention_forward != NULL;
}

static void list_large_scores(struct case_list *list)
{
    static const struct attention_shape masked = {
        .n = 1, .d = 12, .h = 4, .w = 13, .heads = 2, .head_dim = 4, .window = {7, 4, 7}, .shift = {3, 0, 3}};
    static const struct attention_shape wide_and_masked_64 = {
        .n = 1, .d = 8, .h = 5, .w = 4, .heads = 1, .head_dim = 64, .window = {7, 5, 4}, .shift = {3, 0, 0}};
    static const struct attention_shape wide_and_masked = {
        .n = 1, .d = 8, .h = 9, .w = 10, .heads = 3, .head_dim = 16, .window = {7, 7, 7}, .shift = {3, 3, 3}};
    static const struct attention_shape growing = {
        .n = 3, .d = 4, .h = 8, .w = 7, .heads = 2, .head_dim = 16, .window = {4, 7, 7}, .shift = {0, 3, 0}};
    struct operation_case *it = append_case(list, "large_scores", attend_with_large_scores, &masked, 4e6, 0);
    name_case(it, "window_attention with large scores");
    it->is_there = has_attention_forward;
    it = append_case(list, "large_scores", attend_with_large_scores, &wide_and_masked, 4e7, 0);
    name_case(it, "window_attention with large scores, heads of 16");
    it->is_there = has_attention_forward;
    it = append_case(list, "large_scores", attend_with_large_scores, &wide_and_masked_64, 4e6, 0);
    name_case(it, "window_attention with large scores, heads of 64");
    it->is_there = has_attention_forward;
    it = append_case(list, "large_scores", attend_with_growing_scores, &growing, 4e6, 0);
    name_case(it, "window_attention with growing scores, heads of 16");
    it->is_there = has_attention_forward;
}

/* Forward and backward. */
static void list_attention_apart(struct case_list *list)
{
    /* Few tokens that are not masked. */
    static const struct attention masked[] = {
        {40, 8, 1, 1, 2, 4, 1}, {20, 1, 8, 1, 2, 16, 1}, {20, 1, 1, 9, 2, 7, 1}, {20, 8, 1, 1, 1, 32, 1}};
    /* Little padding, so that its bias is seldom the largest. */
    static const struct attention padded[] = {
        {4, 13, 1, 1, 2, 4, 1}, {4, 13, 1, 1, 2, 16, 0}, {2, 1, 13, 2, 2, 5, 0}};
    for (size_t i = 0; i < COUNT_OF(masked); i++) {
        struct operation_case *it = append_case(list, "attention_apart", attend_masked_tokens, &masked[i],
                                                attention_work(&masked[i]), 0);
        name_case(it, "window_attention of masked tokens, heads of %d", masked[i].head_dim);
        it->is_there = has_attention;
    }
    for (size_t i = 0; i < COUNT_OF(padded); i++) {
        struct operation_case *it = append_case(list, "attention_apart", attend_with_far_biases, &padded[i],
                                                attention_work(&padded[i]), 0);
        name_case(it, "window_attention with biases far apart, heads of %d", padded[i].head_dim);
        it->is_there = has_attention;
    }
}

void list_attention_cases(struct case_list *list)
{
    list_attentions(list);
    list_large_scores(list);
    list_attention_apart(list);
}
