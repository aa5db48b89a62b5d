/* Where each pre-tokenizer cuts, and that none can be made to lose text or time. */
#include "support/test.h"
#include "support/test_alloc.h"

#include "text/pretokenize.h"

static const char *const names[] = {
    "",       "default",  "gpt-2",     "starcoder",  "llama-bpe",   "dbrx",
    "qwen2",  "qwen35",   "gpt-4o",    "tekken",     "falcon",      "deepseek-llm",
    "bloom",  "viking",   "command-r", "phi-2",      "deepseek-v3", "deepseek-coder",
    "mpt",    "refact",   "tiny_aya",  "superbpe",   "kimi-k2",     "afmoe",
    "youtu",  "spark2_5", "jais-2",    "exaone-moe", "seed-coder",  "ufakzeka",
    "laguna", "minicpm5", "chameleon", "gemma4",     "bailingmoe",  "granite-embed-multi-97m",
};

static struct base_view view(const char *text)
{
    return (struct base_view){text, strlen(text)};
}

/* The pieces, joined with "|". */
static const char *split(const char *name, const char *text)
{
    static char joined[1024];
    struct text_pretokenizer *pre = NULL;
    struct text_splitter s;
    struct base_view piece;
    infer_status st;
    size_t n = 0;
    assert_ok(text_pretokenizer_create(&pre, &base_alloc_default, view(name)));
    assert_ok(text_splitter_init(&s, pre, &base_alloc_default));
    text_splitter_begin(&s, text, strlen(text));
    while ((st = text_splitter_next(&s, &piece)) == INFER_OK) {
        assert_true(piece.size > 0 && n + piece.size + 2 < sizeof joined);
        memcpy(joined + n, piece.data, piece.size);
        n += piece.size;
        joined[n++] = '|';
    }
    assert_int_equal(st, INFER_DONE);
    joined[n ? n - 1 : 0] = 0;
    text_splitter_release(&s);
    text_pretokenizer_destroy(&pre);
    assert_null(pre);
    return joined;
}

static const char sample[] = "I've   got 12345 (x) \n\n ok";
static const struct {
    const char *name, *text, *pieces;
} cuts[] = {
    {"gpt-2", sample, "I|'ve|  | got| 12345| (|x|)| \n\n| ok"},
    {"", sample, "I|'ve|  | got| 12345| (|x|)| \n\n| ok"},
    {"command-r", sample, "I|'ve|  | got| |1|2|3|4|5| (|x|)| \n\n| ok"},
    {"llama-bpe", sample, "I|'ve|  | got| |123|45| (|x|)| \n\n| ok"},
    {"qwen2", sample, "I|'ve|  | got| |1|2|3|4|5| (|x|)| \n\n| ok"},
    {"gpt-4o", sample, "I've|  | got| |123|45| (|x|)| \n\n| ok"},
    {"tekken", sample, "I|'ve|  | got| |1|2|3|4|5| (|x|)| \n\n| ok"},
    {"deepseek-v3", sample, "I|'ve|  | got| |123|45| (|x|)| \n\n| ok"},
    {"deepseek-llm", sample, "I|'|ve|  | got| |12345| (|x|)| |\n|\n| ok"},
    {"falcon", "a 12345, b", "a| |123|45|,| b"},
    {"superbpe", "a 1234567 12 x", "a |1|234|567| |12| x"},
    {"tiny_aya", "a 1234567 1234ab", "a| |1|234|567| |123|4|ab"},
    {"afmoe", "a 1234567, 12", "a| |1|234|567|,| |12"},
    {"kimi-k2",
     "ab\xE4\xB8\x80\xE4\xB8\x81"
     "cd's E 1234",
     "ab|\xE4\xB8\x80\xE4\xB8\x81|cd's| E| |123|4"},
    {"youtu",
     "a\xEA\xB0\x80"
     "b 12",
     "a|\xEA\xB0\x80|b| |1|2"},
    {"spark2_5", "a 12\n\nb", "a| |1|2|\n|\n|b"},
    {"jais-2", "a          b", "a|        | | b"},
    {"exaone-moe", "ab cd, 12\n\n", "ab cd|,| |1|2|\n\n"},
    {"seed-coder", "a!?\n12", "a|!?|\n|1|2"},
    {"ufakzeka", "it's 12", "it|'s| |1|2"},
    {"laguna", "a \n b", "a| |\n| b"},
    {"minicpm5", "a 1234", "a| |123|4"},
    {"chameleon", "<sentinel:12>IMGIMGABCZ a1.", "<|sentinel|:|1|2|>|IMGIMGABCZ| a|1|."},
    {"gpt-2", "'RE 'll", "'|RE| '|ll"},
    {"llama-bpe", "'RE 'll", "'RE| '|ll"},
    {"gpt-4o", "camelCase HTTPServer don'T", "camel|Case| HTTPServer| don'T"},
    {"bloom", "a, b (c) d.", "a|,| b| (|c|)| d|."},
    {"viking", "a12 b", "a|1|2| b"},
    {"gpt-2", "", ""},
    {"gpt-2", " ", " "},
    {"gpt-2", "   ", "   "},
    {"gpt-2",
     "\xE1\xA0\x8E"
     "a",
     "\xE1\xA0\x8E|a"}, /* U+180E is no space */
    {"gpt-2",
     "a\xC2\x85"
     "b",
     "a|\xC2\x85|b"}, /* U+0085 is one */
    {"deepseek-llm", "x   ", "x|   "},
    {"deepseek-llm", "   1", "   |1"},
};

static void test_cuts(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cuts); i++) {
        const char *got = split(cuts[i].name, cuts[i].text);
        if (strcmp(got, cuts[i].pieces) != 0)
            fail_msg("%s: '%s' was cut into '%s', expected '%s'", cuts[i].name, cuts[i].text, got,
                     cuts[i].pieces);
    }
}

static void test_unknown_name(void **state)
{
    (void)state;
    struct text_pretokenizer *pre = NULL;
    uint32_t flags = 7;
    static const char *const unknown[] = {"gpt", "gpt-2 phi-2", "no-such", " ", "gpt-2\0x"};
    for (size_t i = 0; i < BASE_COUNT(unknown); i++) {
        size_t size = i == 4 ? 7 : strlen(unknown[i]);
        struct base_view name = {unknown[i], size};
        assert_int_equal(text_pretokenizer_create(&pre, &base_alloc_default, name),
                         INFER_ERR_UNSUPPORTED);
        assert_non_null(strstr(test_error_text(), unknown[i]));
        assert_int_equal(text_pretokenizer_flags(name, &flags), INFER_ERR_UNSUPPORTED);
        assert_null(pre);
        assert_int_equal(flags, 7);
    }
    assert_ok(text_pretokenizer_flags(view("llama-bpe"), &flags));
    assert_int_equal(flags, TEXT_PRE_IGNORE_MERGES | TEXT_PRE_ADD_BOS);
    assert_ok(text_pretokenizer_flags(view(""), &flags));
    assert_int_equal(flags, 0);
}

/* Runs that make a careless pattern quadratic. Linear, all of this takes a second. */
static void test_hostile_runs(void **state)
{
    (void)state;
    enum { SIZE = 64 * 1024 };
    static const char *const units[] = {" ",
                                        "\n",
                                        " \n",
                                        "a",
                                        "A",
                                        "Aa",
                                        "1",
                                        "(",
                                        "'",
                                        "'s",
                                        "\t ",
                                        "\xCC\x80",
                                        "a\xCC\x80",
                                        "\xE4\xB8\x80",
                                        "\xE3\x80\x80",
                                        "\xCA\xB0"};
    static const char *const ends[] = {"", "1", "x", "\n", "("};
    char *text = malloc(SIZE + 8);
    assert_non_null(text);
    for (size_t k = 0; k < BASE_COUNT(names); k++) {
        struct text_pretokenizer *pre = NULL;
        struct text_splitter s;
        assert_ok(text_pretokenizer_create(&pre, &base_alloc_default, view(names[k])));
        assert_true(text_pretokenizer_bytes(pre) > 0);
        assert_ok(text_splitter_init(&s, pre, &base_alloc_default));
        for (size_t i = 0; i < BASE_COUNT(units) * BASE_COUNT(ends); i++) {
            const char *unit = units[i / BASE_COUNT(ends)], *end = ends[i % BASE_COUNT(ends)];
            size_t n = 0;
            for (; n + strlen(unit) <= SIZE; n += strlen(unit))
                memcpy(text + n, unit, strlen(unit));
            memcpy(text + n, end, strlen(end));
            n += strlen(end);
            text_splitter_begin(&s, text, n);
            struct base_view piece;
            const char *next = text;
            infer_status st;
            while ((st = text_splitter_next(&s, &piece)) == INFER_OK) {
                assert_true(piece.data == next && piece.size > 0);
                next += piece.size;
            }
            if (st != INFER_DONE)
                fail_msg("%s, '%s': %s", names[k], unit, test_error_text());
            assert_ptr_equal(next, text + n);
        }
        text_splitter_release(&s);
        text_pretokenizer_destroy(&pre);
    }
    free(text);
}

static infer_status make_and_split(const struct base_alloc *a)
{
    struct text_pretokenizer *pre = NULL;
    struct text_splitter s;
    infer_status st = text_pretokenizer_create(&pre, a, view("falcon"));
    if (st != INFER_OK) {
        assert_null(pre);
        return st;
    }
    st = text_splitter_init(&s, pre, a);
    if (st == INFER_OK) {
        struct base_view piece;
        text_splitter_begin(&s, "a 1", 3);
        while ((st = text_splitter_next(&s, &piece)) == INFER_OK) {
        }
        st = st == INFER_DONE ? INFER_OK : st;
    }
    text_splitter_release(&s);
    text_pretokenizer_destroy(&pre);
    return st;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    size_t n = 1;
    for (;; n++) {
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = n;
        infer_status st = make_and_split(&t.alloc);
        assert_int_equal(t.live_blocks, 0);
        if (t.n_calls < n) {
            assert_ok(st);
            break;
        }
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY); /* JIT is optional */
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_hostile_runs),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
