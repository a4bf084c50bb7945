#include "compute/reference/operations.h"
#include "compute/supported_shapes.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { window_tokens_max = relative_table_window * relative_table_window * relative_table_window };

static const double masked_score = -100;
static const size_t padding = SIZE_MAX;

/* The tokens of one window in window order (d-major, w fastest). */
struct window {
    int tokens;
    size_t token[window_tokens_max]; /* row of qkv and out, or `padding` */
    int region[window_tokens_max];   /* tokens of different regions see each other through -100 */
    const activation *qkv[window_tokens_max];
};

static int padded(int extent, int window)
{
    return (extent + window - 1) / window * window;
}

/* Which of the three regions of a shifted axis the rolled position lies in; `end` is the padded length. */
static int region_of_axis(int rolled, int end, int window, int shift)
{
    if (shift == 0) {
        return 0;
    }
    return rolled < end - window ? 0 : rolled < end - shift ? 1 : 2;
}

static void cut_window(struct window *window, const activation *qkv, const real *qkv_bias,
                       const struct attention_shape *s, int sample, const int corner[3])
{
    const int extent[3] = {s->d, s->h, s->w};
    const size_t row_length = (size_t)3 * s->heads * s->head_dim;
    window->tokens = s->window[0] * s->window[1] * s->window[2];
    for (int t = 0; t < window->tokens; t++) {
        const int inside[3] = {t / s->window[2] / s->window[1], t / s->window[2] % s->window[1],
                               t % s->window[2]};
        size_t token = sample;
        int region = 0, real_token = 1;
        for (int axis = 0; axis < 3; axis++) {
            const int end = padded(extent[axis], s->window[axis]);
            const int rolled = corner[axis] + inside[axis];
            const int place = (rolled + s->shift[axis]) % end; /* where it was before the roll */
            region = region * 3 + region_of_axis(rolled, end, s->window[axis], s->shift[axis]);
            token = token * extent[axis] + place;
            real_token = real_token && place < extent[axis];
        }
        window->token[t] = real_token ? token : padding;
        window->region[t] = region;
        window->qkv[t] = real_token ? qkv + token * row_length : as_activations(qkv_bias);
    }
}

/* The row of the bias table for query and key, by their numbers in the window, as if it were one of 7^3. */
static int table_row(int query, int key)
{
    const int n = relative_table_window, side = 2 * n - 1;
    const int d = query / n / n - key / n / n + n - 1;
    const int h = query / n % n - key / n % n + n - 1;
    const int w = query % n - key % n + n - 1;
    return (d * side + h) * side + w;
}

static double dot(const activation *a, const activation *b, int count)
{
    double sum = 0;
    for (int k = 0; k < count; k++) {
        sum += (double)a[k].value * b[k].value;
    }
    return sum;
}

/* The score of every key of the window for one query and head. */
static void scores(double *score, const struct window *window, int query, int head, const real *bias_table,
                   const struct attention_shape *s)
{
    const int channels = s->heads * s->head_dim;
    const activation *q = window->qkv[query] + head * s->head_dim;
    const double scale = 1 / sqrt(s->head_dim);
    for (int key = 0; key < window->tokens; key++) {
        const activation *k = window->qkv[key] + channels + head * s->head_dim;
        score[key] = scale * dot(q, k, s->head_dim) + bias_table[table_row(query, key) * s->heads + head];
        if (window->region[query] != window->region[key]) {
            score[key] += masked_score;
        }
    }
}

static void attend(activation *out, real *logsumexp, const struct window *window, int query, int head,
                   const real *bias_table, const struct attention_shape *s)
{
    const int channels = s->heads * s->head_dim;
    double score[window_tokens_max], largest = -INFINITY, sum = 0;
    scores(score, window, query, head, bias_table, s);
    for (int key = 0; key < window->tokens; key++) {
        largest = fmax(largest, score[key]);
    }
    for (int key = 0; key < window->tokens; key++) {
        score[key] = exp(score[key] - largest);
        sum += score[key];
    }
    for (int ch = head * s->head_dim; ch < (head + 1) * s->head_dim; ch++) {
        double weighted = 0;
        for (int key = 0; key < window->tokens; key++) {
            weighted += score[key] * window->qkv[key][2 * channels + ch].value;
        }
        out[window->token[query] * channels + ch].value = (real)(weighted / sum);
    }
    logsumexp[window->token[query] * s->heads + head] = (real)(largest + log(sum));
}

/* How many windows there are over all samples, and the corner of one of them on the padded and rolled grid.
 */
static size_t window_count(const struct attention_shape *s)
{
    return (size_t)s->n * (padded(s->d, s->window[0]) / s->window[0]) *
           (padded(s->h, s->window[1]) / s->window[1]) * (padded(s->w, s->window[2]) / s->window[2]);
}

static int corner_of_window(int corner[3], size_t index, const struct attention_shape *s)
{
    const int extent[3] = {s->d, s->h, s->w};
    for (int axis = 2; axis >= 0; axis--) {
        const int along = padded(extent[axis], s->window[axis]) / s->window[axis];
        corner[axis] = (int)(index % along) * s->window[axis];
        index /= along;
    }
    return (int)index; /* the sample */
}

void reference_window_attention_forward(struct compute *c, activation *out, real *logsumexp,
                                        const activation *qkv, const real *qkv_bias, const real *bias_table,
                                        const struct attention_shape *s)
{
    if (!attention_is_supported(c, s)) {
        return;
    }
    const size_t windows = window_count(s);
    for (size_t index = 0; index < windows; index++) {
        struct window window;
        int corner[3];
        const int sample = corner_of_window(corner, index, s);
        cut_window(&window, qkv, qkv_bias, s, sample, corner);
        for (int query = 0; query < window.tokens; query++) {
            for (int head = 0; head < s->heads && window.token[query] != padding; head++) {
                attend(out, logsumexp, &window, query, head, bias_table, s);
            }
        }
    }
}

/* Adds what one query and head send back to dqkv (tokens of the window, 3C) and to the bias table (2197,
 * heads). With P = softmax(S), out = P v: dS = P (dP - dout . out), dP = dout v^T. */
static void attend_backward(double *dwindow, double *dtable, const struct window *window, int query, int head,
                            const activation *dout, const activation *out, const real *logsumexp,
                            const real *bias_table, const struct attention_shape *s)
{
    const int channels = s->heads * s->head_dim, first = head * s->head_dim;
    const size_t token = window->token[query];
    const activation *dy = dout + token * channels + first;
    const activation *q = window->qkv[query] + first;
    double *dq = dwindow + (size_t)query * 3 * channels + first;
    const double dy_out = dot(dy, out + token * channels + first, s->head_dim);
    const double scale = 1 / sqrt(s->head_dim);
    double score[window_tokens_max];
    scores(score, window, query, head, bias_table, s);
    for (int key = 0; key < window->tokens; key++) {
        const activation *k = window->qkv[key] + channels + first, *v = k + channels;
        double *dk = dwindow + ((size_t)key * 3 + 1) * channels + first, *dv = dk + channels;
        const double p = exp(score[key] - logsumexp[token * s->heads + head]);
        const double dscore = p * (dot(dy, v, s->head_dim) - dy_out);
        const double dproduct = dscore * scale;
        for (int i = 0; i < s->head_dim; i++) {
            dq[i] += dproduct * k[i].value;
            dk[i] += dproduct * q[i].value;
            dv[i] += p * dy[i].value;
        }
        dtable[table_row(query, key) * s->heads + head] += dscore;
    }
}

void reference_window_attention_backward(struct compute *c, activation *dqkv, real *dqkv_bias,
                                         real *dbias_table, const activation *dout, const activation *out,
                                         const real *logsumexp, const activation *qkv, const real *qkv_bias,
                                         const real *bias_table, const struct attention_shape *s)
{
    if (!attention_is_supported(c, s)) {
        return;
    }
    const size_t row_length = (size_t)3 * s->heads * s->head_dim, windows = window_count(s);
    const size_t table_length = (size_t)relative_table_rows * s->heads;
    double *dwindow = zeroed_doubles(c, window_tokens_max * row_length);
    double *dtable = zeroed_doubles(c, table_length), *dbias = zeroed_doubles(c, row_length);
    if (dwindow == NULL || dtable == NULL || dbias == NULL) {
        goto done;
    }
    for (size_t index = 0; index < windows; index++) {
        struct window window;
        int corner[3];
        const int sample = corner_of_window(corner, index, s);
        cut_window(&window, qkv, qkv_bias, s, sample, corner);
        for (size_t k = 0; k < window.tokens * row_length; k++) {
            dwindow[k] = 0;
        }
        for (int query = 0; query < window.tokens; query++) {
            for (int head = 0; head < s->heads && window.token[query] != padding; head++) {
                attend_backward(dwindow, dtable, &window, query, head, dout, out, logsumexp, bias_table, s);
            }
        }
        for (int t = 0; t < window.tokens; t++) {
            for (size_t k = 0; k < row_length; k++) {
                if (window.token[t] == padding) {
                    dbias[k] += dwindow[t * row_length + k];
                } else {
                    dqkv[window.token[t] * row_length + k].value = (real)dwindow[t * row_length + k];
                }
            }
        }
    }
    for (size_t k = 0; k < row_length; k++) {
        dqkv_bias[k] += (real)dbias[k];
    }
    for (size_t k = 0; k < table_length; k++) {
        dbias_table[k] += (real)dtable[k];
    }
done:
    free(dbias);
    free(dtable);
    free(dwindow);
}
