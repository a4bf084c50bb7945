#include "compute/cpu/kernels/attention_window.h"

#include "compute/cpu/kernels/kernels.h"
#include "compute/supported_shapes.h"

enum { least_group = 64 }; /* windows that make preparing a head's bias cheap */

static int windows_along(int extent, int window)
{
    return (extent + window - 1) / window;
}

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
    sizes->bias_row = sizes->keys;
    sizes->bias_block = 2 * lanes;
    const size_t per_sample = (size_t)windows_along(s->d, s->window[0]) * windows_along(s->h, s->window[1]) *
                              windows_along(s->w, s->window[2]);
    sizes->windows = s->n * per_sample;
    sizes->group = (least_group + per_sample - 1) / per_sample * per_sample;
    return 1;
}

unsigned char *KERNEL(attention_memory)(struct compute *c, activation **padded_row, const float *qkv_bias,
                                        size_t bytes, int threads, const struct attention_sizes *z)
{
    const size_t length = 3 * (size_t)z->channels, row_bytes = float_bytes(length);
    *padded_row = cpu_scratch(c, row_bytes + threads * bytes);
    if (*padded_row == NULL) {
        return NULL;
    }
    activations_of(*padded_row, qkv_bias, length);
    return (unsigned char *)*padded_row + row_bytes;
}

struct attention_task KERNEL(attention_task)(size_t task, const struct attention_sizes *z)
{
    const size_t before = task / (z->group * z->heads) * z->group; /* windows of earlier groups */
    const size_t left = z->windows - before, windows = left < z->group ? left : z->group;
    const size_t within = task - before * z->heads;
    return (struct attention_task){.head = (int)(within / windows), .window = before + within % windows};
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

void KERNEL(cut_window)(struct window *window, size_t index, const activation *qkv,
                        const activation *padded_row, const struct attention_shape *s)
{
    const int extent[3] = {s->d, s->h, s->w};
    const size_t row_length = 3 * (size_t)s->heads * s->head_dim;
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
     * Several rows together, as a processor waits where it loads what it has just stored in other pieces. */
    enum { rows_together = 8 };
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
    const int in_rows = z->bias_block == block_keys;
    for (int query = 0; in_rows && query < z->tokens; query++) {
        bias_row(bias + query * z->bias_row, first - first_table_row(query), offset, z);
    }
    for (int query = 0; !in_rows && query < z->tokens; query += rows_together) {
        float rows[rows_together][whole_window_keys];
        const int left = z->tokens - query, count = left < rows_together ? left : rows_together;
        for (int i = 0; i < count; i++) {
            bias_row(rows[i], first - first_table_row(query + i), offset, z);
        }
        for (int i = 0; i < count; i++) {
            float *to = bias + (query + i) * z->bias_row;
            for (int k = 0; k < z->keys; k += block_keys, to += z->bias_block) {
                store(to, load(rows[i] + k));
                store(to + lanes, load(rows[i] + k + lanes));
            }
        }
    }
}

/* A row of the mask for each region that a query is in. */
static void lay_out_mask(struct score_terms *terms, const struct window *window,
                         const struct attention_sizes *z)
{
    int row[regions_of_all], regions = 0;
    for (int region = 0; region < regions_of_all; region++) {
        row[region] = -1;
    }
    for (int k = 0; k < window->queries + query_tile; k++) {
        const int region = window->region[window->query[k]];
        if (row[region] < 0) {
            row[region] = regions * whole_window_keys;
            for (int key = 0; key < z->keys; key += lanes) {
                store(terms->mask[regions] + key, add_mask((vec){0}, window->region + key, region));
            }
            regions++;
        }
        terms->region[k] = row[region];
    }
}

void KERNEL(lay_out_terms)(struct score_terms *terms, const struct window *window,
                           const struct attention_sizes *z)
{
    const int bias_row = (int)z->bias_row;
    for (int k = 0; k < window->queries + query_tile; k++) {
        terms->bias[k] = window->query[k] * bias_row;
    }
    if (window->masked) {
        lay_out_mask(terms, window, z);
    }
}

#if defined(__AVX512F__)
/* The part of gather_transposed that is whole vectors of tokens and of channels. */
static void gather_vectors_transposed(float *result, int first, const struct window *window,
                                      const struct attention_sizes *z)
{
    for (int t = 0; t + lanes <= z->tokens; t += lanes) {
        for (int d = 0; d + lanes <= z->head_dim; d += lanes) {
            vec rows[lanes];
            for (int k = 0; k < lanes; k++) {
                rows[k] = load_activations(window->qkv[t + k] + first + d);
            }
            transpose_16(rows);
            for (int k = 0; k < lanes; k++) {
                store(result + (size_t)(d + k) * z->keys + t, rows[k]);
            }
        }
    }
}
#endif

void KERNEL(gather_transposed)(float *result, int first, const struct window *window,
                               const struct attention_sizes *z)
{
    const size_t keys = z->keys;
    int vector_channels = 0;
#if defined(__AVX512F__)
    vector_channels = z->head_dim / lanes * lanes;
    gather_vectors_transposed(result, first, window, z);
#endif
    for (int d = 0; d < z->width; d += 4) {
        float *to = result + d * keys;
        int t = d < vector_channels ? z->tokens / lanes * lanes : 0;
        for (; d + 4 <= z->head_dim && t + 4 <= z->tokens; t += 4) {
            const activation *const rows[4] = {window->qkv[t] + first + d, window->qkv[t + 1] + first + d,
                                               window->qkv[t + 2] + first + d,
                                               window->qkv[t + 3] + first + d};
            store_transposed(to + t, keys, load_activation_quad(rows[0]), load_activation_quad(rows[1]),
                             load_activation_quad(rows[2]), load_activation_quad(rows[3]));
        }
        for (int j = 0; j < 4; j++) {
            for (int k = t; k < z->tokens; k++) {
                to[j * keys + k] = d + j < z->head_dim ? float_of(window->qkv[k][first + d + j]) : 0;
            }
            for (size_t k = z->tokens; k < keys; k++) {
                to[j * keys + k] = 0;
            }
        }
    }
}

/* One row of a head's channels, times factor, and zeros up to width. */
static inline void gather_row(float *to, const activation *from, float factor,
                              const struct attention_sizes *z)
{
    int d = 0;
    for (; d + lanes <= z->head_dim; d += lanes) {
        store(to + d, load_activations(from + d) * factor);
    }
    for (; d + 4 <= z->head_dim; d += 4) {
        store_quad(to + d, load_activation_quad(from + d) * factor);
    }
    for (; d < z->width; d++) {
        to[d] = d < z->head_dim ? float_of(from[d]) * factor : 0;
    }
}

void KERNEL(gather_tokens)(float *result, int first, const struct window *window,
                           const struct attention_sizes *z)
{
    for (int k = 0; k < z->tokens; k++) {
        gather_row(result + (size_t)k * z->width, window->qkv[k] + first, 1, z);
    }
    memset(result + (size_t)z->tokens * z->width, 0,
           (size_t)(z->keys - z->tokens) * z->width * sizeof *result);
}

void KERNEL(gather_queries)(float *result, const activation *rows, size_t row_length, int first, float factor,
                            const struct window *window, const struct attention_sizes *z)
{
    for (int k = 0; k < window->queries; k++) {
        gather_row(result + (size_t)k * z->width, rows + window->row[window->query[k]] * row_length + first,
                   factor, z);
    }
    memset(result + (size_t)window->queries * z->width, 0, (size_t)query_tile * z->width * sizeof *result);
}
