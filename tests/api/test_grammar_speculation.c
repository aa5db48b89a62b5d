/* Speculation under a grammar: n-grams, a draft model, right and wrong drafts of any kind. Answers
 * against those without, to the last bit, and what drafts win where tokens are forced. */
#include "support/engine.h"

#include "engine/session.h"

#define SCHEMA                                                                                     \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":"       \
    "\"string\",\"maxLength\":9},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"    \
    "\"favourite_city\":{\"enum\":[\"Rome\",\"Bern\"]}},\"required\":[\"name\",\"age\","           \
    "\"favourite_city\"],\"additionalProperties\":false},\"minItems\":2,\"maxItems\":4}"
#define REGEX "((yes|no), because of (rain|snow|the long and winding road) [0-9]{3}\\. ){2,5}"
#define FREE  "[a-zA-Z ,.]*"

static const struct {
    infer_grammar_kind kind;
    const char *text;
} grammars[] = {
    {INFER_GRAMMAR_JSON_SCHEMA, SCHEMA}, {INFER_GRAMMAR_REGEX, REGEX}, {INFER_GRAMMAR_REGEX, FREE}};
#define N_GRAMMARS (int)(sizeof grammars / sizeof *grammars)

/* Quotes what both grammars repeat. */
static const char prompt[] =
    "Like [{\"name\": \"Ann\", \"age\": 30, \"favourite_city\": \"Rome\"}, {\"name\": \"Ann\", "
    "\"age\": 30, \"favourite_city\": \"Rome\"}], or yes, because of rain 111. no, because of rain "
    "111. Now: ";

static infer_grammar *make(int i)
{
    infer_grammar_options o = {
        .struct_size = sizeof o, .kind = grammars[i].kind, .text = grammars[i].text};
    infer_grammar *grammar = NULL;
    if (infer_grammar_create(&grammar, &o) != INFER_OK)
        fail_msg("grammar %d: %s", i, infer_last_error());
    return grammar;
}

enum { JUMP, WALK, REPORT, N_WAYS };

/* What a request is, by its number; speculation aside. */
static infer_request_options options_of(const infer_grammar *grammar, infer_sampling *sampling,
                                        int number)
{
    const int way = number % N_WAYS;
    *sampling = (infer_sampling){.struct_size = sizeof *sampling,
                                 .temperature = number % 4 ? 0.4f * (float)(number % 4) : 0,
                                 .seed = (uint64_t)number};
    sampling->repetition_penalty = number % 5 == 4 ? 1.2f : 1;
    return (infer_request_options){.struct_size = sizeof(infer_request_options),
                                   .prompt = prompt,
                                   .sampling = sampling,
                                   .grammar = grammar,
                                   .disable_jump_ahead = way == WALK,
                                   .logprobs = way == REPORT,
                                   .n_top_logprobs = way == REPORT ? 2 : 0,
                                   .ignore_eos = number % 7 == 5,
                                   .min_tokens = number % 6 == 2 ? 30 : 0,
                                   .max_tokens = 40 + number % 50,
                                   .speculation = INFER_SPECULATION_OFF};
}

struct result {
    struct engine_answer answer;
    infer_request_info info;
    uint64_t n_steps;
};

static uint64_t steps_of(struct engine *e)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(e->session, &stats));
    return stats.n_steps;
}

static void run(struct engine *e, const infer_request_options *o, struct result *out)
{
    infer_request *request = NULL;
    uint64_t before = steps_of(e);
    if (infer_session_submit(&request, e->session, o) != INFER_OK)
        fail_msg("%s", infer_last_error());
    out->info = (infer_request_info){.struct_size = sizeof out->info};
    infer_status st = INFER_OK; /* the events are taken after the numbers */
    while (st == INFER_OK && !out->info.finish) {
        st = infer_session_step(e->session);
        assert_ok(infer_request_get_info(request, &out->info));
    }
    engine_collect(request, &out->answer);
    if (out->answer.status != INFER_OK)
        fail_msg("%s", out->answer.error);
    out->n_steps = steps_of(e) - before;
}

static void assert_equal(const struct engine_answer *a, const struct engine_answer *b)
{
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
    assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    assert_int_equal(a->finish, b->finish);
}

static void expect_unused(struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    assert_int_equal(kv.n_blocks_used, 0);
}

static void open_tiny(struct engine *e)
{
    engine_open(e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    e->session->draft.fixed = 1; /* whatever time a step takes here */
}

/* ------------------------------------------------------------------- n-grams */

static void test_ngrams(void **state)
{
    (void)state;
    struct engine e;
    int64_t n_drafted = 0, n_accepted = 0;
    uint64_t n_plain = 0, n_fast = 0;
    open_tiny(&e);
    for (int i = 0; i < N_GRAMMARS; i++) {
        infer_grammar *grammar = make(i);
        for (int number = 0; number < 36; number++) {
            struct result plain, fast;
            infer_sampling sampling;
            infer_request_options o = options_of(grammar, &sampling, number);
            run(&e, &o, &plain);
            assert_int_equal(plain.info.n_drafted_tokens, 0);
            o.speculation = INFER_SPECULATION_NGRAM;
            o.max_draft_tokens = 1 + number % 17;
            run(&e, &o, &fast);
            assert_equal(&plain.answer, &fast.answer);
            assert_true(fast.info.n_accepted_tokens <= fast.info.n_drafted_tokens);
            n_drafted += fast.info.n_drafted_tokens;
            n_accepted += fast.info.n_accepted_tokens;
            n_plain += plain.n_steps;
            n_fast += fast.n_steps;
            engine_answer_free(&plain.answer);
            engine_answer_free(&fast.answer);
        }
        infer_grammar_destroy(&grammar);
    }
    print_message("# %d drafted, %d right; %d steps instead of %d\n", (int)n_drafted,
                  (int)n_accepted, (int)n_fast, (int)n_plain);
    assert_true(n_accepted > 800 && n_fast < n_plain * 3 / 4);
    expect_unused(&e);
    engine_close(&e);
}

/* What must follow is drafted without having been there before, where every token is reported: the
 * rest of a text that only one can follow is one step's. */
static void test_forced(void **state)
{
    (void)state;
    struct engine e;
    struct result plain, fast;
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_grammar_options g = {.struct_size = sizeof g,
                               .kind = INFER_GRAMMAR_REGEX,
                               .text = "(I|You) shall say this whole sentence, word by word\\."};
    infer_grammar *grammar = NULL;
    open_tiny(&e);
    assert_ok(infer_grammar_create(&grammar, &g));
    infer_request_options o = options_of(grammar, &greedy, REPORT);
    o.sampling = &greedy;
    o.prompt = "Well?";
    run(&e, &o, &plain);
    o.speculation = INFER_SPECULATION_NGRAM;
    o.max_draft_tokens = 64;
    run(&e, &o, &fast);
    assert_equal(&plain.answer, &fast.answer);
    assert_true(plain.answer.n > 12);
    assert_int_equal(plain.n_steps, plain.answer.n);
    assert_true(fast.n_steps <= 4);
    assert_int_equal(fast.info.n_accepted_tokens, fast.info.n_drafted_tokens);
    engine_answer_free(&plain.answer);
    engine_answer_free(&fast.answer);
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

/* -------------------------------------------------------------- a draft model */

/* The model drafts for itself, under the grammar: no draft is ever wrong. */
static void test_draft_model(void **state)
{
    (void)state;
    struct engine e;
    infer_session *session = NULL;
    int64_t n_accepted = 0;
    open_tiny(&e);
    infer_session *plain_session = e.session;
    infer_session_options s = {
        .struct_size = sizeof s, .kv_cache = e.cache, .draft_model = e.model, .step_tokens = 64};
    assert_ok(infer_session_create(&session, e.model, &s));
    session->draft.fixed = 1;
    for (int i = 0; i < N_GRAMMARS; i++) {
        infer_grammar *grammar = make(i);
        for (int number = 0; number < 18; number++) {
            struct result plain, fast;
            infer_sampling sampling;
            infer_request_options o = options_of(grammar, &sampling, number);
            e.session = plain_session;
            run(&e, &o, &plain);
            e.session = session;
            o.speculation = INFER_SPECULATION_DEFAULT;
            run(&e, &o, &fast);
            assert_equal(&plain.answer, &fast.answer);
            assert_int_equal(fast.info.n_accepted_tokens, fast.info.n_drafted_tokens);
            assert_true(fast.info.n_drafted_tokens > 0 || plain.n_steps < 4);
            n_accepted += fast.info.n_accepted_tokens;
            engine_answer_free(&plain.answer);
            engine_answer_free(&fast.answer);
        }
        infer_grammar_destroy(&grammar);
    }
    assert_true(n_accepted > 600);
    infer_session_destroy(&session);
    e.session = plain_session;
    expect_unused(&e);
    engine_close(&e);
}

/* ----------------------------------------------------------- right and wrong */

/* Drafts out of the answer that will be, spoilt at random: tokens that the grammar forbids, other
 * ones, end tokens, control tokens. */
struct oracle {
    const struct engine_answer *answer;
    uint64_t seed;
    int percent; /* of tokens that are wrong */
    int32_t n_vocab;
};

static int32_t foretell(void *data, const struct infer_request *r, infer_token *out, int32_t n)
{
    struct oracle *x = data;
    int32_t said = (int32_t)r->tokens.size, k = 0;
    n = (int32_t)(test_rand(&x->seed) % (uint64_t)(n + 1));
    for (; k < n && (size_t)(said + k) < x->answer->n; k++) {
        out[k] = x->answer->tokens[said + k];
        if ((int)(test_rand(&x->seed) % 100) < x->percent)
            out[k] = (infer_token)(test_rand(&x->seed) % (uint64_t)x->n_vocab);
    }
    return k;
}

static void test_wrong_drafts(void **state)
{
    (void)state;
    struct engine e;
    int64_t n_drafted = 0, n_accepted = 0;
    open_tiny(&e);
    for (int i = 0; i < N_GRAMMARS; i++) {
        infer_grammar *grammar = make(i);
        for (int number = 0; number < 48; number++) {
            struct result plain, fast;
            infer_sampling sampling;
            infer_request_options o = options_of(grammar, &sampling, number);
            run(&e, &o, &plain);
            struct oracle oracle = {&plain.answer, (uint64_t)number + 1, 10 * (number % 10),
                                    e.model->hp.n_vocab};
            e.session->draft.hook = foretell;
            e.session->draft.hook_data = &oracle;
            o.speculation = INFER_SPECULATION_NGRAM;
            run(&e, &o, &fast);
            e.session->draft.hook = NULL;
            assert_equal(&plain.answer, &fast.answer);
            n_drafted += fast.info.n_drafted_tokens;
            n_accepted += fast.info.n_accepted_tokens;
            engine_answer_free(&plain.answer);
            engine_answer_free(&fast.answer);
        }
        infer_grammar_destroy(&grammar);
    }
    print_message("# %d drafted, %d right\n", (int)n_drafted, (int)n_accepted);
    assert_true(n_accepted > 1500 && n_accepted < n_drafted);
    expect_unused(&e);
    engine_close(&e);
}

/* What the grammar forbids is not even computed. */
static int32_t only_digits(void *data, const struct infer_request *r, infer_token *out, int32_t n)
{
    (void)r;
    for (int32_t i = 0; i < n; i++)
        out[i] = *(const infer_token *)data;
    return n;
}

static void test_forbidden(void **state)
{
    (void)state;
    struct engine e;
    struct result plain, fast;
    infer_sampling sampling;
    infer_token digit[8];
    size_t n = 8;
    open_tiny(&e);
    infer_grammar *grammar = make(2); /* letters alone */
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e.model), "7", 1, 0, digit, &n));
    infer_request_options o = options_of(grammar, &sampling, WALK);
    run(&e, &o, &plain);
    e.session->draft.hook = only_digits;
    e.session->draft.hook_data = &digit[n - 1];
    o.speculation = INFER_SPECULATION_NGRAM;
    run(&e, &o, &fast);
    assert_equal(&plain.answer, &fast.answer);
    assert_int_equal(fast.info.n_drafted_tokens, 0);
    engine_answer_free(&plain.answer);
    engine_answer_free(&fast.answer);
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

/* ------------------------------------------------------------------ together */

/* Many at once, forked, saved and preempted amid their drafts. */
static void test_together(void **state)
{
    enum { N = 12 };
    (void)state;
    struct engine e;
    struct result alone[N];
    infer_request *requests[N];
    infer_sampling sampling;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_grammar *grammar = make(0);
    open_tiny(&e);
    for (int i = 0; i < N; i++) {
        infer_request_options o = options_of(grammar, &sampling, i);
        run(&e, &o, &alone[i]);
    }
    assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
    engine_close(&e);
    struct engine_setup setup = {.n_threads = 1, .kv_budget_bytes = kv.block_bytes * 20};
    engine_open(&e, test_source(TINY_MODEL), &setup);
    e.session->draft.fixed = 1;
    for (int round = 1; round < 14; round += 3) {
        for (int i = 0; i < N; i++) {
            infer_request_options o = options_of(grammar, &sampling, i);
            o.speculation = INFER_SPECULATION_NGRAM;
            o.max_draft_tokens = 5;
            assert_ok(infer_session_submit(&requests[i], e.session, &o));
        }
        for (int i = 0; i < round; i++)
            infer_session_step(e.session);
        for (int i = 0; i < N; i += 3) { /* as if the process had ended */
            infer_restore_options o = {.struct_size = sizeof o, .grammar = grammar};
            infer_request_info info = {.struct_size = sizeof info};
            infer_request *restored = NULL;
            size_t size = 0;
            assert_ok(infer_request_get_info(requests[i], &info));
            if (info.finish)
                continue;
            assert_ok(infer_request_save_memory(requests[i], NULL, &size));
            void *bytes = malloc(size);
            assert_ok(infer_request_save_memory(requests[i], bytes, &size));
            infer_request_destroy(&requests[i]);
            assert_ok(infer_session_restore_memory(&restored, e.session, bytes, size, &o));
            requests[i] = restored;
            free(bytes);
        }
        for (int i = 0; i < N; i++) {
            struct engine_answer answer;
            engine_collect(requests[i], &answer);
            assert_int_equal(answer.status, INFER_OK);
            assert_equal(&answer, &alone[i].answer);
            engine_answer_free(&answer);
        }
        expect_unused(&e);
    }
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(e.session, &stats));
    print_message("# %d preempted, %d drafted, %d right\n", (int)stats.n_preempted,
                  (int)stats.n_drafted_tokens, (int)stats.n_accepted_tokens);
    assert_true(stats.n_preempted > 0 && stats.n_accepted_tokens > 100);
    for (int i = 0; i < N; i++)
        engine_answer_free(&alone[i].answer);
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ngrams),      cmocka_unit_test(test_forced),
        cmocka_unit_test(test_draft_model), cmocka_unit_test(test_wrong_drafts),
        cmocka_unit_test(test_forbidden),   cmocka_unit_test(test_together),
    };
    return cmocka_run_group_tests_name("grammar_speculation", tests, NULL, NULL);
}
