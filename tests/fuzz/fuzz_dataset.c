/* Fuzz target: the two formats of data lists, from memory. */
#include "data/dataset.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dataset dataset;
    if (dataset_parse_json(&dataset, (const char *)data, size, "fuzz", "folder") == VOCO_OK) {
        (void)dataset_hold_out(&dataset, 0.3);
    }
    dataset_free(&dataset);
    if (dataset_parse_text(&dataset, (const char *)data, size, "fuzz", "folder") == VOCO_OK) {
        (void)dataset_hold_out(&dataset, 0.3);
    }
    dataset_free(&dataset);
    return 0;
}
