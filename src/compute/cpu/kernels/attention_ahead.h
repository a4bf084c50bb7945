/* Fetching the rows of the next window into the second-level cache, a few at a time, while a window is at
 * work: they lie all over large tensors, which processors do not foresee. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_AHEAD_H
#define COMPUTE_CPU_KERNELS_ATTENTION_AHEAD_H

#include "compute/cpu/kernels/attention_pieces.h"

enum { most_parts_ahead = 9 };

struct window_ahead {
    const struct cut_window *cut;
    int at, step; /* slots of queries: the next one, and how many at a time */
    int parts;
    struct part_ahead {
        const char *first; /* of token 0 of the tensor */
        size_t stride, bytes;
    } part[most_parts_ahead]; /* of every token */
};

/* No parts yet, and all real tokens within as many calls of fetch_ahead as the window at work has
 * tiles of queries and keys. */
static inline void begin_ahead(struct window_ahead *ahead, const struct cut_window *cut,
                               const struct window_pattern *at_work)
{
    int calls = 0;
    for (int k = 0; k < at_work->pieces; k++) {
        const struct piece *piece = &at_work->piece[k];
        calls += (piece->queries + query_tile - 1) / query_tile * (piece->keys / block_keys);
    }
    ahead->cut = cut;
    ahead->at = 0;
    ahead->step = calls > 0 ? (cut->pattern->query_slots + calls - 1) / calls : 0;
    ahead->parts = 0;
}

/* Element `first` and the `count` - 1 after it of each row of `length` elements. */
static inline void add_ahead(struct window_ahead *ahead, const void *rows, size_t element, size_t length,
                             size_t first, size_t count)
{
    ahead->part[ahead->parts++] = (struct part_ahead){
        .first = (const char *)rows + first * element, .stride = length * element, .bytes = count * element};
}

static inline void fetch_ahead(struct window_ahead *ahead)
{
    enum { line = 64 };
    const struct window_pattern *pattern = ahead->cut->pattern;
    const int left = pattern->query_slots - ahead->at;
    const int end = ahead->at + (left < ahead->step ? left : ahead->step);
    for (int k = ahead->at; k < end; k++) {
        if (pattern->key[k] == no_token) {
            continue;
        }
        const size_t row = ahead->cut->row[pattern->key[k]];
        for (int p = 0; p < ahead->parts; p++) {
            const struct part_ahead *part = &ahead->part[p];
            for (size_t b = 0; b < part->bytes; b += line) {
                __builtin_prefetch(part->first + row * part->stride + b, 0, 2);
            }
        }
    }
    ahead->at = end;
}

#endif
