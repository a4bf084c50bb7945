/* Fuzz target: a .pt file from memory. What begins as a zip archive is read as one; anything else is a
 * pickle, which is put into a sound archive with two storages. It is refused with a message, or every tensor
 * can be read and is no larger than the file, or than what deflate can have made of it. */
#include "formats/pt.h"
#include "formats/pt_bytes.h"
#include "fuzz_target.h"

#include <string.h>

static void check_accepted(const struct pt *file, size_t size)
{
    size_t bytes_read = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct stored_tensor *tensor = &file->tensors[i];
        require(pt_find(file, tensor->name) == tensor);
        require(tensor->bytes / 1040 <= size);
        bytes_read += tensor->bytes;
        if (bytes_read > 64U << 20) { /* many tensors may share a storage: some are enough */
            break;
        }
        unsigned char *bytes = malloc(tensor->bytes + 1);
        float *values = malloc((tensor->count + 1) * sizeof *values);
        require(bytes != NULL && values != NULL);
        (void)pt_read(file, tensor, bytes);
        (void)pt_read_floats(file, tensor, values);
        free(values);
        free(bytes);
    }
    for (size_t i = 0; i < file->scalar_count; i++) {
        require((file->scalars[i].text != NULL) == (file->scalars[i].kind == STORED_TEXT));
    }
}

static void read_and_check(const uint8_t *data, size_t size)
{
    struct pt file;
    const enum voco_status status = pt_open_memory(&file, data, size, "input");
    if (status == VOCO_OK) {
        check_accepted(&file, size);
    } else {
        require(file.tensors == NULL && file.scalars == NULL);
        require(strncmp(voco_error_message(), "input: ", 7) == 0);
    }
    pt_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 2 && memcmp(data, "PK", 2) == 0) {
        read_and_check(data, size);
    } else {
        size_t archive_size = 0;
        unsigned char *archive = pt_bytes(&archive_size, data, size);
        read_and_check(archive, archive_size);
        free(archive);
    }
    return 0;
}
