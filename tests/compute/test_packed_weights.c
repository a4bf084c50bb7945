/* Copies of weights in a kernel's order: kept, whatever their number, until the weights change. */
#include "compute/cpu/packed_weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { many = 1100, bytes = 200 };
static const float weights[2 * many];

static unsigned char mark(int k)
{
    return (unsigned char)(k % 251 + 1);
}

static void *asked_for(struct packed_weights *packed, int k, enum packed_order order, int expected_fresh)
{
    int fresh;
    void *copy = packed_weights(packed, &weights[k], order, bytes, &fresh);
    assert_non_null(copy);
    assert_int_equal((uintptr_t)copy % 64, 0);
    assert_int_equal(fresh, expected_fresh);
    return copy;
}

/* An operation holds several at once: asking for one takes no other away. */
static void copies_stay_while_weights_do(void **state)
{
    (void)state;
    static unsigned char *copy[2][many];
    struct packed_weights *packed = packed_weights_open();
    assert_non_null(packed);
    for (int k = 0; k < many; k++) {
        for (int order = 0; order < 2; order++) {
            copy[order][k] = memset(asked_for(packed, k, order, 0), mark(2 * k + order), bytes);
        }
    }
    for (int k = 0; k < many; k++) {
        for (int order = 0; order < 2; order++) {
            assert_ptr_equal(asked_for(packed, k, order, 1), copy[order][k]);
            for (int at = 0; at < bytes; at++) {
                assert_int_equal(copy[order][k][at], mark(2 * k + order));
            }
        }
    }
    packed_weights_close(packed);
}

/* Others of them are used meanwhile, and more come than were there before. */
static void changed_weights_are_packed_anew(void **state)
{
    (void)state;
    static unsigned char *copy[2 * many];
    struct packed_weights *packed = packed_weights_open();
    assert_non_null(packed);
    for (int round = 0; round < 3; round++) {
        const int first = round * many / 2, end = first + many;
        for (int k = first; k < end; k++) {
            copy[k] = memset(asked_for(packed, k, PACKED_FORWARD, 0), mark(k), bytes);
        }
        for (int k = first; k < end; k++) {
            assert_ptr_equal(asked_for(packed, k, PACKED_FORWARD, 1), copy[k]);
            assert_int_equal(copy[k][bytes - 1], mark(k));
        }
        packed_weights_forget(packed);
    }
    packed_weights_close(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_stay_while_weights_do),
        cmocka_unit_test(changed_weights_are_packed_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
