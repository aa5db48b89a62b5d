/* What a generation can be asked for beside its tokens: a least length, and the alternatives of
 * each token of the prompt. */
#include "support/engine.h"

#include <math.h>

#define QUESTION "What day comes after Monday?"

static infer_request_options question(const infer_message *message)
{
    return (infer_request_options){
        .struct_size = sizeof(infer_request_options), .messages = message, .n_messages = 1};
}

static void ask(struct engine *e, const infer_request_options *o, struct engine_answer *out)
{
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, o));
    engine_collect(request, out);
    assert_int_equal(out->status, INFER_OK);
}

/* Greedy tokens where end tokens have no chance, by the logits of whole prompts. */
static infer_token best_but_ends(struct engine *e, const infer_token *tokens, size_t n)
{
    const infer_tokenizer *t = infer_model_tokenizer(e->model);
    infer_tokenizer_info info = {.struct_size = sizeof info};
    infer_token best = -1;
    float *logits = engine_logits(e, tokens, n);
    infer_tokenizer_get_info(t, &info);
    for (infer_token i = 0; i < info.n_tokens; i++)
        if (!infer_tokenizer_is_end(t, i) && (best < 0 || logits[i] > logits[best]))
            best = i;
    free(logits);
    return best;
}

static void test_min_tokens(void **state)
{
    struct engine e;
    struct engine_answer plain, longer;
    infer_message message = {.role = "user", .content = QUESTION};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = question(&message);
    infer_token tokens[400];
    infer_request *request = NULL;
    size_t n;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    o.sampling = &greedy;
    o.logprobs = 1;
    ask(&e, &o, &plain);
    assert_int_equal(plain.finish, INFER_FINISH_STOP);
    assert_true(plain.n > 1 && plain.n < 40);
    o.min_tokens = (int64_t)plain.n; /* as many as it had: nothing changes */
    ask(&e, &o, &longer);
    assert_int_equal(longer.n, plain.n);
    assert_memory_equal(longer.tokens, plain.tokens, plain.n * sizeof *plain.tokens);
    engine_answer_free(&longer);
    o.min_tokens = (int64_t)plain.n + 5;
    ask(&e, &o, &longer);
    assert_true(longer.n >= plain.n + 5);
    assert_memory_equal(longer.tokens, plain.tokens, plain.n * sizeof *plain.tokens);
    for (size_t i = 0; i < plain.n; i++) /* masks change no log-probability */
        assert_true(longer.logprobs[i] == plain.logprobs[i]);
    o.prefill_only = 1;
    o.min_tokens = 0;
    assert_ok(infer_session_submit(&request, e.session, &o));
    const infer_token *prompt = infer_request_prompt(request, &n);
    memcpy(tokens, prompt, n * sizeof *tokens);
    infer_request_destroy(&request);
    for (size_t i = 0; i < plain.n + 5; i++) {
        assert_int_equal(longer.tokens[i], best_but_ends(&e, tokens, n));
        tokens[n++] = longer.tokens[i];
    }
    engine_answer_free(&longer);
    engine_answer_free(&plain);
    engine_close(&e);
}

static void test_min_tokens_sampled(void **state)
{
    struct engine e;
    infer_message message = {.role = "user", .content = QUESTION};
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1.5f};
    infer_request_options o = question(&message);
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    o.sampling = &sampling;
    o.min_tokens = 30;
    o.max_tokens = 50;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct engine_answer answer;
        sampling.seed = seed;
        sampling.top_k = seed % 2 ? 3 : 0;
        ask(&e, &o, &answer);
        assert_true(answer.n >= 30);
        for (size_t i = 0; i < 30; i++)
            assert_false(infer_tokenizer_is_end(infer_model_tokenizer(e.model), answer.tokens[i]));
        engine_answer_free(&answer);
    }
    engine_close(&e);
}

static void test_stop_strings_wait(void **state)
{
    static const char *const stop[] = {"day"};
    struct engine e;
    struct engine_answer plain, longer;
    infer_message message = {.role = "user", .content = QUESTION};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = question(&message);
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    o.sampling = &greedy;
    o.max_tokens = 30;
    o.min_tokens = 25;
    ask(&e, &o, &plain);
    assert_non_null(strstr(plain.text, "day"));
    o.stop = stop;
    o.n_stop = 1;
    ask(&e, &o, &longer);
    assert_true(longer.n >= 25);
    assert_non_null(strstr(longer.text, "day")); /* released before it could stop anything */
    engine_answer_free(&longer);
    o.min_tokens = 0;
    ask(&e, &o, &longer);
    assert_int_equal(longer.finish, INFER_FINISH_STOP);
    assert_null(strstr(longer.text, "day"));
    engine_answer_free(&longer);
    engine_answer_free(&plain);
    engine_close(&e);
}

static void test_grammars_wait(void **state)
{
    struct engine e;
    struct engine_answer answer;
    infer_grammar *g = NULL;
    infer_grammar_options grammar = {
        .struct_size = sizeof grammar, .kind = INFER_GRAMMAR_REGEX, .text = "[a-z ]*"};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = {.struct_size = sizeof o, .prompt = "Once upon", .max_tokens = 60};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_grammar_create(&g, &grammar));
    o.sampling = &greedy;
    o.grammar = g;
    o.min_tokens = 40;
    ask(&e, &o, &answer);
    assert_true(answer.n >= 40);
    engine_answer_free(&answer);
    infer_grammar_destroy(&g);
    grammar.text = "yes|no"; /* nothing may follow: it ends all the same */
    assert_ok(infer_grammar_create(&g, &grammar));
    o.grammar = g;
    ask(&e, &o, &answer);
    assert_int_equal(answer.finish, INFER_FINISH_STOP);
    assert_true(strcmp(answer.text, "yes") == 0 || strcmp(answer.text, "no") == 0);
    engine_answer_free(&answer);
    infer_grammar_destroy(&g);
    engine_close(&e);
}

/* A fork owes what its source had not said. */
static void test_forks_owe_the_rest(void **state)
{
    struct engine e;
    struct engine_answer answer;
    infer_message message = {.role = "user", .content = QUESTION};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = question(&message);
    infer_request *source = NULL, *forks[2] = {NULL, NULL};
    infer_event event = {.struct_size = sizeof event};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    o.sampling = &greedy;
    o.min_tokens = 40;
    o.max_tokens = 41;
    assert_ok(infer_session_submit(&source, e.session, &o));
    for (int i = 0; i < 10; i++)
        assert_ok(infer_request_next(source, &event));
    assert_ok(infer_request_fork(&forks[0], source, NULL));
    engine_collect(forks[0], &answer);
    assert_true(answer.n >= 30);
    engine_answer_free(&answer);
    infer_request_destroy(&source);
    engine_close(&e);
}

static void check_tops(struct engine *e, const infer_token *tokens, size_t n, int32_t k)
{
    infer_request_options o = {.struct_size = sizeof o, .tokens = tokens, .n_tokens = n};
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    size_t n_top, n_logprobs;
    o.prefill_only = 1;
    o.n_prompt_top_logprobs = k;
    assert_ok(infer_session_submit(&request, e->session, &o));
    assert_null(infer_request_prompt_top_logprobs(request, &n_top));
    assert_int_equal(n_top, 0);
    assert_ok(infer_request_next(request, &event));
    const infer_top_logprob *top = infer_request_prompt_top_logprobs(request, &n_top);
    const float *logprobs = infer_request_prompt_logprobs(request, &n_logprobs);
    assert_int_equal(n_top, n);
    assert_int_equal(n_logprobs, n);
    for (int32_t i = 0; i < k; i++)
        assert_int_equal(top[i].token, -1);
    for (size_t at = 1; at < n; at++) {
        infer_request_options one = {.struct_size = sizeof one, .tokens = tokens, .n_tokens = at};
        infer_request *next = NULL;
        one.max_tokens = 1;
        one.ignore_eos = 1;
        one.n_top_logprobs = k;
        assert_ok(infer_session_submit(&next, e->session, &one));
        assert_ok(infer_request_next(next, &event));
        for (int32_t i = 0; i < k; i++) {
            const infer_top_logprob *t = &top[at * (size_t)k + (size_t)i];
            assert_int_equal(t->token, event.top[i].token);
            assert_true(fabs((double)(t->logprob - event.top[i].logprob)) < 1e-5);
            if (t->token == tokens[at])
                assert_true(t->logprob == logprobs[at]);
        }
        infer_request_destroy(&next);
    }
    infer_request_destroy(&request);
}

static void test_prompt_tops(void **state)
{
    static const struct engine_setup setups[] = {{.n_threads = 1},
                                                 {.n_threads = 2, .step_tokens = 3}};
    infer_token tokens[24];
    uint64_t random = 3;
    (void)state;
    for (size_t i = 0; i < 24; i++)
        tokens[i] = (infer_token)(test_rand(&random) % 500 + 300);
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        struct engine e;
        engine_open(&e, test_source(TINY_MODEL), &setups[i]);
        check_tops(&e, tokens, 24, 1);
        check_tops(&e, tokens, 24, 64);
        engine_close(&e);
    }
}

static void test_refusals(void **state)
{
    struct engine e;
    infer_request *request = NULL;
    infer_request_options o = {.struct_size = sizeof o, .prompt = "x"};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    o.min_tokens = -1;
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_INVALID);
    o.min_tokens = 5;
    o.max_tokens = 4;
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "min_tokens is 5"));
    o.min_tokens = 0;
    o.n_prompt_top_logprobs = 65;
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_INVALID);
    o.n_prompt_top_logprobs = -1;
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_INVALID);
    assert_null(infer_request_prompt_top_logprobs(NULL, NULL));
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_min_tokens),         cmocka_unit_test(test_min_tokens_sampled),
        cmocka_unit_test(test_stop_strings_wait),  cmocka_unit_test(test_grammars_wait),
        cmocka_unit_test(test_forks_owe_the_rest), cmocka_unit_test(test_prompt_tops),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("generation", tests, NULL, NULL);
}
