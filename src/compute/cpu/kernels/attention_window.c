#include "compute/cpu/kernels/attention_window.h"

#include "compute/cpu/kernels/kernels.h"
#include "compute/supported_shapes.h"

enum { least_group = 64 }; /* windows that make preparing a head's bias cheap */

int KERNEL(attention_sizes)(struct compute *c, struct attention_sizes *sizes, const struct attention_shape *s)
{
    if (!attention_is_supported(c, s)) {
        return 0;
    }
    sizes->heads = s->heads;
    sizes->head_dim = s->head_dim;
    sizes->channels = s->heads * s->head_dim;
    sizes->width = (s->head_dim + 3) / 4 * 4;
    sizes->tokens = s->window[0] * s->window[1] * s->window[2];
    sizes->keys = (sizes->tokens + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
    sizes->pitch = sizes->keys;
    const size_t per_sample = (size_t)windows_along(s->d, s->window[0]) * windows_along(s->h, s->window[1]) *
                              windows_along(s->w, s->window[2]);
    sizes->windows = s->n * per_sample;
    sizes->group = (least_group + per_sample - 1) / per_sample * per_sample;
    return 1;
}

unsigned char *KERNEL(attention_memory)(struct compute *c, activation **padded_row, const float *qkv_bias,
                                        size_t bytes, const struct attention_sizes *z)
{
    const size_t length = 3 * (size_t)z->channels, row_bytes = float_bytes(2 * length);
    *padded_row = cpu_scratch(c, row_bytes + bytes);
    if (*padded_row == NULL) {
        return NULL;
    }
    activations_of(*padded_row, qkv_bias, length);
    memset(*padded_row + length, 0, length * sizeof **padded_row);
    return (unsigned char *)*padded_row + row_bytes;
}

struct attention_task KERNEL(attention_task)(size_t task, const struct attention_sizes *z)
{
    const size_t before = task / (z->group * z->heads) * z->group; /* windows of earlier groups */
    const size_t left = z->windows - before, windows = left < z->group ? left : z->group;
    const size_t within = task - before * z->heads;
    return (struct attention_task){.head = (int)(within / windows), .window = before + within % windows};
}

struct axis_places KERNEL(places_along)(int extent, int window, int shift, int corner)
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

void KERNEL(cut_window)(struct window *window, size_t index, const activation *qkv,
                        const activation *padded_row, const struct attention_shape *s)
{
    const int extent[3] = {s->d, s->h, s->w};
    const size_t row_length = 3 * (size_t)s->heads * s->head_dim;
    struct axis_places axes[3];
    for (int axis = 2; axis >= 0; axis--) {
        const int along = windows_along(extent[axis], s->window[axis]);
        axes[axis] = KERNEL(places_along)(extent[axis], s->window[axis], s->shift[axis],
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
                window->padding[t] = d < 0 || h < 0 || w < 0;
                window->qkv[t] = padded_row;
                if (!window->padding[t]) {
                    window->row[t] = ((index * s->d + d) * s->h + h) * s->w + w;
                    window->qkv[t] = qkv + window->row[t] * row_length;
                    window->query[queries++] = t;
                }
            }
        }
    }
    window->queries = queries;
    window->masked = different != 0;
    for (int k = 0; k < most_query_tile && queries > 0; k++) {
        window->query[queries + k] = window->query[queries - 1];
    }
    for (; t < whole_window_keys; t++) {
        window->region[t] = 0;
    }
}

/* One query's bias, from the head's column of the table where that of key 0 is. */
static void bias_row(float *row, const float *column, const int *offset, const struct attention_sizes *z)
{
    int key = 0;
    for (; key + relative_table_window < z->tokens; key += relative_table_window) {
        memcpy(row + key, column + offset[key], 8 * sizeof *row); /* one too many, which is written over */
    }
    for (int k = key; k < z->tokens; k++) {
        row[k] = column[offset[key] + k - key];
    }
    for (key = z->tokens; key < z->keys; key++) {
        row[key] = absent_key;
    }
}

void KERNEL(head_bias)(float *bias, const float *bias_table, int head, const struct attention_sizes *z)
{
    /* Backwards, so that keys along an axis lie side by side; some room behind for copies that are too long.
     */
    float column[relative_table_rows + 8];
    memset(column, 0, sizeof column);
    for (int row = 0; row < relative_table_rows; row++) {
        column[relative_table_rows - 1 - row] = bias_table[(size_t)row * z->heads + head] * log2_of_e;
    }
    int offset[window_tokens_max];
    for (int key = 0; key < z->tokens; key += relative_table_window) {
        offset[key] = offset_in_table(key);
    }
    const float *first = column + relative_table_rows - 1;
    for (int query = 0; query < z->tokens; query++) {
        bias_row(bias + (size_t)query * z->keys, first - first_table_row(query), offset, z);
    }
}
