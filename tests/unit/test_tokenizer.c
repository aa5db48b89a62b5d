/* Tokenizers over vocabularies small enough to check by hand, and against a plain
 * implementation of the definition. */
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/tiny_vocab.h"

static struct tiny_vocab tiny; /* too large for the stack */

static struct text_tokenizer *create(const struct text_vocab *vocab)
{
    struct text_tokenizer *t = NULL;
    assert_ok(text_tokenizer_create(&t, &base_alloc_default, vocab));
    return t;
}

static text_tokens encode(const struct text_tokenizer *t, struct base_view text, uint32_t flags)
{
    text_tokens out = {0};
    assert_ok(text_tokenizer_encode(t, &base_alloc_default, text.data, text.size, flags, &out));
    return out;
}

/* `expected` holds token texts as the vocabulary writes them, separated by spaces. */
static void expect(const struct text_tokenizer *t, struct base_view text, uint32_t flags,
                   const char *expected)
{
    text_tokens got = encode(t, text, flags);
    char list[1024];
    size_t n = 0;
    for (size_t i = 0; i < got.size; i++) {
        struct base_view token = text_tokenizer_vocab(t)->tokens[got.data[i]];
        assert_true(n + token.size + 2 < sizeof list);
        memcpy(list + n, token.data, token.size);
        n += token.size;
        list[n++] = ' ';
    }
    list[n ? n - 1 : 0] = 0;
    if (strcmp(list, expected) != 0)
        fail_msg("'%.*s' gave '%s', expected '%s'", (int)text.size, text.data, list, expected);
    base_array_release(&base_alloc_default, &got);
}

#define EXPECT(t, text, flags, expected) expect((t), TINY_VIEW(text), (flags), (expected))

static void test_bpe_words(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "", 0, "");
    EXPECT(t, "hello", 0, "hello");
    EXPECT(t, "hello hello", 0, "hello \xC4\xA0hello");
    EXPECT(t, "hell", 0, "hell");
    EXPECT(t, "helo", 0, "he l o");
    EXPECT(t, "ooooo", 0, "oooo o");
    EXPECT(t, "abc bc", 0, "abc \xC4\xA0 bc");
    EXPECT(t, "h\xC3\xA9", 0, "h \xC3\x83\xC2\xA9");
    EXPECT(t, "a\nb", 0, "a \xC4\x8A b");
    EXPECT(t, "    hello", 0, "\xC4\xA0\xC4\xA0 \xC4\xA0 \xC4\xA0hello");
    assert_true(text_tokenizer_memory_bytes(t) > tiny.vocab.n_tokens);
    text_tokenizer_destroy(&t);
    assert_null(t);
    text_tokenizer_destroy(&t);
}

static void test_any_bytes(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "a\0b", 0, "a \xC4\x80 b");
    EXPECT(t, "\xFF", 0, "\xC3\xBF");
    EXPECT(t, "hello\xC3", 0, "hello \xC3\x83");
    EXPECT(t, "\xE2\x82hello", 0, "\xC3\xA2 \xC4\xA4 hello");
    EXPECT(t,
           "ab\x80"
           "bc",
           0, "ab \xC4\xA2 bc"); /* no merge across what is no character */
    text_tokenizer_destroy(&t);

    tiny_spm(&tiny, 1);
    t = create(&tiny.vocab);
    EXPECT(t, "a\0b", 0, "\xE2\x96\x81 a <0x00> b");
    EXPECT(t, "\xFF", 0, "\xE2\x96\x81 <0xFF>");
    EXPECT(t, "hello\xC3", 0, "\xE2\x96\x81hello <0xC3>");
    EXPECT(t, "\xE2\x82hello", 0, "\xE2\x96\x81 <0xE2> <0x82> hello");
    EXPECT(t, "\xE2\x82\xAC", 0, "\xE2\x96\x81 <0xE2> <0x82> <0xAC>");
    text_tokenizer_destroy(&t);
}

static void test_spm_words(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "", 0, "");
    EXPECT(t, "hello", 0, "\xE2\x96\x81hello");
    EXPECT(t, " hello", 0, "\xE2\x96\x81 \xE2\x96\x81hello");
    EXPECT(t, "hello hello  hello", 0,
           "\xE2\x96\x81hello \xE2\x96\x81hello \xE2\x96\x81 \xE2\x96\x81hello");
    EXPECT(t, "   ", 0, "\xE2\x96\x81\xE2\x96\x81 \xE2\x96\x81\xE2\x96\x81");
    EXPECT(t, "a\xE2\x96\x81hello", 0, "\xE2\x96\x81 a \xE2\x96\x81hello");
    EXPECT(t, "xyz", 0, "\xE2\x96\x81 xyz"); /* x and y are no tokens, xyz is */
    EXPECT(t, "xy", 0, "\xE2\x96\x81 <0x78> <0x79>");
    tiny.vocab.add_space_prefix = 0;
    struct text_tokenizer *bare = create(&tiny.vocab);
    EXPECT(bare, "hello hello", 0, "hello \xE2\x96\x81hello");
    text_tokenizer_destroy(&bare);
    text_tokenizer_destroy(&t);
}

/* Without byte tokens a run of what is not known is one unknown token. */
static void test_spm_without_bytes(void **state)
{
    (void)state;
    tiny_spm(&tiny, 0);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "hello", 0, "\xE2\x96\x81hello");
    EXPECT(t,
           "a\xE2\x82\xAC\xE2\x82\xAC"
           "b",
           0, "\xE2\x96\x81 a <unk> b");
    EXPECT(t,
           "a\xFF\xFF"
           "b q qq q",
           0,
           "\xE2\x96\x81 a <unk> b \xE2\x96\x81 <unk> \xE2\x96\x81 "
           "<unk> \xE2\x96\x81 <unk>");
    text_tokens out = encode(t, TINY_VIEW("q"), 0); /* appended, the run begins anew */
    tiny.vocab.add_space_prefix = 0;
    struct text_tokenizer *bare = create(&tiny.vocab);
    assert_ok(text_tokenizer_encode(bare, &base_alloc_default, "q", 1, 0, &out));
    assert_int_equal(out.size, 3);
    base_array_release(&base_alloc_default, &out);
    text_tokenizer_destroy(&bare);
    text_tokenizer_destroy(&t);
}

static void test_special_tokens(void **state)
{
    (void)state;
    const uint32_t special = TEXT_ENCODE_SPECIAL;
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "hello<|end|>hello", special, "hello <|end|> hello");
    EXPECT(t, "<|end|><|end|>", special, "<|end|> <|end|>");
    EXPECT(t, "<|end|><|x|>", special, "<|end|><|x|>");
    EXPECT(t, "<|end|><|x", special, "<|end|> < | x");
    EXPECT(t, "<s></s><s>", special, "<s> </s> <s>");
    EXPECT(t, "<|end|>", 0, "< | e n d | >");
    EXPECT(t, "<u>", 0, "<u>");
    EXPECT(t, "<u><u><x", 0, "<u><u> < x");
    EXPECT(t, "<u><u><u>", 0, "<u><u><u >");
    EXPECT(t, "<u><u><u", 0, "<u><u><u");
    EXPECT(t, "<|end|><u>", 0, "< | e n d | > <u>");
    EXPECT(t, "<|end", special, "< | e n d");
    text_tokenizer_destroy(&t);

    tiny_spm(&tiny, 1);
    t = create(&tiny.vocab);
    EXPECT(t, "<s>hello", special, "<s> \xE2\x96\x81hello");
    EXPECT(t, "a<u>b", 0, "\xE2\x96\x81 a <u> \xE2\x96\x81 b"); /* a prefix after each */
    EXPECT(t, "<unk>", special, "<unk>");
    EXPECT(t, "hello</s> hello", special, "\xE2\x96\x81hello </s> \xE2\x96\x81 \xE2\x96\x81hello");
    text_tokenizer_destroy(&t);
}

static void test_added_tokens(void **state)
{
    (void)state;
    tiny_spm(&tiny, 1);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "", TEXT_ENCODE_ADD, "<s>");
    EXPECT(t, "hello", TEXT_ENCODE_ADD, "<s> \xE2\x96\x81hello");
    text_tokenizer_destroy(&t);
    tiny.vocab.add_bos = 0;
    tiny.vocab.add_eos = 1;
    t = create(&tiny.vocab);
    EXPECT(t, "hello", TEXT_ENCODE_ADD | TEXT_ENCODE_SPECIAL, "\xE2\x96\x81hello </s>");
    EXPECT(t, "", TEXT_ENCODE_ADD, "</s>");
    text_tokenizer_destroy(&t);
}

/* Llama 3 takes a word that is a token as it is, even if no merge leads to it. */
static void test_whole_words(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    tiny_add(&tiny,
             "\xC4\xA0"
             "cab",
             TEXT_TOKEN_NORMAL, 0);
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t, "a cab", 0, "a \xC4\xA0 c ab");
    text_tokenizer_destroy(&t);
    tiny.vocab.pre = TINY_VIEW("llama-bpe");
    t = create(&tiny.vocab);
    EXPECT(t, "a cab", 0,
           "a \xC4\xA0"
           "cab");
    EXPECT(t, "a cabc", 0, "a \xC4\xA0 c abc");
    text_tokenizer_destroy(&t);
}

/* Vocabularies commonly lack the bytes that UTF-8 never holds. */
static void test_missing_bytes(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    tiny.types[0xFF] = TEXT_TOKEN_UNUSED;
    struct text_tokenizer *t = create(&tiny.vocab);
    EXPECT(t,
           "a\xFF"
           "b",
           0, "a \xC3\xAF \xC2\xBF \xC2\xBD b");
    text_tokenizer_destroy(&t);
    tiny.types[0xBF] = TEXT_TOKEN_UNUSED; /* part of U+FFFD */
    assert_int_equal(text_tokenizer_create(&t, &base_alloc_default, &tiny.vocab), INFER_ERR_FORMAT);
    assert_non_null(strstr(test_error_text(), "0xBF"));
    tiny.vocab.unk = tiny_id(&tiny, "<u>");
    t = create(&tiny.vocab);
    EXPECT(t,
           "a\xFF"
           "b\xBF",
           0, "a <u> b <u>");
    text_tokenizer_destroy(&t);
}

static void test_pieces(void **state)
{
    (void)state;
    char buffer[32];
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create(&tiny.vocab);
    infer_token space_hello = tiny_id(&tiny, "\xC4\xA0hello");
    assert_int_equal(text_tokenizer_piece(t, space_hello, 0, buffer, sizeof buffer), 6);
    assert_memory_equal(buffer, " hello", 6);
    memset(buffer, 'x', sizeof buffer);
    assert_int_equal(text_tokenizer_piece(t, space_hello, 0, buffer, 5), 6);
    assert_int_equal(buffer[0], 'x'); /* nothing is written if not all fits */
    assert_int_equal(text_tokenizer_piece(t, space_hello, 0, NULL, 0), 6);
    assert_int_equal(text_tokenizer_piece(t, tiny.vocab.bos, 0, buffer, sizeof buffer), 0);
    assert_int_equal(text_tokenizer_piece(t, tiny.vocab.bos, 1, buffer, sizeof buffer), 3);
    assert_memory_equal(buffer, "<s>", 3);
    for (int b = 0; b < 256; b++) {
        assert_int_equal(text_tokenizer_piece(t, b, 0, buffer, sizeof buffer), 1);
        assert_int_equal((uint8_t)buffer[0], b);
    }
    assert_int_equal(text_tokenizer_piece(t, -1, 1, buffer, sizeof buffer), 0);
    assert_int_equal(text_tokenizer_piece(t, (infer_token)tiny.vocab.n_tokens, 1, buffer, 32), 0);
    text_tokenizer_destroy(&t);

    tiny_spm(&tiny, 1);
    t = create(&tiny.vocab);
    assert_int_equal(
        text_tokenizer_piece(t, tiny_id(&tiny, "\xE2\x96\x81\xE2\x96\x81"), 0, buffer, 32), 2);
    assert_memory_equal(buffer, "  ", 2);
    assert_int_equal(text_tokenizer_piece(t, tiny_id(&tiny, "<0xA0>"), 0, buffer, 32), 1);
    assert_int_equal((uint8_t)buffer[0], 0xA0);
    assert_int_equal(text_tokenizer_piece(t, tiny.vocab.unk, 0, buffer, 32), 0);
    text_tokenizer_destroy(&t);
}

static void test_ends(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    infer_token normal = tiny_add(&tiny, "<|im_end|>", TEXT_TOKEN_NORMAL, 0);
    tiny.vocab.eot = tiny_id(&tiny, "<u>");
    struct text_tokenizer *t = create(&tiny.vocab);
    assert_true(text_tokenizer_is_end(t, tiny.vocab.eos));
    assert_true(text_tokenizer_is_end(t, tiny.vocab.eot));
    assert_true(text_tokenizer_is_end(t, tiny_id(&tiny, "<|end|>")));
    assert_false(text_tokenizer_is_end(t, tiny.vocab.bos));
    assert_false(text_tokenizer_is_end(t, normal)); /* ordinary text that looks like one */
    assert_false(text_tokenizer_is_end(t, -1));
    text_tokenizer_destroy(&t);
    /* In gpt-oss <|end|> closes a channel, and <|return|> the answer. */
    tiny.types[normal] = TEXT_TOKEN_CONTROL;
    infer_token last = tiny_add(&tiny, "<|return|>", TEXT_TOKEN_CONTROL, 0);
    t = create(&tiny.vocab);
    assert_true(text_tokenizer_is_end(t, normal));
    assert_true(text_tokenizer_is_end(t, last));
    assert_false(text_tokenizer_is_end(t, tiny_id(&tiny, "<|end|>")));
    text_tokenizer_destroy(&t);
}

/* The definition: among all neighbours that can merge, the best, leftmost first. */
static size_t merge_plainly(const struct tiny_vocab *v, struct base_view *parts, size_t n)
{
    for (;;) {
        size_t best = n;
        double best_score = -1e30;
        for (size_t i = 0; i + 1 < n; i++) {
            double score = -1e30;
            size_t size = parts[i].size + parts[i + 1].size;
            if (v->vocab.kind == TEXT_SPM) {
                for (size_t k = 0; k < v->vocab.n_tokens; k++)
                    if (v->types[k] == TEXT_TOKEN_NORMAL && v->tokens[k].size == size &&
                        memcmp(v->tokens[k].data, parts[i].data, size) == 0)
                        score = v->scores[k];
            } else {
                for (size_t k = 0; k < v->vocab.n_merges && score < -1e29; k++) {
                    const struct base_view *m = &v->merges[k];
                    if (m->size == size + 1 && m->data[parts[i].size] == ' ' &&
                        memcmp(m->data, parts[i].data, parts[i].size) == 0 &&
                        memcmp(m->data + parts[i].size + 1, parts[i + 1].data, parts[i + 1].size) ==
                            0)
                        score = -(double)k;
                }
            }
            if (score > best_score) {
                best_score = score;
                best = i;
            }
        }
        if (best == n)
            return n;
        parts[best].size += parts[best + 1].size;
        n--;
        memmove(parts + best + 1, parts + best + 2, (n - best - 1) * sizeof *parts);
    }
}

static size_t char_bytes(const char *p)
{
    return (uint8_t)*p < 0x80 ? 1 : (uint8_t)*p < 0xE0 ? 2 : 3;
}

/* `text` is in the vocabulary's own spelling: spaces as U+0120 or U+2581. */
static void check_plainly(const struct text_tokenizer *t, const struct tiny_vocab *v,
                          const char *spelled, struct base_view text)
{
    static struct base_view parts[4096];
    size_t n = 0;
    for (const char *p = spelled; *p; p += parts[n - 1].size)
        parts[n++] = (struct base_view){p, char_bytes(p)};
    n = merge_plainly(v, parts, n);
    text_tokens got = encode(t, text, 0);
    for (size_t i = 0, k = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)parts[i].size, parts[i].data);
        infer_token id = tiny_id(v, name);
        for (size_t b = 0; id < 0 && b < parts[i].size; b++) { /* a character of bytes */
            snprintf(name, sizeof name, "<0x%02X>", (uint8_t)parts[i].data[b]);
            assert_true(k < got.size);
            assert_int_equal(got.data[k++], tiny_id(v, name));
        }
        if (id >= 0) {
            assert_true(k < got.size);
            assert_int_equal(got.data[k++], id);
        }
        if (i + 1 == n)
            assert_int_equal(k, got.size);
    }
    base_array_release(&base_alloc_default, &got);
}

static void check_random_words(struct tiny_vocab *v, const char *space, int max_chars)
{
    static const char *const chars[] = {"h", "e", "l", "o", "a", "b", "c", "x", "y", "z", " "};
    struct text_tokenizer *t = create(&v->vocab);
    size_t n_chars = v->vocab.kind == TEXT_SPM ? BASE_COUNT(chars) : BASE_COUNT(chars) - 1;
    uint64_t seed = 7;
    for (int round = 0; round < 600; round++) {
        char text[1024] = "", spelled[3072] = "";
        size_t n = test_rand(&seed) % (uint32_t)max_chars + 1;
        if (v->vocab.kind == TEXT_SPM)
            strcpy(spelled, space); /* the prefix */
        for (size_t i = 0; i < n; i++) {
            const char *c = chars[test_rand(&seed) % n_chars];
            strcat(text, c);
            strcat(spelled, *c == ' ' ? space : c);
        }
        check_plainly(t, v, spelled, (struct base_view){text, strlen(text)});
    }
    text_tokenizer_destroy(&t);
}

static void test_against_definition(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    check_random_words(&tiny, "\xC4\xA0", 20);  /* the loop for short words */
    check_random_words(&tiny, "\xC4\xA0", 300); /* the heap */
    tiny_spm(&tiny, 1);
    check_random_words(&tiny, "\xE2\x96\x81", 20);
    check_random_words(&tiny, "\xE2\x96\x81", 300);
    /* A token that goes on after a word: words are no longer independent. */
    tiny_add(&tiny, "o\xE2\x96\x81", TEXT_TOKEN_NORMAL, -0.5f);
    tiny_add(&tiny, "o\xE2\x96\x81h", TEXT_TOKEN_NORMAL, -0.25f);
    check_random_words(&tiny, "\xE2\x96\x81", 20);
    check_random_words(&tiny, "\xE2\x96\x81", 300);
    for (size_t i = 0; i < tiny.vocab.n_tokens; i++) /* all equal: leftmost first */
        tiny.scores[i] = -1;
    check_random_words(&tiny, "\xE2\x96\x81", 300);
}

/* The same word many times over: what the memory of words gives back must be the same. */
static void test_repeated_words(void **state)
{
    (void)state;
    tiny_bpe(&tiny);
    struct text_tokenizer *t = create(&tiny.vocab);
    static const char *const words[] = {"hello", " hello", " abc", " ooooo", "\n", " h\xC3\xA9"};
    char text[65536] = "";
    size_t size = 0, n = 0;
    infer_token *expected = calloc(sizeof text, sizeof *expected);
    assert_non_null(expected);
    uint64_t seed = 3;
    while (size + 8 < sizeof text) {
        const char *word = words[1 + test_rand(&seed) % (BASE_COUNT(words) - 1)];
        struct base_view view = {word, strlen(word)};
        if (*word == '\n' && size && text[size - 1] == '\n')
            continue; /* two line ends are one word */
        text_tokens alone = encode(t, view, 0);
        memcpy(expected + n, alone.data, alone.size * sizeof *expected);
        n += alone.size;
        memcpy(text + size, word, view.size);
        size += view.size;
        base_array_release(&base_alloc_default, &alone);
    }
    text_tokens got = encode(t, (struct base_view){text, size}, 0);
    assert_int_equal(got.size, n);
    assert_memory_equal(got.data, expected, n * sizeof *expected);
    base_array_release(&base_alloc_default, &got);
    free(expected);
    text_tokenizer_destroy(&t);
}

static void test_megabyte_words(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    static const char fills[] = {'o', 'a', ' ', '<', '\xE2', '\xFF'};
    char *text = malloc(SIZE);
    assert_non_null(text);
    for (int kind = TEXT_SPM; kind <= TEXT_BPE; kind++) {
        kind == TEXT_SPM ? tiny_spm(&tiny, 1) : tiny_bpe(&tiny);
        struct text_tokenizer *t = create(&tiny.vocab);
        for (size_t i = 0; i < sizeof fills; i++) {
            memset(text, fills[i], SIZE);
            text_tokens ids = encode(t, (struct base_view){text, SIZE}, TEXT_ENCODE_SPECIAL);
            size_t bytes = 0;
            for (size_t k = 0; k < ids.size; k++)
                bytes += text_tokenizer_piece(t, ids.data[k], 1, NULL, 0);
            assert_int_equal(bytes, SIZE + (kind == TEXT_SPM));
            base_array_release(&base_alloc_default, &ids);
        }
        text_tokenizer_destroy(&t);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe_words),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_spm_words),
        cmocka_unit_test(test_spm_without_bytes),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_missing_bytes),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_against_definition),
        cmocka_unit_test(test_repeated_words),
        cmocka_unit_test(test_megabyte_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
