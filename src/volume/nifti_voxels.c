#include "volume/nifti_header.h"

#include <nifti1.h>
#include <stdint.h>

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
#define CONVERT(ctype)                                                                                       \
    do {                                                                                                     \
        const ctype *stored = raw;                                                                           \
        for (size_t i = 0; i < count; i++) {                                                                 \
            out[i] = (float)(slope * (double)stored[i] + inter);                                             \
        }                                                                                                    \
    } while (0)

void nifti_convert_voxels(float *out, void *raw, size_t count, const struct nifti_header *header)
{
    const double slope = header->info.slope;
    const double inter = header->info.inter;
    if (header->foreign) {
        swap_bytes(raw, count, header->info.bytes_per_voxel);
    }
    switch (header->type) {
    case DT_INT8:
        CONVERT(int8_t);
        break;
    case DT_UINT8:
        CONVERT(uint8_t);
        break;
    case DT_INT16:
        CONVERT(int16_t);
        break;
    case DT_UINT16:
        CONVERT(uint16_t);
        break;
    case DT_INT32:
        CONVERT(int32_t);
        break;
    case DT_UINT32:
        CONVERT(uint32_t);
        break;
    case DT_INT64:
        CONVERT(int64_t);
        break;
    case DT_UINT64:
        CONVERT(uint64_t);
        break;
    case DT_FLOAT32:
        CONVERT(float);
        break;
    case DT_FLOAT64:
        CONVERT(double);
        break;
    default: /* nifti_parse_header lets no other pass */
        break;
    }
}
