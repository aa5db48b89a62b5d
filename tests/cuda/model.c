/* Whole models on a GPU: every architecture against an independent float64 evaluation, the bundled
 * model against the CPU, sessions under load, and what the card has no kernels for.
 *
 *     model [PATTERN]    only the cases whose name matches */
#include "engine/session.h"
#include "model/arch_fixture.h"
#include "support/engine.h"

#include <math.h>
#include <pthread.h>
#include <unistd.h>

/* F32 weights stay F32 on the card, and sums differ from those of the CPU in their order alone. */
#define TOLERANCE 1e-4

static int has_gpu(void)
{
    return infer_device_count() > 1;
}

static void need_gpu(const char *test)
{
    if (has_gpu())
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

/* Set where kernels are emulated, which takes a thousand times as long: a part of the work. */
static int brief(void)
{
    return getenv("TEST_BRIEF") != NULL;
}

/* Ways through the same tokens: products of many rows, of a few, and replayed steps of one. */
static const struct {
    const char *name;
    int32_t step_tokens, block_tokens;
} ways[] = {{"whole", 256, 16}, {"chunks of 7", 7, 32}, {"one by one", 1, 64}};

#define N_WAYS (sizeof ways / sizeof *ways)

/* ------------------------------------------------------------ architectures */

/* Layers that no other has the like of: experts with gates, norms and weighted inputs, what stands
 * beside them, inputs of each layer, states. Never left out, but no longer than it takes: a prompt
 * and two steps. Those of their relatives are left to a card. */
static const struct {
    const char *name;
    int is_recurrent;
} special[] = {{"gemma4-26b", 0}, {"gemma4-e2b", 0}, {"llama4", 0},
               {"qwen2moe", 0},   {"mamba2", 1},     {"qwen3.5", 1}};

#define N_SPECIAL (sizeof special / sizeof *special)

static int is_special(const char *name)
{
    for (size_t i = 0; i < N_SPECIAL; i++)
        if (strcmp(name, special[i].name) == 0)
            return 1;
    return 0;
}

static int is_related(const char *name)
{
    static const char *const families[] = {"gemma4", "llama4", "qwen3next", "granite-hybrid-moe"};
    for (size_t i = 0; i < sizeof families / sizeof *families && !is_special(name); i++)
        if (strncmp(name, families[i], strlen(families[i])) == 0)
            return 1;
    return 0;
}

/* A step that is walked, one that is captured, and replays. */
static void check_decode(struct engine *e, const struct arch_fixture *f, size_t end,
                         struct arch_error *error)
{
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = f->tokens,
                                     .n_tokens = f->n_prompt,
                                     .sampling = &greedy,
                                     .max_tokens = (int64_t)(end - f->n_prompt),
                                     .ignore_eos = 1,
                                     .want_logits = 1};
    infer_request *request = NULL;
    infer_event event = {.struct_size = sizeof event};
    assert_ok(infer_session_submit(&request, e->session, &options));
    for (size_t i = f->n_prompt; i < end; i++) {
        assert_ok(infer_request_next(request, &event));
        if (event.type != INFER_EVENT_TOKEN)
            fail_msg("no token but: %s", infer_last_error());
        arch_error_add(error, f, i - 1, event.logits);
        assert_int_equal(event.token, f->tokens[i]);
    }
    infer_request_destroy(&request);
}

static void check_way(const char *path, const struct arch_fixture *f, size_t way, infer_kv_type kv,
                      double tolerance, int is_short)
{
    struct engine e;
    struct engine_setup setup = {.device = 1,
                                 .kv_type = kv,
                                 .step_tokens = ways[way].step_tokens,
                                 .block_tokens = ways[way].block_tokens,
                                 .disable_prefix_cache = 1};
    struct arch_error error = {0};
    engine_open(&e, path, &setup);
    if (!brief() || (ways[way].step_tokens > 1 && !is_short)) { /* else the prompt is enough */
        float *logits = engine_logits(&e, f->tokens, f->n_tokens);
        arch_error_add(&error, f, f->n_tokens - 1, logits);
        free(logits);
    }
    check_decode(&e, f, brief() ? f->n_prompt + (is_short ? 3 : 4) : f->n_tokens, &error);
    engine_close(&e);
    double relative = arch_error_relative(&error);
    print_message("  %-11s %zu rows, relative error %.2g\n", ways[way].name, error.rows, relative);
    assert_true(relative <= tolerance);
}

static size_t brief_way;

static void architecture(void **state)
{
    const char *name = *state;
    struct arch_fixture f;
    char folder[512];
    need_gpu(name);
    arch_fixture_make(&f, name, folder, sizeof folder);
    if (brief()) /* one way each, in turn */
        check_way(folder, &f, is_special(name) ? 0 : brief_way++ % N_WAYS, INFER_KV_F32, TOLERANCE,
                  is_special(name));
    else
        for (size_t way = 0; way < N_WAYS; way++)
            check_way(folder, &f, way, INFER_KV_F32, TOLERANCE, 0);
    arch_fixture_remove(&f, folder);
}

/* ------------------------------------------------------------ the bundled model */

static const char story[] = "Once upon a time there was a little girl who lived in a house "
                            "near the woods, and every morning she went out to look for";

static size_t tokens_of(const struct engine *e, infer_token *out, size_t room)
{
    infer_encode_options options = {.struct_size = sizeof options};
    size_t n = room;
    assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e->model), story, strlen(story),
                                     &options, out, &n));
    return brief() ? 11 : n; /* still more than products of few rows take */
}

/* Max difference over the largest logit. */
static double relative_error(const float *a, const float *b, size_t n)
{
    double difference = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        difference = fmax(difference, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return difference / largest;
}

/* Quantised weights are multiplied in integers on both, over rows quantised alike: but where sums
 * differ in their last bits, an activation or a key between two codes falls to the other. One step
 * of 1/127 of the largest of 32 moves a product of a few dozen elements by some 0.3 % of its size,
 * and each of the layers may add such steps. A wrong block, scale or position errs by far more. */
#define FLIPS 5e-2

static void check_type(infer_kv_type type, double tolerance)
{
    struct engine cpu, gpu;
    infer_token tokens[128];
    engine_open(&cpu, test_source(TINY_MODEL), &(const struct engine_setup){.kv_type = type});
    engine_open(&gpu, test_source(TINY_MODEL),
                &(const struct engine_setup){.device = 1, .kv_type = type});
    size_t n = tokens_of(&cpu, tokens, 128), step = brief() ? 5 : 1;
    double worst = 0;
    infer_model_info info = {.struct_size = sizeof info};
    assert_ok(infer_model_get_info(cpu.model, &info));
    for (size_t length = 1; length <= n; length += step) {
        float *a = engine_logits(&gpu, tokens, length), *b = engine_logits(&cpu, tokens, length);
        double error = relative_error(a, b, (size_t)info.n_vocab);
        worst = fmax(worst, isnan(error) ? INFINITY : error);
        free(a);
        free(b);
    }
    engine_close(&cpu);
    engine_close(&gpu);
    print_message("  KV type %d: relative error %.2g\n", type, worst);
    assert_true(worst <= tolerance);
}

static void bundled_model_says_what_it_says_on_the_cpu(void **state)
{
    (void)state;
    need_gpu(__func__);
    check_type(INFER_KV_F16, FLIPS);
    check_type(INFER_KV_Q8, FLIPS);
    check_type(INFER_KV_F8, 1e-1); /* a key that falls to the other of two is 1/16 of it */
    if (brief())
        return;
    check_type(INFER_KV_BF16, FLIPS); /* a flip of a key is 1/256 of it */
    check_type(INFER_KV_Q4, 1e-1);    /* 1/7 of the largest of 32 */
}

/* Requests come and go between steps of other sizes. What each is told first is what it is told
 * alone, by way of other kernels, whose sums go in another order: near ties may fall either way
 * later on, so that the answers need not be the same. */
static void sessions_under_load(void **state)
{
    (void)state;
    need_gpu(__func__);
    enum { N = 12 };
    struct engine e;
    infer_token tokens[128];
    infer_request *requests[N];
    float *alone[N];
    engine_open(&e, test_source(TINY_MODEL),
                &(const struct engine_setup){.device = 1,
                                             .step_tokens = brief() ? 12 : 24,
                                             .max_requests = 9,
                                             .disable_prefix_cache = 1});
    const size_t n = tokens_of(&e, tokens, 128), n_requests = brief() ? 3 : N;
    const int64_t n_next = brief() ? 4 : 8;
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_event event = {.struct_size = sizeof event};
    for (size_t i = 0; i < n_requests; i++)
        alone[i] = engine_logits(&e, tokens, n - i);
    for (size_t i = 0; i < n_requests; i++) {
        infer_request_options options = {.struct_size = sizeof options,
                                         .tokens = tokens,
                                         .n_tokens = n - i,
                                         .sampling = &greedy,
                                         .max_tokens = n_next,
                                         .ignore_eos = 1,
                                         .want_logits = 1};
        assert_ok(infer_session_submit(&requests[i], e.session, &options));
    }
    for (size_t i = 0; i < n_requests; i++) {
        struct engine_answer rest;
        assert_ok(infer_request_next(requests[i], &event));
        assert_non_null(event.logits);
        assert_true(relative_error(event.logits, alone[i], event.n_logits) <= FLIPS);
        engine_collect(requests[i], &rest);
        assert_int_equal(rest.status, INFER_OK);
        assert_int_equal(rest.finish, INFER_FINISH_LENGTH);
        assert_int_equal(rest.n, n_next - 1);
        engine_answer_free(&rest);
        free(alone[i]);
    }
    engine_close(&e);
}

static void check_self(const char *path, int is_recurrent)
{
    struct engine e;
    infer_self_test_report report = {.struct_size = sizeof report};
    const infer_self_test_options options = {.struct_size = sizeof options,
                                             .n_prompt_tokens = brief() ? 34 : 0,
                                             .n_tokens = brief() ? 4 : 0,
                                             .max_batch = brief() ? 3 : 64,
                                             .budget_bytes = (uint64_t)4 << 30};
    engine_open(&e, path, &(const struct engine_setup){.device = 1});
    assert_ok(infer_model_self_test(&report, e.model, &options));
    assert_int_equal(report.n_failed, 0);
    assert_int_equal(report.checks[INFER_CHECK_BATCH].state, INFER_CHECK_PASSED);
    assert_int_equal(report.checks[INFER_CHECK_CHUNKS].state, INFER_CHECK_PASSED);
    assert_int_equal(report.checks[INFER_CHECK_FORK].state, INFER_CHECK_PASSED);
    assert_int_equal(report.checks[INFER_CHECK_SPECULATION].state,
                     is_recurrent ? INFER_CHECK_SKIPPED : INFER_CHECK_PASSED);
    engine_close(&e);
}

/* Every way of the self-test gives the same bits: its sessions have invariant numerics. Experts,
 * windows and sinks, F32 weights; layers with states; and quantised weights. */
static void check_self_of(const char *name, int is_recurrent)
{
    struct arch_fixture f;
    char folder[512];
    arch_fixture_make(&f, name, folder, sizeof folder);
    check_self(folder, is_recurrent);
    arch_fixture_remove(&f, folder);
}

static void self_test_passes(void **state)
{
    (void)state;
    need_gpu(__func__);
    check_self_of("gpt-oss", 0);
    for (size_t i = 0; i < N_SPECIAL; i++)
        if (!brief() || strcmp(special[i].name, "mamba2") == 0)
            check_self_of(special[i].name, special[i].is_recurrent);
    if (!brief())
        check_self(test_source(TINY_MODEL), 0);
}

enum { TOLD = 3, TOLD_AFTER = 9 };

/* What a session says behind the first tokens: the next ones, and their logits. */
static void tell(const char *path, const struct arch_fixture *f, const struct engine_setup *setup,
                 infer_token told[TOLD], float *logits)
{
    struct engine e;
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = f->tokens,
                                     .n_tokens = TOLD_AFTER,
                                     .sampling = &greedy,
                                     .max_tokens = TOLD,
                                     .ignore_eos = 1,
                                     .want_logits = 1};
    infer_request *request = NULL;
    infer_event event = {.struct_size = sizeof event};
    engine_open(&e, path, setup);
    assert_ok(infer_session_submit(&request, e.session, &options));
    for (size_t i = 0; i < TOLD; i++) {
        assert_ok(infer_request_next(request, &event));
        assert_int_equal(event.type, INFER_EVENT_TOKEN);
        told[i] = event.token;
        memcpy(logits + i * f->n_vocab, event.logits, f->n_vocab * sizeof *logits);
    }
    infer_request_destroy(&request);
    engine_close(&e);
}

/* The prompt in pieces of so many rows, whose heads are 64 vectors and then fewer, and one row. */
static void check_cache(const char *path, const struct arch_fixture *f, infer_kv_type kv,
                        int32_t step_tokens, double tolerance)
{
    const struct engine_setup cpu = {.kv_type = kv}, gpu = {.device = 1,
                                                            .kv_type = kv,
                                                            .step_tokens = step_tokens,
                                                            .disable_prefix_cache = 1};
    float *want = malloc(TOLD * f->n_vocab * sizeof *want);
    float *got = malloc(TOLD * f->n_vocab * sizeof *got);
    infer_token a[TOLD], b[TOLD];
    tell(path, f, &cpu, a, want);
    tell(path, f, &gpu, b, got);
    const double error = relative_error(got, want, TOLD * f->n_vocab);
    print_message("  KV type %d: relative error %.2g\n", (int)kv, error);
    assert_true(error <= tolerance);
    assert_memory_equal(a, b, sizeof a);
    free(want);
    free(got);
}

/* What tensor cores take 512 elements wide, in caches that they take, against the CPU; then the
 * fixture's logits, and the same bits in every way. */
static void check_wide(const char *name, int32_t step_tokens)
{
    struct arch_fixture f;
    char folder[512];
    arch_fixture_make(&f, name, folder, sizeof folder);
    check_cache(folder, &f, INFER_KV_F16, step_tokens, 1e-3);
    if (!brief()) {
        check_cache(folder, &f, INFER_KV_BF16, step_tokens, 1e-2);
        check_cache(folder, &f, INFER_KV_Q8, step_tokens, 2e-2);
        for (size_t way = 0; way < N_WAYS; way++)
            check_way(folder, &f, way, INFER_KV_F16, 2e-3, 0);
        check_self(folder, 0);
    }
    arch_fixture_remove(&f, folder);
}

static void latents_through_tensor_cores(void **state)
{
    (void)state;
    need_gpu(__func__);
    check_wide("deepseek-wide", 7); /* some heads at a time */
}

static void wide_heads_through_tensor_cores(void **state)
{
    (void)state;
    need_gpu(__func__);
    check_wide("gemma4-wide", 14);
}

struct worker {
    struct engine e; /* cache and session of its own */
    infer_token tokens[128];
    size_t n;
    struct engine_answer answer;
};

/* Steps that are walked, captured and replayed. */
static void *answer(void *arg)
{
    struct worker *w = arg;
    engine_greedy(&w->e, w->tokens, w->n, 5, &w->answer);
    return NULL;
}

/* What one thread captures for its graphs is not what another launches meanwhile. */
static void threads_share_a_card(void **state)
{
    (void)state;
    need_gpu(__func__);
    enum { N = 3 };
    struct engine e;
    struct worker workers[N];
    struct engine_answer alone;
    pthread_t threads[N];
    engine_open(&e, test_source(TINY_MODEL), &(const struct engine_setup){.device = 1});
    for (size_t i = 0; i < N; i++) {
        struct worker *w = &workers[i];
        *w = (struct worker){.e = {.device = e.device, .model = e.model}};
        assert_ok(infer_kv_cache_create(&w->e.cache, e.model, NULL));
        const infer_session_options options = {.struct_size = sizeof options,
                                               .kv_cache = w->e.cache};
        assert_ok(infer_session_create(&w->e.session, e.model, &options));
        w->n = tokens_of(&e, w->tokens, 128) / (i + (brief() ? 7 : 2));
    }
    for (size_t i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, answer, &workers[i]), 0);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < N; i++) {
        struct worker *w = &workers[i];
        engine_greedy(&e, w->tokens, w->n, 5, &alone);
        assert_int_equal(w->answer.n, alone.n);
        assert_memory_equal(w->answer.tokens, alone.tokens, alone.n * sizeof *alone.tokens);
        engine_answer_free(&w->answer);
        engine_answer_free(&alone);
        infer_session_destroy(&w->e.session);
        infer_kv_cache_destroy(&w->e.cache);
    }
    engine_close(&e);
}

/* Weights that went away come back to the card, and mean the same. */
static void weights_leave_and_return(void **state)
{
    (void)state;
    need_gpu(__func__);
    struct engine e;
    infer_token tokens[128];
    engine_open(&e, test_source(TINY_MODEL), &(const struct engine_setup){.device = 1});
    size_t n = tokens_of(&e, tokens, 128);
    infer_model_info info = {.struct_size = sizeof info};
    assert_ok(infer_model_get_info(e.model, &info));
    struct engine_answer before, after;
    engine_greedy(&e, tokens, n, 6, &before);
    assert_ok(infer_model_evict(e.model));
    assert_ok(infer_model_restore(e.model, NULL));
    engine_greedy(&e, tokens, n, 6, &after);
    assert_int_equal(before.n, after.n);
    assert_memory_equal(before.tokens, after.tokens, before.n * sizeof *tokens);
    engine_answer_free(&before);
    engine_answer_free(&after);
    engine_close(&e);
}

/* A callback, so that the host samples. */
static int32_t leave(float *logits, int32_t n, void *data)
{
    (void)logits, (void)n, (void)data;
    return 0;
}

/* What requests may ask of sampling, each asked of the card and of the host in the same steps. */
enum { SAMPLED = 5 };

static void sampled_options(int kind, infer_sampling *sampling, infer_request_options *options)
{
    static const infer_logit_bias bias[] = {{40, 3}, {300, -INFINITY}};
    *sampling = (infer_sampling){.struct_size = sizeof *sampling, .seed = (uint64_t)kind};
    sampling->temperature = kind == 3 ? 0 : 0.9f;
    if (kind == 1)
        sampling->top_k = 40, sampling->min_p = 0.001f;
    if (kind == 1 || kind == 4)
        sampling->top_p = 0.9f;
    if (kind == 2 || kind == 3)
        sampling->repetition_penalty = 1.5f, sampling->frequency_penalty = 0.5f;
    if (kind == 2)
        sampling->penalty_last_n = 7, sampling->logit_bias = bias, sampling->n_logit_bias = 2;
    options->logprobs = options->n_top_logprobs = kind == 1 || kind == 3 ? 3 : 0;
    options->min_tokens = kind == 3 ? 2 : 0;
    options->ignore_eos = kind != 3;
}

static infer_request *submit_sampled(struct engine *e, int kind, int by_host,
                                     const infer_grammar *grammar)
{
    infer_sampling sampling;
    infer_request *request = NULL;
    infer_request_options options = {.struct_size = sizeof options,
                                     .prompt = "Once upon a time",
                                     .sampling = &sampling,
                                     .max_tokens = brief() ? 2 : 40,
                                     .disable_jump_ahead = 1};
    sampled_options(kind, &sampling, &options);
    options.logits_fn = by_host ? leave : NULL;
    options.grammar = kind == 4 ? grammar : NULL;
    assert_ok(infer_session_submit(&request, e->session, &options));
    return request;
}

static void assert_same_events(infer_request *card, infer_request *host)
{
    infer_event a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    do {
        assert_ok(infer_request_next(card, &a));
        assert_ok(infer_request_next(host, &b));
        assert_int_equal(a.type, b.type);
        if (a.type != INFER_EVENT_TOKEN)
            continue;
        assert_int_equal(a.token, b.token);
        assert_true(fabs((double)a.logprob - (double)b.logprob) <= 1e-5);
        assert_int_equal(a.n_top, b.n_top);
        for (size_t i = 0; i < a.n_top; i++) {
            assert_int_equal(a.top[i].token, b.top[i].token);
            assert_true(fabs((double)a.top[i].logprob - (double)b.top[i].logprob) <= 1e-5);
        }
    } while (a.type == INFER_EVENT_TOKEN);
}

/* The card chooses what the host would, from the same rows of the same steps; and it does choose.
 */
static void tokens_are_drawn_as_on_the_host(void **state)
{
    (void)state;
    need_gpu(__func__);
    struct engine e;
    infer_grammar *grammar = NULL;
    infer_request *card[SAMPLED], *host[SAMPLED];
    const infer_grammar_options letters = {
        .struct_size = sizeof letters, .kind = INFER_GRAMMAR_GBNF, .text = "root ::= [a-z ,]+"};
    assert_ok(infer_grammar_create(&grammar, &letters));
    engine_open(&e, test_source(TINY_MODEL),
                &(const struct engine_setup){.device = 1, .disable_prefix_cache = 1});
    for (int i = 0; i < SAMPLED; i++) {
        card[i] = submit_sampled(&e, i, 0, grammar);
        host[i] = submit_sampled(&e, i, 1, grammar);
    }
    for (int i = 0; i < SAMPLED; i++)
        assert_same_events(card[i], host[i]);
    const struct model_pick *picks = e.session->picks;
    int n_chosen = 0;
    for (int i = 0; i < 2 * SAMPLED; i++)
        n_chosen += picks[i].token >= 0;
    assert_int_equal(n_chosen, SAMPLED);
    for (int i = 0; i < SAMPLED; i++) {
        infer_request_destroy(&card[i]);
        infer_request_destroy(&host[i]);
    }
    engine_close(&e);
    infer_grammar_destroy(&grammar);
}

static const struct CMUnitTest whole[] = {
    cmocka_unit_test(tokens_are_drawn_as_on_the_host),
    cmocka_unit_test(bundled_model_says_what_it_says_on_the_cpu),
    cmocka_unit_test(sessions_under_load),
    cmocka_unit_test(weights_leave_and_return),
    cmocka_unit_test(threads_share_a_card),
    cmocka_unit_test(self_test_passes),
    cmocka_unit_test(latents_through_tensor_cores),
    cmocka_unit_test(wide_heads_through_tensor_cores),
};

/* Special ones, and every third one of the others. */
static int is_left_out(const char *name)
{
    static size_t n_seen;
    return brief() && !is_special(name) && (is_related(name) || n_seen++ % 3 != 0);
}

int main(int argc, char **argv)
{
    char **names;
    size_t n_whole = sizeof whole / sizeof *whole, n_names = arch_fixture_names(&names), n = 0;
    struct CMUnitTest *tests = calloc(n_names + n_whole, sizeof *tests);
    for (size_t i = 0; i < n_whole; i++)
        tests[n++] = whole[i];
    for (size_t i = 0; i < n_names; i++)
        if (!is_left_out(names[i]))
            tests[n++] = (struct CMUnitTest){names[i], architecture, NULL, NULL, names[i]};
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (brief())
        print_message("one of %zu ways each, and %zu architectures left to a card\n", N_WAYS,
                      n_names + n_whole - n);
    int failed = _cmocka_run_group_tests("gpu models", tests, n, NULL, NULL);
    for (size_t i = 0; i < n_names; i++)
        free(names[i]);
    free(names);
    free(tests);
    return failed;
}
