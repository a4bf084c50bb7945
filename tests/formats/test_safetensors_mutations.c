/* The safetensors reader on many damaged files: whatever comes in, it returns, and what it accepts lies
 * within the file. The same entry point as for a fuzzer (tests/fuzz/fuzz_safetensors.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuzz/fuzz_safetensors.c" /* NOLINT(bugprone-suspicious-include): the target itself is under test */

#include "base/philox.h"

#include <string.h>

static const char header[] = "{\"__metadata__\":{\"format\":\"voco-checkpoint-1\"},"
                             "\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                             "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]},"
                             "\"e\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[16,16]},"
                             "\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}}";
enum { seed_size = 8 + sizeof header - 1 + 19 };

static void make_seed(uint8_t bytes[seed_size])
{
    const uint64_t length = sizeof header - 1;
    memset(bytes, 0x5a, seed_size);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
}

/* Some bytes replaced, more often than not by ones that mean something to the format; sometimes the end is
 * cut. */
static size_t mutate(uint8_t bytes[seed_size], uint64_t number)
{
    static const char telling[] = "{}[]\",:-.0123456789eFIU";
    const struct random_key key = {.seed = 5, .step = number, .purpose = RANDOM_TEST};
    const uint32_t changes = random_below(&key, 0, 4);
    for (uint32_t i = 0; i < changes; i++) {
        const uint32_t place = random_below(&key, 10 + 4 * i, seed_size);
        const uint32_t choice = random_below(&key, 11 + 4 * i, 64);
        bytes[place] = choice < sizeof telling - 1 ? (uint8_t)telling[choice]
                                                   : (uint8_t)random_below(&key, 12 + 4 * i, 256);
    }
    return random_below(&key, 1, 8) == 0 ? random_below(&key, 2, seed_size) : seed_size;
}

static void damaged_files_are_refused_or_lie_within_their_bytes(void **state)
{
    (void)state;
    int accepted = 0;
    int refused = 0;
    for (uint64_t number = 0; number < 60000; number++) {
        uint8_t room[seed_size];
        make_seed(room);
        const size_t size = mutate(room, number);
        /* A block of its exact length, so that the sanitizer sees the first byte too far. */
        uint8_t *bytes = malloc(size + (size == 0));
        assert_non_null(bytes);
        memcpy(bytes, room, size);
        struct safetensors file;
        const enum voco_status status = safetensors_open_memory(&file, bytes, size, "damaged");
        if (status == VOCO_OK) {
            accepted++;
            size_t filled = 0;
            for (size_t i = 0; i < file.count; i++) {
                assert_true(file.tensors[i].offset + file.tensors[i].bytes <= size);
                assert_ptr_equal(safetensors_find(&file, file.tensors[i].name), &file.tensors[i]);
                filled += file.tensors[i].bytes;
            }
            uint64_t length = 0;
            memcpy(&length, bytes, sizeof length);
            assert_true(8 + length + filled == size);
        } else {
            refused++;
            assert_int_equal(status, VOCO_BAD_INPUT);
            assert_memory_equal(voco_error_message(), "damaged: ", 9);
        }
        safetensors_close(&file);
        assert_int_equal(LLVMFuzzerTestOneInput(bytes, size), 0);
        free(bytes);
    }
    /* Both happen, so neither side goes untested. */
    assert_true(accepted > 5000 && refused > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_files_are_refused_or_lie_within_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
