/* Preempted and swapped gives the same logits, bit for bit, as never preempted: on models of every
 * kind of block, in every KV type, whatever happens to the store. */
#include "arch_fixture.h"
#include "support/cache_check.h"
#include "support/engine.h"

#include "engine/session.h"

#include <unistd.h>

#define N_PROMPT   57
#define N_ANSWER   30
#define N_REQUESTS 6

static const struct model_case {
    const char *name, *path;
    int recurrent;
} models[] = {
    {"tiny", NULL, 0},           {"stories260K", "llm/stories260K/stories260K.f32.gguf", 0},
    {"llama", NULL, 0},          {"mistral-window", NULL, 0},
    {"gemma3", NULL, 0},         {"llama4-chunks", NULL, 0},
    {"deepseek-v2", NULL, 0},    {"mamba2", NULL, 1},
    {"granite-hybrid", NULL, 1}, {"qwen3next", NULL, 1},
};

#define N_MODELS (sizeof models / sizeof *models)

static const infer_kv_type types[] = {INFER_KV_F32, INFER_KV_F16, INFER_KV_Q8, INFER_KV_Q4,
                                      INFER_KV_F8};

#define N_TYPES (sizeof types / sizeof *types)

struct trace {
    infer_token tokens[N_ANSWER];
    uint64_t logits[N_ANSWER];
    size_t n;
};

struct request_case {
    infer_token prompt[N_PROMPT];
    size_t n;
    uint64_t seed;
    int32_t priority;
};

static infer_request *submit(struct engine *e, const struct request_case *c)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = c->seed};
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = c->prompt,
                               .n_tokens = c->n,
                               .sampling = &sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1,
                               .want_logits = 1,
                               .priority = c->priority};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &o));
    return request;
}

static void take(infer_request *request, struct trace *t)
{
    infer_event event = {.struct_size = sizeof event};
    while (infer_request_poll(request, &event) == INFER_OK && event.type == INFER_EVENT_TOKEN) {
        assert_true(t->n < N_ANSWER);
        t->tokens[t->n] = event.token;
        t->logits[t->n++] = arch_hash(event.logits, event.n_logits * sizeof *event.logits);
    }
}

static void assert_same(const struct trace *a, const struct trace *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
}

static void run_to_end(struct engine *e)
{
    while (infer_session_step(e->session) == INFER_OK)
        continue;
}

static infer_kv_cache_stats kv_stats(const struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    return kv;
}

/* --------------------------------------------------------------------- the load */

static char folder[512];

/* A model, a KV type, and what each request says alone. */
struct world {
    const struct model_case *m;
    char path[512];
    struct engine_setup setup;
    struct request_case c[N_REQUESTS];
    struct trace alone[N_REQUESTS];
};

/* Later ones are more urgent, and some begin alike. */
static void make_requests(struct request_case *c, const struct infer_model *model)
{
    uint64_t random = 7;
    for (int32_t r = 0; r < N_REQUESTS; r++) {
        c[r] = (struct request_case){
            .n = N_PROMPT - (size_t)r, .seed = 100 + (uint64_t)r, .priority = -(r % 3)};
        for (size_t i = 0; i < c[r].n; i++)
            c[r].prompt[i] = r % 3 && i < 35
                                 ? c[r - 1].prompt[i]
                                 : (infer_token)(test_rand(&random) % (uint32_t)model->hp.n_vocab);
    }
}

static void make_world(struct world *w, const struct model_case *m, infer_kv_type type)
{
    struct engine e;
    memset(w->alone, 0, sizeof w->alone);
    w->m = m;
    w->setup = (struct engine_setup){.n_threads = 1, .kv_type = type, .disable_prefix_cache = 1};
    engine_open(&e, w->path, &w->setup);
    make_requests(w->c, e.model);
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_request *r = submit(&e, &w->c[i]);
        run_to_end(&e);
        take(r, &w->alone[i]);
        assert_int_equal(w->alone[i].n, N_ANSWER);
        infer_request_destroy(&r);
    }
    w->setup.kv_budget_bytes = cache_check_budget(e.cache->blocks, 11);
    w->setup.step_tokens = 20;
    w->setup.max_requests = 2; /* states are never short otherwise */
    w->setup.disable_prefix_cache = 0;
    w->setup.swap_bytes = (uint64_t)8 << 20;
    engine_close(&e);
}

static void check_structures(struct engine *e, infer_request *const *requests)
{
    const struct cache_table *tables[N_REQUESTS];
    size_t n = 0;
    for (size_t i = 0; i < N_REQUESTS; i++)
        if (requests[i])
            tables[n++] = &requests[i]->table;
    cache_check(e->cache->blocks, tables, n);
}

/* Changes a byte of what waits in the store, each time once; `done` is how often it was. */
static void damage(struct engine *e, infer_request *const *requests, int64_t *done)
{
    const struct cache_swap *swap = e->cache->swap;
    for (int i = 0; i < N_REQUESTS; i++) {
        const struct cache_swapped *s = requests[i] ? &requests[i]->swapped : NULL;
        uint8_t byte;
        if (!s || !s->n_pages || done[i] == requests[i]->n_swapped)
            continue;
        done[i] = requests[i]->n_swapped;
        off_t at = (off_t)s->page * (off_t)CACHE_SWAP_PAGE + (off_t)(s->bytes % 1000);
        assert_int_equal(pread(swap->file.fd, &byte, 1, at), 1);
        byte ^= 4;
        assert_int_equal(pwrite(swap->file.fd, &byte, 1, at), 1);
    }
}

/* One after the other comes into a cache for hardly two, and more urgent ones take the place. */
static infer_kv_cache_stats run_load(const struct world *w, const struct engine_setup *setup,
                                     double write_ns, int damages)
{
    struct engine e;
    struct trace t[N_REQUESTS] = {{.n = 0}};
    infer_request *requests[N_REQUESTS] = {NULL};
    infer_session_stats stats = {.struct_size = sizeof stats};
    int64_t done[N_REQUESTS] = {0};
    engine_open(&e, w->path, setup);
    e.session->swap_cost.write_ns = e.session->swap_cost.read_ns = write_ns;
    for (int step = 0, more = 1; more || step < 4 * N_REQUESTS; step++) {
        if (step % 4 == 0 && step / 4 < N_REQUESTS)
            requests[step / 4] = submit(&e, &w->c[step / 4]);
        more = infer_session_step(e.session) == INFER_OK;
        check_structures(&e, requests);
        if (damages)
            damage(&e, requests, done);
        for (int i = 0; i < N_REQUESTS; i++)
            if (requests[i])
                take(requests[i], &t[i]);
    }
    int64_t n_swapped = 0, n_preempted = 0;
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_request_info info = {.struct_size = sizeof info};
        assert_ok(infer_request_get_info(requests[i], &info));
        assert_true(info.n_swapped <= info.n_preempted);
        n_swapped += info.n_swapped;
        n_preempted += info.n_preempted;
        assert_same(&t[i], &w->alone[i]);
        infer_request_destroy(&requests[i]);
    }
    infer_session_get_stats(e.session, &stats);
    infer_kv_cache_stats kv = kv_stats(&e);
    assert_true(stats.n_preempted > 0);
    assert_int_equal(stats.n_preempted, n_preempted);
    assert_int_equal(stats.n_swapped, n_swapped);
    assert_int_equal(kv.n_swapped_out, n_swapped);
    assert_int_equal(kv.swap_used_bytes, 0);
    assert_int_equal(kv.n_blocks_used, 0);
    check_structures(&e, requests);
    engine_close(&e);
    return kv;
}

static void check_ways(const struct world *w)
{
    struct engine_setup setup = w->setup;
    setup.swap_always = 1;
    setup.swap_dir = folder;
    infer_kv_cache_stats kv = run_load(w, &setup, 0, 0);
    print_message("  %s, type %d: %d out, %d back, %d and %d bytes\n", w->m->name,
                  (int)setup.kv_type, (int)kv.n_swapped_out, (int)kv.n_swapped_in,
                  (int)kv.swapped_out_bytes, (int)kv.swapped_in_bytes);
    /* Unless the prefix cache still has all of it. */
    assert_true(kv.n_swapped_out > 0 && kv.n_swapped_in + kv.n_prefix_hits > 0);
    assert_int_equal(kv.n_swap_failed + kv.n_swap_full + kv.n_swap_damaged, 0);
    setup.disable_prefix_cache = 1; /* blocks behind windows are gone then */
    kv = run_load(w, &setup, 0, 0);
    assert_true(kv.n_swapped_out > 0);
    assert_int_equal(kv.n_swapped_in, kv.n_swapped_out);
    assert_int_equal(kv.swapped_in_bytes, kv.swapped_out_bytes);
    assert_int_equal(kv.n_swap_failed + kv.n_swap_full + kv.n_swap_damaged + kv.n_swap_lost, 0);
}

/* What is measured decides: slow stores are left alone, unknown and quick ones are used. */
static void check_choice(const struct world *w)
{
    struct engine_setup setup = w->setup;
    setup.disable_prefix_cache = 1; /* nothing survives by itself */
    infer_kv_cache_stats kv = run_load(w, &setup, 1e12, 0);
    assert_int_equal(kv.n_swapped_out, 0);
    kv = run_load(w, &setup, 1e-12, 0);
    assert_true(kv.n_swapped_out > 0);
    setup.swap_dir = folder;
    kv = run_load(w, &setup, 0, 0);
    assert_true(kv.n_swapped_out > 0);
    setup.swap_bytes = 0;
    setup.swap_dir = NULL;
    kv = run_load(w, &setup, 0, 0);
    assert_int_equal(kv.n_swapped_out + kv.swap_bytes, 0);
}

/* What goes wrong costs computation. */
static void check_failures(const struct world *w)
{
    struct engine_setup setup = w->setup;
    setup.swap_always = 1;
    setup.swap_dir = folder;
    setup.disable_prefix_cache = 1;
    infer_kv_cache_stats kv = run_load(w, &setup, 0, 1);
    assert_true(kv.n_swap_damaged > 0);
    assert_int_equal(kv.n_swapped_in + kv.n_swap_damaged, kv.n_swapped_out);
}

static void test_model(void **state)
{
    struct world w;
    const struct model_case *m = *state;
    if (m == &models[0])
        snprintf(w.path, sizeof w.path, "%s", test_source(TINY_MODEL));
    else
        arch_model_path(m->name, m->path, w.path, sizeof w.path);
    for (size_t i = 0; i < N_TYPES; i++) {
        make_world(&w, m, types[i]);
        check_ways(&w);
    }
    check_choice(&w);
    check_failures(&w);
    if (m != &models[0])
        arch_model_remove(m->path, w.path);
}

/* ------------------------------------------------------- in the middle of waiting */

/* The first request waits in the store for the second. */
static void begin_swapped(struct world *w, struct engine *e, infer_request *r[2])
{
    struct engine_setup setup = w->setup;
    arch_model_path(w->m->name, w->m->path, w->path, sizeof w->path);
    make_world(w, w->m, INFER_KV_F32);
    setup = w->setup;
    setup.max_requests = 1;
    setup.swap_always = 1;
    setup.kv_budget_bytes = 0;
    engine_open(e, w->path, &setup);
    r[0] = submit(e, &w->c[0]);
    for (int i = 0; i < 9; i++)
        assert_ok(infer_session_step(e->session));
    r[1] = submit(e, &w->c[1]);
    assert_ok(infer_session_step(e->session));
    assert_true(r[0]->swapped.n_pages > 0);
    assert_true(kv_stats(e).swap_used_bytes > 0);
}

static void end_swapped(struct world *w, struct engine *e, infer_request *r[2])
{
    struct trace t = {.n = 0};
    run_to_end(e);
    take(r[1], &t);
    assert_same(&t, &w->alone[1]);
    infer_request_destroy(&r[0]);
    infer_request_destroy(&r[1]);
    assert_int_equal(kv_stats(e).swap_used_bytes, 0);
    assert_int_equal(kv_stats(e).n_blocks_used, 0);
    engine_close(e);
    arch_model_remove(w->m->path, w->path);
}

/* Saved, it goes on elsewhere; a fork of it begins with its tokens; it goes on itself. */
static void test_save_and_fork(void **state)
{
    struct world w = {.m = *state};
    struct engine e, other;
    struct trace t = {.n = 0}, rest, forked = {.n = 0};
    infer_request *r[2], *restored = NULL, *fork = NULL;
    infer_fork_options f = {.struct_size = sizeof f, .max_tokens = 5};
    size_t size = 0;
    begin_swapped(&w, &e, r);
    take(r[0], &t);
    assert_true(t.n > 0 && t.n < N_ANSWER);
    rest = t;
    assert_ok(infer_request_save_memory(r[0], NULL, &size));
    uint8_t *bytes = malloc(size);
    assert_ok(infer_request_save_memory(r[0], bytes, &size));
    engine_open(&other, w.path, &(struct engine_setup){.kv_type = INFER_KV_F32, .n_threads = 1});
    assert_ok(infer_session_restore_memory(&restored, other.session, bytes, size, NULL));
    run_to_end(&other);
    take(restored, &rest);
    assert_same(&rest, &w.alone[0]);
    infer_request_destroy(&restored);
    engine_close(&other);
    free(bytes);

    assert_ok(infer_request_fork(&fork, r[0], &f));
    run_to_end(&e);
    take(r[0], &t);
    assert_same(&t, &w.alone[0]);
    assert_true(kv_stats(&e).n_swapped_in >= 1);
    take(fork, &forked);
    assert_int_equal(forked.n, 5);
    infer_request_destroy(&fork);
    end_swapped(&w, &e, r);
}

/* A restored request waits with its blocks, gives them to who runs, and finds them again. */
static void test_restored(void **state)
{
    struct world w = {.m = *state};
    struct engine e;
    struct trace t[3] = {{.n = 0}, {.n = 0}, {.n = 0}};
    infer_request *r[3] = {NULL};
    infer_request_info info = {.struct_size = sizeof info};
    size_t size = 0;
    arch_model_path(w.m->name, w.m->path, w.path, sizeof w.path);
    make_world(&w, w.m, INFER_KV_Q8);
    w.setup.disable_prefix_cache = w.setup.swap_always = 1;
    engine_open(&e, w.path, &w.setup);
    r[0] = submit(&e, &w.c[0]);
    for (int i = 0; i < 9; i++)
        assert_ok(infer_session_step(e.session));
    take(r[0], &t[0]);
    assert_ok(infer_request_save_memory(r[0], NULL, &size));
    uint8_t *bytes = malloc(size);
    assert_ok(infer_request_save_memory(r[0], bytes, &size));
    infer_request_destroy(&r[0]);
    w.c[1].priority = w.c[2].priority = 0;
    for (int i = 1; i < 3; i++)
        r[i] = submit(&e, &w.c[i]);
    assert_ok(infer_session_step(e.session)); /* both have a place now */
    assert_ok(infer_session_restore_memory(&r[0], e.session, bytes, size, NULL));
    assert_ok(infer_session_step(e.session));
    assert_int_equal(kv_stats(&e).n_swapped_out, 0);
    run_to_end(&e);
    assert_ok(infer_request_get_info(r[0], &info));
    assert_int_equal(info.n_preempted, 0);
    assert_int_equal(info.n_swapped, 1);
    for (int i = 0; i < 3; i++) {
        take(r[i], &t[i]);
        assert_same(&t[i], &w.alone[i]);
        infer_request_destroy(&r[i]);
    }
    assert_int_equal(kv_stats(&e).n_swapped_in, kv_stats(&e).n_swapped_out);
    assert_int_equal(kv_stats(&e).swap_used_bytes, 0);
    free(bytes);
    engine_close(&e);
    arch_model_remove(w.m->path, w.path);
}

/* Cancelled and destroyed ones give back what they have in the store at once. */
static void test_cancel(void **state)
{
    struct world w = {.m = *state};
    struct engine e;
    infer_request *r[2];
    begin_swapped(&w, &e, r);
    infer_request_cancel(r[0]);
    assert_int_equal(kv_stats(&e).swap_used_bytes, 0);
    end_swapped(&w, &e, r);
    begin_swapped(&w, &e, r);
    infer_request_destroy(&r[0]);
    assert_int_equal(kv_stats(&e).swap_used_bytes, 0);
    end_swapped(&w, &e, r);
    begin_swapped(&w, &e, r);
    infer_session_destroy(&e.session);
    assert_int_equal(kv_stats(&e).swap_used_bytes, 0);
    infer_request_destroy(&r[0]);
    infer_request_destroy(&r[1]);
    engine_close(&e);
    arch_model_remove(w.m->path, w.path);
}

/* Its beginning was left to others who held it, and has gone with them. */
static void test_lost_beginning(void **state)
{
    struct world w = {.m = *state};
    struct engine e;
    struct trace t = {.n = 0};
    infer_request *r[2];
    arch_model_path(w.m->name, w.m->path, w.path, sizeof w.path);
    make_world(&w, w.m, INFER_KV_F16);
    w.setup.max_requests = 2;
    w.setup.swap_always = 1;
    w.setup.kv_budget_bytes = 0;
    engine_open(&e, w.path, &w.setup);
    r[0] = submit(&e, &w.c[0]);
    for (int i = 0; i < 4; i++)
        assert_ok(infer_session_step(e.session));
    w.c[1].priority = 0;
    infer_request *same = submit(&e, &w.c[1]); /* begins with two blocks of the first */
    for (int i = 0; i < 4; i++)
        assert_ok(infer_session_step(e.session));
    r[1] = submit(&e, &w.c[2]);
    assert_ok(infer_session_step(e.session));
    infer_request *victim = r[0]->swapped.n_pages ? r[0] : same;
    assert_int_equal(victim->swapped.n_shared, 2);
    int i = victim == same;
    infer_request_destroy(i ? &r[0] : &same);
    infer_request_cancel(r[1]);
    assert_ok(infer_kv_cache_clear(e.cache));
    run_to_end(&e);
    take(victim, &t);
    assert_same(&t, &w.alone[i]);
    assert_int_equal(kv_stats(&e).n_swap_lost, 1);
    assert_int_equal(kv_stats(&e).swap_used_bytes, 0);
    infer_request_destroy(&victim);
    infer_request_destroy(&r[1]);
    engine_close(&e);
    arch_model_remove(w.m->path, w.path);
}

static int make_folder(void **state)
{
    (void)state;
    arch_folder_make(folder, sizeof folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    arch_folder_remove(folder); /* fails where something is left in it */
    return 0;
}

#define WITH(f, model)                                                                             \
    {                                                                                              \
#f " " model, f, NULL, NULL, (void *)(uintptr_t)find(model)                                \
    }

static const struct model_case *find(const char *name)
{
    for (size_t i = 0; i < N_MODELS; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

int main(void)
{
    const struct CMUnitTest others[] = {
        WITH(test_save_and_fork, "llama"),     WITH(test_save_and_fork, "mistral-window"),
        WITH(test_save_and_fork, "qwen3next"), WITH(test_cancel, "llama"),
        WITH(test_cancel, "granite-hybrid"),   WITH(test_lost_beginning, "llama"),
        WITH(test_restored, "llama"),          WITH(test_restored, "deepseek-v2"),
    };
    struct CMUnitTest tests[N_MODELS + sizeof others / sizeof *others];
    for (size_t i = 0; i < N_MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL,
                                       (void *)(uintptr_t)&models[i]};
    memcpy(tests + N_MODELS, others, sizeof others);
    return cmocka_run_group_tests_name("swap_models", tests, make_folder, remove_folder);
}
