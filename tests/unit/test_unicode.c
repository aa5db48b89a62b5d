/* UTF-8 helpers against the definition. */
#include "support/test.h"

#include "text/unicode.h"

/* Every code point encodes to bytes that decode to it. */
static void test_every_character(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char text[TEXT_UTF8_MAX];
        uint32_t back = 0;
        size_t n = text_utf8_put(cp, text);
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        int got = text_utf8_next(text, n, &back);
        if (cp >= 0xD800 && cp <= 0xDFFF) {
            assert_int_equal(got, -1);
            continue;
        }
        assert_int_equal(got, n);
        assert_int_equal(back, cp);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(text_utf8_next(text, cut, &back), 0);
        assert_int_equal(text_utf8_valid_prefix(text, n), n);
        assert_int_equal(text_utf8_valid_prefix(text, n - 1), 0);
    }
}

/* Counted by the table of well-formed sequences, Unicode 15, table 3-7. */
static void test_every_beginning(void **state)
{
    (void)state;
    size_t whole2 = 0, whole3 = 0, open3 = 0, open2 = 0;
    for (unsigned i = 0; i < 1u << 24; i++) {
        const char text[3] = {(char)(i >> 16), (char)(i >> 8), (char)i};
        uint32_t cp;
        int got = text_utf8_next(text, 3, &cp);
        whole2 += got == 2;
        whole3 += got == 3;
        open3 += got == 0;
        open2 += got == -2;
    }
    assert_int_equal(whole2, (size_t)30 * 64 * 256);
    assert_int_equal(whole3, 63488 - 2048);           /* U+0800 on, without surrogates */
    assert_int_equal(open3, (48 + 3 * 64 + 16) * 64); /* starts of four-byte sequences */
    assert_int_equal(open2, (32 + 12 * 64 + 32 + 2 * 64) * 192 + (48 + 3 * 64 + 16) * 192);
}

static void test_valid_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size, valid;
    } rows[] = {
        {"", 0, 0},
        {"abcdefghijklmnop", 16, 16},
        {"abcdefgh\xFFijklmnop", 17, 8},
        {"abcdefghi\x80", 10, 9},
        {"a\0b\0c\0d\0e\0", 10, 10},
        {"\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3", 9, 8},
        {"\xED\xA0\x80", 3, 0},
        {"x\xC0\x80", 3, 1},
        {"\xF4\x90\x80\x80", 4, 0},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        assert_int_equal(text_utf8_valid_prefix(rows[i].text, rows[i].size), rows[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_valid_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
