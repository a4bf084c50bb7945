/* Windows in pieces. A query attends the keys of its window, but
 *
 *   - those of other regions have a score that is 100 less: as long as scores are small (attention_walk.c)
 * they count for less than what rounds away, so each region of a window is a piece of its own;
 *   - all padding of a region has the same key and value, those of qkv_bias, and differs in its bias alone:
 *     one key with the bias log2 sum_j 2^bias_j attracts what all of them do. Its gradient is the sum of
 *     theirs, and 2^(bias_j - bias) the share of padding j.
 *
 * So there is less to multiply than whole windows have: of 32^3 tokens in shifted windows of 7^3 three
 * quarters, of 16^3 three fifths, of 8^3 a fifth. Where scores are not small, a window stays one piece
 * of all its tokens, with the mask. Kernels for which small pieces do not pay take the padding of each region
 * as one key, but regions together (regions_apart in attention_sizes).
 *
 * Windows that are cut alike (a pattern: at most three along an axis) are worked on one after the other, as
 * they share what a head's bias is made into. Tokens have slots: those of keys begin a piece at a whole
 * block, those of queries at a whole tile. */
#ifndef COMPUTE_CPU_KERNELS_ATTENTION_PIECES_H
#define COMPUTE_CPU_KERNELS_ATTENTION_PIECES_H

#include "compute/cpu/kernels/attention_sizes.h"

enum {
    regions_of_all = 27, /* regions have such numbers */
    most_patterns = 27,
    no_token = -1,
};

/* Tokens whose rows of the bias table follow each other: part of a line of keys (attention_sums.h). */
struct token_run {
    int16_t slot;        /* of the first one, unless it is summed padding */
    int16_t line;        /* line_of_keys */
    int8_t place, count; /* of the first one along the last axis, and how many */
    uint8_t lanes;       /* of the line: a bit for each place */
    int32_t offset;      /* of the first one in the table: offset_in_table */
};

/* The padding of a region, in one slot. */
struct summed_padding {
    int slot, run, run_end; /* of the pattern's padded_runs */
};

struct piece {
    int queries, first_query; /* tokens that attend, and their first slot */
    int tokens, first_key;    /* that they attend, the padding of a region as one, and the first slot */
    int keys;                 /* slots of them: tokens rounded up to whole blocks */
    int padding, padding_end; /* of the pattern's */
    /* Bias (slots of queries, keys): where it begins, and from a query's to the next one's, and from a block
     * of keys to the next. Absent queries have that of the last one. */
    int bias, bias_row, bias_block;
    int run, run_end; /* of the pattern's */
};

struct window_pattern {
    int pieces, query_slots, key_slots;
    int regions;             /* of the window */
    int is_whole;            /* padding is not summed */
    int bias_length, summed; /* summed: of padding */
    int first[3], count[3];  /* windows along each axis that are cut like this */
    struct piece piece[most_pieces];
    struct summed_padding padding[most_pieces];
    unsigned char kind[most_key_slots]; /* enum token_kind */
    int16_t token[most_key_slots];      /* its number in the window; no_token: absent, or summed padding */
    int16_t key[most_query_slots];      /* slot of the query's own key; no_token: absent */
    int16_t by_place[most_query_slots]; /* a piece's slots of queries by their places along the last axis */
    int32_t region[most_key_slots];
    struct token_run runs[window_tokens_max], padded_runs[window_tokens_max];
};

/* How the windows of a call are cut. */
struct window_patterns {
    int count;
    size_t windows; /* of a sample */
    struct window_pattern pattern[most_patterns];
};
void KERNEL(find_patterns)(struct window_patterns *patterns, const struct attention_shape *shape,
                           const struct attention_sizes *sizes);

/* The same windows as one piece each, of all tokens. */
void KERNEL(whole_pattern)(struct window_pattern *whole, const struct window_pattern *pattern,
                           const struct attention_shape *shape, const struct attention_sizes *sizes);

/* A window and head to be worked on: groups of samples, heads, patterns, samples, windows, the fastest. */
struct piece_task {
    int head, sample;
    const struct window_pattern *pattern;
    int window[3]; /* along each axis */
};
struct piece_task KERNEL(piece_task)(size_t task, const struct window_patterns *patterns,
                                     const struct attention_sizes *sizes);

/* The first task of part `part` of `parts` of equal work. */
size_t KERNEL(first_piece_task)(int part, int parts, const struct window_patterns *patterns,
                                const struct attention_sizes *sizes);

/* The tokens of a window. */
struct cut_window {
    const struct window_pattern *pattern;
    size_t row[most_key_slots];            /* of the token among all, where it is real */
    const activation *qkv[most_key_slots]; /* its q, k and v */
};

/* constant_rows: see attention_inputs. */
void KERNEL(cut_pieces)(struct cut_window *cut, const struct window_pattern *pattern,
                        const struct piece_task *task, const activation *qkv, const activation *constant_rows,
                        const struct attention_shape *shape);

/* A head's column of the bias table, backwards, so that keys along an axis lie side by side. */
struct head_table {
    int head;
    float bias[relative_table_rows + 8];  /* times log2(e) */
    float power[relative_table_rows + 8]; /* 2^(bias - largest) */
    float largest, magnitude;             /* of bias, and of its magnitudes */
    int padding_can_be_summed;            /* 2^(bias - largest) is normal */
};
void KERNEL(read_head_table)(struct head_table *table, const float *bias_table, int head,
                             const struct attention_sizes *sizes);

/* What masked scores less, by slot of keys, a row for each region. */
struct region_masks {
    float mask[most_pieces][whole_window_keys];
    int row[most_query_slots]; /* how far behind the first one a query's row begins */
};
void KERNEL(lay_out_masks)(struct region_masks *masks, const struct window_pattern *whole);

/* A head's bias for a pattern, and its gradient, which is NULL where there is none: (pattern->bias_length).
 */
struct pattern_bias {
    const struct window_pattern *pattern; /* NULL: of none */
    float *bias, *dbias;
};

/* Makes the bias, and a dbias of zeros. */
void KERNEL(prepare_bias)(struct pattern_bias *bias, const struct window_pattern *pattern,
                          const struct head_table *table, const struct attention_sizes *sizes);

/* Adds dbias to sums, unless they are NULL, and leaves a bias of no pattern. */
struct attention_sums;
void KERNEL(end_bias)(struct pattern_bias *bias, const struct attention_sums *sums,
                      const struct head_table *table);

/* result (width, slots): columns first .. first + head_dim - 1 of the slots' rows of qkv, channels by
 * tokens, zero where there is no channel or token; slots are `pitch` apart. */
void KERNEL(gather_key_columns)(float *result, int first, const struct cut_window *cut,
                                const struct attention_sizes *sizes);

/* The same, tokens by channels: result (slots, width). */
void KERNEL(gather_key_rows)(float *result, int first, const struct cut_window *cut,
                             const struct attention_sizes *sizes);

/* result (query slots, width): columns of the queries' rows (n d h w, row_length), times factor, zero as
 * well. */
void KERNEL(gather_query_rows)(float *result, const activation *rows, size_t row_length, int first,
                               float factor, const struct cut_window *cut,
                               const struct attention_sizes *sizes);

#endif
