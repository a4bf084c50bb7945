#include "compute/cpu/kernels/attention_pieces.h"

#include <math.h>

/* A line: neighbouring keys, as many as a run has at most, and one more. */
enum { line = 8, rows_together = query_tile };

typedef float float_line __attribute__((vector_size(line * sizeof(float)), may_alias, aligned(4)));
typedef int32_t int_line __attribute__((vector_size(line * sizeof(int32_t)), may_alias, aligned(4)));

/* The first `length` floats, zeros behind. */
static inline float_line load_line(const float *from, int length)
{
    static const int32_t present[2 * line] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return (float_line)(*(const int_line *)from & *(const int_line *)(present + line - length));
}

void KERNEL(read_head_table)(struct head_table *table, const float *bias_table, int head,
                             const struct attention_sizes *z)
{
    const float most_apart = 60; /* 2^-60 is what raise_two_to still tells from less */
    float largest = -INFINITY, least = INFINITY, sum = 0;
    table->head = head;
    for (int row = 0; row < relative_table_rows; row++) {
        const float bias = bias_table[(size_t)row * z->heads + head] * log2_of_e;
        table->bias[relative_table_rows - 1 - row] = bias;
        largest = bias > largest ? bias : largest;
        least = bias < least ? bias : least;
        sum += bias;
    }
    memset(table->bias + relative_table_rows, 0, line * sizeof *table->bias);
    table->largest = largest;
    table->magnitude = largest > -least ? largest : -least;
    table->padding_can_be_summed = sum - sum == 0 && largest - least <= most_apart;
    for (int row = 0; row < relative_table_rows + line; row += lanes) {
        const int left = relative_table_rows + line - row, count = left < lanes ? left : lanes;
        vec power = load_part(table->bias + row, count) - largest;
        raise_two_to(&power, 1);
        store_part(table->power + row, power, count);
    }
}

/* Where the query's row of the table has key 0's bias: table->bias + first_column, of offset 0. */
static int first_column(const struct window_pattern *p, int query_slot)
{
    return relative_table_rows - 1 - first_table_row(p->token[p->key[query_slot]]);
}

/* The sum of 2^(bias - largest) over the padding of a piece, from the row of a query on. */
static float sum_of_powers(const float *power, const struct window_pattern *p, const struct piece *piece)
{
    float_line sums = {0};
    for (int k = piece->padded_run; k < piece->padded_run_end; k++) {
        sums += load_line(power + p->padded_runs[k].offset, p->padded_runs[k].length);
    }
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

/* The slot of a query of a piece, of the last one for those behind. */
static int query_slot(const struct piece *piece, int query)
{
    return piece->first_query + (query < piece->queries ? query : piece->queries - 1);
}

/* Several rows together, as a processor waits where it loads what it has just stored in other pieces. */
static void prepare_rows(float *bias, int first, const struct window_pattern *p, const struct piece *piece,
                         const struct head_table *table)
{
    float rows[rows_together][whole_window_keys + line], padding[rows_together];
    for (int i = 0; i < rows_together; i++) {
        const int column = first_column(p, query_slot(piece, first + i));
        for (int k = piece->run; k < piece->run_end; k++) {
            const struct token_run *run = &p->runs[k];
            memcpy(rows[i] + run->slot - piece->first_key, table->bias + column + run->offset,
                   line * sizeof(float)); /* what is too much is written over */
        }
        if (piece->has_padding) {
            padding[i] = sum_of_powers(table->power + column, p, piece);
        }
        for (int k = piece->tokens; k < piece->keys; k++) {
            rows[i][k] = absent_key;
        }
    }
    if (piece->has_padding) {
        store_part(padding, log2_of(load_part(padding, rows_together)) + table->largest, rows_together);
        for (int i = 0; i < rows_together; i++) {
            rows[i][piece->tokens - 1] = padding[i];
        }
    }
    for (int i = 0; i < rows_together; i++) {
        float *to = bias + (size_t)(first + i) * piece->bias_row;
        for (int k = 0; k < piece->keys; k += block_keys, to += piece->bias_block) {
            store(to, load(rows[i] + k));
            store(to + lanes, load(rows[i] + k + lanes));
        }
    }
}

void KERNEL(prepare_bias)(struct pattern_bias *b, const struct window_pattern *pattern,
                          const struct head_table *table)
{
    b->pattern = pattern;
    for (const struct piece *piece = pattern->piece; piece < pattern->piece + pattern->pieces; piece++) {
        for (int first = 0; first < piece->queries; first += rows_together) {
            prepare_rows(b->bias + piece->bias, first, pattern, piece, table);
        }
    }
    if (b->dbias != NULL) {
        memset(b->dbias, 0, (size_t)pattern->bias_length * sizeof *b->dbias);
    }
}

void KERNEL(lay_out_masks)(struct region_masks *masks, const struct window_pattern *whole)
{
    for (int region = 0; region < whole->regions; region++) {
        for (int k = 0; k < whole->key_slots; k += lanes) {
            store(masks->mask[region] + k, add_mask((vec){0}, whole->region + k, region));
        }
    }
    for (int k = 0; k < whole->query_slots; k++) {
        const int region = whole->key[k] == no_token ? 0 : whole->region[whole->key[k]];
        masks->row[k] = region * whole_window_keys;
    }
}

/* Makes one row of a query's blocks. */
static void join_blocks(float *keys, const float *blocks, const struct piece *piece)
{
    for (int k = 0; k < piece->keys; k += block_keys, blocks += piece->bias_block) {
        store(keys + k, load(blocks));
        store(keys + k + lanes, load(blocks + lanes));
    }
}

/* A query's row of keys becomes one of the window's tokens, where other tokens are zero. Runs are taken in
 * the order of tokens, so that what is too much of a line is zero or written over. */
static void spread_keys(float *tokens, const float *keys, const struct window_pattern *p,
                        const struct piece *piece, const float *power)
{
    const struct token_run *run = p->runs + piece->run, *end = p->runs + piece->run_end;
    const struct token_run *padded = p->padded_runs + piece->padded_run,
                           *padded_end = p->padded_runs + piece->padded_run_end;
    const float share = piece->has_padding ? keys[piece->tokens - 1] / sum_of_powers(power, p, piece) : 0;
    while (run < end || padded < padded_end) {
        if (padded == padded_end || (run < end && p->token[run->slot] < padded->slot)) {
            *(float_line *)(tokens + p->token[run->slot]) =
                load_line(keys + run->slot - piece->first_key, run->length);
            run++;
        } else {
            *(float_line *)(tokens + padded->slot) =
                share * load_line(power + padded->offset, padded->length);
            padded++;
        }
    }
}

/* Adds a piece's dbias. Several rows together, as above. */
static void end_piece(float *dtokens, const float *dbias, const struct window_pattern *p,
                      const struct piece *piece, const struct head_table *table,
                      const struct attention_sizes *z)
{
    const int is_window = piece->tokens == z->tokens && !piece->has_padding;
    float rows[rows_together][whole_window_keys + line], keys[whole_window_keys + line];
    memset(rows, 0, sizeof rows);
    for (int first = 0; first < piece->queries; first += rows_together) {
        const int left = piece->queries - first, count = left < rows_together ? left : rows_together;
        for (int i = 0; i < count; i++) {
            const float *from = dbias + (size_t)(first + i) * piece->bias_row;
            if (is_window) {
                join_blocks(rows[i], from, piece);
                continue;
            }
            const int column = first_column(p, piece->first_query + first + i);
            join_blocks(keys, from, piece);
            spread_keys(rows[i], keys, p, piece, table->power + column);
        }
        for (int i = 0; i < count; i++) {
            float *to = dtokens + (size_t)p->token[p->key[piece->first_query + first + i]] * z->keys;
            for (int k = 0; k < z->keys; k += lanes) {
                store(to + k, load(to + k) + load(rows[i] + k));
            }
        }
    }
}

void KERNEL(end_bias)(struct pattern_bias *b, float *dtokens, const struct head_table *table,
                      const struct attention_sizes *z)
{
    const struct window_pattern *p = b->pattern;
    b->pattern = NULL;
    for (int k = 0; p != NULL && b->dbias != NULL && k < p->pieces; k++) {
        end_piece(dtokens, b->dbias + p->piece[k].bias, p, &p->piece[k], table, z);
    }
}
