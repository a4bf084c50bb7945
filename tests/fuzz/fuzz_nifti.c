/* Fuzz target: a NIfTI file from memory, as it is and inside gzip. Any bytes are read or refused with a
 * message, never with more voxels than the file can hold, and gzip changes nothing. */
#include "fuzz_target.h"
#include "volume/nifti.h"
#include "volume/nifti_bytes.h"

#include <string.h>

static enum voco_status read_and_check(struct volume *volume, const uint8_t *data, size_t size)
{
    const enum voco_status status = nifti_read_memory(volume, data, size, "input");
    if (status == VOCO_OK) {
        require(volume_count(volume) <= 1032 * size); /* deflate shrinks no further */
    } else {
        require(status == VOCO_BAD_INPUT || status == VOCO_NO_MEMORY);
        require(volume->data == NULL);
        require(strncmp(voco_error_message(), "input: ", 7) == 0);
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct volume volume;
    const enum voco_status status = read_and_check(&volume, data, size);
    if (size < 2 || data[0] != 0x1f || data[1] != 0x8b) {
        size_t packed_size;
        unsigned char *packed = gzip_bytes(&packed_size, data, size);
        struct volume same;
        require(read_and_check(&same, packed, packed_size) == status);
        require(status != VOCO_OK ||
                (volume_count(&same) == volume_count(&volume) &&
                 memcmp(same.data, volume.data, volume_count(&volume) * sizeof *volume.data) == 0));
        volume_free(&same);
        free(packed);
    }
    volume_free(&volume);
    return 0;
}
