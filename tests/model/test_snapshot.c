/* Requests that are saved and restored into a fresh engine go on to the last bit, and those that
 * were saved do not notice: on models of every kind of block, for every type of the cache, in
 * every phase of a request. And what is evicted to the file tier comes back the same. */
#include "arch_fixture.h"
#include "small_cache.h"

#include "engine/session.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_PROMPT   45
#define N_ANSWER   24
#define N_REQUESTS 5
#define TEXT_MAX   4096

static const struct model_case {
    const char *name, *path;
    int recurrent, whole; /* whole: all blocks of a prefix are kept */
} models[] = {
    {"tiny", NULL, 0, 1},
#if !TEST_SANITIZED
    {"stories260K", "llm/stories260K/stories260K.f32.gguf", 0, 1},
    {"TinyStories-656K", "llm/TinyStories-656K/TinyStories-656K.f32.gguf", 0, 1},
#endif
    {"llama", NULL, 0, 1},
    {"mistral-window", NULL, 0, 0},
    {"gemma3", NULL, 0, 0},
    {"gemma4-e2b", NULL, 0, 0},
    {"gpt-oss", NULL, 0, 0},
    {"llama4-chunks", NULL, 0, 1},
    {"deepseek-v2", NULL, 0, 1},
    {"mamba2", NULL, 1, 0},
    {"granite-hybrid", NULL, 1, 0},
    {"qwen3next", NULL, 1, 0},
};

#define N_MODELS (sizeof models / sizeof *models)

/* Everything a host sees of an answer. */
struct trace {
    infer_token tokens[N_ANSWER];
    uint64_t logits[N_ANSWER];
    float logprobs[N_ANSWER];
    infer_top_logprob top[N_ANSWER][2];
    size_t n, text_size;
    char text[TEXT_MAX];
    infer_finish finish;
    double logprob_sum;
};

struct request_case {
    infer_token prompt[N_PROMPT];
    size_t n;
    int i;
};

/* Each in its own way: penalties with and without a window, truncation, bias, greedy. */
static infer_request *submit_in(struct engine *e, const struct request_case *c,
                                const char *namespace)
{
    static const char *const stop[] = {"never said by anybody", "nor this"};
    const infer_logit_bias bias[] = {{1, -1.5f}, {2, 0.25f}};
    infer_sampling sampling = {.struct_size = sizeof sampling, .seed = 100 + (uint64_t)c->i};
    sampling.temperature = c->i == 3 ? 0 : 0.9f;
    sampling.repetition_penalty = c->i % 2 ? 1.2f : 1;
    sampling.frequency_penalty = c->i == 2 ? 0.4f : 0;
    sampling.presence_penalty = c->i == 2 ? 0.3f : 0;
    sampling.penalty_last_n = c->i == 1 ? 7 : 0;
    sampling.top_k = c->i == 4 ? 20 : 0;
    sampling.logit_bias = bias;
    sampling.n_logit_bias = c->i == 0 ? 2 : 0;
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = c->prompt,
                               .n_tokens = c->n,
                               .sampling = &sampling,
                               .max_tokens = N_ANSWER,
                               .ignore_eos = 1,
                               .logprobs = 1,
                               .n_top_logprobs = 2,
                               .prompt_logprobs = c->i == 4,
                               .stop = stop,
                               .n_stop = 2,
                               .want_logits = 1,
                               .cache_namespace = namespace};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, &o));
    return request;
}

static infer_request *submit(struct engine *e, const struct request_case *c)
{
    return submit_in(e, c, "of this test");
}

static void add_event(struct trace *t, const infer_event *event)
{
    assert_true(t->text_size + event->text_size < TEXT_MAX);
    memcpy(t->text + t->text_size, event->text, event->text_size);
    t->text_size += event->text_size;
    if (event->type != INFER_EVENT_TOKEN)
        return;
    assert_true(t->n < N_ANSWER && event->n_top == 2 && event->logits);
    memcpy(t->top[t->n], event->top, sizeof t->top[0]);
    t->tokens[t->n] = event->token;
    t->logprobs[t->n] = event->logprob;
    t->logits[t->n++] = arch_hash(event->logits, event->n_logits * sizeof *event->logits);
}

static void take(infer_request *request, struct trace *t, size_t most)
{
    infer_event event = {.struct_size = sizeof event};
    while (t->n < most && infer_request_poll(request, &event) == INFER_OK)
        add_event(t, &event);
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
    t->finish = info.finish;
    t->logprob_sum = info.logprob_sum;
    infer_request_destroy(&request);
}

static void assert_same(const struct trace *a, const struct trace *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, sizeof a->tokens);
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
    assert_memory_equal(a->logprobs, b->logprobs, sizeof a->logprobs);
    assert_memory_equal(a->top, b->top, sizeof a->top);
    assert_int_equal(a->text_size, b->text_size);
    assert_memory_equal(a->text, b->text, a->text_size);
    assert_int_equal(a->finish, b->finish);
    assert_memory_equal(&a->logprob_sum, &b->logprob_sum, sizeof a->logprob_sum);
}

/* ---------------------------------------------------------------- the model */

static void make_path(const struct model_case *m, const char *folder, char *path, size_t size)
{
    snprintf(path, size, "%s", folder);
    if (m == &models[0]) {
        snprintf(path, size, "%s", test_source(TINY_MODEL));
    } else if (m->path) {
        snprintf(path, size, "%s", test_data(m->path));
    } else {
        struct arch_fixture f;
        arch_fixture_open(&f, m->name);
        arch_fixture_write(&f, folder, "F32");
        arch_fixture_close(&f);
    }
}

static void make_requests(struct request_case *c, const struct infer_model *model)
{
    uint64_t random = 7;
    for (int r = 0; r < N_REQUESTS; r++) {
        c[r] = (struct request_case){.n = N_PROMPT - (size_t)r, .i = r};
        for (size_t i = 0; i < c[r].n; i++)
            c[r].prompt[i] = r && i < 20
                                 ? c[0].prompt[i]
                                 : (infer_token)(test_rand(&random) % (uint32_t)model->hp.n_vocab);
    }
}

static void check_structures(struct engine *e, infer_request *const *requests, size_t n)
{
    const struct cache_table *tables[N_REQUESTS];
    for (size_t i = 0; i < n; i++)
        tables[i] = &requests[i]->table;
    cache_check(e->cache->blocks, tables, n);
}

/* -------------------------------------------------------------------- ways */

static uint8_t *save_memory(infer_request *request, size_t *size)
{
    *size = 0;
    assert_ok(infer_request_save_memory(request, NULL, size));
    uint8_t *bytes = malloc(*size);
    assert_ok(infer_request_save_memory(request, bytes, size));
    return bytes;
}

/* One request: saved when `steps` steps have run and `taken` tokens were taken. */
static void check_point(const char *path, const char *file, const struct engine_setup *setup,
                        const struct request_case *c, const struct trace *alone, int steps,
                        size_t taken)
{
    static struct trace here, there;
    struct engine a, b;
    infer_request *restored = NULL;
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_restore_options o = {.struct_size = sizeof o, .cache_namespace = "another"};
    size_t size, file_size;
    memset(&here, 0, sizeof here);
    engine_open(&a, path, setup);
    infer_request *request = submit(&a, c);
    for (int i = 0; i < steps; i++)
        infer_session_step(a.session);
    take(request, &here, taken);
    there = here;
    uint8_t *bytes = save_memory(request, &size);
    assert_ok(infer_request_save(request, file));
    char *same = test_read(file, &file_size);
    assert_int_equal(size, file_size); /* the same bytes, and nobody's memory in them */
    assert_memory_equal(bytes, same, size);
    int32_t n_computed = request->n_computed;
    check_structures(&a, &request, 1);
    finish(request, &here);
    assert_same(&here, alone);
    engine_close(&a);

    struct engine_setup with_prefixes = *setup;
    with_prefixes.disable_prefix_cache = 0;
    engine_open(&b, path, &with_prefixes);
    if (steps % 2)
        assert_ok(infer_session_restore(&restored, b.session, file, &o));
    else
        assert_ok(infer_session_restore_memory(&restored, b.session, bytes, size, &o));
    assert_int_equal(restored->n_computed, n_computed);
    check_structures(&b, &restored, 1);
    finish(restored, &there);
    assert_same(&there, alone);
    infer_session_get_stats(b.session, &stats);
    int64_t rest = (int64_t)c->n - n_computed;
    assert_int_equal(stats.n_prompt_tokens, rest > 0 ? rest : 0);
    cache_check(b.cache->blocks, NULL, 0);
    /* What it left to be found is right. */
    for (int i = 0; i < 2; i++) {
        memset(&there, 0, sizeof there);
        finish(submit_in(&b, c, i ? "another" : NULL), &there);
        assert_same(&there, alone);
    }
    engine_close(&b);
    free(bytes);
    free(same);
}

/* All at once in a cache for hardly two, saved amid preemptions and restored into such a cache. */
static void check_small(const struct model_case *m, const char *path, infer_kv_type type,
                        const struct request_case *c, const struct trace *alone)
{
    static struct trace t[N_REQUESTS];
    struct engine_setup setup = {.n_threads = 2, .step_tokens = 20, .kv_type = type};
    struct engine a, b;
    infer_request *requests[N_REQUESTS], *restored[N_REQUESTS] = {NULL};
    uint8_t *bytes[N_REQUESTS];
    size_t sizes[N_REQUESTS];
    infer_session_stats stats = {.struct_size = sizeof stats};
    setup.kv_budget_bytes = small_cache(path, type, 9);
    memset(t, 0, sizeof t);
    engine_open(&a, path, &setup);
    for (size_t i = 0; i < N_REQUESTS; i++)
        requests[i] = submit(&a, &c[i]);
    for (int i = 0; i < 22; i++)
        infer_session_step(a.session);
    infer_session_get_stats(a.session, &stats);
    if (!m->recurrent && cache_check_grows(a.cache->blocks))
        assert_true(stats.n_preempted > 0);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        take(requests[i], &t[i], 3 * i);
        bytes[i] = NULL;
        if (requests[i]->state != REQUEST_FINISHED)
            bytes[i] = save_memory(requests[i], &sizes[i]);
    }
    check_structures(&a, requests, N_REQUESTS);
    for (size_t i = 0; i < N_REQUESTS; i++)
        if (!bytes[i])
            finish(requests[i], &t[i]);
        else
            infer_request_destroy(&requests[i]);
    engine_close(&a);

    engine_open(&b, path, &setup);
    for (size_t i = 0; i < N_REQUESTS; i++)
        if (bytes[i])
            assert_ok(
                infer_session_restore_memory(&restored[i], b.session, bytes[i], sizes[i], NULL));
    infer_status st = INFER_OK;
    while (st == INFER_OK) {
        const struct cache_table *tables[N_REQUESTS];
        size_t n = 0;
        for (size_t i = 0; i < N_REQUESTS; i++)
            if (restored[i])
                tables[n++] = &restored[i]->table;
        cache_check(b.cache->blocks, tables, n);
        st = infer_session_step(b.session);
    }
    assert_int_equal(st, INFER_DONE);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        if (restored[i])
            finish(restored[i], &t[i]);
        assert_same(&t[i], &alone[i]);
        free(bytes[i]);
    }
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_kv_cache_get_stats(b.cache, &kv);
    assert_int_equal(kv.n_blocks_used, 0);
    engine_close(&b);
}

/* A snapshot has nothing of what others left in the cache's memory. */
static void check_clean(const char *path, infer_kv_type type, const struct request_case *c)
{
    static struct trace t;
    struct engine_setup setup = {.n_threads = 1, .kv_type = type, .disable_prefix_cache = 1};
    uint8_t *bytes[2];
    size_t sizes[2];
    for (int used = 0; used < 2; used++) {
        struct engine e;
        engine_open(&e, path, &setup);
        for (int i = 0; used && i < 2; i++) {
            memset(&t, 0, sizeof t);
            finish(submit(&e, &c[i]), &t);
        }
        infer_request *request = submit(&e, &c[2]);
        for (int i = 0; i < 9; i++)
            infer_session_step(e.session);
        bytes[used] = save_memory(request, &sizes[used]);
        infer_request_destroy(&request);
        engine_close(&e);
    }
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(bytes[0], bytes[1], sizes[0]);
    free(bytes[0]);
    free(bytes[1]);
}

/* What two requests left in the prefix cache, in a fresh cache and another name space. */
static void check_prefix(const struct model_case *m, const char *path, const char *file,
                         infer_kv_type type, const struct request_case *c,
                         const struct trace *alone)
{
    static struct trace t;
    struct engine_setup setup = {.n_threads = 1, .kv_type = type};
    struct engine a, b;
    size_t n = 0, n_loaded = 0;
    engine_open(&a, path, &setup);
    memset(&t, 0, sizeof t);
    finish(submit(&a, &c[0]), &t);
    infer_kv_prefix p = {.struct_size = sizeof p,
                         .tokens = c[0].prompt,
                         .n_tokens = c[0].n,
                         .cache_namespace = "of this test"};
    assert_ok(infer_kv_cache_save_prefix(a.cache, &p, file, &n));
    p.cache_namespace = NULL;
    assert_int_equal(infer_kv_cache_save_prefix(a.cache, &p, file, &n), INFER_ERR_NOT_FOUND);
    cache_check(a.cache->blocks, NULL, 0);
    engine_close(&a);
    assert_int_equal(n, c[0].n / 16 * 16);
    engine_open(&b, path, &setup);
    infer_restore_options o = {.struct_size = sizeof o, .cache_namespace = "of this test"};
    for (int i = 0; i < 2; i++) { /* the second time all is there */
        assert_ok(infer_kv_cache_load_prefix(b.cache, file, &o, &n_loaded));
        assert_int_equal(n_loaded, n);
        cache_check(b.cache->blocks, NULL, 0);
    }
    infer_session_stats stats = {.struct_size = sizeof stats};
    memset(&t, 0, sizeof t);
    finish(submit(&b, &c[0]), &t);
    assert_same(&t, &alone[0]);
    infer_session_get_stats(b.session, &stats);
    assert_int_equal(stats.n_cached_tokens, n);
    memset(&t, 0, sizeof t);
    finish(submit(&b, &c[1]), &t); /* begins alike */
    assert_same(&t, &alone[1]);
    infer_session_get_stats(b.session, &stats);
    /* Windows and states were saved of the end alone. */
    assert_int_equal(stats.n_cached_tokens, n + (m->whole ? 16 : 0));
    engine_close(&b);
}

/* Evicted, and read back from the file tier. */
static void check_tier(const struct model_case *m, const char *path, const char *folder,
                       infer_kv_type type, const struct request_case *c, const struct trace *alone)
{
    static struct trace t;
    struct engine_setup setup = {.n_threads = 1, .kv_type = type, .step_tokens = 30};
    struct engine e;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    if (m->recurrent) {
        infer_kv_cache *cache = NULL;
        infer_kv_cache_options o = {
            .struct_size = sizeof o, .tier_dir = folder, .tier_bytes = 1 << 26};
        engine_open(&e, path, &setup);
        assert_int_equal(infer_kv_cache_create(&cache, e.model, &o), INFER_ERR_UNSUPPORTED);
        engine_close(&e);
        return;
    }
    setup.kv_budget_bytes = small_cache(path, type, 6);
    setup.tier_dir = folder;
    setup.tier_bytes = 1 << 26;
    for (int process = 0; process < 2; process++) {
        engine_open(&e, path, &setup);
        for (int round = 0; round < 2; round++)
            for (size_t i = 0; i < N_REQUESTS; i++) {
                if (c[i].i == 4) /* scored prompts look for nothing */
                    continue;
                memset(&t, 0, sizeof t);
                finish(submit(&e, &c[i]), &t);
                assert_same(&t, &alone[i]);
                assert_ok(infer_kv_cache_flush(e.cache, NULL));
                cache_check(e.cache->blocks, NULL, 0);
            }
        assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
        assert_true(kv.n_tier_read > 0 && !kv.n_tier_damaged && kv.n_evicted > 0);
        engine_close(&e);
    }
}

static void remove_tiers(const char *folder)
{
    char file[600];
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        if (strstr(e->d_name, ".infer-kv")) {
            snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
            unlink(file);
        }
    closedir(dir);
}

static void test_model(void **state)
{
    static const infer_kv_type types[] = {INFER_KV_F32, INFER_KV_F16, INFER_KV_BF16,
                                          INFER_KV_Q8,  INFER_KV_Q4,  INFER_KV_F8};
    static struct trace alone[N_REQUESTS];
    const struct model_case *m = *state;
    struct request_case c[N_REQUESTS];
    char folder[256], path[512], file[512];
    arch_folder_make(folder, sizeof folder);
    make_path(m, folder, path, sizeof path);
    snprintf(file, sizeof file, "%s/snapshot", folder);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        struct engine_setup setup = {.n_threads = 1, .kv_type = types[k], .step_tokens = 13};
        struct engine e;
        memset(alone, 0, sizeof alone);
        engine_open(&e, path, &setup);
        make_requests(c, e.model);
        for (size_t i = 0; i < N_REQUESTS; i++)
            finish(submit(&e, &c[i]), &alone[i]);
        engine_close(&e);
        /* waiting; in the prompt; some tokens, of which some were taken; near the end */
        check_point(path, file, &setup, &c[0], &alone[0], 0, 0);
        check_point(path, file, &setup, &c[4], &alone[4], 2, 0);
        check_point(path, file, &setup, &c[1], &alone[1], 11, 0);
        check_point(path, file, &setup, &c[2], &alone[2], 16, 5);
        setup.disable_prefix_cache = 1;
        check_point(path, file, &setup, &c[3], &alone[3], 25, 20);
        check_small(m, path, types[k], c, alone);
        check_clean(path, types[k], c);
        check_prefix(m, path, file, types[k], c, alone);
        check_tier(m, path, folder, types[k], c, alone);
    }
    remove_tiers(folder);
    arch_folder_remove(folder);
}

int main(void)
{
    struct CMUnitTest tests[N_MODELS];
    for (size_t i = 0; i < N_MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL,
                                       (void *)(uintptr_t)&models[i]};
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
