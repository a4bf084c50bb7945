#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

static uint32_t pair_at(const activation *from)
{
    uint32_t pair;
    memcpy(&pair, from, sizeof pair);
    return pair;
}

void KERNEL(gather_channel_pairs)(uint32_t *result, int first, const struct window *window,
                                  const struct attention_sizes *z)
{
    for (int d = 0; d < z->head_dim / 2; d++) {
        uint32_t *to = result + (size_t)d * z->keys;
        for (int t = 0; t < z->tokens; t++) {
            to[t] = pair_at(window->qkv[t] + first + 2 * d);
        }
        for (int t = z->tokens; t < z->keys; t++) {
            to[t] = 0;
        }
    }
}

void KERNEL(gather_key_pairs)(uint32_t *result, int first, const struct window *window,
                              const struct attention_sizes *z)
{
    const size_t length = z->head_dim;
    for (int t = 0; t < z->keys; t += 2, result += length) {
        for (int d = 0; d < z->head_dim; d++) {
            const uint32_t low = t < z->tokens ? window->qkv[t][first + d].bits : 0;
            const uint32_t high = t + 1 < z->tokens ? window->qkv[t + 1][first + d].bits : 0;
            result[d] = low | high << 16;
        }
    }
}

void KERNEL(gather_columns)(activation *result, int first, const struct window *window,
                            const struct attention_sizes *z)
{
    for (int d = 0; d < z->head_dim; d++) {
        activation *to = result + (size_t)d * z->keys;
        for (int t = 0; t < z->tokens; t++) {
            to[t] = window->qkv[t][first + d];
        }
        memset(to + z->tokens, 0, (z->keys - z->tokens) * sizeof *to);
    }
}

void KERNEL(gather_rows)(activation *result, const activation *rows, size_t row_length, int first,
                         const struct window *window, const struct attention_sizes *z)
{
    const size_t length = z->head_dim;
    for (int k = 0; k < window->queries; k++) {
        memcpy(result + k * length, rows + window->row[window->query[k]] * row_length + first,
               length * sizeof *result);
    }
    memset(result + window->queries * length, 0, pair_tile * length * sizeof *result);
}
