/* Which tokens are scored where prompt and continuation meet, on vocabularies of real models: a
 * sentence cut at many places, against lm-evaluation-harness's rule written out here over tokens
 * that are encoded and scored by themselves. The models are random; the numbers are exact. */
#include "support/engine.h"
#include "support/hf_folder.h"

#define DIM        8
#define TOKENS_MAX 256

static const char sentence[] =
    "Q: Is the internationalization of tokenizers unbelievable?  \n\nA: Yes,\xc2\xa0\xe3\x80\x80"
    "12345 times unquestionably-so: caf\xc3\xa9s don't re-open\t \x1c overnight, nevertheless "
    "everything's underway.";

/* ------------------------------------------------------------------ the models */

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);
    uint64_t seed = 3;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)(test_rand(&seed) % 2000) / 1000 - 1);
    return x;
}

static void write_model(struct hf_folder *f, const char *tokenizer, int64_t n_vocab)
{
    char config[512];
    float *x = numbers((size_t)n_vocab * DIM);
#define ROWS(name, n)                                                                              \
    {                                                                                              \
        name, "F32", {n, DIM, -1}, x, (size_t)(n)*DIM * sizeof *x                                  \
    }
#define ONES(name)                                                                                 \
    {                                                                                              \
        name, "F32", {DIM, -1}, x, DIM * sizeof *x                                                 \
    }
    const struct hf_tensor tensors[] = {
        ROWS("model.embed_tokens.weight", n_vocab),
        ROWS("lm_head.weight", n_vocab),
        ONES("model.norm.weight"),
        ONES("model.layers.0.input_layernorm.weight"),
        ONES("model.layers.0.post_attention_layernorm.weight"),
        ROWS("model.layers.0.self_attn.q_proj.weight", 8),
        ROWS("model.layers.0.self_attn.k_proj.weight", 4),
        ROWS("model.layers.0.self_attn.v_proj.weight", 4),
        ROWS("model.layers.0.self_attn.o_proj.weight", 8),
        ROWS("model.layers.0.mlp.gate_proj.weight", 8),
        ROWS("model.layers.0.mlp.up_proj.weight", 8),
        ROWS("model.layers.0.mlp.down_proj.weight", 8),
    };
    snprintf(config, sizeof config,
             "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
             "\"hidden_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
             "\"num_key_value_heads\": 1, \"intermediate_size\": 8, \"rms_norm_eps\": 1e-6, "
             "\"vocab_size\": %lld, \"max_position_embeddings\": 512}",
             (long long)n_vocab);
    hf_folder_make(f);
    hf_folder_text(f, "config.json", config);
    hf_folder_link(f, "tokenizer.json", test_data(tokenizer));
    hf_folder_tensors(f, "model.safetensors", tensors, sizeof tensors / sizeof *tensors);
    free(x);
}

/* ------------------------------------------------------------------- the rule */

/* str.rstrip() of Python. */
static size_t rstrip(const char *text, size_t n)
{
    static const char *const spaces[] = {" ", "\t", "\n", "\x1c", "\xc2\xa0", "\xe3\x80\x80"};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        size_t size = strlen(spaces[i]);
        if (n >= size && memcmp(text + n - size, spaces[i], size) == 0) {
            n -= size;
            i = SIZE_MAX; /* from the first again */
        }
    }
    return n;
}

static size_t encode(struct engine *e, const char *text, size_t size, infer_token *out)
{
    size_t n = TOKENS_MAX;
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e->model), text, size, NULL, out, &n));
    return n;
}

/* _encode_pair(): the context's own tokens, then whole[len(context):]. */
struct pair {
    infer_token context[TOKENS_MAX], whole[TOKENS_MAX];
    size_t n_context, n_whole;
};

static void encode_pair(struct engine *e, const char *text, size_t cut, struct pair *p)
{
    p->n_context = encode(e, text, rstrip(text, cut), p->context);
    p->n_whole = encode(e, text, strlen(text), p->whole);
}

static infer_score score_tokens(struct engine *e, const infer_token *context, size_t n_context,
                                const infer_token *more, size_t n_more)
{
    infer_request_options o = {.struct_size = sizeof o, .tokens = context, .n_tokens = n_context};
    infer_continuation c = {.tokens = more, .n_tokens = n_more};
    infer_score score;
    assert_ok(infer_session_score(&score, e->session, NULL, &c, 1, &o));
    return score;
}

/* Prompts and continuations as texts, cut there. */
static infer_status score_texts(struct engine *e, const char *text, size_t cut, int harness,
                                infer_score *score)
{
    infer_request_options o = {
        .struct_size = sizeof o, .prompt = text, .prompt_size = cut, .harness_border = harness};
    infer_continuation c = {.text = text + cut};
    return infer_session_score(score, e->session, NULL, &c, 1, &o);
}

static void check_equal(const infer_score *a, const infer_score *b, size_t cut)
{
    if (a->n_tokens != b->n_tokens || a->logprob != b->logprob || a->is_greedy != b->is_greedy)
        fail_msg("cut at %zu: %lld tokens, %.9g, expected %lld, %.9g", cut, (long long)a->n_tokens,
                 a->logprob, (long long)b->n_tokens, b->logprob);
}

static void check_vocabulary(const char *tokenizer, int64_t n_vocab, size_t step)
{
    struct hf_folder f;
    struct engine e;
    static struct pair p;
    int n_plain = 0, n_across = 0, n_none = 0, n_spaces = 0;
    write_model(&f, tokenizer, n_vocab);
    engine_open(&e, f.path, &(struct engine_setup){.n_threads = 1});
    for (size_t cut = 1; cut + 1 < sizeof sentence; cut += step) {
        infer_score whole, harness, expected;
        if ((sentence[cut] & 0xC0) == 0x80)
            continue; /* characters stay whole, as Python's do */
        encode_pair(&e, sentence, cut, &p);
        size_t same = 0;
        while (same < p.n_context && same < p.n_whole && p.context[same] == p.whole[same])
            same++;
        n_spaces += rstrip(sentence, cut) < cut;
        /* Behind the first token that differs all of the whole text's own. */
        assert_ok(score_texts(&e, sentence, cut, 0, &whole));
        expected = score_tokens(&e, p.whole, same, p.whole + same, p.n_whole - same);
        check_equal(&whole, &expected, cut);
        infer_status st = score_texts(&e, sentence, cut, 1, &harness);
        if (p.n_whole <= p.n_context) { /* the harness asserts that something is left */
            assert_int_equal(st, INFER_ERR_INVALID);
            assert_non_null(strstr(infer_last_error(), "adds no token"));
            n_none++;
            continue;
        }
        assert_int_equal(st, INFER_OK);
        expected = score_tokens(&e, p.context, p.n_context, p.whole + p.n_context,
                                p.n_whole - p.n_context);
        check_equal(&harness, &expected, cut);
        if (same == p.n_context)
            check_equal(&harness, &whole, cut);
        else
            assert_true(harness.logprob != whole.logprob);
        n_plain += same == p.n_context;
        n_across += same < p.n_context;
    }
    print_message("# %s: %d cuts between tokens, %d within one, %d that leave none\n", tokenizer,
                  n_plain, n_across, n_none);
    assert_true(n_plain > 14 && n_across > 14 && n_spaces > 4);
    engine_close(&e);
    hf_folder_remove(&f);
}

static void test_phi3(void **state)
{
    (void)state;
    check_vocabulary("tokenizers/phi-3-mini/tokenizer.json", 32064, 2);
}

static void test_falcon(void **state)
{
    (void)state;
    check_vocabulary("tokenizers/falcon/tokenizer.json", 65024, 3);
}

/* One that can be followed by hand: " unbe" + "lievable" on GPT-2's merges, as Falcon's are. */
static void test_by_hand(void **state)
{
    (void)state;
    static const char text[] = "It is unbelievable";
    struct hf_folder f;
    struct engine e;
    struct pair p;
    infer_score score, expected;
    write_model(&f, "tokenizers/falcon/tokenizer.json", 65024);
    engine_open(&e, f.path, &(struct engine_setup){.n_threads = 1});
    encode_pair(&e, text, strlen("It is unbe"), &p);
    assert_int_equal(p.n_whole, 3); /* It, is, unbelievable: one token spans the border */
    assert_true(p.n_context >= 3 && p.context[2] != p.whole[2]);
    assert_ok(score_texts(&e, text, strlen("It is unbe"), 0, &score));
    assert_int_equal(score.n_tokens, 1);
    expected = score_tokens(&e, p.whole, 2, p.whole + 2, 1);
    check_equal(&score, &expected, 0);
    assert_int_equal(score_texts(&e, text, strlen("It is unbe"), 1, &score), INFER_ERR_INVALID);
    engine_close(&e);
    hf_folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_falcon),
        cmocka_unit_test(test_by_hand),
    };
    return cmocka_run_group_tests_name("border", tests, NULL, NULL);
}
