/* Tokens to text, one at a time: characters stay whole, spaces are where they belong. */
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/tiny_vocab.h"

#include "text/stream_decode.h"

#define REPLACEMENT "\xEF\xBF\xBD"

static struct tiny_vocab tiny;

static struct text_tokenizer *create(void)
{
    struct text_tokenizer *t = NULL;
    assert_ok(text_tokenizer_create(&t, &base_alloc_default, &tiny.vocab));
    return t;
}

/* Decodes bytes, given as byte tokens; "|" in the result marks what each push gave. */
static void expect_bytes(const char *bytes, size_t size, const char *expected)
{
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create();
    struct text_decoder d;
    struct base_str out, steps;
    base_str_init(&out, &base_alloc_default, 0);
    base_str_init(&steps, &base_alloc_default, 0);
    text_decoder_init(&d, t, 0, 0);
    for (size_t i = 0; i < size; i++) {
        size_t before = out.size;
        assert_ok(text_decoder_push(&d, (uint8_t)bytes[i], &out));
        assert_ok(base_str_append(&steps, out.data ? out.data + before : "", out.size - before));
        assert_ok(base_str_put(&steps, '|'));
    }
    size_t before = out.size;
    assert_ok(text_decoder_finish(&d, &out));
    assert_ok(text_decoder_finish(&d, &out)); /* says it once */
    assert_ok(base_str_append(&steps, out.data ? out.data + before : "", out.size - before));
    assert_string_equal(steps.data, expected);
    base_str_release(&out);
    base_str_release(&steps);
    text_tokenizer_destroy(&t);
}

#define EXPECT_BYTES(bytes, expected) expect_bytes(bytes, sizeof(bytes) - 1, expected)

static void test_characters_stay_whole(void **state)
{
    (void)state;
    EXPECT_BYTES("", "");
    EXPECT_BYTES("ab", "a|b|");
    EXPECT_BYTES("\xC3\xA9", "|\xC3\xA9|");
    EXPECT_BYTES("\xE2\x82\xAC!", "||\xE2\x82\xAC|!|");
    EXPECT_BYTES("\xF0\x9F\xA6\x99", "|||\xF0\x9F\xA6\x99|");
}

static void test_what_is_no_character(void **state)
{
    (void)state;
    EXPECT_BYTES("\xFF"
                 "a",
                 REPLACEMENT "|a|");
    EXPECT_BYTES("\x80\x80", REPLACEMENT "|" REPLACEMENT "|");
    EXPECT_BYTES("\xC3", "|" REPLACEMENT);
    EXPECT_BYTES("\xF0\x9F\xA6", "|||" REPLACEMENT);
    EXPECT_BYTES("\xE2\x82"
                 "a",
                 "||" REPLACEMENT "a|");
    EXPECT_BYTES("\xC3\xC3\xA9", "|" REPLACEMENT "|\xC3\xA9|");
    EXPECT_BYTES("\xED\xA0\x80", "|" REPLACEMENT REPLACEMENT "|" REPLACEMENT "|"); /* a surrogate */
    EXPECT_BYTES("\xE0\x80", "|" REPLACEMENT REPLACEMENT "|");                     /* overlong */
}

/* A token may end in the middle of one character and begin in the middle of another. */
static void test_tokens_across_characters(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    infer_token tail = tiny_add(&tiny, "\xC2\xA9xyz\xC3\x83", TEXT_TOKEN_NORMAL, 0); /* A9 xyz C3 */
    struct text_tokenizer *t = create();
    struct text_decoder d;
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    text_decoder_init(&d, t, 0, 0);
    assert_ok(text_decoder_push(&d, 0xC3, &out));
    assert_int_equal(out.size, 0);
    assert_ok(text_decoder_push(&d, tail, &out));
    assert_string_equal(out.data, "\xC3\xA9xyz");
    assert_ok(text_decoder_push(&d, tail, &out));
    assert_string_equal(out.data, "\xC3\xA9xyz\xC3\xA9xyz");
    assert_ok(text_decoder_push(&d, 'a', &out));
    assert_string_equal(out.data, "\xC3\xA9xyz\xC3\xA9xyz" REPLACEMENT "a");
    base_str_release(&out);
    text_tokenizer_destroy(&t);
}

static void expect_tokens(int special, int continuing, const char *const *tokens, size_t n,
                          const char *expected)
{
    struct text_tokenizer *t = create();
    struct text_decoder d;
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    text_decoder_init(&d, t, special, continuing);
    for (size_t i = 0; i < n; i++)
        assert_ok(text_decoder_push(&d, tiny_id(&tiny, tokens[i]), &out));
    assert_ok(text_decoder_finish(&d, &out));
    assert_string_equal(out.data ? out.data : "", expected);
    base_str_release(&out);
    text_tokenizer_destroy(&t);
}

#define EXPECT_TOKENS(special, continuing, expected, ...)                                          \
    expect_tokens(special, continuing, (const char *const[]){__VA_ARGS__},                         \
                  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), expected)

static void test_leading_space(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    EXPECT_TOKENS(0, 0, "hello hello", "\xE2\x96\x81hello", "\xE2\x96\x81hello");
    EXPECT_TOKENS(0, 1, " hello", "\xE2\x96\x81hello");
    EXPECT_TOKENS(0, 0, "hello", "<s>", "\xE2\x96\x81hello"); /* BOS says nothing */
    EXPECT_TOKENS(0, 0, " ", "\xE2\x96\x81\xE2\x96\x81");     /* one space, not all */
    EXPECT_TOKENS(0, 0, "a hello", "a", "\xE2\x96\x81hello");
    EXPECT_TOKENS(0, 0, "", "\xE2\x96\x81");
    EXPECT_TOKENS(0, 0, " hello", "<0x20>", "\xE2\x96\x81hello");
    EXPECT_TOKENS(0, 0, "\xC3\xA9", "\xE2\x96\x81", "<0xC3>", "<0xA9>");
    tiny.vocab.add_space_prefix = 0;
    EXPECT_TOKENS(0, 0, " hello", "\xE2\x96\x81hello");
    tiny_bpe(&tiny);
    EXPECT_TOKENS(0, 0, " hello", "\xC4\xA0hello");
}

static void test_special_names(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    EXPECT_TOKENS(0, 0, "hello<u>", "<s>", "\xE2\x96\x81hello", "<|end|>", "<u>", "</s>");
    EXPECT_TOKENS(1, 0, "<s> hello<|end|></s>", "<s>", "\xE2\x96\x81hello", "<|end|>", "</s>");
    EXPECT_TOKENS(0, 0, "hello", "<unk>", "\xE2\x96\x81hello");
}

static void test_ids_out_of_range(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create();
    struct text_decoder d;
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 0);
    text_decoder_init(&d, t, 0, 0);
    assert_int_equal(text_decoder_push(&d, -1, &out), INFER_ERR_INVALID);
    assert_int_equal(text_decoder_push(&d, (infer_token)tiny.vocab.n_tokens, &out),
                     INFER_ERR_INVALID);
    assert_int_equal(out.size, 0);
    base_str_release(&out);
    text_tokenizer_destroy(&t);
}

/* A push that fails changes nothing: repeating it goes on as if it had not been. */
static void test_out_of_memory(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    struct text_tokenizer *t = create();
    const char *const names[] = {"\xE2\x96\x81", "<0xC3>", "hello", "<0xE2>", "<0x82>",
                                 "<0xAC>",       "<0xF0>", "hell",  "<0xC3>"};
    struct base_str plain;
    base_str_init(&plain, &base_alloc_default, 0);
    for (int failing = 0; failing < 2; failing++) {
        struct test_alloc a;
        struct base_str out;
        struct text_decoder d;
        test_alloc_init(&a);
        base_str_init(&out, failing ? &a.alloc : &base_alloc_default, 0);
        text_decoder_init(&d, t, 0, 0);
        for (size_t i = 0; i <= BASE_COUNT(names); i++) {
            a.fail_at = a.n_calls + 1;
            infer_token id = i < BASE_COUNT(names) ? tiny_id(&tiny, names[i]) : -1;
            infer_status st =
                id < 0 ? text_decoder_finish(&d, &out) : text_decoder_push(&d, id, &out);
            if (st == INFER_ERR_NO_MEMORY) {
                a.fail_at = 0;
                st = id < 0 ? text_decoder_finish(&d, &out) : text_decoder_push(&d, id, &out);
            }
            assert_ok(st);
        }
        if (failing)
            assert_string_equal(out.data, plain.data);
        else
            assert_ok(base_str_append(&plain, out.data, out.size));
        base_str_release(&out);
        assert_int_equal(a.live_blocks, 0);
    }
    assert_string_equal(plain.data, REPLACEMENT "hello\xE2\x82\xAC" REPLACEMENT "hell" REPLACEMENT);
    base_str_release(&plain);
    text_tokenizer_destroy(&t);
}

/* A text of limited size that is full stays as it was. */
static void test_limited_text(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create();
    struct text_decoder d;
    struct base_str out;
    base_str_init(&out, &base_alloc_default, 4);
    text_decoder_init(&d, t, 0, 0);
    assert_ok(text_decoder_push(&d, 0xE2, &out));
    assert_ok(text_decoder_push(&d, 'a', &out)); /* U+FFFD and a: four bytes */
    assert_int_equal(text_decoder_push(&d, 'b', &out), INFER_ERR_LIMIT);
    assert_string_equal(out.data, REPLACEMENT "a");
    base_str_release(&out);
    text_tokenizer_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_stay_whole),
        cmocka_unit_test(test_what_is_no_character),
        cmocka_unit_test(test_tokens_across_characters),
        cmocka_unit_test(test_leading_space),
        cmocka_unit_test(test_special_names),
        cmocka_unit_test(test_ids_out_of_range),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_limited_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
