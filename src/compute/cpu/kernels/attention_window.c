#include "compute/cpu/kernels/kernels.h"

#include "compute/cpu/kernels/attention_window.h"

#include <stdint.h>

static int windows_along(int extent, int window)
{
    return (extent + window - 1) / window;
}

int KERNEL(attention_sizes)(struct compute *c, struct attention_sizes *sizes, const struct attention_shape *s)
{
    for (int axis = 0; axis < 3; axis++) {
        if (s->window[axis] < 1 || s->window[axis] > relative_table_window || s->shift[axis] < 0 ||
            s->shift[axis] >= s->window[axis]) {
            compute_failed(c, VOCO_UNSUPPORTED, "attention with this window and shift");
            return 0;
        }
    }
    sizes->channels = s->heads * s->head_dim;
    sizes->width = (s->head_dim + 3) / 4 * 4;
    sizes->tokens = s->window[0] * s->window[1] * s->window[2];
    sizes->keys = (sizes->tokens + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
    sizes->windows = (size_t)s->n * windows_along(s->d, s->window[0]) * windows_along(s->h, s->window[1]) *
                     windows_along(s->w, s->window[2]);
    return 1;
}

/* Where a window's tokens lie along one axis, before the roll (-1: in the padding), and their regions. */
struct axis_places {
    int place[relative_table_window], region[relative_table_window];
};

static struct axis_places places_along(int extent, int window, int shift, int corner)
{
    struct axis_places a;
    const int end = windows_along(extent, window) * window;
    for (int t = 0; t < window; t++) {
        const int rolled = corner + t, place = (rolled + shift) % end;
        a.place[t] = place < extent ? place : -1;
        a.region[t] = shift == 0 || rolled < end - window ? 0 : rolled < end - shift ? 1 : 2;
    }
    return a;
}

void KERNEL(cut_window)(struct window *window, size_t index, const struct attention_shape *s)
{
    const int extent[3] = {s->d, s->h, s->w};
    struct axis_places axes[3];
    for (int axis = 2; axis >= 0; axis--) {
        const int along = windows_along(extent[axis], s->window[axis]);
        axes[axis] = places_along(extent[axis], s->window[axis], s->shift[axis],
                                  (int)(index % along) * s->window[axis]);
        index /= along;
    }
    int t = 0, queries = 0, different = 0;
    for (int z = 0; z < s->window[0]; z++) {
        for (int y = 0; y < s->window[1]; y++) {
            for (int x = 0; x < s->window[2]; x++, t++) {
                const int d = axes[0].place[z], h = axes[1].place[y], w = axes[2].place[x];
                window->region[t] = (axes[0].region[z] * 3 + axes[1].region[y]) * 3 + axes[2].region[x];
                different |= window->region[t] ^ window->region[0];
                window->row[t] = SIZE_MAX;
                if (d >= 0 && h >= 0 && w >= 0) {
                    window->row[t] = ((index * s->d + d) * s->h + h) * s->w + w;
                    window->query[queries++] = t;
                }
            }
        }
    }
    window->tokens = t;
    window->keys = (t + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
    window->queries = queries;
    window->regions = different != 0 ? 2 : 1;
    for (int k = 0; k < query_tile && queries > 0; k++) {
        window->query[queries + k] = window->query[queries - 1];
    }
    for (; t < window->keys; t++) {
        window->region[t] = 0;
    }
}

/* The row of the table for query and key is first_row(query) - offset(key), both by their numbers in a window
 * of 7^3. */
static int offset_in_table(int token)
{
    const int n = relative_table_window, side = 2 * n - 1;
    return (token / n / n * side + token / n % n) * side + token % n;
}

static int first_row(int query)
{
    return offset_in_table(query) + (relative_table_rows - 1) / 2;
}

void KERNEL(head_bias)(float *bias, const float *bias_table, int head, int heads,
                       const struct attention_sizes *sizes)
{
    float column[relative_table_rows];
    for (int row = 0; row < relative_table_rows; row++) {
        column[row] = bias_table[(size_t)row * heads + head] * log2_of_e;
    }
    int offset[window_tokens_max];
    for (int key = 0; key < sizes->tokens; key++) {
        offset[key] = offset_in_table(key);
    }
    for (int query = 0; query < sizes->tokens; query++) {
        float *to = bias + (size_t)query * sizes->keys;
        const float *from = column + first_row(query);
        for (int key = 0; key < sizes->tokens; key++) {
            to[key] = from[-offset[key]];
        }
        for (int key = sizes->tokens; key < sizes->keys; key++) {
            to[key] = absent_key;
        }
    }
}

void KERNEL(add_table_gradient)(double *dtable, const float *dbias, const struct attention_sizes *sizes)
{
    int offset[window_tokens_max];
    for (int key = 0; key < sizes->tokens; key++) {
        offset[key] = offset_in_table(key);
    }
    for (int query = 0; query < sizes->tokens; query++) {
        double *to = dtable + first_row(query);
        const float *from = dbias + (size_t)query * sizes->keys;
        for (int key = 0; key < sizes->tokens; key++) {
            to[-offset[key]] += from[key];
        }
    }
}

void KERNEL(gather_transposed)(float *result, const float *rows, size_t row_length, const float *padding,
                               int first, const struct window *window, const struct attention_shape *s,
                               int width)
{
    const size_t keys = window->keys;
    for (int t = 0; t < window->tokens; t++) {
        const float *from =
            window->row[t] == SIZE_MAX ? padding + first : rows + window->row[t] * row_length + first;
        for (int d = 0; d < s->head_dim; d++) {
            result[d * keys + t] = from[d];
        }
    }
    for (int d = 0; d < s->head_dim; d++) {
        for (size_t t = window->tokens; t < keys; t++) {
            result[d * keys + t] = 0;
        }
    }
    memset(result + s->head_dim * keys, 0, (width - s->head_dim) * keys * sizeof *result);
}

void KERNEL(gather_queries)(float *result, const float *rows, size_t row_length, int first, float factor,
                            const struct window *window, const struct attention_shape *s, int width)
{
    for (int k = 0; k < window->queries + query_tile; k++) {
        const int real_query = k < window->queries;
        const float *from = real_query ? rows + window->row[window->query[k]] * row_length + first : NULL;
        for (int d = 0; d < width; d++) {
            result[(size_t)k * width + d] = real_query && d < s->head_dim ? from[d] * factor : 0;
        }
    }
}
