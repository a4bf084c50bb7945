/* Window attention against a second, independent computation that goes literally through MONAI's steps: pad,
 * roll, partition, qkv of every token, the whole n x n matrix, mask from an image of regions, softmax,
 * reverse, roll back, crop (behaviour of SwinTransformerBlock, WindowAttention and compute_mask of
 * MONAI 1.3). */
#include "tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { window_max = 343 };

/* The attention part of a Swin block, from the normalised tokens to before attn.proj. */
struct block {
    struct compute c;
    struct attention_shape s;
    int channels;
    size_t tokens;
    real *inp;        /* (n, d, h, w, C): the output of LN1 */
    real *weight;     /* (3C, C) */
    real *bias;       /* (3C) */
    real *bias_table; /* (2197, heads) */
    real *out;        /* (n, d, h, w, C) by the implementation */
    real *expected;   /* ... by the oracle */
};

/* An array (d, h, w, channels) of one sample on the padded grid. */
struct padded_grid {
    int extent[3];
    double *value;
};

static size_t place(const int extent[3], int d, int h, int w)
{
    return ((size_t)d * extent[1] + h) * extent[2] + w;
}

/* torch.roll by `shift` (may be negative) along the three axes. */
static void roll(struct padded_grid *g, const int shift[3], int channels)
{
    const int *e = g->extent;
    const size_t count = (size_t)e[0] * e[1] * e[2] * channels;
    double *rolled = malloc(count * sizeof *rolled);
    assert_non_null(rolled);
    for (int d = 0; d < e[0]; d++) {
        for (int h = 0; h < e[1]; h++) {
            for (int w = 0; w < e[2]; w++) {
                const size_t to = place(e, (d + shift[0] + e[0]) % e[0], (h + shift[1] + e[1]) % e[1],
                                        (w + shift[2] + e[2]) % e[2]);
                memcpy(rolled + to * channels, g->value + place(e, d, h, w) * channels,
                       channels * sizeof *rolled);
            }
        }
    }
    free(g->value);
    g->value = rolled;
}

/* Python's slice(begin, end) of an axis: negative counts from the end, `none` is left out. */
enum { none = 1 << 20 };
static int in_slice(int position, int begin, int end, int length)
{
    const int first = begin == none ? 0 : begin < 0 ? begin + length : begin;
    const int last = end == none ? length : end < 0 ? end + length : end;
    return position >= first && position < last;
}

/* compute_mask's image: every triple of slices writes the next number, later ones over earlier ones. */
static double *region_image(const int extent[3], const struct attention_shape *s)
{
    double *image = calloc((size_t)extent[0] * extent[1] * extent[2], sizeof *image);
    assert_non_null(image);
    int slices[3][3][2];
    for (int axis = 0; axis < 3; axis++) {
        const int w = s->window[axis], shift = s->shift[axis];
        const int cut[3][2] = {{none, -w}, {-w, -shift}, {-shift, none}};
        memcpy(slices[axis], cut, sizeof cut);
    }
    for (int number = 0; number < 27; number++) {
        const int *a = slices[0][number / 9], *b = slices[1][number / 3 % 3], *c = slices[2][number % 3];
        for (int d = 0; d < extent[0]; d++) {
            for (int h = 0; h < extent[1]; h++) {
                for (int w = 0; w < extent[2]; w++) {
                    if (in_slice(d, a[0], a[1], extent[0]) && in_slice(h, b[0], b[1], extent[1]) &&
                        in_slice(w, c[0], c[1], extent[2])) {
                        image[place(extent, d, h, w)] = number;
                    }
                }
            }
        }
    }
    return image;
}

/* relative_position_index[:n, :n] of a 7^3 window. */
static int relative_position_index(int query, int key)
{
    const int q[3] = {query / 49, query / 7 % 7, query % 7}, k[3] = {key / 49, key / 7 % 7, key % 7};
    return 169 * (q[0] - k[0] + 6) + 13 * (q[1] - k[1] + 6) + (q[2] - k[2] + 6);
}

/* One window: tokens (count, C) in, attended (count, C) out. region NULL: no mask. */
static void attend_window(const struct block *t, double *attended, const double *tokens, const double *region,
                          int count, double mask)
{
    const int channels = t->channels, heads = t->s.heads, dim = channels / heads;
    static double qkv[window_max][3 * 64], score[window_max];
    assert_true(channels <= 64);
    for (int i = 0; i < count; i++) {
        for (int o = 0; o < 3 * channels; o++) {
            qkv[i][o] = t->bias[o];
            for (int k = 0; k < channels; k++) {
                qkv[i][o] += t->weight[o * channels + k] * tokens[i * channels + k];
            }
        }
    }
    for (int head = 0; head < heads; head++) {
        for (int i = 0; i < count; i++) {
            double sum = 0, largest = -INFINITY;
            for (int j = 0; j < count; j++) {
                score[j] = 0;
                for (int k = head * dim; k < (head + 1) * dim; k++) {
                    score[j] += qkv[i][k] * pow(dim, -0.5) * qkv[j][channels + k];
                }
                score[j] += t->bias_table[relative_position_index(i, j) * heads + head];
                score[j] += region != NULL && region[i] - region[j] != 0 ? mask : 0;
                largest = fmax(largest, score[j]);
            }
            for (int j = 0; j < count; j++) {
                score[j] = exp(score[j] - largest);
                sum += score[j];
            }
            for (int k = head * dim; k < (head + 1) * dim; k++) {
                double value = 0;
                for (int j = 0; j < count; j++) {
                    value += score[j] / sum * qkv[j][2 * channels + k];
                }
                attended[i * channels + k] = value;
            }
        }
    }
}

/* Cuts the windows out of the rolled grid, attends, and puts them back. */
static void attend_windows(const struct block *t, struct padded_grid *g, const double *regions, double mask)
{
    const int *e = g->extent, *window = t->s.window, channels = t->channels;
    const int count = window[0] * window[1] * window[2];
    static double tokens[window_max * 64], attended[window_max * 64], region[window_max];
    for (int corner = 0; corner < e[0] * e[1] * e[2] / count; corner++) {
        const int along_h = e[1] / window[1], along_w = e[2] / window[2];
        const int d0 = corner / along_w / along_h * window[0], h0 = corner / along_w % along_h * window[1];
        const int w0 = corner % along_w * window[2];
        size_t from[window_max];
        for (int i = 0; i < count; i++) {
            from[i] = place(e, d0 + i / (window[1] * window[2]), h0 + i / window[2] % window[1],
                            w0 + i % window[2]);
            memcpy(tokens + (size_t)i * channels, g->value + from[i] * channels, channels * sizeof *tokens);
            region[i] = regions[from[i]];
        }
        const int shifted = t->s.shift[0] + t->s.shift[1] + t->s.shift[2] > 0;
        attend_window(t, attended, tokens, shifted ? region : NULL, count, mask);
        for (int i = 0; i < count; i++) {
            memcpy(g->value + from[i] * channels, attended + (size_t)i * channels, channels * sizeof *tokens);
        }
    }
}

static void oracle(struct block *t, double mask)
{
    const struct attention_shape *s = &t->s;
    const int extent[3] = {s->d, s->h, s->w}, channels = t->channels;
    struct padded_grid g;
    for (int axis = 0; axis < 3; axis++) {
        g.extent[axis] = (extent[axis] + s->window[axis] - 1) / s->window[axis] * s->window[axis];
    }
    double *regions = region_image(g.extent, s);
    for (int n = 0; n < s->n; n++) {
        const size_t first = (size_t)n * s->d * s->h * s->w;
        g.value = calloc((size_t)g.extent[0] * g.extent[1] * g.extent[2] * channels, sizeof *g.value);
        assert_non_null(g.value);
        for (int k = 0; k < s->d * s->h * s->w * channels; k++) {
            const int voxel = k / channels;
            const size_t to = place(g.extent, voxel / s->w / s->h, voxel / s->w % s->h, voxel % s->w);
            g.value[to * channels + k % channels] = t->inp[first * channels + k];
        }
        roll(&g, (int[3]){-s->shift[0], -s->shift[1], -s->shift[2]}, channels);
        attend_windows(t, &g, regions, mask);
        roll(&g, s->shift, channels);
        for (int k = 0; k < s->d * s->h * s->w * channels; k++) {
            const int voxel = k / channels;
            const size_t from = place(g.extent, voxel / s->w / s->h, voxel / s->w % s->h, voxel % s->w);
            t->expected[first * channels + k] = (real)g.value[from * channels + k % channels];
        }
        free(g.value);
    }
    free(regions);
}

static void implementation(struct block *t)
{
    real *qkv = filled_tensor(t->tokens * 3 * t->channels, 77);
    real *logsumexp = filled_tensor(t->tokens * t->s.heads, 77);
    t->c.linear_forward(&t->c, as_activations(qkv), as_activations(t->inp), t->weight, t->bias, t->tokens,
                        t->channels, 3 * t->channels);
    t->c.window_attention_forward(&t->c, as_activations(t->out), logsumexp, as_activations(qkv), t->bias,
                                  t->bias_table, &t->s);
    require_no_failure(&t->c);
    free(qkv);
    free(logsumexp);
}

static void open_block(struct block *t, int n, const int extent[3], int heads, int head_dim, int odd_block)
{
    open_implementation(&t->c, "reference", 1);
    t->s = (struct attention_shape){
        .n = n, .d = extent[0], .h = extent[1], .w = extent[2], .heads = heads, .head_dim = head_dim};
    for (int axis = 0; axis < 3; axis++) {
        attention_window_of_axis(extent[axis], odd_block, &t->s.window[axis], &t->s.shift[axis]);
    }
    t->channels = heads * head_dim;
    t->tokens = (size_t)n * extent[0] * extent[1] * extent[2];
    t->inp = random_tensor(1, t->tokens * t->channels, 1);
    t->weight = random_tensor(2, 3 * t->channels * t->channels, 0.5);
    t->bias = random_tensor(3, 3 * t->channels, 1);
    t->bias_table = random_tensor(4, (size_t)relative_table_rows * heads, 1);
    t->out = filled_tensor(t->tokens * t->channels, 77);
    t->expected = filled_tensor(t->tokens * t->channels, -77);
}

static void close_block(struct block *t)
{
    real *const tensors[] = {t->inp, t->weight, t->bias, t->bias_table, t->out, t->expected};
    for (size_t k = 0; k < sizeof tensors / sizeof *tensors; k++) {
        free(tensors[k]);
    }
    compute_close(&t->c);
}

static void forward_is_what_monai_computes(void **state)
{
    (void)state;
    /* The last two are stages of a real network: R = 48 stage 2 and R = 64 stage 4. */
    static const int extents[][3] = {{5, 3, 7},  {9, 4, 8},    {8, 9, 10}, {2, 15, 3},
                                     {14, 7, 1}, {12, 12, 12}, {4, 4, 4}};
    for (size_t i = 0; i < sizeof extents / sizeof *extents; i++) {
        for (int odd_block = 0; odd_block < 2; odd_block++) {
            struct block t;
            open_block(&t, i == 1 ? 2 : 1, extents[i], 2, 3, odd_block);
            implementation(&t);
            oracle(&t, -100);
            const double difference = relative_difference(t.out, t.expected, t.tokens * t.channels);
            print_message("    %d x %d x %d, block %d: %.1e\n", extents[i][0], extents[i][1], extents[i][2],
                          odd_block, difference);
            assert_true(difference < 1e-13);
            close_block(&t);
        }
    }
}

/* 12 tokens are padded to 14, so that two of them share the last window, masked, with the first three. Scores
 * of a few hundred then lift masked keys over the others: there -100 and minus infinity, and no mask at all,
 * part. */
static void the_mask_is_minus_100_and_not_minus_infinity(void **state)
{
    (void)state;
    struct block t;
    open_block(&t, 1, (int[3]){12, 4, 13}, 2, 3, 1);
    for (int k = 0; k < 2 * t.channels * t.channels; k++) {
        t.weight[k] *= 10; /* of q and k */
    }
    const size_t count = t.tokens * t.channels;
    implementation(&t);
    oracle(&t, -100);
    assert_true(relative_difference(t.out, t.expected, count) < 1e-12);
    oracle(&t, -INFINITY);
    assert_true(relative_difference(t.out, t.expected, count) > 0.1);
    oracle(&t, 0);
    assert_true(relative_difference(t.out, t.expected, count) > 0.1);
    close_block(&t);
}

/* One axis of 8 tokens in the odd block: padded to 14, rolled by -3. The second window then holds, in order,
 * the padded positions 10 to 13 (region 1) and the tokens 0, 1, 2 (region 2). Token 0 attends to padding,
 * which is masked, with a score of `score`, and to tokens 0, 1, 2 with 0; values are 1 for padding and 0 for
 * tokens. */
static double attention_to_masked_padding(double score)
{
    struct compute c;
    const struct attention_shape shape = {
        .n = 1, .d = 1, .h = 1, .w = 8, .heads = 1, .head_dim = 1, .window = {1, 1, 7}, .shift = {0, 0, 3}};
    real qkv[8 * 3] = {1, 0, 0};
    const real bias[3] = {0, (real)score, 1};
    real out[8], logsumexp[8];
    real *table = filled_tensor(relative_table_rows, 0);
    open_implementation(&c, "reference", 1);
    c.window_attention_forward(&c, as_activations(out), logsumexp, as_activations(qkv), bias, table, &shape);
    require_no_failure(&c);
    compute_close(&c);
    free(table);
    return out[0];
}

static void a_masked_key_wins_when_its_score_is_larger_by_more_than_100(void **state)
{
    (void)state;
    require_near(attention_to_masked_padding(130), 1, 1e-12);
    require_near(attention_to_masked_padding(100), 4.0 / 7, 1e-12);
    require_near(attention_to_masked_padding(100 + log(3)), 12.0 / 15, 1e-12);
    require_near(attention_to_masked_padding(60), 0, 1e-16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_what_monai_computes),
        cmocka_unit_test(the_mask_is_minus_100_and_not_minus_infinity),
        cmocka_unit_test(a_masked_key_wins_when_its_score_is_larger_by_more_than_100),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
