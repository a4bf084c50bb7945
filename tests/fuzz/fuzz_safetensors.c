/* Fuzz target: a safetensors file from memory. It is refused with a message, or its tensors lie in it without
 * holes and every one can be read. */
#include "formats/safetensors.h"
#include "fuzz_target.h"

#include <string.h>

static void check_accepted(const struct safetensors *file, const uint8_t *data, size_t size)
{
    uint64_t filled = 8;
    uint64_t header;
    memcpy(&header, data, sizeof header); /* the machines of the tests are little endian */
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *tensor = &file->tensors[i];
        require(tensor->offset + tensor->bytes <= size);
        require(safetensors_find(file, tensor->name) == tensor);
        filled += tensor->bytes;
        /* The elements lie in the file, so there are at most `size`; an empty tensor has none. */
        float *values = malloc((tensor->count + 1) * sizeof *values);
        require(values != NULL);
        (void)safetensors_read_floats(file, tensor, values);
        free(values);
    }
    require(filled + header == size);
    (void)safetensors_metadata(file, "format");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors file;
    const enum voco_status status = safetensors_open_memory(&file, data, size, "input");
    if (status == VOCO_OK) {
        check_accepted(&file, data, size);
    } else {
        require(status == VOCO_BAD_INPUT || status == VOCO_NO_MEMORY);
        require(strncmp(voco_error_message(), "input: ", 7) == 0);
    }
    safetensors_close(&file);
    return 0;
}
