/* The n-th allocation fails, for every n of load and generate: each time an
 * error with a sentence, no crash, and not one byte left behind. */
#include "support/engine.h"

#include <stdatomic.h>
#include <unistd.h>

struct counter {
    _Atomic long n_calls, live;
    long fail_at; /* 0: never */
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct counter *c = user_data;
    void *p = NULL;
    if (atomic_fetch_add(&c->n_calls, 1) + 1 == c->fail_at)
        return NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    atomic_fetch_add(&c->live, 1);
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    struct counter *c = user_data;
    atomic_fetch_sub(&c->live, 1);
    free(ptr);
}

static int32_t keep_text(const char *text, size_t size, void *user_data)
{
    strncat(user_data, text, size);
    return 0;
}

/* A request, a fork of it with sampling of its own, both to their end; pins and clears. */
static infer_status run_fork(infer_session *session, infer_kv_cache *cache,
                             const infer_request_options *options, char *text)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = 3};
    infer_logit_bias bias = {.token = 301, .bias = 1};
    infer_fork_options f = {.struct_size = sizeof f, .sampling = &sampling, .max_tokens = 4};
    infer_kv_prefix prefix = {.struct_size = sizeof prefix, .cache_namespace = "tenant"};
    infer_request *requests[2] = {NULL, NULL};
    infer_event event = {.struct_size = sizeof event};
    sampling.logit_bias = &bias;
    sampling.n_logit_bias = 1;
    infer_status st = infer_session_submit(&requests[0], session, options);
    if (st == INFER_OK)
        st = infer_request_fork(&requests[1], requests[0], &f);
    for (int i = 0; i < 2 && st == INFER_OK; i++) {
        while ((st = infer_request_next(requests[i], &event)) == INFER_OK)
            strncat(text, event.text, event.text_size);
        st = st == INFER_DONE ? INFER_OK : st;
    }
    if (st == INFER_OK) {
        prefix.tokens = infer_request_prompt(requests[0], &prefix.n_tokens);
        st = infer_kv_cache_pin(cache, &prefix, NULL);
    }
    if (st == INFER_OK)
        st = infer_kv_cache_clear(cache);
    infer_request_destroy(&requests[1]);
    infer_request_destroy(&requests[0]);
    return st;
}

/* Saved, given up, restored under the same grammar; the text is appended. */
static infer_status move_once(infer_session *session, const infer_request_options *options,
                              char *text)
{
    static char bytes[1 << 20];
    size_t size = sizeof bytes;
    infer_restore_options o = {.struct_size = sizeof o, .grammar = options->grammar};
    infer_request *request = NULL, *restored = NULL;
    infer_event event = {.struct_size = sizeof event};
    infer_status st = infer_session_submit(&request, session, options);
    if (st == INFER_OK)
        st = infer_request_next(request, &event);
    if (st == INFER_OK)
        strncat(text, event.text, event.text_size);
    if (st == INFER_OK)
        st = infer_request_save_memory(request, bytes, &size);
    if (st == INFER_ERR_INVALID) /* it failed behind its first token: why, it says itself */
        while ((st = infer_request_next(request, &event)) == INFER_OK)
            continue;
    if (st == INFER_OK)
        st = infer_session_restore_memory(&restored, session, bytes, size, &o);
    infer_request_destroy(&request);
    while (st == INFER_OK && (st = infer_request_next(restored, &event)) == INFER_OK)
        strncat(text, event.text, event.text_size);
    infer_request_destroy(&restored);
    return st == INFER_DONE ? INFER_OK : st;
}

/* An answer under a schema, some of it forced; the text is appended. */
static infer_status constrain_once(infer_session *session, const infer_allocator *allocator,
                                   char *text)
{
    infer_grammar *grammar = NULL;
    infer_grammar_options g = {.struct_size = sizeof g,
                               .text =
                                   "{\"properties\":{\"answer\":{\"enum\":[\"yes\",\"yellow\"]}},"
                                   "\"type\":\"object\",\"required\":[\"answer\"],"
                                   "\"additionalProperties\":false}",
                               .compact = 1,
                               .allocator = allocator};
    infer_request_options r = {.struct_size = sizeof r, .prompt = "Well?", .max_tokens = 20};
    infer_status st = infer_grammar_create(&grammar, &g);
    r.grammar = grammar;
    if (st == INFER_OK)
        st = infer_session_generate(session, NULL, &r, keep_text, text);
    if (st == INFER_OK)
        st = move_once(session, &r, text);
    infer_grammar_destroy(&grammar);
    return st;
}

/* A request saved and restored, to memory and a file, and its prefix too. */
static infer_status run_snapshot(infer_session *session, infer_kv_cache *cache,
                                 const infer_request_options *options, char *text)
{
    static char bytes[1 << 20];
    static const char path[] = "allocation-test-snapshot"; /* in the folder tests run in */
    size_t size = sizeof bytes, prefix_size = sizeof bytes;
    infer_request *request = NULL, *restored = NULL;
    infer_event event = {.struct_size = sizeof event};
    infer_kv_prefix prefix = {.struct_size = sizeof prefix, .cache_namespace = "tenant"};
    infer_restore_options o = {.struct_size = sizeof o, .cache_namespace = "tenant"};
    infer_message message = {.role = "user", .content = "Who are you, and who are all the others?"};
    infer_request_options r = *options;
    r.messages = &message;
    r.prompt_logprobs = 0;
    infer_status st = infer_session_submit(&request, session, &r);
    if (st == INFER_OK)
        st = infer_request_next(request, &event);
    if (st == INFER_OK)
        st = infer_request_save(request, path);
    if (st == INFER_OK)
        st = infer_request_save_memory(request, bytes, &size);
    if (st == INFER_OK)
        st = infer_session_restore(&restored, session, path, &o);
    infer_request_destroy(&restored);
    unlink(path);
    if (st == INFER_OK)
        st = infer_session_restore_memory(&restored, session, bytes, size, &o);
    if (st == INFER_OK) {
        while ((st = infer_request_next(restored, &event)) == INFER_OK)
            strncat(text, event.text, event.text_size);
        st = st == INFER_DONE ? INFER_OK : st;
    }
    if (st == INFER_OK) {
        prefix.tokens = infer_request_prompt(restored, &prefix.n_tokens);
        st = infer_kv_cache_save_prefix_memory(cache, &prefix, bytes, &prefix_size);
    }
    if (st == INFER_OK)
        st = infer_kv_cache_clear(cache);
    if (st == INFER_OK)
        st = infer_kv_cache_load_prefix_memory(cache, bytes, prefix_size, &o, NULL);
    infer_request_destroy(&restored);
    infer_request_destroy(&request);
    return st;
}

/* A request goes to the swap store for a more urgent one, and comes back. */
static infer_status swap_once(infer_model *model, infer_kv_cache *cache, char *text)
{
    infer_session_options s = {
        .struct_size = sizeof s, .kv_cache = cache, .max_requests = 1, .step_tokens = 8};
    infer_request_options r = {.struct_size = sizeof r, .prompt = "Who", .max_tokens = 4};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session *session = NULL;
    infer_request *requests[2] = {NULL, NULL};
    infer_event event = {.struct_size = sizeof event};
    infer_status st = infer_session_create(&session, model, &s);
    for (int i = 0; i < 2 && st == INFER_OK; i++) {
        r.priority = -i;
        st = infer_session_submit(&requests[i], session, &r);
        if (st == INFER_OK)
            infer_session_step(session); /* the request says what fails there */
    }
    for (int i = 0; i < 2 && st == INFER_OK; i++) {
        while ((st = infer_request_next(requests[i], &event)) == INFER_OK)
            strncat(text, event.text, event.text_size);
        st = st == INFER_DONE ? INFER_OK : st;
    }
    if (st == INFER_OK && infer_kv_cache_get_stats(cache, &kv) == INFER_OK)
        assert_int_equal(kv.n_swapped_in, 1);
    infer_request_destroy(&requests[0]);
    infer_request_destroy(&requests[1]);
    infer_session_destroy(&session);
    return st;
}

/* The best answers of a beam search and of samples; their texts join. */
static infer_status search_once(infer_session *session, char *text)
{
    infer_request_options r = {.struct_size = sizeof r, .prompt = "Who", .max_tokens = 4};
    infer_beam_options beams = {.struct_size = sizeof beams, .request = &r, .width = 2};
    infer_best_of_options samples = {.struct_size = sizeof samples, .request = &r, .n_samples = 2};
    infer_answers *answers[2] = {NULL, NULL};
    infer_status st = infer_session_beam_search(&answers[0], session, NULL, &beams);
    if (st == INFER_OK)
        st = infer_session_best_of(&answers[1], session, NULL, &samples);
    for (int i = 0; i < 2; i++) {
        infer_answer a = {.struct_size = sizeof a};
        if (st == INFER_OK && (st = infer_answers_at(answers[i], 0, &a)) == INFER_OK)
            strncat(text, a.text, a.text_size);
        infer_answers_destroy(&answers[i]);
    }
    return st;
}

/* A decision, whose shares join the text, and searches. */
static infer_status decide_once(infer_session *session, char *text)
{
    static const char *const labels[] = {" Oslo", " a kite", " Monday."};
    infer_message message = {.role = "user", .content = "Where do you live?"};
    infer_request_options r = {.struct_size = sizeof r, .messages = &message, .n_messages = 1};
    infer_decide_options o = {.struct_size = sizeof o, .request = &r, .ending = "."};
    infer_decision d = {.struct_size = sizeof d};
    double shares[3];
    infer_status st = infer_session_decide(&d, shares, session, NULL, labels, 3, &o);
    if (st == INFER_OK)
        sprintf(text + strlen(text), "%.9g %.9g %d", shares[0], shares[1], d.choice);
    return st == INFER_OK ? search_once(session, text) : st;
}

/* Vectors of texts with a prompt, their first numbers join the text. */
static infer_status embed_once(infer_session *session, char *text)
{
    static const char *const texts[] = {"Anna has a red kite.", "rice", "Oslo", "Hugo", "Monday"};
    static float vectors[5 * 2];
    infer_embed_options o = {.struct_size = sizeof o,
                             .prompt = "Tell me what this is about: ",
                             .dims = 2,
                             .pooling = INFER_POOLING_LAST,
                             .truncate = 1,
                             .tenant = "who pays",
                             .cache_namespace = "tenant"};
    infer_embed_report report = {.struct_size = sizeof report};
    infer_status st = infer_session_embed(vectors, session, texts, NULL, 5, &o, &report);
    for (int i = 0; i < 10 && st == INFER_OK; i++)
        sprintf(text + strlen(text), "%.9g ", (double)vectors[i]);
    o.rerank_template = "Is {document} about {query}? ";
    o.rerank_yes = "What";
    o.rerank_no = "day";
    if (st == INFER_OK)
        st = infer_session_rerank(vectors, session, "kites", texts, NULL, 2, &o, &report);
    if (st == INFER_OK)
        sprintf(text + strlen(text), "%.9g %.9g", (double)vectors[0], (double)vectors[1]);
    return st;
}

/* Weights that go and come back under a request, and a model that is swapped under another. */
static infer_status live_once(infer_session *session, infer_model *model, infer_kv_cache *cache,
                              char *text)
{
    infer_request_options r = {.struct_size = sizeof r, .prompt = "Once", .max_tokens = 5};
    infer_swap_options o = {
        .struct_size = sizeof o, .kv_cache = cache, .draft_model = model, .model_name = "again"};
    infer_model_restore_options read = {.struct_size = sizeof read, .read_weights = 1};
    infer_request *requests[2] = {NULL, NULL};
    infer_event event = {.struct_size = sizeof event};
    infer_status st = infer_session_submit(&requests[0], session, &r);
    if (st == INFER_OK)
        st = infer_request_next(requests[0], &event);
    if (st == INFER_OK)
        st = infer_model_evict(model);
    if (st == INFER_OK)
        st = infer_model_restore(model, &read);
    if (st == INFER_OK)
        st = infer_session_swap_model(session, model, &o);
    if (st == INFER_OK)
        st = infer_session_submit(&requests[1], session, &r);
    for (int i = 0; i < 2 && st == INFER_OK; i++) {
        while ((st = infer_request_next(requests[i], &event)) == INFER_OK)
            strncat(text, event.text, event.text_size);
        st = st == INFER_DONE ? INFER_OK : st;
    }
    infer_request_destroy(&requests[0]);
    infer_request_destroy(&requests[1]);
    return st;
}

/* What an application has open. */
struct world {
    infer_allocator allocator;
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
};

static infer_status world_open(struct world *w, const char *path, struct counter *c,
                               int32_t n_threads)
{
    *w = (struct world){.allocator = {sizeof w->allocator, counting_alloc, counting_free, c}};
    infer_device_options d = {
        .struct_size = sizeof d, .n_threads = n_threads, .allocator = &w->allocator};
    infer_status st = infer_device_create(&w->device, 0, &d);
    infer_model_options m = {
        .struct_size = sizeof m, .device = w->device, .allocator = &w->allocator};
    if (st == INFER_OK)
        st = infer_model_load(&w->model, path, &m);
    infer_kv_cache_options k = {.struct_size = sizeof k, .budget_bytes = 1 << 20};
    k.swap_bytes = 1 << 20;
    k.swap_dir = "."; /* where tests run; a file without a name */
    k.swap_always = 1;
    if (st == INFER_OK)
        st = infer_kv_cache_create(&w->cache, w->model, &k);
    infer_session_options s = {.struct_size = sizeof s, .kv_cache = w->cache, .step_tokens = 8};
    s.model_name = "tiny";
    s.metrics_names = INFER_METRICS_VLLM;
    s.draft_model = w->model; /* it drafts for itself */
    return st == INFER_OK ? infer_session_create(&w->session, w->model, &s) : st;
}

static void world_close(struct world *w)
{
    infer_session_destroy(&w->session);
    infer_kv_cache_destroy(&w->cache);
    infer_model_destroy(&w->model);
    infer_device_destroy(&w->device);
}

/* A request with everything that takes memory. */
static infer_status with_request(struct world *w, char *text,
                                 infer_status (*act)(struct world *, infer_request_options *,
                                                     char *))
{
    const char *stop[] = {"never said"};
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .top_k = 20};
    sampling.repetition_penalty = 1.1f;
    infer_message message = {.role = "user", .content = "Who are you?"};
    infer_request_options r = {.struct_size = sizeof r,
                               .messages = &message,
                               .n_messages = 1,
                               .sampling = &sampling,
                               .max_tokens = 6,
                               .ignore_eos = 1,
                               .stop = stop,
                               .n_stop = 1,
                               .logprobs = 1,
                               .n_top_logprobs = 2,
                               .prompt_logprobs = 1,
                               .want_logits = 1,
                               .speculation = INFER_SPECULATION_NGRAM};
    return act(w, &r, text);
}

static infer_status act_generate(struct world *w, infer_request_options *r, char *text)
{
    char metrics[32768];
    size_t size = sizeof metrics;
    infer_status st = infer_session_generate(w->session, NULL, r, keep_text, text);
    return st == INFER_OK ? infer_session_metrics(w->session, metrics, &size) : st;
}

static void make_urgent(infer_request_options *r)
{
    r->cache_namespace = "tenant";
    r->tenant = "who pays";
    r->priority = -1;
    r->speculation = INFER_SPECULATION_DRAFT;
}

static infer_status act_fork(struct world *w, infer_request_options *r, char *text)
{
    make_urgent(r);
    return run_fork(w->session, w->cache, r, text);
}

static infer_status act_snapshot(struct world *w, infer_request_options *r, char *text)
{
    make_urgent(r);
    return run_snapshot(w->session, w->cache, r, text);
}

/* --------------------------------------------------------------------- parts */

static infer_status open_only(struct world *w, char *text)
{
    (void)w, (void)text;
    return INFER_OK;
}

static infer_status generate(struct world *w, char *text)
{
    return with_request(w, text, act_generate);
}

static infer_status fork_and_draft(struct world *w, char *text)
{
    return with_request(w, text, act_fork);
}

static infer_status snapshot(struct world *w, char *text)
{
    return with_request(w, text, act_snapshot);
}

static infer_status constrain(struct world *w, char *text)
{
    return constrain_once(w->session, &w->allocator, text);
}

static infer_status decide(struct world *w, char *text)
{
    return decide_once(w->session, text);
}

static infer_status embed(struct world *w, char *text)
{
    return embed_once(w->session, text);
}

static infer_status live(struct world *w, char *text)
{
    return live_once(w->session, w->model, w->cache, text);
}

static infer_status swap(struct world *w, char *text)
{
    return swap_once(w->model, w->cache, text);
}

/* Each in a world of its own, so that failing all of its allocations takes no longer than it must.
 */
static const struct part {
    const char *name;
    infer_status (*run)(struct world *w, char *text);
} parts[] = {
    {"open", open_only},    {"generate", generate}, {"fork", fork_and_draft},
    {"snapshot", snapshot}, {"grammar", constrain}, {"decide", decide},
    {"life", live},         {"swap", swap},         {"embed", embed},
};

/* `n_open` (not NULL) receives how many allocations there were before the part. */
static infer_status run_once(const struct part *part, const char *path, struct counter *c,
                             int32_t n_threads, char *text, long *n_open)
{
    struct world w;
    infer_status st = world_open(&w, path, c, n_threads);
    if (n_open)
        *n_open = c->n_calls;
    text[0] = 0;
    if (st == INFER_OK)
        st = part->run(&w, text);
    world_close(&w);
    return st;
}

static void fail_part(const struct part *part, const char *path, int32_t n_threads)
{
    char expected[1024], text[1024];
    struct counter c = {0};
    long n_open, n_spared = 0;
    assert_int_equal(run_once(part, path, &c, n_threads, expected, &n_open), INFER_OK);
    assert_int_equal(c.live, 0);
    const long n = c.n_calls, first = part->run == open_only ? 1 : n_open + 1;
    for (long i = first; i <= n; i++) {
        c = (struct counter){.fail_at = i};
        infer_status st = run_once(part, path, &c, n_threads, text, NULL);
        if (st == INFER_OK) { /* the regex compiler works without its just-in-time code too */
            assert_string_equal(text, expected);
            n_spared++;
        } else if (st != INFER_ERR_NO_MEMORY || !strstr(infer_last_error(), "memory")) {
            fail_msg("%s, allocation %ld of %ld: status %d (%s)", part->name, i, n, (int)st,
                     infer_last_error());
        }
        if (c.live)
            fail_msg("%s, allocation %ld of %ld: %ld blocks leak", part->name, i, n, (long)c.live);
    }
    c = (struct counter){0};
    assert_int_equal(run_once(part, path, &c, n_threads, text, NULL), INFER_OK);
    assert_string_equal(text, expected);
    print_message("%s: %ld allocations, each failed once; %ld were not needed\n", part->name,
                  n - first + 1, n_spared);
    assert_true(n - first > 5 && n_spared <= 2 + (n - first) / 10);
}

static void fail_each(const char *path, int32_t n_threads)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        fail_part(&parts[i], path, n_threads);
}

static void test_one_thread(void **state)
{
    (void)state;
    fail_each(test_source(TINY_MODEL), 1);
}

static void test_two_threads(void **state)
{
    (void)state;
    fail_each(test_source(TINY_MODEL), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests_name("allocation", tests, NULL, NULL);
}
