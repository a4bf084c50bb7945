#include "compute/cpu/kernels/avx512bf16/attention_pairs.h"

static uint32_t pair_at(const activation *from)
{
    uint32_t pair;
    memcpy(&pair, from, sizeof pair);
    return pair;
}

void KERNEL(gather_channel_pairs)(uint32_t *result, int first, const struct cut_window *cut,
                                  const struct attention_sizes *z)
{
    for (int d = 0; d < z->head_dim / 2; d++) {
        uint32_t *to = result + d * z->pitch;
        for (int t = 0; t < cut->pattern->key_slots; t++) {
            to[t] = pair_at(cut->qkv[t] + first + 2 * d);
        }
    }
}

void KERNEL(gather_key_pairs)(uint32_t *result, int first, const struct cut_window *cut,
                              const struct attention_sizes *z)
{
    const size_t length = z->head_dim;
    for (int t = 0; t < cut->pattern->key_slots; t += 2, result += length) {
        const activation *low = cut->qkv[t] + first, *high = cut->qkv[t + 1] + first;
        for (int d = 0; d < z->head_dim; d++) {
            result[d] = low[d].bits | (uint32_t)high[d].bits << 16;
        }
    }
}

void KERNEL(gather_columns)(activation *result, int first, const struct cut_window *cut,
                            const struct attention_sizes *z)
{
    for (int d = 0; d < z->head_dim; d++) {
        activation *to = result + d * z->pitch;
        for (int t = 0; t < cut->pattern->key_slots; t++) {
            to[t] = cut->qkv[t][first + d];
        }
    }
}

void KERNEL(gather_rows)(activation *result, const activation *rows, size_t row_length, int first,
                         const struct cut_window *cut, const struct attention_sizes *z)
{
    const struct window_pattern *p = cut->pattern;
    const size_t bytes = z->head_dim * sizeof *result;
    for (int k = 0; k < p->query_slots; k++, result += z->head_dim) {
        if (p->key[k] == no_token) {
            memset(result, 0, bytes);
        } else {
            memcpy(result, rows + cut->row[p->key[k]] * row_length + first, bytes);
        }
    }
}

int KERNEL(pair_attention_sizes)(struct compute *c, struct attention_sizes *sizes,
                                 const struct attention_shape *shape)
{
    if (!KERNEL(attention_sizes)(c, sizes, shape)) {
        return 0;
    }
    sizes->query_unit = pair_tile;
    sizes->bias_in_blocks = 0;
    return 1;
}
