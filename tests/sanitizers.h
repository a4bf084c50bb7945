/* Under the sanitizers tests take several times as long. What tells of numbers only, and goes through code
 * that other tests of the same program go through as well, is left to the tests without them. Include
 * cmocka.h before. */
#ifndef TESTS_SANITIZERS_H
#define TESTS_SANITIZERS_H

#ifdef __SANITIZE_ADDRESS__
enum { under_sanitizers = 1 };
#else
enum { under_sanitizers = 0 };
#endif

static inline void skip_under_sanitizers(void)
{
    if (under_sanitizers) {
        skip();
    }
}

#endif
