#include "compute/cpu/kernels/attention_pieces.h"
#include "compute/cpu/kernels/attention_sums.h"

#include <math.h>

enum { rows_together = query_tile };

/* A line of keys, in lanes by their places along the last axis: of a run, whose first key is at `from`;
 * others are zero. */
static inline float_line load_line(const float *from, const struct token_run *run)
{
#if defined(__AVX512F__)
    return (float_line)_mm256_maskz_loadu_ps(run->lanes, from - run->place);
#else
    static const int32_t present[2 * line_keys] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const int_line before_end = *(const int_line *)(present + line_keys - run->place - run->count);
    const int_line before_first = *(const int_line *)(present + line_keys - run->place);
    return (float_line)(*(const int_line *)(from - run->place) & before_end & ~before_first);
#endif
}

static inline double_line doubles_of(float_line v)
{
#if defined(__AVX512F__)
    return (double_line)_mm512_cvtps_pd((__m256)v);
#else
    return __builtin_convertvector(v, double_line);
#endif
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
    memset(table->bias + relative_table_rows, 0, line_keys * sizeof *table->bias);
    table->largest = largest;
    table->magnitude = largest > -least ? largest : -least;
    table->padding_can_be_summed = sum - sum == 0 && largest - least <= most_apart;
    for (int row = 0; row < relative_table_rows + line_keys; row += lanes) {
        const int left = relative_table_rows + line_keys - row, count = left < lanes ? left : lanes;
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

/* The sum of 2^(bias - largest) over the padding, from the row of a query on. */
static float sum_of_powers(const float *power, const struct window_pattern *p,
                           const struct summed_padding *padding)
{
    float_line sums = {0};
    for (int k = padding->run; k < padding->run_end; k++) {
        sums += load_line(power + p->padded_runs[k].offset, &p->padded_runs[k]);
    }
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

/* The slot of a query of a piece, of the last one for those behind. */
static int query_slot(const struct piece *piece, int query)
{
    return piece->first_query + (query < piece->queries ? query : piece->queries - 1);
}

/* Rows of bias of a tile of queries, as they lie in a piece without blocks: the first of `rows`, and from one
 * to the next. Lines are copied in the order of keys, so that what is too much of one is written over. */
static void fill_rows(float *rows, size_t pitch, int first, const struct window_pattern *p,
                      const struct piece *piece, const struct head_table *table)
{
    int column[rows_together];
    for (int i = 0; i < rows_together; i++) {
        float *row = rows + i * pitch;
        column[i] = first_column(p, query_slot(piece, first + i));
        for (int k = piece->run; k < piece->run_end; k++) {
            const struct token_run run = p->runs[k];
            memcpy(row + run.slot - piece->first_key, table->bias + column[i] + run.offset,
                   line_keys * sizeof(float));
        }
        for (int k = piece->tokens; k < piece->keys; k++) {
            row[k] = absent_key;
        }
    }
    for (int n = piece->padding; n < piece->padding_end; n++) {
        const struct summed_padding *padding = &p->padding[n];
        float sums[rows_together];
        for (int i = 0; i < rows_together; i++) {
            sums[i] = sum_of_powers(table->power + column[i], p, padding);
        }
        store_part(sums, log2_of(load_part(sums, rows_together)) + table->largest, rows_together);
        for (int i = 0; i < rows_together; i++) {
            rows[i * pitch + padding->slot - piece->first_key] = sums[i];
        }
    }
}

/* Several rows together, as a processor waits where it loads what it has just stored in other pieces. */
static void fill_blocks(float *bias, int first, const struct window_pattern *p, const struct piece *piece,
                        const struct head_table *table)
{
    enum { pitch = whole_window_keys + line_keys };
    float rows[rows_together * pitch];
    fill_rows(rows, pitch, first, p, piece, table);
    for (int i = 0; i < rows_together; i++) {
        float *to = bias + (size_t)(first + i) * piece->bias_row;
        const float *from = rows + (size_t)i * pitch;
        for (int k = 0; k < piece->keys; k += block_keys, to += piece->bias_block) {
            store(to, load(from + k));
            store(to + lanes, load(from + k + lanes));
        }
    }
}

void KERNEL(prepare_bias)(struct pattern_bias *b, const struct window_pattern *pattern,
                          const struct head_table *table, const struct attention_sizes *z)
{
    b->pattern = pattern;
    for (const struct piece *piece = pattern->piece; piece < pattern->piece + pattern->pieces; piece++) {
        const int rows = (piece->queries + z->query_unit - 1) / z->query_unit * z->query_unit;
        for (int first = 0; first < rows; first += rows_together) {
            float *bias = b->bias + piece->bias;
            if (z->bias_in_blocks) {
                fill_blocks(bias, first, pattern, piece, table);
            } else {
                fill_rows(bias + (size_t)first * piece->keys, piece->keys, first, pattern, piece, table);
            }
        }
    }
    if (b->dbias != NULL) {
        memset(b->dbias, 0, (size_t)pattern->bias_length * sizeof *b->dbias);
    }
}

/* Adds the mask to a query's scores of one vector of keys, by their regions. */
static inline vec add_mask(vec scores, const int32_t *region, int32_t own)
{
#if defined(__AVX512F__)
    const __mmask16 apart = _mm512_cmpneq_epi32_mask(_mm512_loadu_si512(region), _mm512_set1_epi32(own));
    return (vec)_mm512_mask_add_ps((__m512)scores, apart, (__m512)scores, _mm512_set1_ps(masked_score));
#else
    const vec masked = broadcast(masked_score);
    return scores + (vec)(((ivec)load((const float *)region) != own) & (ivec)masked);
#endif
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

/* A query's gradient of the scores of the padding, which share one in the ratio of their powers. */
static void add_padding(double_line *lines, float share, const float *power, const struct window_pattern *p,
                        const struct summed_padding *padding)
{
    for (int k = padding->run; k < padding->run_end; k++) {
        const struct token_run *run = &p->padded_runs[k];
        lines[run->line] += doubles_of(share * load_line(power + run->offset, run));
    }
}

/* Where the query's bias of a key lies in a piece. */
static size_t bias_place(const struct piece *piece, int query, int key_slot)
{
    const int key = key_slot - piece->first_key;
    return piece->bias + (size_t)query * piece->bias_row + (size_t)(key / block_keys) * piece->bias_block +
           key % block_keys;
}

/* Where keys lie in blocks, makes one row of them. */
static const float *row_of_keys(float row[whole_window_keys], const float *blocks, const struct piece *piece)
{
    if (piece->bias_block == block_keys) {
        return blocks;
    }
    for (int k = 0; k < piece->keys; k += block_keys, blocks += piece->bias_block) {
        store(row + k, load(blocks));
        store(row + k + lanes, load(blocks + lanes));
    }
    return row;
}

/* Queries by their places, so that the lines that they add to stay in the first-level cache. */
static void end_piece(const struct attention_sums *sums, const struct pattern_bias *b,
                      const struct piece *piece, const struct head_table *table)
{
    const struct window_pattern *p = b->pattern;
    float row[line_keys + whole_window_keys];
    for (int k = 0; k < piece->queries; k++) {
        const int slot = p->by_place[piece->first_query + k], query = slot - piece->first_query;
        const int token = p->token[p->key[slot]];
        const float *power = table->power + relative_table_rows - 1 - first_table_row(token);
        const float *dbias = b->dbias + piece->bias + (size_t)query * piece->bias_row;
        const float *first_key = row_of_keys(row + line_keys, dbias, piece) - piece->first_key;
        double_line *lines = lines_of_query(sums, token);
        for (int r = piece->run; r < piece->run_end; r++) {
            const struct token_run run = p->runs[r];
            lines[run.line] += doubles_of(load_line(first_key + run.slot, &run));
        }
        for (int n = piece->padding; n < piece->padding_end; n++) {
            const struct summed_padding *padding = &p->padding[n];
            vec factor = broadcast(table->largest - b->bias[bias_place(piece, query, padding->slot)]);
            raise_two_to(&factor, 1); /* 1 / the sum of powers */
            add_padding(lines, first_key[padding->slot] * factor[0], power, p, padding);
        }
    }
}

void KERNEL(end_bias)(struct pattern_bias *b, const struct attention_sums *sums,
                      const struct head_table *table)
{
    const int pieces = b->pattern != NULL && sums != NULL ? b->pattern->pieces : 0;
    for (int k = 0; k < pieces; k++) {
        end_piece(sums, b, &b->pattern->piece[k], table);
    }
    b->pattern = NULL;
}
