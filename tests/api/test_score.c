/* Scores of continuations and decisions between labels: against whole prompts scored alone, on
 * every kind of session, under grammars, with bad input. */
#include "support/engine.h"

#include <math.h>
#include <pthread.h>

#define PROMPT  "Passage: Hugo likes rice. Anna has a red kite. Question: What does Anna have?"
#define N_TEXTS 7

static const char *const texts[N_TEXTS] = {" A red kite.",
                                           " rice",
                                           " a",
                                           "\nAnna has a red kite.",
                                           "?",
                                           " Oslo.\n\n",
                                           " A red kite. Anna has it."};

static size_t encode(const struct engine *e, const char *text, infer_token *tokens, size_t capacity)
{
    size_t n = capacity;
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e->model), text, strlen(text), NULL,
                                     tokens, &n));
    return n;
}

/* Log-probabilities of tokens from..n-1 by a request of its own. */
static double sum_alone(struct engine *e, const infer_token *tokens, size_t n, size_t from)
{
    infer_request_options o = {.struct_size = sizeof o, .tokens = tokens, .n_tokens = n};
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    double sum = 0;
    o.prefill_only = o.prompt_logprobs = 1;
    assert_ok(infer_session_submit(&request, e->session, &o));
    assert_ok(infer_request_next(request, &event));
    const float *logprobs = infer_request_prompt_logprobs(request, &n);
    for (size_t i = from; i < n; i++)
        sum += (double)logprobs[i];
    infer_request_destroy(&request);
    return sum;
}

/* By the tokens of the whole text, from where they part from those of the bare prompt. */
static double expected_score(struct engine *e, const char *prompt, const char *text, size_t *n,
                             int *across)
{
    char whole[512];
    infer_token bare[200], all[200];
    size_t size = strlen(prompt), n_bare, n_all, same = 0;
    snprintf(whole, sizeof whole, "%s", prompt);
    while (size && strchr(" \t\r\n\v\f", whole[size - 1]))
        whole[--size] = 0;
    n_bare = encode(e, whole, bare, 200);
    snprintf(whole, sizeof whole, "%s%s", prompt, text);
    n_all = encode(e, whole, all, 200);
    while (same < n_bare && same < n_all && all[same] == bare[same])
        same++;
    *n = n_all - same;
    *across = same < n_bare;
    return sum_alone(e, all, n_all, same);
}

static void test_texts(void **state)
{
    static const char *const prompts[] = {PROMPT, PROMPT " ", PROMPT "\n \n", "Once upon a ti"};
    struct engine e;
    infer_continuation c[N_TEXTS] = {{0}};
    infer_score scores[N_TEXTS];
    int n_across = 0;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    for (size_t i = 0; i < N_TEXTS; i++)
        c[i].text = texts[i];
    c[3].text = "me there"; /* a word that the prompt begins */
    for (size_t p = 0; p < sizeof prompts / sizeof *prompts; p++) {
        assert_ok(infer_session_score(scores, e.session, prompts[p], c, N_TEXTS, NULL));
        for (size_t i = 0; i < N_TEXTS; i++) {
            size_t n;
            int across;
            double sum = expected_score(&e, prompts[p], c[i].text, &n, &across);
            assert_true(sum < 0 && scores[i].logprob == sum);
            assert_int_equal(scores[i].n_tokens, n);
            n_across += across;
            assert_int_equal(scores[i].n_bytes, strlen(c[i].text));
        }
    }
    assert_true(n_across > 0); /* "time" is one token */
    engine_close(&e);
}

/* Where no token reaches across the border, they are encode(prompt + text)[len(encode(prompt)):],
 * as lm-evaluation-harness has it. */
static void test_as_the_field(void **state)
{
    struct engine e;
    infer_token bare[200], all[200];
    infer_continuation c = {.text = " A red kite."};
    infer_score score;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    size_t n_bare = encode(&e, PROMPT, bare, 200), n = encode(&e, PROMPT " A red kite.", all, 200);
    assert_memory_equal(bare, all, n_bare * sizeof *bare);
    assert_ok(infer_session_score(&score, e.session, PROMPT, &c, 1, NULL));
    assert_int_equal(score.n_tokens, n - n_bare);
    assert_true(score.logprob == sum_alone(&e, all, n, n_bare));
    /* The same as tokens; text_size cuts; a prompt of prompt_size. */
    infer_request_options o = {.struct_size = sizeof o, .tokens = all, .n_tokens = n_bare};
    infer_continuation t = {.tokens = all + n_bare, .n_tokens = n - n_bare};
    infer_score again;
    assert_ok(infer_session_score(&again, e.session, NULL, &t, 1, &o));
    assert_true(again.logprob == score.logprob && again.n_bytes == 0);
    c.text = " A red kite. And more";
    c.text_size = strlen(" A red kite.");
    o = (infer_request_options){.struct_size = sizeof o, .prompt = PROMPT " and more"};
    o.prompt_size = strlen(PROMPT);
    assert_ok(infer_session_score(&again, e.session, NULL, &c, 1, &o));
    assert_true(again.logprob == score.logprob && again.n_bytes == (int64_t)c.text_size);
    engine_close(&e);
}

/* A conversation: the text follows the rendered prompt, and control tokens in it are text. */
static void test_chat(void **state)
{
    struct engine e;
    infer_message message = {.role = "user", .content = "What day comes after Monday?"};
    infer_request_options o = {.struct_size = sizeof o, .messages = &message, .n_messages = 1};
    infer_continuation c[3] = {{.text = "Tuesday"}, {.text = "Sunday"}, {.text = "<|im_end|>"}};
    infer_score scores[3];
    infer_request *request = NULL;
    infer_token all[300];
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_session_score(scores, e.session, NULL, c, 3, &o));
    assert_true(scores[0].logprob > scores[1].logprob + 1);
    assert_true(scores[2].n_tokens > 1); /* not the one token that ends a turn */
    o.prefill_only = 1;
    assert_ok(infer_session_submit(&request, e.session, &o));
    size_t n, more = 300;
    const infer_token *prompt = infer_request_prompt(request, &n);
    memcpy(all, prompt, n * sizeof *all);
    infer_encode_options bare = {.struct_size = sizeof bare, .disable_bos_eos = 1};
    more -= n;
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e.model), "Tuesday", 7, &bare, all + n,
                                     &more));
    /* The template's own line end counts to the answer. */
    int with_line_end = scores[0].n_tokens == (int64_t)more + 1;
    assert_true(with_line_end || scores[0].n_tokens == (int64_t)more);
    assert_true(scores[0].logprob == sum_alone(&e, all, n + more, n - (size_t)with_line_end));
    infer_request_destroy(&request);
    engine_close(&e);
}

/* The same bits on every kind of session, whatever it does to its requests. */
static void test_sessions(void **state)
{
    static const struct engine_setup setups[] = {
        {.n_threads = 1},
        {.n_threads = 2, .step_tokens = 5},
        {.n_threads = 1, .max_requests = 1},
        {.n_threads = 1, .max_requests = 1, .disable_prefix_cache = 1},
        {.n_threads = 2, .max_requests = 2, .max_queue = 1},
        {.n_threads = 1, .max_requests = 1, .max_queue = 1, .disable_prefix_cache = 1},
        {.n_threads = 2, .worker_thread = 1},
        {.n_threads = 1, .block_tokens = 64, .disable_prefix_cache = 1},
        {.n_threads = 1, .step_tokens = 7, .kv_budget_bytes = 1}, /* below: hardly one request */
    };
    infer_continuation c[40] = {{0}};
    infer_score first[40], scores[40];
    (void)state;
    for (size_t i = 0; i < 40; i++)
        c[i].text = texts[i % N_TEXTS];
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        struct engine e;
        struct engine_setup setup = setups[k];
        infer_session_stats stats = {.struct_size = sizeof stats};
        if (setup.kv_budget_bytes) {
            infer_kv_cache_stats kv = {.struct_size = sizeof kv};
            engine_open(&e, test_source(TINY_MODEL), &setups[0]);
            assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
            engine_close(&e);
            setup.kv_budget_bytes = kv.block_bytes * 4;
        }
        engine_open(&e, test_source(TINY_MODEL), &setup);
        for (int round = 0; round < 2; round++) {
            memset(scores, 0, sizeof scores);
            assert_ok(infer_session_score(scores, e.session, PROMPT, c, 40, NULL));
            if (!k && !round)
                memcpy(first, scores, sizeof first);
            for (size_t i = 0; i < 40; i++) {
                assert_true(scores[i].logprob == first[i].logprob);
                assert_int_equal(scores[i].is_greedy, first[i].is_greedy);
            }
        }
        assert_ok(infer_session_get_stats(e.session, &stats));
        assert_int_equal(stats.n_failed + stats.n_running + stats.n_waiting, 0);
        engine_close(&e);
    }
}

static void *score_often(void *arg)
{
    struct engine *e = arg;
    infer_continuation c[N_TEXTS] = {{0}};
    infer_score *scores = calloc(N_TEXTS, sizeof *scores);
    for (size_t i = 0; i < N_TEXTS; i++)
        c[i].text = texts[i];
    for (int i = 0; i < 10; i++)
        if (infer_session_score(scores, e->session, PROMPT, c, N_TEXTS, NULL) != INFER_OK)
            scores[0].logprob = NAN;
    return scores;
}

/* Many at once in a cache too small for all: nobody waits for ever, nobody's numbers change. */
static void test_threads(void **state)
{
    struct engine e;
    pthread_t threads[6];
    infer_score *expected, *scores;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    expected = score_often(&e);
    assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
    engine_close(&e);
    for (int worker = 0; worker < 2; worker++) {
        struct engine_setup setup = {.n_threads = 1, .worker_thread = worker, .step_tokens = 33};
        setup.kv_budget_bytes = kv.block_bytes * 9;
        setup.disable_prefix_cache = worker;
        engine_open(&e, test_source(TINY_MODEL), &setup);
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, score_often, &e), 0);
        for (size_t i = 0; i < 6; i++) {
            void *result;
            pthread_join(threads[i], &result);
            scores = result;
            for (size_t k = 0; k < N_TEXTS; k++)
                assert_true(scores[k].logprob == expected[k].logprob);
            free(scores);
        }
        assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
        assert_int_equal(kv.n_blocks_used, 0);
        engine_close(&e);
    }
    free(expected);
}

/* What greedy generation says is greedy, and nothing else. */
static void test_greedy(void **state)
{
    struct engine e;
    struct engine_answer answer;
    infer_token prompt[200];
    float logprobs[8];
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    size_t n = encode(&e, PROMPT, prompt, 200);
    engine_greedy(&e, prompt, n, 8, &answer);
    infer_request_options o = {.struct_size = sizeof o, .tokens = prompt, .n_tokens = n};
    infer_token other[8];
    memcpy(other, answer.tokens, sizeof other);
    other[5]++;
    infer_continuation c[2] = {
        {.tokens = answer.tokens, .n_tokens = 8, .logprobs = logprobs, .n_logprobs = 8},
        {.tokens = other, .n_tokens = 8}};
    infer_score scores[2];
    assert_ok(infer_session_score(scores, e.session, NULL, c, 2, &o));
    assert_int_equal(scores[0].is_greedy, 1);
    assert_int_equal(scores[1].is_greedy, 0);
    for (size_t i = 0; i < 8; i++) /* the sampler's are rounded once, these twice */
        assert_true(fabs((double)(logprobs[i] - answer.logprobs[i])) < 1e-5);
    engine_answer_free(&answer);
    engine_close(&e);
}

static infer_grammar *choices(const char *const *words, size_t n)
{
    infer_grammar *g = NULL;
    infer_grammar_options o = {.struct_size = sizeof o, .kind = INFER_GRAMMAR_CHOICE};
    o.choices = words;
    o.n_choices = n;
    assert_ok(infer_grammar_create(&g, &o));
    return g;
}

static void test_grammar(void **state)
{
    static const char *const words[] = {"a", "b", "cc"};
    struct engine e;
    infer_token prompt[200], a[1], b[1];
    size_t one = 1;
    infer_encode_options bare = {.struct_size = sizeof bare, .disable_bos_eos = 1};
    infer_score scores[3];
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    const infer_tokenizer *t = infer_model_tokenizer(e.model);
    size_t n = encode(&e, PROMPT, prompt, 200);
    assert_ok(infer_tokenizer_encode(t, "a", 1, &bare, a, &one));
    assert_ok(infer_tokenizer_encode(t, "b", 1, &bare, b, &one));
    infer_grammar *two = choices(words, 2);
    infer_continuation c[3] = {{.tokens = a, .n_tokens = 1},
                               {.tokens = b, .n_tokens = 1},
                               {.tokens = prompt, .n_tokens = 2}};
    infer_request_options o = {.struct_size = sizeof o, .tokens = prompt, .n_tokens = n};
    assert_ok(infer_session_score(scores, e.session, NULL, c, 3, &o));
    double odds = scores[0].logprob - scores[1].logprob;
    assert_true(isfinite(scores[2].logprob));
    o.grammar = two;
    assert_ok(infer_session_score(scores, e.session, NULL, c, 3, &o));
    /* Of two tokens one must come: shares of one, in the same proportion. */
    assert_true(fabs(exp(scores[0].logprob) + exp(scores[1].logprob) - 1) < 1e-5);
    assert_true(fabs(scores[0].logprob - scores[1].logprob - odds) < 1e-4);
    assert_int_equal(scores[0].is_greedy, odds > 0);
    assert_int_equal(scores[1].is_greedy, odds <= 0);
    assert_true(scores[2].logprob == -INFINITY && !scores[2].is_greedy);
    infer_grammar_destroy(&two);
    engine_close(&e);
}

/* Scores in one name space leave nothing for another. */
static void test_namespaces(void **state)
{
    struct engine e;
    infer_continuation c[2] = {{.text = " a red kite"}, {.text = " rice"}};
    infer_score scores[2];
    infer_request_options o = {.struct_size = sizeof o, .prompt = PROMPT};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    uint64_t cached[3], computed[3];
    static const char *const names[] = {"A", "B", "A"};
    for (int i = 0; i < 3; i++) {
        infer_session_stats before = {.struct_size = sizeof before}, after = before;
        o.cache_namespace = names[i];
        assert_ok(infer_session_get_stats(e.session, &before));
        assert_ok(infer_session_score(scores, e.session, NULL, c, 2, &o));
        assert_ok(infer_session_get_stats(e.session, &after));
        cached[i] = after.n_cached_tokens - before.n_cached_tokens;
        computed[i] = after.n_prompt_tokens - before.n_prompt_tokens;
    }
    assert_int_equal(computed[0], computed[1]);
    assert_int_equal(cached[0], cached[1]);
    assert_true(computed[2] < computed[0]);
    engine_close(&e);
}

static void assert_refused(struct engine *e, const char *prompt, const infer_continuation *c,
                           size_t n, const infer_request_options *o, infer_status status,
                           const char *why)
{
    infer_score scores[4] = {{.logprob = 7}};
    infer_status st = infer_session_score(scores, e->session, prompt, c, n, o);
    if (st != status || !strstr(infer_last_error(), why))
        fail_msg("gave %d (%s), expected %d (%s)", (int)st, infer_last_error(), (int)status, why);
    assert_true(scores[0].logprob == 7);
}

static void test_refusals(void **state)
{
    struct engine e;
    infer_token tokens[] = {300, 301, 302}, wrong[] = {1 << 30};
    infer_continuation text = {.text = " yes"}, empty = {.text = ""}, none = {0};
    infer_continuation both = {.text = "a", .tokens = tokens, .n_tokens = 1};
    infer_continuation given = {.tokens = tokens, .n_tokens = 3}, zero = {.tokens = tokens};
    infer_continuation bad = {.tokens = wrong, .n_tokens = 1};
    infer_continuation newer = {.text = "a", .reserved = {0, 1}};
    infer_request_options prompt = {.struct_size = sizeof prompt, .prompt = PROMPT};
    infer_request_options ids = {.struct_size = sizeof ids, .tokens = tokens, .n_tokens = 3};
    float room[1];
    infer_continuation small = given;
    (void)state;
    small.logprobs = room;
    small.n_logprobs = 1;
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .n_context = 64});
    assert_refused(&e, "x", NULL, 1, NULL, INFER_ERR_INVALID, "continuations is NULL");
    assert_refused(&e, "x", &text, 0, NULL, INFER_ERR_INVALID, "no continuations");
    assert_refused(&e, "x", &empty, 1, NULL, INFER_ERR_INVALID, "continuations[0] is empty");
    assert_refused(&e, "x", &zero, 1, NULL, INFER_ERR_INVALID, "continuations[0] is empty");
    assert_refused(&e, "x", &none, 1, NULL, INFER_ERR_INVALID, "either text or tokens");
    assert_refused(&e, "x", &both, 1, NULL, INFER_ERR_INVALID, "either text or tokens");
    assert_refused(&e, "x", &newer, 1, NULL, INFER_ERR_UNSUPPORTED, "reserved");
    assert_refused(&e, "x", &bad, 1, NULL, INFER_ERR_INVALID, "vocabulary has ids");
    assert_refused(&e, "x", &text, 1, &prompt, INFER_ERR_INVALID, "both prompt");
    assert_refused(&e, NULL, &text, 1, NULL, INFER_ERR_INVALID, "exactly one of");
    assert_refused(&e, NULL, &text, 1, &ids, INFER_ERR_INVALID, "expected tokens");
    assert_refused(&e, "x", &small, 1, NULL, INFER_ERR_LIMIT, "3 are needed");
    char *many = calloc(1, 4001);
    memset(many, 'z', 4000);
    assert_refused(&e, many, &text, 1, NULL, INFER_ERR_LIMIT, "the context holds 64");
    free(many);
    infer_score score;
    assert_ok(infer_session_score(&score, e.session, "x", &given, 1, NULL));
    engine_close(&e);
}

/* ------------------------------------------------------------------ decisions */

static void test_decide(void **state)
{
    static const char *const labels[] = {" a red kite", " rice", " a dog"};
    struct engine e;
    infer_decision d = {.struct_size = sizeof d};
    infer_decide_options o = {.struct_size = sizeof o};
    infer_continuation c[3] = {{0}};
    infer_score scores[3];
    double shares[3], sum = 0;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int by = INFER_DECIDE_BY_SUM; by <= INFER_DECIDE_BY_BYTE; by++) {
        double weights[3], total = 0;
        int best = 0;
        o.by = by;
        o.ending = by ? "." : NULL;
        char ended[3][20];
        for (size_t i = 0; i < 3; i++) {
            snprintf(ended[i], sizeof ended[i], "%s%s", labels[i], by ? "." : "");
            c[i].text = ended[i];
        }
        assert_ok(infer_session_decide(&d, shares, e.session, PROMPT, labels, 3, &o));
        assert_ok(infer_session_score(scores, e.session, PROMPT, c, 3, NULL));
        sum = 0;
        for (size_t i = 0; i < 3; i++) {
            double by_what = by == INFER_DECIDE_BY_SUM     ? 1
                             : by == INFER_DECIDE_BY_TOKEN ? (double)scores[i].n_tokens
                                                           : (double)strlen(labels[i]);
            weights[i] = exp(scores[i].logprob / by_what);
            total += weights[i];
            sum += exp(scores[i].logprob);
            best = weights[i] > weights[best] ? (int)i : best;
        }
        for (size_t i = 0; i < 3; i++)
            assert_true(fabs(shares[i] - weights[i] / total) < 1e-9);
        assert_int_equal(d.choice, best);
        assert_true(d.probability == shares[best] && d.mean == 0);
        assert_true(fabs(d.logprob - log(sum)) < 1e-9);
    }
    assert_int_equal(d.choice, 0);
    engine_close(&e);
}

static void test_built_in(void **state)
{
    struct engine e;
    infer_decision d = {.struct_size = sizeof d}, spaced = d;
    infer_decide_options o = {.struct_size = sizeof o};
    infer_continuation c[4] = {
        {.text = " yes"}, {.text = " no"}, {.text = " Yes"}, {.text = " No"}};
    infer_score scores[4];
    double shares[100], p[4], sum = 0, mean = 0;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_session_decide(&d, shares, e.session, PROMPT, NULL, 0, NULL));
    assert_ok(infer_session_score(scores, e.session, PROMPT, c, 4, NULL));
    for (int i = 0; i < 4; i++)
        p[i] = exp(scores[i].logprob);
    assert_true(fabs(shares[0] - (p[0] + p[2]) / (p[0] + p[1] + p[2] + p[3])) < 1e-9);
    assert_true(fabs(shares[0] + shares[1] - 1) < 1e-12);
    assert_int_equal(d.choice, shares[1] > shares[0]);
    assert_ok(infer_session_decide(&spaced, NULL, e.session, PROMPT " ", NULL, 0, NULL));
    assert_true(spaced.logprob == d.logprob); /* the same text */
    for (o.scale = 5; o.scale <= 100; o.scale += 95) {
        assert_ok(infer_session_decide(&d, shares, e.session, PROMPT, NULL, 0, &o));
        sum = mean = 0;
        for (int i = 0; i < o.scale; i++) {
            sum += shares[i];
            mean += (i + 1) * shares[i];
            assert_true(shares[i] <= d.probability);
        }
        assert_true(fabs(sum - 1) < 1e-12 && fabs(mean - d.mean) < 1e-9);
        assert_true(shares[d.choice] == d.probability);
    }
    engine_close(&e);
}

static void test_decide_refusals(void **state)
{
    static const char *const labels[] = {"yes", ""}, *const yes[] = {"yes"}, *const words[] = {"b"};
    struct engine e;
    infer_decision d = {.struct_size = sizeof d}, none = {0};
    infer_decide_options o = {.struct_size = sizeof o};
    infer_request_options r = {.struct_size = sizeof r};
    infer_session *s;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    s = e.session;
    assert_int_equal(infer_session_decide(NULL, NULL, s, "x", NULL, 0, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_decide(&none, NULL, s, "x", NULL, 0, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_decide(&d, NULL, NULL, "x", NULL, 0, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_decide(&d, NULL, s, NULL, NULL, 0, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", NULL, 2, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", labels, 0, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", labels, 2, NULL), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "labels[1] is empty"));
    o.scale = 1;
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", NULL, 0, &o), INFER_ERR_INVALID);
    o.scale = 101;
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", NULL, 0, &o), INFER_ERR_INVALID);
    o.scale = 5;
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", yes, 1, &o), INFER_ERR_INVALID);
    o.scale = 0;
    o.by = 3;
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", yes, 1, &o), INFER_ERR_UNSUPPORTED);
    o.by = 0;
    infer_grammar *g = choices(words, 1);
    r.grammar = g;
    o.request = &r;
    assert_int_equal(infer_session_decide(&d, NULL, s, "x", yes, 1, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "none of the labels is possible"));
    infer_grammar_destroy(&g);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_as_the_field),
        cmocka_unit_test(test_chat),     cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_grammar),  cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_decide),
        cmocka_unit_test(test_built_in), cmocka_unit_test(test_decide_refusals),
    };
    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
