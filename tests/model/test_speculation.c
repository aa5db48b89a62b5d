/* With drafts an answer is the same, bit for bit, as without: tokens, logits and log-probabilities,
 * greedy and drawn, whatever is drafted and whatever else is in the batch. */
#include "arch_fixture.h"
#include "small_cache.h"

#include "engine/session.h"

#include <sys/stat.h>
#include <unistd.h>

#define N_PROMPT   44
#define N_ANSWER   40
#define N_REQUESTS 6

static const struct model_case {
    const char *name, *path;
} models[] = {
    {"tiny", NULL},
#if !TEST_SANITIZED
    {"stories260K", "llm/stories260K/stories260K.f32.gguf"},
    {"TinyStories-656K", "llm/TinyStories-656K/TinyStories-656K.f32.gguf"},
#endif
    {"llama", NULL},
    {"mistral-window", NULL},
    {"gemma3", NULL},
    {"gemma4-e2b", NULL},
    {"gpt-oss", NULL},
    {"llama4-chunks", NULL},
    {"deepseek-v2", NULL},
    {"mixtral", NULL},
    {"qwen3moe", NULL},
    {"starcoder2-window", NULL},
};

#define N_MODELS (sizeof models / sizeof *models)

struct trace {
    infer_token tokens[N_ANSWER];
    uint64_t logits[N_ANSWER];
    float logprobs[N_ANSWER];
    size_t n;
    int64_t n_drafted, n_accepted;
};

struct request_case {
    infer_token prompt[N_PROMPT];
    size_t n;
    infer_sampling sampling;
};

/* ---------------------------------------------------------------- the model */

static void make_path(const struct model_case *m, char *path, size_t size)
{
    if (m == &models[0])
        snprintf(path, size, "%s", test_source(TINY_MODEL));
    else
        arch_model_path(m->name, m->path, path, size);
}

static void remove_path(const struct model_case *m, const char *path)
{
    if (m != &models[0])
        arch_model_remove(m->path, path);
}

/* Greedy and drawn, plain and with everything that looks back; prompts that repeat themselves, so
 * that n-grams are found, and begin alike, so that blocks are shared. */
static void make_requests(struct request_case *c, int32_t n_vocab)
{
    uint64_t random = 7;
    infer_token text[11];
    for (size_t i = 0; i < 11; i++)
        text[i] = (infer_token)(test_rand(&random) % (uint32_t)n_vocab);
    for (size_t r = 0; r < N_REQUESTS; r++) {
        c[r] = (struct request_case){.n = N_PROMPT - r};
        c[r].sampling = (infer_sampling){.struct_size = sizeof c[r].sampling, .seed = 100 + r};
        if (r % 2)
            c[r].sampling.temperature = 0.6f;
        if (r >= 2) {
            c[r].sampling.repetition_penalty = 1.1f;
            c[r].sampling.frequency_penalty = 0.2f;
        }
        if (r >= 4) {
            c[r].sampling.top_k = 20;
            c[r].sampling.top_p = 0.9f;
            c[r].sampling.penalty_last_n = 16;
        }
        for (size_t i = 0; i < N_PROMPT; i++)
            c[r].prompt[i] = text[(i + r / 3) % 11];
    }
}

/* ------------------------------------------------------------------ running */

static infer_request *submit(struct engine *e, const struct request_case *c, infer_speculation kind)
{
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = c->prompt,
                               .n_tokens = c->n,
                               .sampling = &c->sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1,
                               .logprobs = 1,
                               .want_logits = 1,
                               .speculation = kind};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &o));
    return request;
}

static void add_event(struct trace *t, const infer_event *event)
{
    if (event->type != INFER_EVENT_TOKEN)
        return;
    assert_true(t->n < N_ANSWER);
    t->tokens[t->n] = event->token;
    t->logprobs[t->n] = event->logprob;
    t->logits[t->n++] = arch_hash(event->logits, event->n_logits * sizeof *event->logits);
}

static void finish(infer_request *request, struct trace *t)
{
    infer_event event = {.struct_size = sizeof event};
    infer_request_info info = {.struct_size = sizeof info};
    infer_status st;
    while ((st = infer_request_next(request, &event)) == INFER_OK)
        add_event(t, &event);
    if (st != INFER_DONE)
        fail_msg("%s", infer_last_error());
    assert_ok(infer_request_get_info(request, &info));
    t->n_drafted = info.n_drafted_tokens;
    t->n_accepted = info.n_accepted_tokens;
    infer_request_destroy(&request);
}

static void assert_same(const struct trace *a, const struct trace *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
    assert_memory_equal(a->logits, b->logits, a->n * sizeof *a->logits);
    assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
}

static void check_structures(struct engine *e, infer_request *const *requests, size_t n)
{
    const struct cache_table *tables[N_REQUESTS];
    size_t n_tables = 0;
    for (size_t i = 0; i < n; i++)
        if (requests[i])
            tables[n_tables++] = &requests[i]->table;
    cache_check(e->cache->blocks, tables, n_tables);
}

static void check_unused(struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    assert_int_equal(kv.n_blocks_used, 0);
    check_structures(e, NULL, 0);
}

/* ------------------------------------------------------------ made-up drafts */

/* Drafts that are right as often as wanted, of answers that are known, or rubbish. */
struct oracle {
    const struct request_case *c;
    const struct trace *alone;
    uint64_t random;
    uint32_t right; /* of 256 */
};

static int32_t draft(void *data, const struct infer_request *r, infer_token *out, int32_t n)
{
    struct oracle *o = data;
    size_t which = (size_t)(r->sampling.seed - 100), at = r->tokens.size;
    int32_t n_vocab = r->session->model->hp.n_vocab;
    assert_true(which < N_REQUESTS && at + (size_t)n < N_ANSWER);
    for (int32_t i = 0; i < n; i++) {
        infer_token token = o->alone[which].tokens[at + (size_t)i];
        if ((test_rand(&o->random) & 255) >= o->right)
            token = (token + 1 + (infer_token)(test_rand(&o->random) % 3)) % n_vocab;
        out[i] = token;
    }
    return n - (int32_t)(test_rand(&o->random) % 2); /* fewer than wanted is as well */
}

static void set_hook(struct engine *e, struct oracle *o)
{
    e->session->draft.hook = draft;
    e->session->draft.hook_data = o;
    e->session->draft.fixed = 1;
}

/* One after the other. */
static void check_alone(struct engine *e, const struct request_case *c, const struct trace *alone,
                        infer_speculation kind, struct trace *sum)
{
    memset(sum, 0, sizeof *sum);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        struct trace t = {.n = 0};
        finish(submit(e, &c[i], kind), &t);
        assert_same(&t, &alone[i]);
        assert_true(t.n_accepted <= t.n_drafted);
        sum->n_drafted += t.n_drafted;
        sum->n_accepted += t.n_accepted;
        check_unused(e);
    }
}

/* All at once in a cache for hardly two, every second one speculating, with structures walked
 * after each step. */
static void check_small(const char *path, const struct request_case *c, const struct trace *alone,
                        uint32_t right)
{
    struct engine e;
    struct oracle oracle = {c, alone, 5, right};
    struct trace t[N_REQUESTS] = {{.n = 0}};
    infer_request *requests[N_REQUESTS];
    infer_event event = {.struct_size = sizeof event};
    struct engine_setup setup = {.n_threads = 2, .step_tokens = 30};
    infer_session_stats stats = {.struct_size = sizeof stats};
    setup.kv_budget_bytes = small_cache(path, INFER_KV_DEFAULT, 9);
    engine_open(&e, path, &setup);
    set_hook(&e, &oracle);
    for (size_t i = 0; i < N_REQUESTS; i++)
        requests[i] =
            submit(&e, &c[i], i % 3 ? INFER_SPECULATION_NGRAM : INFER_SPECULATION_DEFAULT);
    while (infer_session_step(e.session) == INFER_OK) {
        check_structures(&e, requests, N_REQUESTS);
        for (size_t i = 0; i < N_REQUESTS; i++)
            while (infer_request_poll(requests[i], &event) == INFER_OK)
                add_event(&t[i], &event);
    }
    for (size_t i = 0; i < N_REQUESTS; i++) {
        finish(requests[i], &t[i]);
        assert_same(&t[i], &alone[i]);
        assert_int_equal(t[i].n_drafted > 0, i % 3 != 0);
    }
    check_unused(&e);
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_true(stats.n_preempted > 0 || !cache_check_grows(e.cache->blocks));
    engine_close(&e);
}

/* The model drafts for itself, so that every draft is right. */
static void check_itself(const char *path, const struct request_case *c, const struct trace *alone)
{
    struct engine e;
    struct trace t[N_REQUESTS], sum;
    infer_request *requests[N_REQUESTS];
    engine_open(&e, path, &(struct engine_setup){.n_threads = 2});
    infer_session_destroy(&e.session);
    infer_session_options o = {
        .struct_size = sizeof o, .kv_cache = e.cache, .draft_model = e.model, .step_tokens = 32};
    assert_ok(infer_session_create(&e.session, e.model, &o));
    e.session->draft.fixed = 1;
    check_alone(&e, c, alone, INFER_SPECULATION_DEFAULT, &sum);
    print_message("  draft model = model: %d of %d accepted\n", (int)sum.n_accepted,
                  (int)sum.n_drafted);
    memset(t, 0, sizeof t);
    for (size_t i = 0; i < N_REQUESTS; i++)
        requests[i] = submit(&e, &c[i], INFER_SPECULATION_DRAFT);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        finish(requests[i], &t[i]);
        assert_same(&t[i], &alone[i]);
        assert_true(t[i].n_drafted > 0);
        if (c[i].sampling.penalty_last_n == 0) /* guesses look back over a little more */
            assert_int_equal(t[i].n_accepted, t[i].n_drafted);
    }
    check_unused(&e);
    engine_close(&e);
}

static void test_model(void **state)
{
    const struct model_case *m = *state;
    struct request_case c[N_REQUESTS];
    struct trace alone[N_REQUESTS], sum;
    struct engine e;
    char path[512];
    make_path(m, path, sizeof path);
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1, .disable_prefix_cache = 1});
    make_requests(c, e.model->hp.n_vocab);
    memset(alone, 0, sizeof alone);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        finish(submit(&e, &c[i], INFER_SPECULATION_DEFAULT), &alone[i]);
        assert_int_equal(alone[i].n, N_ANSWER);
        assert_int_equal(alone[i].n_drafted, 0);
    }
    engine_close(&e);

    engine_open(&e, path, &(struct engine_setup){.n_threads = 2});
    check_alone(&e, c, alone, INFER_SPECULATION_NGRAM, &sum); /* paced as it comes */
    e.session->draft.fixed = 1;
    check_alone(&e, c, alone, INFER_SPECULATION_NGRAM, &sum);
    print_message("  n-grams: %d of %d accepted\n", (int)sum.n_accepted, (int)sum.n_drafted);
    assert_true(sum.n_drafted > 0);
    struct oracle oracle = {c, alone, 3, 0};
    set_hook(&e, &oracle);
    check_alone(&e, c, alone, INFER_SPECULATION_NGRAM, &sum);
    assert_true(sum.n_drafted > 0);
    assert_int_equal(sum.n_accepted, 0);
    oracle.right = 200;
    check_alone(&e, c, alone, INFER_SPECULATION_NGRAM, &sum);
    assert_true(sum.n_accepted > sum.n_drafted / 4 && sum.n_accepted < sum.n_drafted);
    oracle.right = 256;
    check_alone(&e, c, alone, INFER_SPECULATION_NGRAM, &sum);
    assert_int_equal(sum.n_accepted, sum.n_drafted);
    engine_close(&e);

    check_small(path, c, alone, 0);
    check_small(path, c, alone, 230);
    check_itself(path, c, alone);
    remove_path(m, path);
}

static void disturb(const char *name, size_t n_dims, const uint64_t *dims, float *values,
                    void *user_data)
{
    uint64_t n = n_dims > 1 ? dims[0] * dims[1] : dims[0];
    (void)name;
    for (uint64_t i = 0; i < n; i++)
        values[i] *= 1 + 0.15f * test_randf(user_data);
}

/* The token that a model says after some others. */
static infer_token say(struct engine *e, const infer_token *tokens, size_t n)
{
    struct engine_answer answer;
    engine_greedy(e, tokens, n, 1, &answer);
    infer_token token = answer.tokens[0];
    engine_answer_free(&answer);
    return token;
}

/* A draft model that is right at times drafts what it says after the tokens of the answer, so that
 * nothing of wrong drafts is left in its cache. */
static void test_rolled_back(void **state)
{
    (void)state;
    const struct model_case m = {"llama", NULL};
    struct arch_fixture f;
    struct engine e, small;
    struct request_case c[N_REQUESTS];
    struct trace plain = {.n = 0}, fast = {.n = 0};
    infer_token all[N_PROMPT + N_ANSWER];
    char path[512], folder[512];
    uint64_t random = 5;
    int right[N_ANSWER], n_right = 0;
    make_path(&m, path, sizeof path);
    arch_fixture_open(&f, m.name);
    arch_folder_make(folder, sizeof folder);
    arch_fixture_write_changed(&f, folder, "F32", disturb, &random);
    arch_fixture_close(&f);
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1});
    engine_open(&small, folder, &(struct engine_setup){.n_threads = 1});
    make_requests(c, e.model->hp.n_vocab);
    finish(submit(&e, &c[0], INFER_SPECULATION_OFF), &plain);
    memcpy(all, c[0].prompt, c[0].n * sizeof *all);
    memcpy(all + c[0].n, plain.tokens, plain.n * sizeof *all);
    for (size_t i = 0; i < plain.n; i++)
        n_right += right[i] = say(&small, all, c[0].n + i) == plain.tokens[i];
    assert_true(n_right > 5 && n_right < N_ANSWER - 5);

    infer_session_destroy(&e.session);
    infer_session_options o = {.struct_size = sizeof o, .draft_model = small.model};
    assert_ok(infer_session_create(&e.session, e.model, &o));
    e.session->draft.fixed = 1;
    finish(submit(&e, &c[0], INFER_SPECULATION_DEFAULT), &fast);
    assert_same(&fast, &plain);
    int64_t n_drafted = 0, n_accepted = 0;
    for (int64_t at = 1; at < N_ANSWER;) { /* the first token comes with the prompt */
        int64_t n = N_ANSWER - at - 1 < 16 ? N_ANSWER - at - 1 : 16, k = 0;
        while (k < n && right[at + k])
            k++;
        n_drafted += n;
        n_accepted += k;
        at += k + 1;
    }
    print_message("  %d of %d accepted\n", (int)n_accepted, (int)n_drafted);
    assert_int_equal(fast.n_drafted, n_drafted);
    assert_int_equal(fast.n_accepted, n_accepted);
    engine_close(&small);
    engine_close(&e);
    remove_path(&m, folder);
    remove_path(&m, path);
}

/* Models that cannot take tokens back say so. */
static void test_recurrent(void **state)
{
    (void)state;
    static const char *const names[] = {"mamba2", "granite-hybrid", "qwen3next"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct model_case m = {names[i], NULL};
        struct engine e;
        char path[512];
        infer_request *request = NULL;
        infer_session *session = NULL;
        infer_request_options o = {
            .struct_size = sizeof o, .prompt = "a", .speculation = INFER_SPECULATION_NGRAM};
        infer_session_options s = {.struct_size = sizeof s};
        make_path(&m, path, sizeof path);
        engine_open(&e, path, &(struct engine_setup){.n_threads = 1});
        assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_UNSUPPORTED);
        assert_non_null(strstr(infer_last_error(), "recurrent state cannot take tokens back"));
        assert_non_null(strstr(infer_last_error(), e.model->arch_name));
        s.draft_model = e.model;
        assert_int_equal(infer_session_create(&session, e.model, &s), INFER_ERR_UNSUPPORTED);
        assert_null(session);
        engine_close(&e);
        remove_path(&m, path);
    }
}

int main(void)
{
    struct CMUnitTest tests[N_MODELS + 2] = {[N_MODELS] = cmocka_unit_test(test_recurrent),
                                             cmocka_unit_test(test_rolled_back)};
    for (size_t i = 0; i < N_MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL,
                                       (void *)(uintptr_t)&models[i]};
    return cmocka_run_group_tests_name("speculation", tests, NULL, NULL);
}
