#include "formats/pt_types.h"

#include <string.h>

static const struct {
    const char *storage;
    const char *dtype;
} types[] = {
    [SAFETENSORS_F64] = {"DoubleStorage", "float64"},
    [SAFETENSORS_F32] = {"FloatStorage", "float32"},
    [SAFETENSORS_F16] = {"HalfStorage", "float16"},
    [SAFETENSORS_BF16] = {"BFloat16Storage", "bfloat16"},
    [SAFETENSORS_I64] = {"LongStorage", "int64"},
    [SAFETENSORS_I32] = {"IntStorage", "int32"},
    [SAFETENSORS_I16] = {"ShortStorage", "int16"},
    [SAFETENSORS_I8] = {"CharStorage", "int8"},
    [SAFETENSORS_U64] = {NULL, "uint64"},
    [SAFETENSORS_U32] = {NULL, "uint32"},
    [SAFETENSORS_U16] = {NULL, "uint16"},
    [SAFETENSORS_U8] = {"ByteStorage", "uint8"},
    [SAFETENSORS_BOOL] = {"BoolStorage", "bool"},
    [SAFETENSORS_F8_E5M2] = {NULL, "float8_e5m2"},
    [SAFETENSORS_F8_E4M3] = {NULL, "float8_e4m3fn"},
};
enum { type_count = sizeof types / sizeof types[0] };

static int is(const char *known, const char *name, size_t length)
{
    return known != NULL && strlen(known) == length && memcmp(known, name, length) == 0;
}

const char *pt_storage_name(enum safetensors_type type)
{
    return types[type].storage;
}

const char *pt_dtype_name(enum safetensors_type type)
{
    return types[type].dtype;
}

int pt_type_of_storage(enum safetensors_type *type, const char *name, size_t length)
{
    for (int i = 0; i < type_count; i++) {
        if (is(types[i].storage, name, length)) {
            *type = (enum safetensors_type)i;
            return 1;
        }
    }
    return 0;
}

int pt_type_of_dtype(enum safetensors_type *type, const char *name, size_t length)
{
    for (int i = 0; i < type_count; i++) {
        if (is(types[i].dtype, name, length)) {
            *type = (enum safetensors_type)i;
            return 1;
        }
    }
    return 0;
}
