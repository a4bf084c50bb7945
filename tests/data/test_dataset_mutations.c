/* The list parsers on many damaged lists: whatever comes in, they return, and what they return is whole. The
 * same entry point as for a fuzzer (tests/fuzz/fuzz_dataset.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuzz/fuzz_dataset.c" /* NOLINT(bugprone-suspicious-include): the target itself is under test */

#include "base/philox.h"

#include <stdlib.h>
#include <string.h>

static const char json_seed[] = "{\"name\": \"Task\", \"numTraining\": 2, \"training\": [\n"
                                " {\"image\": \"./imagesTr/a.nii.gz\", \"label\": \"./labelsTr/a.nii.gz\"},\n"
                                " {\"image\": [\"b_0000.nii.gz\", \"b_0001.nii.gz\"]}, \"/abs/c.nii\"],\n"
                                " \"validation\": [], \"test\": [\"./imagesTs/\\u00e9.nii\"]}\n";
static const char text_seed[] = "# comment\n./a.nii.gz\r\n\n  b c.nii  \n/abs/d.nii";

/* Bytes that mean something to either format, more often than chance has them. */
static uint8_t telling_byte(const struct random_key *key, uint32_t index)
{
    static const char telling[] = "{}[]\",:\\\n\r\t #./0e-";
    const uint32_t choice = random_below(key, index, 2 * (sizeof telling - 1));
    return choice < sizeof telling - 1 ? (uint8_t)telling[choice]
                                       : (uint8_t)random_below(key, index + 1, 256);
}

/* Some bytes replaced, one piece moved, and sometimes the end cut. */
static size_t mutated(uint8_t *out, const char *seed, size_t length, uint64_t number)
{
    const struct random_key key = {.seed = 11, .step = number, .purpose = RANDOM_TEST};
    memcpy(out, seed, length);
    const uint32_t changes = random_below(&key, 0, 6);
    for (uint32_t i = 0; i < changes; i++) {
        out[random_below(&key, 10 + 4 * i, (uint32_t)length)] = telling_byte(&key, 11 + 4 * i);
    }
    if (random_below(&key, 1, 3) == 0) {
        const uint32_t piece = 1 + random_below(&key, 2, (uint32_t)length / 2);
        const uint32_t from = random_below(&key, 3, (uint32_t)length - piece);
        const uint32_t to = random_below(&key, 4, (uint32_t)length - piece);
        memmove(out + to, out + from, piece);
    }
    return random_below(&key, 5, 3) == 0 ? random_below(&key, 6, (uint32_t)length + 1) : length;
}

static void check_result(enum voco_status status, struct dataset *dataset)
{
    if (status == VOCO_OK) {
        assert_true(dataset->count > 0 && dataset->entries != NULL);
    } else {
        assert_int_equal(status, VOCO_BAD_INPUT);
        assert_int_equal(dataset->count, 0);
        assert_null(dataset->entries);
        assert_memory_equal(voco_error_message(), "list", 4);
    }
    for (size_t i = 0; dataset->entries != NULL && i < dataset->count; i++) {
        assert_true(dataset->entries[i].path[0] != '\0');
        assert_non_null(strstr(dataset->entries[i].path, dataset->entries[i].name));
    }
    dataset_free(dataset);
}

static void damaged_lists_are_refused_or_read_whole(void **state)
{
    (void)state;
    const char *seeds[] = {json_seed, text_seed};
    const size_t lengths[] = {sizeof json_seed - 1, sizeof text_seed - 1};
    for (uint64_t number = 0; number < 40000; number++) {
        const size_t which = number % 2;
        uint8_t room[sizeof json_seed];
        const size_t length = mutated(room, seeds[which], lengths[which], number);
        /* A block of its exact length, so that the sanitizer sees the first byte too far. */
        uint8_t *list = malloc(length + (length == 0));
        assert_non_null(list);
        memcpy(list, room, length);
        struct dataset dataset;
        check_result(dataset_parse_json(&dataset, (const char *)list, length, "list", "folder"), &dataset);
        check_result(dataset_parse_text(&dataset, (const char *)list, length, "list", "folder"), &dataset);
        assert_int_equal(LLVMFuzzerTestOneInput(list, length), 0);
        free(list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_lists_are_refused_or_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
