/* Fetching the rows of the next window into the second-level cache, a few at a time, while a window is at
 * work: they lie in pieces all over large tensors, which processors do not foresee. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_AHEAD_H
#define COMPUTE_CPU_KERNELS_ATTENTION_AHEAD_H

#include "compute/cpu/kernels/attention_window.h"

enum { most_pieces_ahead = 9 };

struct window_ahead {
    const struct window *window;
    int at, step; /* real tokens: the next one, and how many at a time */
    int pieces;
    struct piece_ahead {
        const char *first; /* of token 0 of the tensor */
        size_t stride, bytes;
    } piece[most_pieces_ahead]; /* of every token */
};

/* No pieces yet, and all tokens within `steps` calls of fetch_ahead. */
static inline void begin_ahead(struct window_ahead *ahead, const struct window *window, int steps)
{
    ahead->window = window;
    ahead->at = 0;
    ahead->step = (window->queries + steps - 1) / (steps > 0 ? steps : 1);
    ahead->pieces = 0;
}

/* Element `first` and the `count` - 1 after it of each row of `length` elements. */
static inline void add_ahead(struct window_ahead *ahead, const void *rows, size_t element, size_t length,
                             size_t first, size_t count)
{
    ahead->piece[ahead->pieces++] = (struct piece_ahead){
        .first = (const char *)rows + first * element, .stride = length * element, .bytes = count * element};
}

static inline void fetch_ahead(struct window_ahead *ahead)
{
    enum { line = 64 };
    const struct window *window = ahead->window;
    const int left = window->queries - ahead->at, end = ahead->at + (left < ahead->step ? left : ahead->step);
    for (int k = ahead->at; k < end; k++) {
        const size_t row = window->row[window->query[k]];
        for (int p = 0; p < ahead->pieces; p++) {
            const struct piece_ahead *piece = &ahead->piece[p];
            for (size_t b = 0; b < piece->bytes; b += line) {
                __builtin_prefetch(piece->first + row * piece->stride + b, 0, 2);
            }
        }
    }
    ahead->at = end;
}

#endif
