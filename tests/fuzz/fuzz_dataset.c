/* Fuzz target: the two formats of data lists, from memory. A list is refused with a message, or what it names
 * is whole. */
#include "data/dataset.h"
#include "fuzz_target.h"

#include <string.h>

static void check(enum voco_status status, struct dataset *dataset)
{
    if (status == VOCO_OK) {
        require(dataset->count > 0 && dataset->entries != NULL);
        for (size_t i = 0; i < dataset->count; i++) {
            require(dataset->entries[i].path[0] != '\0');
            require(strstr(dataset->entries[i].path, dataset->entries[i].name) != NULL);
        }
        (void)dataset_hold_out(dataset, 0.3);
        require(dataset->count < 2 || dataset_count(dataset, SPLIT_TRAINING) < dataset->count);
    } else {
        require(status == VOCO_BAD_INPUT || status == VOCO_NO_MEMORY);
        require(dataset->count == 0 && dataset->entries == NULL);
        require(strncmp(voco_error_message(), "list", 4) == 0);
    }
    dataset_free(dataset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dataset dataset;
    check(dataset_parse_json(&dataset, (const char *)data, size, "list", "folder"), &dataset);
    check(dataset_parse_text(&dataset, (const char *)data, size, "list", "folder"), &dataset);
    return 0;
}
