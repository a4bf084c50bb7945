#include "volume/transpose.h"

#ifdef __SSE2__
#include <emmintrin.h>

enum { byte_tile = 16, word_tile = 8 };

/* Interleaving the first half of the rows with the second half turns the index (row, column) by one bit; as
 * many rounds as a row has bits exchange the two. */
static void transpose_byte_tile(uint8_t *out, ptrdiff_t out_pitch, const uint8_t *in, ptrdiff_t in_pitch)
{
    __m128i rows[byte_tile];
    for (int i = 0; i < byte_tile; i++) {
        rows[i] = _mm_loadu_si128((const __m128i *)(in + i * in_pitch));
    }
    for (int round = 0; round < 4; round++) {
        __m128i mixed[byte_tile];
        for (int i = 0; i < byte_tile / 2; i++) {
            mixed[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + byte_tile / 2]);
            mixed[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + byte_tile / 2]);
        }
        for (int i = 0; i < byte_tile; i++) {
            rows[i] = mixed[i];
        }
    }
    for (int i = 0; i < byte_tile; i++) {
        _mm_storeu_si128((__m128i *)(out + i * out_pitch), rows[i]);
    }
}

static void transpose_word_tile(uint16_t *out, ptrdiff_t out_pitch, const uint16_t *in, ptrdiff_t in_pitch)
{
    __m128i rows[word_tile];
    for (int i = 0; i < word_tile; i++) {
        rows[i] = _mm_loadu_si128((const __m128i *)(in + i * in_pitch));
    }
    for (int round = 0; round < 3; round++) {
        __m128i mixed[word_tile];
        for (int i = 0; i < word_tile / 2; i++) {
            mixed[2 * i] = _mm_unpacklo_epi16(rows[i], rows[i + word_tile / 2]);
            mixed[2 * i + 1] = _mm_unpackhi_epi16(rows[i], rows[i + word_tile / 2]);
        }
        for (int i = 0; i < word_tile; i++) {
            rows[i] = mixed[i];
        }
    }
    for (int i = 0; i < word_tile; i++) {
        _mm_storeu_si128((__m128i *)(out + i * out_pitch), rows[i]);
    }
}

#else

enum { byte_tile = 16, word_tile = 16 };

#define TRANSPOSE_TILE(side)                                                                                 \
    for (int row = 0; row < (side); row++) {                                                                 \
        for (int column = 0; column < (side); column++) {                                                    \
            out[column * out_pitch + row] = in[row * in_pitch + column];                                     \
        }                                                                                                    \
    }

static void transpose_byte_tile(uint8_t *out, ptrdiff_t out_pitch, const uint8_t *in, ptrdiff_t in_pitch)
{
    TRANSPOSE_TILE(byte_tile)
}

static void transpose_word_tile(uint16_t *out, ptrdiff_t out_pitch, const uint16_t *in, ptrdiff_t in_pitch)
{
    TRANSPOSE_TILE(word_tile)
}

#endif

/* Whole tiles, then what is left at the right and below. */
#define TRANSPOSE(tile, transpose_tile)                                                                      \
    do {                                                                                                     \
        const int whole_rows = rows - rows % (tile);                                                         \
        const int whole_columns = columns - columns % (tile);                                                \
        for (int column = 0; column < whole_columns; column += (tile)) {                                     \
            for (int row = 0; row < whole_rows; row += (tile)) {                                             \
                transpose_tile(out + column * out_pitch + row, out_pitch, in + row * in_pitch + column,      \
                               in_pitch);                                                                    \
            }                                                                                                \
        }                                                                                                    \
        for (int row = 0; row < rows; row++) {                                                               \
            for (int column = row < whole_rows ? whole_columns : 0; column < columns; column++) {            \
                out[column * out_pitch + row] = in[row * in_pitch + column];                                 \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

void transpose_bytes(uint8_t *out, ptrdiff_t out_pitch, const uint8_t *in, ptrdiff_t in_pitch, int rows,
                     int columns)
{
    TRANSPOSE(byte_tile, transpose_byte_tile);
}

void transpose_words(uint16_t *out, ptrdiff_t out_pitch, const uint16_t *in, ptrdiff_t in_pitch, int rows,
                     int columns)
{
    TRANSPOSE(word_tile, transpose_word_tile);
}
