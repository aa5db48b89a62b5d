/* A random life of a session on a cache that is too small: submit, fork, cancel, destroy, step;
 * after every step all structures are walked. What ends says what the same request says alone. */
#include "support/cache_check.h"
#include "support/engine.h"

#include "engine/session.h"

#define N_SLOTS    14
#define N_ACTS     2500
#define N_PROMPT   60
#define TOKENS_MAX 20
#define SAID_MAX   (N_PROMPT + 6 * TOKENS_MAX)

/* A request, and what came of it. */
struct slot {
    infer_request *request;
    infer_token prompt[SAID_MAX], said[TOKENS_MAX];
    size_t n_prompt, n_said;
    uint64_t seed;
    int64_t max_tokens;
    int32_t generation; /* of forks */
    int cancelled;
};

struct life {
    struct engine e, plain;
    struct slot slots[N_SLOTS];
    uint64_t random;
    int n_checked, n_forks, n_cancelled;
};

static const char *const tenants[] = {NULL, "a", "b"};

static int32_t draw(struct life *l, int32_t n)
{
    return (int32_t)(test_rand(&l->random) % (uint32_t)n);
}

static infer_status submit(infer_session *session, const struct slot *s, const char *tenant,
                           infer_request **out)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = s->seed};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = s->prompt,
                               .n_tokens = s->n_prompt,
                               .sampling = &sampling,
                               .max_tokens = s->max_tokens,
                               .ignore_eos = 1,
                               .cache_namespace = tenant};
    return infer_session_submit(out, session, &o);
}

static void start(struct life *l, struct slot *s)
{
    *s = (struct slot){.n_prompt = (size_t)(1 + draw(l, N_PROMPT)),
                       .seed = (uint64_t)draw(l, 1000),
                       .max_tokens = 1 + draw(l, TOKENS_MAX)};
    int32_t text = draw(l, 3), own = draw(l, (int32_t)s->n_prompt + 1);
    for (size_t i = 0; i < s->n_prompt; i++)
        s->prompt[i] = 300 + (infer_token)i * 3 + text + ((int32_t)i >= own ? draw(l, 50) : 0);
    assert_ok(submit(l->e.session, s, tenants[draw(l, 3)], &s->request));
}

static void fork_one(struct life *l, struct slot *from, struct slot *s)
{
    infer_fork_options o = {.struct_size = sizeof o, .seed = (uint64_t)(1 + draw(l, 1000))};
    if (from->generation == 5)
        return;
    *s = (struct slot){.seed = o.seed, .generation = from->generation + 1};
    s->max_tokens = o.max_tokens = 1 + draw(l, TOKENS_MAX);
    assert_ok(infer_request_fork(&s->request, from->request, &o));
    const infer_token *prompt = infer_request_prompt(s->request, &s->n_prompt);
    assert_true(s->n_prompt <= SAID_MAX);
    memcpy(s->prompt, prompt, s->n_prompt * sizeof *prompt);
    l->n_forks++;
}

/* Destroys a request, and compares it if it came to its end. */
static void end(struct life *l, struct slot *s)
{
    infer_request_info info = {.struct_size = sizeof info};
    infer_event event = {.struct_size = sizeof event};
    infer_request *alone = NULL;
    assert_ok(infer_request_get_info(s->request, &info));
    infer_request_destroy(&s->request);
    if (info.finish != INFER_FINISH_LENGTH) {
        l->n_cancelled++;
        return;
    }
    assert_int_equal(s->n_said, s->max_tokens);
    assert_ok(submit(l->plain.session, s, NULL, &alone));
    for (size_t i = 0; i < s->n_said; i++) {
        assert_ok(infer_request_next(alone, &event));
        assert_int_equal(event.token, s->said[i]);
    }
    infer_request_destroy(&alone);
    l->n_checked++;
}

static size_t add_table(const struct cache_table **tables, size_t n, const infer_request *r)
{
    for (size_t i = 0; i < n; i++)
        if (tables[i] == &r->table)
            return n;
    tables[n] = &r->table;
    return n + 1;
}

static void step(struct life *l)
{
    const struct cache_table *tables[2 * N_SLOTS];
    infer_event event = {.struct_size = sizeof event};
    size_t n = 0;
    assert_true(infer_session_step(l->e.session) >= 0);
    for (size_t i = 0; i < N_SLOTS; i++) {
        struct slot *s = &l->slots[i];
        if (!s->request)
            continue;
        while (infer_request_poll(s->request, &event) == INFER_OK)
            if (event.type == INFER_EVENT_TOKEN)
                s->said[s->n_said++] = event.token;
        n = add_table(tables, n, s->request);
        if (s->request->source) /* its handle may be gone */
            n = add_table(tables, n, s->request->source);
    }
    cache_check(l->e.cache->blocks, tables, n);
}

static void act(struct life *l)
{
    struct slot *s = &l->slots[draw(l, N_SLOTS)], *other = &l->slots[draw(l, N_SLOTS)];
    int32_t what = draw(l, 100);
    if (what < 45) {
        step(l);
    } else if (!s->request && other->request && what < 75) {
        fork_one(l, other, s);
    } else if (!s->request) {
        start(l, s);
    } else if (what < 48) {
        infer_request_cancel(s->request);
    } else if (what < 49) {
        assert_ok(infer_kv_cache_clear(l->e.cache));
    } else {
        infer_request_info info = {.struct_size = sizeof info};
        assert_ok(infer_request_get_info(s->request, &info));
        if (info.finish || what < 52)
            end(l, s);
    }
}

static void live(uint64_t seed, int32_t n_blocks, int disable)
{
    static struct life l;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session_stats stats = {.struct_size = sizeof stats};
    struct engine_setup setup = {.n_threads = 1, .disable_prefix_cache = 1};
    memset(&l, 0, sizeof l);
    l.random = seed;
    engine_open(&l.plain, test_source(TINY_MODEL), &setup);
    infer_kv_cache_get_stats(l.plain.cache, &kv);
    setup.kv_budget_bytes = kv.block_bytes * (uint64_t)n_blocks;
    setup.disable_prefix_cache = disable;
    setup.step_tokens = 24;
    engine_open(&l.e, test_source(TINY_MODEL), &setup);
    for (int32_t i = 0; i < N_ACTS; i++)
        act(&l);
    while (l.e.session->n_running || l.e.session->queue.n)
        step(&l);
    for (size_t i = 0; i < N_SLOTS; i++)
        if (l.slots[i].request)
            end(&l, &l.slots[i]);
    cache_check(l.e.cache->blocks, NULL, 0);
    infer_kv_cache_get_stats(l.e.cache, &kv);
    infer_session_get_stats(l.e.session, &stats);
    assert_int_equal(kv.n_blocks_used, 0);
    print_message("%d blocks: %d compared, %d forks, %d cancelled, %d preempted, %d tokens cached, "
                  "%d blocks evicted\n",
                  n_blocks, l.n_checked, l.n_forks, l.n_cancelled, (int)stats.n_preempted,
                  (int)stats.n_cached_tokens, (int)kv.n_evicted);
    assert_true(l.n_checked > 50 && l.n_forks > 50 && l.n_cancelled > 5 && stats.n_preempted > 3);
    assert_true(stats.n_cached_tokens > 200 && (disable || kv.n_evicted > 20));
    engine_close(&l.e);
    engine_close(&l.plain);
}

static void test_small(void **state)
{
    (void)state;
    live(1, 13, 0);
}

static void test_middle(void **state)
{
    (void)state;
    live(2, 17, 0);
}

static void test_without_prefix_cache(void **state)
{
    (void)state;
    live(3, 16, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_middle),
        cmocka_unit_test(test_without_prefix_cache),
    };
    return cmocka_run_group_tests_name("prefix_life", tests, NULL, NULL);
}
