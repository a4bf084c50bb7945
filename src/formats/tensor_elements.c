#include "formats/tensor_elements.h"

#include <stdint.h>
#include <string.h>

int tensor_elements_convert(enum safetensors_type type)
{
    return type != SAFETENSORS_F8_E5M2 && type != SAFETENSORS_F8_E4M3;
}

/* IEEE half: 1 sign, 5 exponent, 10 fraction bits. */
static float float_of_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half >> 15) << 31;
    const uint32_t exponent = (half >> 10) & 0x1f;
    const uint32_t fraction = half & 0x3ff;
    float value = 0.0F;
    if (exponent == 0) { /* zero and subnormal: fraction x 2^-24, exact in float */
        value = (float)fraction * 0x1p-24F;
        return sign != 0 ? -value : value;
    }
    const uint32_t bits = sign | (exponent == 0x1f ? 0xffU << 23 : (exponent + 112) << 23) | (fraction << 13);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float float_of_bfloat(uint16_t bfloat)
{
    const uint32_t bits = (uint32_t)bfloat << 16;
    float value = 0.0F;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define CONVERT(type, expression)                                                                            \
    for (size_t i = 0; i < count; i++) {                                                                     \
        type value;                                                                                          \
        memcpy(&value, bytes + i * sizeof value, sizeof value);                                              \
        out[i] = expression;                                                                                 \
    }                                                                                                        \
    break

void tensor_elements_to_floats(float *out, const void *elements, size_t count, enum safetensors_type type)
{
    const unsigned char *bytes = elements;
    switch (type) {
    case SAFETENSORS_F64:
        CONVERT(double, (float)value);
    case SAFETENSORS_F32:
        CONVERT(float, value);
    case SAFETENSORS_F16:
        CONVERT(uint16_t, float_of_half(value));
    case SAFETENSORS_BF16:
        CONVERT(uint16_t, float_of_bfloat(value));
    case SAFETENSORS_I64:
        CONVERT(int64_t, (float)value);
    case SAFETENSORS_I32:
        CONVERT(int32_t, (float)value);
    case SAFETENSORS_I16:
        CONVERT(int16_t, (float)value);
    case SAFETENSORS_I8:
        CONVERT(int8_t, (float)value);
    case SAFETENSORS_U64:
        CONVERT(uint64_t, (float)value);
    case SAFETENSORS_U32:
        CONVERT(uint32_t, (float)value);
    case SAFETENSORS_U16:
        CONVERT(uint16_t, (float)value);
    case SAFETENSORS_U8:
        CONVERT(uint8_t, (float)value);
    case SAFETENSORS_BOOL:
        CONVERT(uint8_t, value != 0 ? 1.0F : 0.0F);
    case SAFETENSORS_F8_E5M2:
    case SAFETENSORS_F8_E4M3:
        break;
    }
}
