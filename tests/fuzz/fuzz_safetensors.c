/* Fuzz target: a safetensors file from memory; every tensor of an accepted file is read. */
#include "formats/safetensors.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors file;
    if (safetensors_open_memory(&file, data, size, "fuzz") == VOCO_OK) {
        for (size_t i = 0; i < file.count; i++) {
            /* The elements lie in the file, so there are at most `size`; an empty tensor has none. */
            float *values = malloc((file.tensors[i].count + 1) * sizeof *values);
            if (values != NULL) {
                (void)safetensors_read_floats(&file, &file.tensors[i], values);
                (void)safetensors_find(&file, file.tensors[i].name);
            }
            free(values);
        }
        (void)safetensors_metadata(&file, "format");
    }
    safetensors_close(&file);
    return 0;
}
