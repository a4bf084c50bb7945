/* Under the sanitizers tests take several times as long. What tells of numbers only, and goes through code
 * that other tests of the same program go through as well, is left to the tests without them. Include
 * cmocka.h before. */
#ifndef TESTS_SANITIZERS_H
#define TESTS_SANITIZERS_H

static inline void skip_under_sanitizers(void)
{
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
}

#endif
