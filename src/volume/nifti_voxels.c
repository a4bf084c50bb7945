#include "volume/nifti_header.h"

#include "base/vector_clones.h"

#include <nifti1.h>
#include <stdint.h>
#include <string.h>

static void swap_bytes(void *raw, size_t count, int width)
{
    if (width == 2) {
        uint16_t *words = raw;
        for (size_t i = 0; i < count; i++) {
            words[i] = __builtin_bswap16(words[i]);
        }
    } else if (width == 4) {
        uint32_t *words = raw;
        for (size_t i = 0; i < count; i++) {
            words[i] = __builtin_bswap32(words[i]);
        }
    } else if (width == 8) {
        uint64_t *words = raw;
        for (size_t i = 0; i < count; i++) {
            words[i] = __builtin_bswap64(words[i]);
        }
    }
}

/* In double, as the 32- and 64-bit integers need it. */
#define DEFINE_SCALED(name, ctype)                                                                           \
    VECTOR_CLONES static void name(float *restrict out, const ctype *restrict stored, size_t count,          \
                                   double slope, double inter)                                               \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            out[i] = (float)(slope * (double)stored[i] + inter);                                             \
        }                                                                                                    \
    }

/* Without scaling, for the types whose values are floats as they are. */
#define DEFINE_PLAIN(name, ctype)                                                                            \
    VECTOR_CLONES static void name(float *restrict out, const ctype *restrict stored, size_t count)          \
    {                                                                                                        \
        for (size_t i = 0; i < count; i++) {                                                                 \
            out[i] = (float)stored[i];                                                                       \
        }                                                                                                    \
    }

DEFINE_SCALED(scaled_int8, int8_t)
DEFINE_SCALED(scaled_uint8, uint8_t)
DEFINE_SCALED(scaled_int16, int16_t)
DEFINE_SCALED(scaled_uint16, uint16_t)
DEFINE_SCALED(scaled_int32, int32_t)
DEFINE_SCALED(scaled_uint32, uint32_t)
DEFINE_SCALED(scaled_int64, int64_t)
DEFINE_SCALED(scaled_uint64, uint64_t)
DEFINE_SCALED(scaled_float32, float)
DEFINE_SCALED(scaled_float64, double)
DEFINE_PLAIN(plain_int8, int8_t)
DEFINE_PLAIN(plain_uint8, uint8_t)
DEFINE_PLAIN(plain_int16, int16_t)
DEFINE_PLAIN(plain_uint16, uint16_t)

/* Returns 0 for the types that have no such way. */
static int convert_plain(float *out, const void *raw, size_t count, int type)
{
    switch (type) {
    case DT_INT8:
        plain_int8(out, raw, count);
        return 1;
    case DT_UINT8:
        plain_uint8(out, raw, count);
        return 1;
    case DT_INT16:
        plain_int16(out, raw, count);
        return 1;
    case DT_UINT16:
        plain_uint16(out, raw, count);
        return 1;
    case DT_FLOAT32:
        memcpy(out, raw, count * sizeof *out);
        return 1;
    default:
        return 0;
    }
}

void nifti_convert_voxels(float *out, void *raw, size_t count, const struct nifti_header *header)
{
    const double slope = header->info.slope;
    const double inter = header->info.inter;
    if (header->foreign) {
        swap_bytes(raw, count, header->info.bytes_per_voxel);
    }
    if (slope == 1 && inter == 0 && convert_plain(out, raw, count, header->type)) {
        return;
    }
    switch (header->type) {
    case DT_INT8:
        scaled_int8(out, raw, count, slope, inter);
        break;
    case DT_UINT8:
        scaled_uint8(out, raw, count, slope, inter);
        break;
    case DT_INT16:
        scaled_int16(out, raw, count, slope, inter);
        break;
    case DT_UINT16:
        scaled_uint16(out, raw, count, slope, inter);
        break;
    case DT_INT32:
        scaled_int32(out, raw, count, slope, inter);
        break;
    case DT_UINT32:
        scaled_uint32(out, raw, count, slope, inter);
        break;
    case DT_INT64:
        scaled_int64(out, raw, count, slope, inter);
        break;
    case DT_UINT64:
        scaled_uint64(out, raw, count, slope, inter);
        break;
    case DT_FLOAT32:
        scaled_float32(out, raw, count, slope, inter);
        break;
    case DT_FLOAT64:
        scaled_float64(out, raw, count, slope, inter);
        break;
    default: /* nifti_parse_header lets no other pass */
        break;
    }
}
