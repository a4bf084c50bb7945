/* libFuzzer's entry to the NIfTI reader: any bytes must be read or refused. */
#include "volume/nifti.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
    struct volume volume;
    (void)nifti_read_memory(&volume, bytes, count, "input");
    volume_free(&volume);
    return 0;
}
