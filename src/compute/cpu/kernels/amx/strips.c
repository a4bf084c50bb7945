#include "compute/cpu/kernels/amx/strips.h"

#include "compute/cpu/kernels/amx/transpose_pairs.h"

/* The row y of the strip, which may be one of the grid beside it; NULL outside the grid. */
static const activation *row_of(const activation *x, int channels, const struct strip *strip, int y,
                                const struct strip_sizes *z)
{
    const int row = strip->first + y;
    if (row < 0 || row >= z->h) {
        return NULL;
    }
    return x + (((size_t)strip->grid * z->d + strip->depth) * z->h + row) * z->w * channels;
}

/* The norm of up to 16 channels, beginning at one; none leaves values as they are. */
struct channel_norm {
    vec mean, rstd;
    float slope;
    int present;
};

static struct channel_norm channel_norm(const struct strip_source *s, int grid, int channel, int count)
{
    struct channel_norm norm = {.present = s->norm != NULL};
    if (s->norm != NULL) {
        const size_t place = (size_t)grid * s->channels + channel;
        norm.mean = load_part(s->norm->mean + place, count);
        norm.rstd = load_part(s->norm->rstd + place, count);
        norm.slope = s->norm->slope;
    }
    return norm;
}

static ALWAYS_INLINE vec through_norm(vec v, const struct channel_norm *norm)
{
    const vec normal = (v - norm->mean) * norm->rstd;
    return larger(normal, normal * norm->slope); /* slope is at most 1 */
}

void KERNEL(pad_strip)(activation *to, const struct strip_source *s, const struct strip *strip,
                       const struct strip_sizes *z)
{
    const size_t channels = s->channels;
    for (int y = -1; y <= strip->rows; y++) {
        const activation *from = row_of(s->x, s->channels, strip, y, z);
        activation *row = to + ((size_t)(y + 1) * (z->w + border) + 1) * channels;
        if (from == NULL) {
            memset(row, 0, z->w * channels * sizeof *row);
            continue;
        }
        if (s->norm == NULL) {
            memcpy(row, from, z->w * channels * sizeof *row);
            continue;
        }
        for (int channel = 0; channel < s->channels; channel += lanes) {
            const int left = s->channels - channel, count = left < lanes ? left : lanes;
            const struct channel_norm norm = channel_norm(s, strip->grid, channel, count);
            size_t place = channel;
            for (int x = 0; x < z->w; x++, place += channels) {
                store_activations_part(
                    row + place, through_norm(load_activations_part(from + place, count), &norm), count);
            }
        }
    }
}

/* Some of 32 channels of a voxel, through the norm, zeros behind. */
static ALWAYS_INLINE __m512i load_channels(const activation *from, int count, const struct channel_norm *low,
                                           const struct channel_norm *high)
{
    const __mmask32 present = (__mmask32)((1ULL << count) - 1);
    const __m512i channels = _mm512_maskz_loadu_epi16(present, from);
    if (!low->present) {
        return channels;
    }
    const vec first = through_norm(widen((half_vec)_mm512_castsi512_si256(channels)), low);
    const vec second = through_norm(widen((half_vec)_mm512_extracti64x4_epi64(channels, 1)), high);
    return _mm512_maskz_mov_epi16(present, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}

/* Where up to 16 voxels of a row go in the three copies. */
struct copy_places {
    activation *to;
    size_t pitch, copy_length;
    __mmask16 present, left, right; /* of the copies that hold what is there, to the left, to the right */
};

static ALWAYS_INLINE void store_copies(activation *to, const struct copy_places *at, __m256i voxels)
{
    _mm256_mask_storeu_epi16(to + 1, at->left, voxels);
    _mm256_mask_storeu_epi16(to + at->copy_length, at->present, voxels);
    _mm256_mask_storeu_epi16(to + 2 * at->copy_length - 1, at->right, voxels);
}

/* 32 channels, or what is left of them, of up to 16 voxels of a row. */
static ALWAYS_INLINE void transpose_block(const struct copy_places *at, const activation *from, int channels,
                                          int count, int voxels, const struct channel_norm *low,
                                          const struct channel_norm *high)
{
    __m512i rows[16], columns[16];
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
        rows[k] = k < voxels ? load_channels(from + (size_t)k * channels, count, low, high)
                             : _mm512_setzero_si512();
    }
    transpose_pairs(columns, rows);
    activation *to = at->to;
    for (int k = 0; 2 * k < count; k++, to += 2 * at->pitch) {
        store_copies(to, at, _mm512_cvtepi32_epi16(columns[k]));
        if (2 * k + 1 < count) {
            store_copies(to + at->pitch, at, _mm512_cvtepi32_epi16(_mm512_srli_epi32(columns[k], 16)));
        }
    }
}

/* A row of w voxels of zeros, of some channels. */
static void clear_row(activation *row, size_t pitch, size_t copy_length, int count, int w)
{
    for (int copy = 0; copy < plane_taps; copy++) {
        for (int channel = 0; channel < count; channel++) {
            memset(row + copy * copy_length + channel * pitch, 0, w * sizeof *row);
        }
    }
}

void KERNEL(transpose_strip)(activation *to, const struct strip_source *s, const struct strip *strip,
                             const struct strip_sizes *z)
{
    const size_t copy_length = transposed_copy_length(z, s->channels);
    struct copy_places at = {.pitch = transposed_pitch(z), .copy_length = copy_length};
    for (int channel = 0; channel < s->channels; channel += 2 * lanes) {
        const int left = s->channels - channel, count = left < 2 * lanes ? left : 2 * lanes;
        const int low_count = count < lanes ? count : lanes;
        const struct channel_norm low = channel_norm(s, strip->grid, channel, low_count);
        const struct channel_norm high = channel_norm(s, strip->grid, channel + low_count, count - low_count);
        for (int y = -1; y <= strip->rows; y++) {
            const activation *from = row_of(s->x, s->channels, strip, y, z);
            activation *row = to + channel * at.pitch + (size_t)(y + 1) * z->w;
            if (from == NULL) {
                clear_row(row, at.pitch, copy_length, count, z->w);
                continue;
            }
            for (int x = 0; x < z->w; x += lanes) {
                const int before_end = z->w - x, voxels = before_end < lanes ? before_end : lanes;
                at.to = row + x;
                at.present = (__mmask16)((1U << voxels) - 1);
                at.left =
                    before_end <= lanes ? at.present >> 1 : at.present; /* the last voxel is left of none */
                at.right = x == 0 ? at.present & ~1U : at.present;
                transpose_block(&at, from + (size_t)x * s->channels + channel, s->channels, count, voxels,
                                &low, &high);
            }
        }
    }
}

void KERNEL(transpose_rows)(activation *to, size_t pitch, const activation *from, int channels, int rows)
{
    const struct channel_norm none = {.present = 0};
    for (int channel = 0; channel < channels; channel += 2 * lanes) {
        const int left = channels - channel, count = left < 2 * lanes ? left : 2 * lanes;
        for (int row = 0; row < rows; row += lanes) {
            const int some = rows - row < lanes ? rows - row : lanes;
            __m512i block[16], columns[16];
#pragma GCC unroll 16
            for (int k = 0; k < 16; k++) {
                block[k] = k < some ? load_channels(from + (size_t)(row + k) * channels + channel, count,
                                                    &none, &none)
                                    : _mm512_setzero_si512();
            }
            transpose_pairs(columns, block);
            activation *place = to + channel * pitch + row;
            for (int k = 0; k < count; k++, place += pitch) {
                const __m512i pairs = k % 2 ? _mm512_srli_epi32(columns[k / 2], 16) : columns[k / 2];
                _mm256_storeu_si256((void *)place, _mm512_cvtepi32_epi16(pairs));
            }
        }
    }
}

/* The channels of two voxels, or of one where second is NULL, in turns. */
static void store_pair(activation *to, const activation *first, const activation *second, int channels)
{
    for (int channel = 0; channel < channels; channel += lanes) {
        const int left = channels - channel, count = left < lanes ? left : lanes;
        const __mmask16 present = (__mmask16)((1U << count) - 1);
        const __m256i a = _mm256_maskz_loadu_epi16(present, first + channel);
        const __m256i b =
            second != NULL ? _mm256_maskz_loadu_epi16(present, second + channel) : _mm256_setzero_si256();
        _mm512_storeu_si512(to + 2 * (size_t)channel, in_turns((half_vec)a, (half_vec)b));
    }
}

void KERNEL(pair_rows)(activation *to, const activation *from, int channels, int rows, int whole)
{
    const size_t pair_pitch = 2 * (size_t)rounded_up(channels, tile_columns);
    int k = 0;
    for (; k < rows; k += 2, from += 2 * (size_t)channels, to += pair_pitch) {
        store_pair(to, from, k + 1 < rows ? from + channels : NULL, channels);
    }
    memset(to, 0, (size_t)(whole - k + 1) / 2 * pair_pitch * sizeof *to);
}

void KERNEL(pair_voxels)(activation *to, const activation *x, int channels, const struct strip *strip,
                         const struct strip_sizes *z)
{
    KERNEL(pair_rows)
    (to, row_of(x, channels, strip, 0, z), channels, strip->rows * z->w,
     rounded_up(z->rows * z->w, tile_depth));
}
