#include "compute/cpu/kernels/amx/attention_tiles.h"

#include "compute/cpu/kernels/amx/transpose_pairs.h"

static const activation one = {0x3F80}, zero = {0};

/* Two factors whose product is nearest to `product`. */
static void factorise(activation *a, activation *b, float product)
{
    float best = INFINITY;
    for (int k = 128; k < 256; k++) {
        const float first = (float)k / 128; /* exact in bf16 */
        const activation other = activation_of(product / first);
        const float error = fabsf(float_of(other) * first - product);
        if (error < best) {
            best = error;
            *a = activation_of(first);
            *b = other;
        }
    }
}

struct attention_layout KERNEL(attention_layout)(const struct attention_sizes *z)
{
    struct attention_layout layout;
    memset(&layout, 0, sizeof layout);
    layout.chunks = (z->head_dim + slots + tile_depth - 1) / tile_depth;
    layout.row = layout.chunks * tile_depth;
    layout.channel_tiles = (z->head_dim + tile_columns - 1) / tile_columns;
    layout.blocks = (z->tokens + block_side - 1) / block_side;
    layout.score_factor = log2_of_e / sqrtf((float)z->head_dim);
    activation a = zero, b = zero;
    factorise(&a, &b, masked_score / layout.score_factor);
    for (int own = 0; own < region_slots; own++) {
        layout.query_region[own][own] = a;
        for (int other = 0; other < region_slots; other++) {
            layout.key_region[own][other] = other != own ? b : zero;
        }
    }
    return layout;
}

int KERNEL(tile_attention_sizes)(struct compute *c, struct attention_sizes *sizes,
                                 const struct attention_shape *shape)
{
    if (!KERNEL(attention_sizes)(c, sizes, shape)) {
        return 0;
    }
    sizes->regions_apart = 0;
    sizes->query_unit = block_side;
    sizes->bias_in_blocks = 1;
    return 1;
}

/* Copies a head's channels and keeps the largest magnitudes; bf16 without its sign is ordered as an integer
 * is. */
static ALWAYS_INLINE void take_channels(activation *to, const activation *from, int head_dim,
                                        __m512i largest[2])
{
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++) {
        const int left = head_dim - part * tile_depth;
        if (left > 0) {
            const __mmask32 present = left < tile_depth ? (1U << left) - 1 : ~0U;
            const __m512i channels = _mm512_maskz_loadu_epi16(present, from + part * tile_depth);
            largest[part] =
                _mm512_max_epu16(largest[part], _mm512_and_si512(channels, _mm512_set1_epi16(0x7FFF)));
            _mm512_mask_storeu_epi16(to + part * tile_depth, present, channels);
        }
    }
}

static void keep_largest(struct magnitudes *largest, const __m512i found[2])
{
    _mm512_storeu_si512(largest->channel, found[0]);
    _mm512_storeu_si512(largest->channel + tile_depth, found[1]);
}

void KERNEL(gather_query_tiles)(activation *rows, struct magnitudes *largest, const activation *from,
                                size_t row_length, int first, const struct cut_window *cut,
                                const struct attention_layout *layout, const struct attention_sizes *z)
{
    const struct window_pattern *p = cut->pattern;
    const int queries = p->piece[0].queries;
    const size_t row = layout->row;
    __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    activation *to = rows;
    for (int k = 0; k < queries; k++, to += row) {
        const int key = p->key[k];
        take_channels(to, from + cut->row[key] * row_length + first, z->head_dim, most);
        memset(to + z->head_dim, 0, number_slots * sizeof *to);
        memcpy(to + z->head_dim + number_slots, layout->query_region[p->region[key]],
               region_slots * sizeof *to);
    }
    memset(to, 0, (p->query_slots - queries) * row * sizeof *to);
    keep_largest(largest, most);
}

void KERNEL(set_query_numbers)(activation *rows, const float *numbers, int count,
                               const struct attention_layout *layout, const struct attention_sizes *z)
{
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    activation *to = rows + z->head_dim;
    for (int first = 0; first < count; first += lanes) {
        const vec number = load(numbers + first); /* cut into three times 8 bits */
        const vec a = (vec)_mm512_and_si512((__m512i)number, upper), rest = number - a;
        const vec b = (vec)_mm512_and_si512((__m512i)rest, upper);
        uint32_t low[lanes], high[lanes];
        _mm512_storeu_si512(low, upper_halves((__m512i)a, (__m512i)b));
        _mm512_storeu_si512(high, _mm512_srli_epi32((__m512i)(rest - b), 16));
        for (int k = 0; k < lanes; k++, to += layout->row) {
            memcpy(to, &low[k], sizeof low[k]);
            memcpy(to + 2, &high[k], sizeof high[k]);
        }
    }
}

/* Channels as pairs with zeros, first or second. */
static void store_single(const struct single_keys *single, size_t tile, const activation *rows,
                         const struct attention_layout *layout)
{
    const size_t place = tile * layout->channel_tiles * tile_factors;
    for (int part = 0; part < layout->channel_tiles; part++) {
        activation *low = single->low + place + (size_t)part * tile_factors;
        activation *high = single->high + place + (size_t)part * tile_factors;
        const activation *from = rows + (size_t)part * tile_columns;
        for (int k = 0; k < tile_rows; k++, from += layout->row) {
            const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
            _mm512_storeu_si512(low + (size_t)k * tile_depth, wide);
            _mm512_storeu_si512(high + (size_t)k * tile_depth, _mm512_slli_epi32(wide, 16));
        }
    }
}

static void transpose_rows(activation *to, const activation *rows, const struct attention_layout *layout)
{
    for (int chunk = 0; chunk < layout->chunks; chunk++, to += tile_factors) {
        __m512i in[tile_rows], out[tile_rows];
#pragma GCC unroll 16
        for (int k = 0; k < tile_rows; k++) {
            in[k] = _mm512_loadu_si512(rows + (size_t)k * layout->row + (size_t)chunk * tile_depth);
        }
        transpose_pairs(out, in);
#pragma GCC unroll 16
        for (int k = 0; k < tile_rows; k++) {
            _mm512_storeu_si512(to + (size_t)k * tile_depth, out[k]);
        }
    }
}

void KERNEL(gather_key_tiles)(activation *tiles, struct magnitudes *largest, const struct single_keys *single,
                              int first, int masked, const struct cut_window *cut,
                              const struct attention_layout *layout, const struct attention_sizes *z)
{
    const activation ones[number_slots] = {one, one, one, zero};
    const size_t row = layout->row;
    activation rows[tile_rows * most_row];
    __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    memset(rows, 0, tile_rows * row * sizeof *rows);
    for (int tile = 0; tile * tile_rows < cut->pattern->key_slots; tile++) {
        activation *to = rows;
        for (int k = 0; k < tile_rows; k++, to += row) {
            const int t = tile * tile_rows + k;
            take_channels(to, cut->qkv[t] + first, z->head_dim, most);
            memcpy(to + z->head_dim, ones, sizeof ones);
            if (masked) {
                memcpy(to + z->head_dim + number_slots, layout->key_region[cut->pattern->region[t]],
                       region_slots * sizeof *to);
            }
        }
        transpose_rows(tiles + (size_t)tile * layout->chunks * tile_factors, rows, layout);
        if (single != NULL) {
            store_single(single, tile, rows, layout);
        }
    }
    keep_largest(largest, most);
}
