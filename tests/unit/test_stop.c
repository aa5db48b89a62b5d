/* Stop strings over streamed text. */
#include "support/test.h"

#include "engine/stop.h"

/* Feeds text byte by byte as a generation would; returns what was released. */
static size_t release(const struct engine_stop *stop, const char *text, int *stopped)
{
    size_t released = 0;
    *stopped = 0;
    for (size_t size = 1; size <= strlen(text) && !*stopped; size++)
        *stopped = engine_stop_scan(stop, text, released, size, &released);
    return released;
}

static void check(const char *const *strings, size_t n, const char *text, size_t expected,
                  int expect_stop)
{
    struct engine_stop stop;
    int stopped;
    assert_ok(engine_stop_init(&stop, &base_alloc_default, strings, n));
    assert_int_equal(release(&stop, text, &stopped), expected);
    assert_int_equal(stopped, expect_stop);
    engine_stop_release(&stop, &base_alloc_default);
}

static void test_scan(void **state)
{
    (void)state;
    const char *end[] = {"END"}, *two[] = {"aab", "b"}, *nested[] = {"abcd", "bc"};
    check(NULL, 0, "anything", 8, 0);
    check(end, 1, "one two END three", 8, 1);
    check(end, 1, "one EN", 4, 0); /* held back: it may become END */
    check(end, 1, "one ENX", 7, 0);
    check(end, 1, "EEND", 1, 1);
    check(two, 2, "xaaab", 2, 1);   /* the longer one began earlier */
    check(nested, 2, "abcx", 1, 1); /* the inner one is complete first */
    check(end, 1, "END", 0, 1);
}

static void test_never_releases_what_stops(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        char text[33] = {0}, needle[5] = {0};
        const char *strings[] = {needle};
        for (int i = 0; i < 32; i++)
            text[i] = (char)('a' + test_rand(&seed) % 2);
        for (uint32_t i = 0, n = 1 + test_rand(&seed) % 4; i < n; i++)
            needle[i] = (char)('a' + test_rand(&seed) % 2);
        const char *hit = strstr(text, needle);
        struct engine_stop stop;
        int stopped;
        assert_ok(engine_stop_init(&stop, &base_alloc_default, strings, 1));
        size_t released = release(&stop, text, &stopped);
        assert_int_equal(stopped, hit != NULL);
        if (hit)
            assert_int_equal(released, hit - text);
        else
            assert_true(32 - released < strlen(needle));
        engine_stop_release(&stop, &base_alloc_default);
    }
}

static void test_empty_string_is_refused(void **state)
{
    (void)state;
    struct engine_stop stop;
    const char *strings[] = {"x", ""};
    assert_int_equal(engine_stop_init(&stop, &base_alloc_default, strings, 2), INFER_ERR_INVALID);
    assert_null(stop.strings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_never_releases_what_stops),
        cmocka_unit_test(test_empty_string_is_refused),
    };
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
