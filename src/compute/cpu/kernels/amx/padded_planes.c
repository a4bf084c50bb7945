#include "compute/cpu/kernels/amx/padded_planes.h"

static const activation *row_of(const activation *x, int channels, int grid, int depth, int y,
                                const struct plane_sizes *z)
{
    return x + (((size_t)grid * z->d + depth) * z->h + y) * z->w * channels;
}

/* The norm of up to 16 channels, beginning at one; none leaves values as they are. */
struct channel_norm {
    int present;
    vec mean, rstd;
    float slope;
};

static struct channel_norm channel_norm(const struct plane_source *s, int grid, int channel, int count)
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

void KERNEL(pad_plane)(activation *to, const struct plane_source *s, int grid, int depth,
                       const struct plane_sizes *z)
{
    const size_t channels = s->channels;
    for (int y = 0; y < z->h; y++) {
        const activation *from = row_of(s->x, s->channels, grid, depth, y, z);
        activation *row = to + ((size_t)(y + 1) * z->row + 1) * channels;
        if (s->norm == NULL) {
            memcpy(row, from, z->w * channels * sizeof *row);
            continue;
        }
        for (int channel = 0; channel < s->channels; channel += lanes) {
            const int left = s->channels - channel, count = left < lanes ? left : lanes;
            const struct channel_norm norm = channel_norm(s, grid, channel, count);
            size_t place = channel;
            for (int x = 0; x < z->w; x++, place += channels) {
                store_activations_part(
                    row + place, through_norm(load_activations_part(from + place, count), &norm), count);
            }
        }
    }
}

/* rows: 16 of 16 pairs of channels; columns[k]: pair k of all rows */
static ALWAYS_INLINE void transpose_pairs(__m512i columns[16], const __m512i rows[16])
{
    __m512i two[16], four[16], eight[16];
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        two[2 * k] = _mm512_unpacklo_epi32(rows[2 * k], rows[2 * k + 1]);
        two[2 * k + 1] = _mm512_unpackhi_epi32(rows[2 * k], rows[2 * k + 1]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* four[4 k + j]: of rows 4 k .. 4 k + 3, pairs j, j + 4, j + 8, j + 12 */
        const __m512i *from = two + 4 * k;
        four[4 * k] = _mm512_unpacklo_epi64(from[0], from[2]);
        four[4 * k + 1] = _mm512_unpackhi_epi64(from[0], from[2]);
        four[4 * k + 2] = _mm512_unpacklo_epi64(from[1], from[3]);
        four[4 * k + 3] = _mm512_unpackhi_epi64(from[1], from[3]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        eight[j] = _mm512_shuffle_i32x4(four[j], four[4 + j], 0x88);
        eight[4 + j] = _mm512_shuffle_i32x4(four[j], four[4 + j], 0xDD);
        eight[8 + j] = _mm512_shuffle_i32x4(four[8 + j], four[12 + j], 0x88);
        eight[12 + j] = _mm512_shuffle_i32x4(four[8 + j], four[12 + j], 0xDD);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        columns[j] = _mm512_shuffle_i32x4(eight[j], eight[8 + j], 0x88);
        columns[8 + j] = _mm512_shuffle_i32x4(eight[j], eight[8 + j], 0xDD);
        columns[4 + j] = _mm512_shuffle_i32x4(eight[4 + j], eight[12 + j], 0x88);
        columns[12 + j] = _mm512_shuffle_i32x4(eight[4 + j], eight[12 + j], 0xDD);
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

/* 32 channels, or what is left of them, of up to 16 voxels of a row. */
static ALWAYS_INLINE void transpose_block(activation *to, size_t pitch, const activation *from, int channels,
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
    const __mmask16 present = (__mmask16)((1U << voxels) - 1);
    for (int k = 0; 2 * k < count; k++, to += 2 * pitch) {
        _mm256_mask_storeu_epi16(to, present, _mm512_cvtepi32_epi16(columns[k]));
        if (2 * k + 1 < count) {
            _mm256_mask_storeu_epi16(to + pitch, present,
                                     _mm512_cvtepi32_epi16(_mm512_srli_epi32(columns[k], 16)));
        }
    }
}

void KERNEL(pad_plane_transposed)(activation *to, const struct plane_source *s, int grid, int depth,
                                  const struct plane_sizes *z)
{
    const size_t pitch = transposed_pitch(z);
    for (int channel = 0; channel < s->channels; channel += 2 * lanes) {
        const int left = s->channels - channel, count = left < 2 * lanes ? left : 2 * lanes;
        const int low_count = count < lanes ? count : lanes;
        const struct channel_norm low = channel_norm(s, grid, channel, low_count);
        const struct channel_norm high = channel_norm(s, grid, channel + low_count, count - low_count);
        for (int y = 0; y < z->h; y++) {
            const activation *from = row_of(s->x, s->channels, grid, depth, y, z) + channel;
            activation *row = to + channel * pitch + (size_t)(y + 1) * z->row + 1;
            for (int x = 0; x < z->w; x += lanes) {
                const int voxels = z->w - x < lanes ? z->w - x : lanes;
                transpose_block(row + x, pitch, from + (size_t)x * s->channels, s->channels, count, voxels,
                                &low, &high);
            }
        }
    }
}

/* The channels of one position to its places in pairs. */
static void store_single(activation *to, const activation *from, int channels, int second)
{
    for (int channel = 0; channel < channels; channel++) {
        to[2 * channel + second] = from[channel];
    }
}

static void store_pair(activation *to, const activation *from, int channels)
{
    for (int channel = 0; channel < channels; channel += lanes) {
        const int left = channels - channel, count = left < lanes ? left : lanes;
        const __mmask16 present = (__mmask16)((1U << count) - 1);
        const __m256i a = _mm256_maskz_loadu_epi16(present, from + channel);
        const __m256i b = _mm256_maskz_loadu_epi16(present, from + channels + channel);
        _mm512_storeu_si512(to + 2 * (size_t)channel, in_turns((half_vec)a, (half_vec)b));
    }
}

void KERNEL(pair_positions)(activation *to, const activation *x, int channels, int grid, int depth,
                            const struct plane_sizes *z)
{
    const size_t pair_pitch = 2 * (size_t)rounded_up(channels, tile_columns);
    for (int y = 0; y < z->h; y++) {
        const activation *from = row_of(x, channels, grid, depth, y, z);
        const int first = y * z->row, end = first + z->w;
        int position = first;
        while (position < end) {
            activation *pair = to + position / 2 * pair_pitch;
            if (position % 2 == 0 && position + 1 < end) {
                store_pair(pair, from, channels);
                position += 2;
                from += 2 * (size_t)channels;
            } else {
                store_single(pair, from, channels, position % 2);
                position++;
                from += channels;
            }
        }
    }
}
