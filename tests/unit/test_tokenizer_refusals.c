/* Vocabularies that must be refused, by name, and every allocation failing once. */
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/tiny_vocab.h"

static struct tiny_vocab tiny;

/* Gives the vocabulary back as it was. */
static void refused(infer_status status, const char *words)
{
    struct text_tokenizer *t = NULL;
    struct test_alloc a;
    test_alloc_init(&a);
    infer_status got = text_tokenizer_create(&t, &a.alloc, &tiny.vocab);
    if (got != status || !strstr(test_error_text(), words))
        fail_msg("gave %d '%s', expected %d and '%s'", (int)got, test_error_text(), (int)status,
                 words);
    assert_null(t);
    assert_int_equal(a.live_blocks, 0);
}

static void test_bad_ids(void **state)
{
    (void)state;
    infer_token *const ids[] = {&tiny.vocab.bos, &tiny.vocab.eos, &tiny.vocab.eot, &tiny.vocab.unk,
                                &tiny.vocab.pad};
    static const char *const names[] = {"BOS", "EOS", "EOT", "UNK", "PAD"};
    for (size_t i = 0; i < BASE_COUNT(ids); i++) {
        tiny_bpe(&tiny);
        *ids[i] = (infer_token)tiny.vocab.n_tokens;
        refused(INFER_ERR_FORMAT, names[i]);
        *ids[i] = -2;
        refused(INFER_ERR_FORMAT, names[i]);
    }
    tiny_bpe(&tiny);
    tiny.vocab.bos = -1;
    tiny.vocab.add_bos = 1;
    refused(INFER_ERR_FORMAT, "BOS is to be added");
    tiny_bpe(&tiny);
    tiny.vocab.eos = -1;
    tiny.vocab.add_eos = 1;
    refused(INFER_ERR_FORMAT, "EOS is to be added");
}

static void test_bad_tokens(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    tiny.vocab.kind = 9;
    refused(INFER_ERR_INVALID, "kind 9");
    tiny.vocab.kind = TEXT_BPE;
    tiny.vocab.n_tokens = 0;
    refused(INFER_ERR_FORMAT, "0 tokens");
    tiny_bpe(&tiny);
    tiny.types[17] = 7;
    refused(INFER_ERR_FORMAT, "token 17 has type 7");
    tiny.types[17] = -1;
    refused(INFER_ERR_FORMAT, "token 17 has type -1");
    tiny_bpe(&tiny);
    tiny.tokens[70] = TINY_VIEW("\xC3(");
    refused(INFER_ERR_FORMAT, "token 70 is not valid UTF-8");
    tiny_spm(&tiny, 1);
    tiny.tokens[5] = TINY_VIEW("<0xG0>");
    refused(INFER_ERR_FORMAT, "byte token 5 is '<0xG0>'");
    tiny_spm(&tiny, 1);
    tiny.vocab.scores = NULL;
    refused(INFER_ERR_FORMAT, "needs scores");
    tiny_spm(&tiny, 1);
    tiny.scores[tiny_id(&tiny, "hello")] = 0.0f / 0.0f;
    refused(INFER_ERR_FORMAT, "not a number");
    tiny_spm(&tiny, 1);
    tiny.types[tiny_id(&tiny, "<0x41>")] = TEXT_TOKEN_UNUSED;
    tiny.vocab.unk = -1;
    refused(INFER_ERR_FORMAT, "byte 0x41");
    static char longer[2048];
    memset(longer, 'a', sizeof longer);
    tiny_spm(&tiny, 1);
    tiny.tokens[tiny_id(&tiny, "abc")] = (struct base_view){longer, sizeof longer};
    refused(INFER_ERR_LIMIT, "2048 bytes");
    tiny_bpe(&tiny);
    tiny.tokens[tiny_id(&tiny, "<u>")] = (struct base_view){longer, sizeof longer};
    refused(INFER_ERR_LIMIT, "2048 bytes");
}

static void test_bad_merges(void **state)
{
    (void)state;
    static const struct {
        struct base_view merge;
        const char *words;
    } rows[] = {
        {{"he", 2}, "merge 3 'he': expected two tokens"},
        {{"", 0}, "merge 3 '': expected two tokens"},
        {{" ", 1}, "expected two tokens"},
        {{"zz z", 4}, "the left part is not a token"},
        {{"z zz", 4}, "the right part is not a token"},
        {{"z z", 3}, "the result is not a token"},
        {{"a ", 2}, "expected two tokens"},
        {{"a b c", 5}, "the right part is not a token"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        tiny_bpe(&tiny);
        tiny.merges[3] = rows[i].merge;
        refused(INFER_ERR_FORMAT, rows[i].words);
    }
    tiny_bpe(&tiny);
    tiny.vocab.pre = TINY_VIEW("nobody-knows");
    refused(INFER_ERR_UNSUPPORTED, "nobody-knows");
}

/* Legal, if odd. */
static void test_duplicates(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    tiny.merges[tiny.vocab.n_merges++] = TINY_VIEW("h e");
    infer_token twin = tiny_add(&tiny, "hello", TEXT_TOKEN_NORMAL, 0);
    tiny_add(&tiny, "", TEXT_TOKEN_NORMAL, 0);
    tiny_add(&tiny, "", TEXT_TOKEN_CONTROL, 0);
    tiny_add(&tiny, "<u>", TEXT_TOKEN_USER_DEFINED, 0);
    struct text_tokenizer *t = NULL;
    assert_ok(text_tokenizer_create(&t, &base_alloc_default, &tiny.vocab));
    text_tokens ids = {0};
    assert_ok(text_tokenizer_encode(t, &base_alloc_default, "hello<u>", 8, 0, &ids));
    assert_int_equal(ids.size, 2);
    assert_int_equal(ids.data[0], tiny_id(&tiny, "hello"));
    assert_int_not_equal(ids.data[0], twin);
    assert_int_equal(ids.data[1], tiny_id(&tiny, "<u>"));
    char piece[8];
    assert_int_equal(text_tokenizer_piece(t, twin, 0, piece, sizeof piece), 5);
    base_array_release(&base_alloc_default, &ids);
    text_tokenizer_destroy(&t);
}

/* Runs `step` with the n-th allocation failing, for every n until none fails. */
static size_t fail_each(infer_status (*step)(struct test_alloc *))
{
    for (size_t n = 1;; n++) {
        struct test_alloc a;
        test_alloc_init(&a);
        a.fail_at = n;
        infer_status st = step(&a);
        assert_int_equal(a.live_blocks, 0);
        if (a.n_calls < n) {
            assert_ok(st);
            return n - 1;
        }
        /* PCRE2 goes on without machine code if only that failed. */
        if (st != INFER_OK) {
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
            assert_non_null(strstr(test_error_text(), "out of memory"));
        }
    }
}

static infer_status create_step(struct test_alloc *a)
{
    struct text_tokenizer *t = NULL;
    infer_status st = text_tokenizer_create(&t, &a->alloc, &tiny.vocab);
    assert_true((st == INFER_OK) == (t != NULL));
    text_tokenizer_destroy(&t);
    return st;
}

static struct text_tokenizer *shared;

/* Long words, short ones, special tokens, stray bytes; the output holds something before. */
static infer_status encode_step(struct test_alloc *a)
{
    static const char text[] =
        "hellohellohellohellohellohellohellohellohello hello\xFF<u>ab abc<|end|>hello hello hello";
    text_tokens out = {0};
    infer_status st = base_array_push(&a->alloc, &out, 42);
    if (st == INFER_OK)
        st = text_tokenizer_encode(shared, &a->alloc, text, sizeof text - 1, TEXT_ENCODE_SPECIAL,
                                   &out);
    if (st != INFER_OK && out.data) {
        assert_int_equal(out.size, 1);
        assert_int_equal(out.data[0], 42);
    }
    base_array_release(&a->alloc, &out);
    return st;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        if (kind == 0) {
            tiny_spm(&tiny, 1);
        } else {
            tiny_bpe(&tiny);
            tiny.types[0xFF] = TEXT_TOKEN_UNUSED;
            tiny.vocab.pre = kind == 1 ? TINY_VIEW("falcon") : TINY_VIEW("llama-bpe");
        }
        assert_true(fail_each(create_step) >= 6);
        assert_ok(text_tokenizer_create(&shared, &base_alloc_default, &tiny.vocab));
        assert_true(fail_each(encode_step) >= 4);
        text_tokenizer_destroy(&shared);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_ids),       cmocka_unit_test(test_bad_tokens),
        cmocka_unit_test(test_bad_merges),    cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
