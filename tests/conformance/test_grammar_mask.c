/* The set of tokens that a grammar allows, against stepping through every token's bytes, at
 * random places of random texts, on the vocabularies of real models. */
#include "support/test.h"

#include "unit/grammar_run.h"

#include "model/hf_tokenizer.h"
#include "model/vocab.h"
#include "text/pieces.h"

#define PLACES 24

static const struct {
    int how;
    const char *grammar;
} grammars[] = {
    {READ_SCHEMA, "{\"type\":\"object\"}"},
    {READ_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":"
     "20},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150}},\"required\":"
     "[\"name\"]}"},
    {READ_SCHEMA,
     "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[a-z]+( [a-z]+)"
     "*$\",\"minLength\":8}}"},
    {READ_SCHEMA,
     "{\"enum\":[\"caf\\u00e9\",\"\\u65e5\\u672c\\u8a9e\",\"yes\",\"yesterday\",12,-12."
     "5]}"},
    {READ_REGEX, "[\\w.-]{3,40}@\\w+\\.(com|org)|[^\\x00-\\x7f]{2,9}"},
    {READ_GBNF, "root ::= (line \"\\n\")+\nline ::= [^\\n]{0,40} | \"- \" line"},
    {READ_GBNF, "root ::= e\ne ::= t ([-+*/] t)*\nt ::= [0-9]{1,3} | [a-zA-Z_]+ | \"(\" e \")\""},
};

struct opened {
    struct gguf_file *file;
    struct model_vocab *vocab;
    const struct text_tokenizer *tokenizer;
};

static void open_vocab(struct opened *o, const char *name)
{
    struct gguf_draft *d = NULL;
    const char *path = test_data(name);
    assert_ok(gguf_draft_create(&d, &base_alloc_default, path));
    assert_ok(model_tokenizer_file(d, &base_alloc_default, path));
    assert_ok(gguf_draft_finish(&d, &o->file));
    assert_ok(model_vocab_load(&o->vocab, &base_alloc_default, o->file));
    o->tokenizer = model_vocab_tokenizer(o->vocab);
}

/* Whether a token may follow, by its bytes alone. */
static int may_follow(struct grammar_matcher *m, infer_token token)
{
    struct base_view piece = text_tokenizer_piece_view(m->tokenizer, token, 0);
    uint32_t state = m->state;
    if (!piece.size || piece.size > 255 || text_tokenizer_is_end(m->tokenizer, token) ||
        text_vocab_type(text_tokenizer_vocab(m->tokenizer), (size_t)token) == TEXT_TOKEN_UNUSED)
        return 0;
    for (size_t i = 0; i < piece.size && state != GRAMMAR_DEAD; i++)
        state = grammar_machine_step(m->machine, state, (uint8_t)piece.data[i]);
    return state != GRAMMAR_DEAD;
}

/* Compares all tokens; returns how many are allowed. */
static size_t check_mask(struct grammar_matcher *m)
{
    uint32_t n = 0;
    size_t allowed = 0, n_tokens = grammar_matcher_tokens(m);
    const uint64_t *mask = grammar_machine_mask(m->machine, m->state, &n);
    assert_non_null(mask);
    for (size_t i = 0; i < n_tokens; i++) {
        int expected = may_follow(m, (infer_token)i);
        allowed += (size_t)expected;
        if (text_token_set_has(mask, (infer_token)i) != expected)
            fail_msg("token %zu after \"%s\": %d expected", i, m->text.data ? m->text.data : "",
                     expected);
    }
    assert_int_equal(n, allowed);
    return allowed;
}

/* One of the allowed tokens, or -1. */
static infer_token pick(struct grammar_matcher *m, uint64_t *seed)
{
    const uint64_t *mask;
    size_t n;
    assert_ok(grammar_matcher_mask(m, &mask, &n));
    size_t at = test_rand(seed) % n;
    for (size_t i = 0; i < grammar_matcher_tokens(m); i++)
        if (text_token_set_has(mask, (infer_token)i) && at-- == 0)
            return text_tokenizer_is_end(m->tokenizer, (infer_token)i) ? -1 : (infer_token)i;
    return -1;
}

static size_t follow(struct infer_grammar *g, const struct text_tokenizer *tokenizer,
                     uint64_t *seed, size_t places)
{
    struct grammar_matcher m;
    size_t n = 0;
    assert_ok(grammar_matcher_init(&m, &base_alloc_default, g, tokenizer));
    for (; n < places; n++) {
        int accepts, more;
        assert_ok(grammar_matcher_look(&m, &accepts, &more));
        size_t allowed = check_mask(&m);
        assert_true(allowed > 0 || !more);
        assert_int_equal(accepts, grammar_machine_accepts(m.machine, m.state));
        if (!more)
            break;
        infer_token token = pick(&m, seed);
        if (token < 0)
            break;
        assert_true(may_follow(&m, token)); /* forced ones too */
        assert_ok(grammar_matcher_push_token(&m, token));
    }
    grammar_matcher_release(&m);
    return n + 1;
}

static void check_vocab(const char *name)
{
    struct opened o;
    size_t places = 0;
    uint64_t seed = 7;
    open_vocab(&o, name);
    for (size_t i = 0; i < BASE_COUNT(grammars); i++) {
        struct infer_grammar *g = NULL;
        assert_ok(grammar_make(&g, grammars[i].how, grammars[i].grammar));
        for (size_t n = 0; n < PLACES;)
            n += follow(g, o.tokenizer, &seed, PLACES - n);
        places += PLACES;
        grammar_release(&g);
    }
    print_message("# %s: %zu tokens at %zu places\n", name,
                  text_tokenizer_vocab(o.tokenizer)->n_tokens, places);
    model_vocab_destroy(&o.vocab);
    gguf_close(&o.file);
}

/* ------------------------------------------------------------------ replaying */

/* A text of one word that is looked ahead into in several pieces, cut somewhere inside tokens. */
static struct infer_grammar *long_word(void)
{
    enum { SIZE = 9000 };
    static char text[SIZE + 40];
    struct infer_grammar *g = NULL;
    uint64_t seed = 11;
    int n = snprintf(text, sizeof text, "root ::= \"");
    for (int i = 0; i < SIZE; i++)
        text[n++] = "etaoinshrdlu"[test_rand(&seed) % 12];
    memcpy(text + n, "\"", 2);
    assert_ok(grammar_make(&g, READ_GBNF, text));
    return g;
}

/* A matcher that is told the first n tokens, and then must give all others. Returns how many it
 * gives differently. */
static size_t differences(struct infer_grammar *g, const struct text_tokenizer *t,
                          const text_tokens *tokens, size_t n, int replay)
{
    struct grammar_matcher m;
    size_t n_different = 0;
    assert_ok(grammar_matcher_init(&m, &base_alloc_default, g, t));
    for (size_t i = 0; i < tokens->size; i++) {
        infer_token token = tokens->data[i], forced = token;
        if (i >= n)
            assert_ok(grammar_matcher_forced(&m, &forced));
        n_different += forced != token;
        assert_ok(i < n && replay ? grammar_matcher_replay(&m, token)
                                  : grammar_matcher_push_token(&m, token));
    }
    grammar_matcher_release(&m);
    return n_different;
}

/* Whoever goes on from an answer's tokens is asked for the same ones as who said them. */
static void test_replay(void **state)
{
    (void)state;
    struct opened o;
    struct grammar_matcher m;
    struct infer_grammar *g = long_word();
    text_tokens tokens = {0};
    size_t n_pushed = 0;
    infer_token token;
    open_vocab(&o, "tokenizers/tiktoken/cl100k_base.tiktoken");
    assert_ok(grammar_matcher_init(&m, &base_alloc_default, g, o.tokenizer));
    for (;;) {
        assert_ok(grammar_matcher_forced(&m, &token));
        if (token < 0)
            break;
        assert_ok(base_array_reserve(&base_alloc_default, &tokens, 1));
        tokens.data[tokens.size++] = token;
        assert_ok(grammar_matcher_push_token(&m, token));
    }
    assert_true(tokens.size > 2000);
    for (size_t n = 1; n < tokens.size; n += 37) {
        assert_int_equal(differences(g, o.tokenizer, &tokens, n, 1), 0);
        n_pushed += differences(g, o.tokenizer, &tokens, n, 0) > 0;
    }
    assert_true(n_pushed > 0); /* without asking at each place it is not so */
    base_array_release(&base_alloc_default, &tokens);
    grammar_matcher_release(&m);
    grammar_release(&g);
    model_vocab_destroy(&o.vocab);
    gguf_close(&o.file);
}

static void test_o200k(void **state)
{
    (void)state;
    check_vocab("tokenizers/tiktoken/o200k_base.tiktoken");
}

static void test_cl100k(void **state)
{
    (void)state;
    check_vocab("tokenizers/tiktoken/cl100k_base.tiktoken");
}

static void test_llama2(void **state)
{
    (void)state;
    check_vocab("tokenizers/llama2/tokenizer.model");
}

static void test_phi3(void **state)
{
    (void)state;
    check_vocab("tokenizers/phi-3-mini/tokenizer.json");
}

static void test_falcon(void **state)
{
    (void)state;
    check_vocab("tokenizers/falcon/tokenizer.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_o200k), cmocka_unit_test(test_cl100k), cmocka_unit_test(test_llama2),
        cmocka_unit_test(test_phi3),  cmocka_unit_test(test_falcon), cmocka_unit_test(test_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
