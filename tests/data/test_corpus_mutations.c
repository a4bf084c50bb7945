/* The description of a corpus, damaged in many ways: whatever comes in is refused with its file's name or
 * read whole. The same entry point as for a fuzzer (tests/fuzz/fuzz_corpus.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuzz/fuzz_corpus.c" /* NOLINT(bugprone-suspicious-include): the target itself is under test */

#include "base/philox.h"

#include <string.h>

static const char seed[] = "# comment\nroot: data\nsets:\n"
                           "  - name: BTCV\n    list: [dataset.json, \"*/ct.nii.gz\"]\n"
                           "    use: [training, test]\n    preset: abdomen\n    take: resize\n"
                           "  - {name: Luna, root: lung, spacing: [1.25, 1.25, 5], window: [-1000, 500],\n"
                           "     repeat: 8, split: validation}\n";

/* Some bytes replaced, by such as mean something more often than chance has them, one piece moved, and
 * sometimes the end cut. */
static size_t mutated(uint8_t *out, uint64_t number)
{
    static const char telling[] = "{}[]\",:\n #-&*!|>'0.";
    const struct random_key key = {.seed = 12, .step = number, .purpose = RANDOM_TEST};
    const uint32_t length = sizeof seed - 1;
    memcpy(out, seed, length);
    const uint32_t changes = random_below(&key, 0, 4);
    for (uint32_t i = 0; i < changes; i++) {
        const uint32_t choice = random_below(&key, 10 + 4 * i, 2 * (sizeof telling - 1));
        out[random_below(&key, 11 + 4 * i, length)] = choice < sizeof telling - 1
                                                          ? (uint8_t)telling[choice]
                                                          : (uint8_t)random_below(&key, 12 + 4 * i, 256);
    }
    if (random_below(&key, 1, 4) == 0) {
        const uint32_t piece = 1 + random_below(&key, 2, length / 2);
        memmove(out + random_below(&key, 4, length - piece), out + random_below(&key, 3, length - piece),
                piece);
    }
    return random_below(&key, 5, 4) == 0 ? random_below(&key, 6, length + 1) : length;
}

static void damaged_corpora_are_refused_or_read_whole(void **state)
{
    (void)state;
    int accepted = 0, refused = 0;
    for (uint64_t number = 0; number < 20000; number++) {
        uint8_t room[sizeof seed];
        const size_t length = mutated(room, number);
        /* A block of its exact length, so that the sanitizer sees the first byte too far. */
        uint8_t *text = malloc(length + (length == 0));
        assert_non_null(text);
        memcpy(text, room, length);
        struct corpus corpus;
        const enum voco_status status =
            corpus_parse_yaml(&corpus, (const char *)text, length, "corpus", "folder");
        if (status == VOCO_OK) {
            accepted++;
        } else {
            refused++;
            assert_int_equal(status, VOCO_BAD_INPUT);
            assert_null(corpus.sets);
            assert_memory_equal(voco_error_message(), "corpus:", 7);
        }
        corpus_free(&corpus);
        assert_int_equal(LLVMFuzzerTestOneInput(text, length), 0);
        free(text);
    }
    assert_true(accepted > 1000 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_corpora_are_refused_or_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
