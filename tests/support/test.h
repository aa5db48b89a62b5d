/* Shared by all tests: cmocka, the test data, reading files. */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Sanitizers make plain C ten times as slow: tests of much arithmetic do less of it there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

/* Path of a file of the test data (INFER_TEST_DATA); ends the test as skipped,
 * by name, where the data is absent. Borrowed until the fourth next call. */
const char *test_data(const char *relative);

/* Path of a file of the source tree, such as "examples/models/tiny-q8_0.gguf". */
const char *test_source(const char *relative);

/* Whole file, 0-terminated; fails the test if unreadable. Caller frees. */
char *test_read(const char *path, size_t *size);

/* Reproducible random numbers for shapes and values. */
uint32_t test_rand(uint64_t *state);
float test_randf(uint64_t *state); /* about uniform in [-1, 1) */

/* Fails with the library's sentence, which a bare assert would hide. */
#define assert_ok(expr)                                                                            \
    do {                                                                                           \
        int32_t status_ = (expr);                                                                  \
        if (status_ != 0)                                                                          \
            fail_msg("%s gave %d: %s", #expr, (int)status_, test_error_text());                    \
    } while (0)

const char *test_error_text(void);

#endif
