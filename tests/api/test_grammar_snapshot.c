/* Requests under a grammar, or with a logits callback, that are saved and restored after every step
 * of their life, or forked amid tokens that must follow: they go on to the same bits. */
#include "support/engine.h"

#include "cache/snapshot.h"
#include "engine/request.h"

#include <math.h>

#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":9},"         \
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"                                \
    "\"favourite_city\":{\"enum\":[\"Rome\",\"Bern\"]}},"                                          \
    "\"required\":[\"name\",\"age\",\"favourite_city\"],\"additionalProperties\":false}"
#define GBNF                                                                                       \
    "root ::= [a-z]{2,6} \" is the name of \" thing+ \".\"\nthing ::= \"a town\" | \" or \"\n"
#define REGEX "(yes|no), because of (rain|snow|the long and winding road) [0-9]{3}"

static const char *const choices[] = {"a choice of several words", "a choice of others", "none"};
static const char prompt[] = "Write down who lives in which city, and since when, please. ";

static infer_grammar *make(int kind)
{
    static const char *const texts[] = {SCHEMA, GBNF, REGEX, NULL};
    infer_grammar_options o = {.struct_size = sizeof o, .kind = kind, .text = texts[kind]};
    infer_grammar *grammar = NULL;
    o.choices = texts[kind] ? NULL : choices;
    o.n_choices = texts[kind] ? 0 : 3;
    if (infer_grammar_create(&grammar, &o) != INFER_OK)
        fail_msg("grammar %d: %s", kind, infer_last_error());
    return grammar;
}

/* Jumping; not jumping, for it is said so; not jumping, for log-probabilities are wanted. */
enum { JUMP, WALK, REPORT, N_WAYS };

static infer_request *submit(struct engine *e, const infer_grammar *grammar, int way, uint64_t seed)
{
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1.5f, .seed = seed};
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = prompt,
                               .sampling = &sampling,
                               .grammar = grammar,
                               .disable_jump_ahead = way == WALK,
                               .logprobs = way == REPORT,
                               .max_tokens = 70};
    infer_request *request = NULL;
    if (infer_session_submit(&request, e->session, &o) != INFER_OK)
        fail_msg("%s", infer_last_error());
    return request;
}

static uint8_t *save(infer_request *request, size_t *size)
{
    *size = 0;
    assert_ok(infer_request_save_memory(request, NULL, size));
    uint8_t *bytes = malloc(*size);
    assert_ok(infer_request_save_memory(request, bytes, size));
    return bytes;
}

static void assert_same(const struct engine_answer *x, const struct engine_answer *y)
{
    if (x->status != INFER_OK || y->status != INFER_OK)
        fail_msg("%s; %s", x->error, y->error);
    assert_int_equal(x->finish, y->finish);
    assert_string_equal(x->text, y->text);
    assert_int_equal(x->n, y->n);
    assert_memory_equal(x->tokens, y->tokens, x->n * sizeof *x->tokens);
    assert_memory_equal(x->logprobs, y->logprobs, x->n * sizeof *x->logprobs);
}

static void expect_unused(struct engine *e)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    assert_ok(infer_kv_cache_get_stats(e->cache, &kv));
    assert_int_equal(kv.n_blocks_used, 0);
}

/* Saved after `steps` steps and restored with a grammar that was made anew. 0: it had ended. */
static int check_point(struct engine *a, struct engine *b, int kind, int way, int steps,
                       const struct engine_answer *alone)
{
    infer_grammar *first = make(kind), *again;
    struct engine_answer rest;
    infer_request *request = submit(a, first, way, 3), *restored = NULL;
    infer_request_info info = {.struct_size = sizeof info};
    size_t size;
    for (int i = 0; i < steps; i++)
        infer_session_step(a->session);
    assert_ok(infer_request_get_info(request, &info));
    if (info.finish == INFER_FINISH_NONE) {
        uint8_t *bytes = save(request, &size);
        again = make(kind);
        infer_restore_options o = {.struct_size = sizeof o, .grammar = again};
        if (infer_session_restore_memory(&restored, b->session, bytes, size, &o) != INFER_OK)
            fail_msg("kind %d, way %d, step %d: %s", kind, way, steps, infer_last_error());
        infer_grammar_destroy(&again); /* the request keeps it */
        free(bytes);
        engine_collect(restored, &rest);
        assert_same(&rest, alone);
        engine_answer_free(&rest);
    }
    engine_collect(request, &rest); /* undisturbed */
    assert_same(&rest, alone);
    engine_answer_free(&rest);
    infer_grammar_destroy(&first);
    return info.finish == INFER_FINISH_NONE;
}

static void test_every_step(void **state)
{
    (void)state;
    struct engine_setup setup = {.n_threads = 1, .step_tokens = 9, .disable_prefix_cache = 1};
    struct engine a, b;
    int n_points = 0;
    engine_open(&a, test_source(TINY_MODEL), &setup);
    engine_open(&b, test_source(TINY_MODEL), &setup);
    for (int kind = 0; kind < 4; kind++)
        for (int way = 0; way < N_WAYS; way++) {
            infer_grammar *grammar = make(kind);
            struct engine_answer alone;
            engine_collect(submit(&a, grammar, way, 3), &alone);
            infer_grammar_destroy(&grammar);
            int steps = 0;
            while (check_point(&a, &b, kind, way, steps, &alone))
                steps++;
            assert_true(steps > 4); /* in the prompt, at least */
            if (way == WALK)
                assert_true(steps >= (int)alone.n);
            n_points += steps;
            engine_answer_free(&alone);
        }
    print_message("# saved and restored at %d points\n", n_points);
    expect_unused(&a);
    expect_unused(&b);
    engine_close(&b);
    engine_close(&a);
}

/* Several in a cache too small for them, saved amid preemptions. */
static void test_preempted(void **state)
{
    enum { N = 6 };
    (void)state;
    struct engine_setup setup = {.n_threads = 1, .step_tokens = 30, .disable_prefix_cache = 1};
    struct engine a, b;
    struct engine_answer alone[N], rest;
    infer_request *requests[N], *restored[N];
    uint8_t *bytes[N];
    size_t sizes[N];
    int n_preempted = 0;
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_grammar *grammar = make(0);
    engine_open(&a, test_source(TINY_MODEL), &setup);
    for (int i = 0; i < N; i++)
        engine_collect(submit(&a, grammar, i % N_WAYS, (uint64_t)i), &alone[i]);
    assert_ok(infer_kv_cache_get_stats(a.cache, &kv));
    engine_close(&a);
    setup.kv_budget_bytes = kv.block_bytes * 11;
    for (int steps = 8; steps < 60; steps += 5) {
        const infer_restore_options o = {.struct_size = sizeof o, .grammar = grammar};
        engine_open(&a, test_source(TINY_MODEL), &setup);
        engine_open(&b, test_source(TINY_MODEL), &setup);
        for (int i = 0; i < N; i++)
            requests[i] = submit(&a, grammar, i % N_WAYS, (uint64_t)i);
        for (int i = 0; i < steps; i++)
            infer_session_step(a.session);
        for (int i = 0; i < N; i++) {
            bytes[i] = requests[i]->state != REQUEST_FINISHED ? save(requests[i], &sizes[i]) : NULL;
            n_preempted += bytes[i] && requests[i]->n_preempted > 0 && !requests[i]->table.n_blocks;
            infer_request_destroy(&requests[i]);
        }
        for (int i = 0; i < N; i++)
            if (bytes[i])
                assert_ok(
                    infer_session_restore_memory(&restored[i], b.session, bytes[i], sizes[i], &o));
        for (int i = 0; i < N; i++) {
            if (!bytes[i])
                continue;
            engine_collect(restored[i], &rest);
            assert_same(&rest, &alone[i]);
            engine_answer_free(&rest);
            free(bytes[i]);
        }
        assert_ok(infer_session_get_stats(a.session, &stats));
        assert_true(steps < 30 || stats.n_preempted > 0);
        expect_unused(&a);
        expect_unused(&b);
        engine_close(&b);
        engine_close(&a);
    }
    assert_true(n_preempted > 0);
    for (int i = 0; i < N; i++)
        engine_answer_free(&alone[i]);
    infer_grammar_destroy(&grammar);
}

/* A greedy fork of a greedy request says what the request says, also amid tokens that must follow;
 * and a fork can be saved as well. */
static void test_forks(void **state)
{
    (void)state;
    struct engine e;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int kind = 0; kind < 4; kind++) {
        infer_grammar *grammar = make(kind);
        infer_sampling greedy = {.struct_size = sizeof greedy};
        infer_request_options o = {.struct_size = sizeof o,
                                   .prompt = prompt,
                                   .sampling = &greedy,
                                   .grammar = grammar,
                                   .disable_jump_ahead = 1,
                                   .max_tokens = 50};
        infer_request *source = NULL, *forks[50] = {NULL}, *restored = NULL;
        struct engine_answer whole, rest;
        size_t n = 0, said[50];
        assert_ok(infer_session_submit(&source, e.session, &o));
        size_t n_prompt;
        infer_request_prompt(source, &n_prompt);
        while (infer_session_step(e.session) == INFER_OK && source->state != REQUEST_FINISHED) {
            infer_fork_options f = {.struct_size = sizeof f, .max_tokens = 50};
            assert_ok(infer_request_fork(&forks[n], source, &f));
            infer_session_step(e.session);
            infer_request_prompt(forks[n], &said[n]);
            if (n % 3 == 1 && forks[n]->state != REQUEST_FINISHED) {
                const infer_restore_options again = {.struct_size = sizeof again,
                                                     .grammar = grammar};
                size_t size;
                uint8_t *bytes = save(forks[n], &size);
                infer_request_destroy(&forks[n]);
                assert_ok(infer_session_restore_memory(&restored, e.session, bytes, size, &again));
                forks[n] = restored;
                free(bytes);
            }
            n++;
        }
        engine_collect(source, &whole);
        for (size_t i = 0; i < n; i++) {
            engine_collect(forks[i], &rest);
            assert_int_equal(rest.status, INFER_OK);
            size_t before = said[i] - n_prompt, left = whole.n - before;
            assert_true(rest.n >= left);
            assert_memory_equal(rest.tokens, whole.tokens + before, left * sizeof *rest.tokens);
            engine_answer_free(&rest);
        }
        assert_true(n > 1);
        engine_answer_free(&whole);
        infer_grammar_destroy(&grammar);
    }
    expect_unused(&e);
    engine_close(&e);
}

/* -------------------------------------------------------------- other options */

static int32_t only_even(float *logits, int32_t n, void *user_data)
{
    ++*(int *)user_data;
    for (int32_t i = 1; i < n; i += 2)
        logits[i] = -INFINITY;
    return 0;
}

/* A callback is given anew; a least number of tokens, and names of control tokens, are kept. */
static void test_other_options(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer alone, rest;
    int calls = 0, again = 0;
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 3, .seed = 8};
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = prompt,
                               .sampling = &sampling,
                               .logits_fn = only_even,
                               .logits_user_data = &calls,
                               .min_tokens = 400,
                               .max_tokens = 400,
                               .show_special = 1};
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    infer_request *request = NULL, *restored = NULL;
    assert_ok(infer_session_submit(&request, e.session, &o));
    engine_collect(request, &alone);
    assert_int_equal(alone.n, 400);
    assert_int_equal(calls, 400);
    assert_ok(infer_session_submit(&request, e.session, &o));
    for (int i = 0; i < 40; i++)
        infer_session_step(e.session);
    size_t size, said = request->tokens.size;
    uint8_t *bytes = save(request, &size);
    infer_request_destroy(&request);
    infer_restore_options r = {.struct_size = sizeof r};
    assert_int_equal(infer_session_restore_memory(&restored, e.session, bytes, size, &r),
                     INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "callback, which must be given"));
    r.logits_fn = only_even;
    r.logits_user_data = &again;
    assert_ok(infer_session_restore_memory(&restored, e.session, bytes, size, &r));
    engine_collect(restored, &rest);
    assert_same(&rest, &alone);
    assert_int_equal(again, 400 - (int)said);
    engine_answer_free(&rest);
    engine_answer_free(&alone);
    free(bytes);
    engine_close(&e);
}

/* A request that drafts goes on drafting. */
static void test_speculation(void **state)
{
    (void)state;
    struct engine e;
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = prompt,
                               .speculation = INFER_SPECULATION_NGRAM,
                               .max_draft_tokens = 7,
                               .ngram_min = 1,
                               .ngram_max = 3,
                               .max_tokens = 20};
    infer_request *request = NULL, *restored = NULL;
    size_t size;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_session_submit(&request, e.session, &o));
    uint8_t *bytes = save(request, &size);
    assert_ok(infer_session_restore_memory(&restored, e.session, bytes, size, NULL));
    assert_int_equal(restored->draft.kind, INFER_SPECULATION_NGRAM);
    assert_int_equal(restored->draft.max, 7);
    assert_int_equal(restored->draft.ngram.min, 1);
    assert_int_equal(restored->draft.ngram.max, 3);
    infer_request_destroy(&request);
    infer_request_destroy(&restored);
    free(bytes);
    engine_close(&e);
}

/* ------------------------------------------------------------------ refusals */

static void refuse(struct engine *e, const uint8_t *bytes, size_t size,
                   const infer_restore_options *o, const char *sentence)
{
    infer_request *restored = NULL;
    assert_int_equal(infer_session_restore_memory(&restored, e->session, bytes, size, o),
                     INFER_ERR_INVALID);
    assert_null(restored);
    if (!strstr(infer_last_error(), sentence))
        fail_msg("\"%s\" does not say \"%s\"", infer_last_error(), sentence);
}

static void test_refusals(void **state)
{
    (void)state;
    struct engine e;
    size_t size;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int kind = 0; kind < 4; kind++) {
        infer_grammar *grammar = make(kind), *other = make((kind + 1) % 4);
        infer_request *request = submit(&e, grammar, JUMP, 1);
        infer_restore_options o = {.struct_size = sizeof o};
        uint8_t *bytes = save(request, &size);
        refuse(&e, bytes, size, &o, "a grammar, which must be given");
        o.grammar = other;
        refuse(&e, bytes, size, &o, "with another grammar");
        o.grammar = grammar;
        o.logits_fn = only_even;
        refuse(&e, bytes, size, &o, "no logits callback");
        infer_request_destroy(&request);
        free(bytes);
        request = submit(&e, NULL, JUMP, 1);
        bytes = save(request, &size);
        o.logits_fn = NULL;
        refuse(&e, bytes, size, &o, "with no grammar");
        infer_request_destroy(&request);
        free(bytes);
        infer_grammar_destroy(&other);
        infer_grammar_destroy(&grammar);
    }
    /* One that differs in nothing but how it is read. */
    infer_grammar_options g = {.struct_size = sizeof g, .text = SCHEMA, .compact = 1};
    infer_grammar *compact = NULL, *grammar = make(0);
    assert_ok(infer_grammar_create(&compact, &g));
    infer_request *request = submit(&e, grammar, JUMP, 1);
    infer_restore_options o = {.struct_size = sizeof o, .grammar = compact};
    uint8_t *bytes = save(request, &size);
    refuse(&e, bytes, size, &o, "with another grammar");
    infer_request_destroy(&request);
    free(bytes);
    /* A prefix has none. */
    infer_kv_prefix p = {.struct_size = sizeof p};
    infer_token tokens[32];
    for (int i = 0; i < 32; i++)
        tokens[i] = 300 + i;
    p.tokens = tokens;
    p.n_tokens = 32;
    infer_request_options prefill = {
        .struct_size = sizeof prefill, .tokens = tokens, .n_tokens = 32, .prefill_only = 1};
    prefill.grammar = grammar; /* of no meaning, nor is whether it is given again */
    assert_ok(infer_session_submit(&request, e.session, &prefill));
    bytes = save(request, &size);
    infer_request *restored = NULL;
    assert_ok(infer_session_restore_memory(&restored, e.session, bytes, size, &o));
    infer_request_destroy(&restored);
    assert_ok(infer_session_restore_memory(&restored, e.session, bytes, size, NULL));
    infer_request_destroy(&restored);
    free(bytes);
    while (infer_session_step(e.session) == INFER_OK)
        continue;
    infer_request_destroy(&request);
    size = 0;
    assert_ok(infer_kv_cache_save_prefix_memory(e.cache, &p, NULL, &size));
    bytes = malloc(size);
    assert_ok(infer_kv_cache_save_prefix_memory(e.cache, &p, bytes, &size));
    assert_int_equal(bytes[8], 1); /* nothing new in it: older libraries read it */
    assert_int_equal(infer_kv_cache_load_prefix_memory(e.cache, bytes, size, &o, NULL),
                     INFER_ERR_INVALID);
    assert_ok(infer_kv_cache_load_prefix_memory(e.cache, bytes, size, NULL, NULL));
    free(bytes);
    infer_grammar_destroy(&compact);
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

/* ------------------------------------------------------------------ version 1 */

/* What a library that knows version 1 alone had written. */
static size_t to_version_1(uint8_t *bytes, size_t size)
{
    struct cache_snapshot s;
    assert_ok(cache_snapshot_open(&s, bytes, size));
    assert_int_equal(s.head.format, 2);
    for (size_t at = CACHE_SNAPSHOT_HEAD_BYTES; at < size;) {
        struct cache_cursor c = {.data = bytes + at, .size = size - at};
        uint32_t id = cache_get_u32(&c);
        cache_get_bytes(&c, 12);
        size_t whole = (size_t)cache_get_u64(&c) + CACHE_SNAPSHOT_SECTION_BYTES;
        if (id != CACHE_SNAPSHOT_ID('M', 'O', 'R', 'E')) {
            at += whole;
            continue;
        }
        memmove(bytes + at, bytes + at + whole, size - at - whole);
        s.head.format = 1;
        s.head.bytes = size - whole;
        cache_snapshot_head_write(bytes, &s.head);
        return size - whole;
    }
    fail_msg("no section MORE");
    return 0;
}

static void test_version_1(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer alone, rest;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    engine_collect(submit(&e, NULL, REPORT, 6), &alone);
    for (int steps = 0; steps < 12; steps += 3) {
        infer_request *request = submit(&e, NULL, REPORT, 6), *restored = NULL;
        for (int i = 0; i < steps; i++)
            infer_session_step(e.session);
        size_t size;
        uint8_t *bytes = save(request, &size);
        infer_request_destroy(&request);
        size = to_version_1(bytes, size);
        if (infer_session_restore_memory(&restored, e.session, bytes, size, NULL) != INFER_OK)
            fail_msg("%s", infer_last_error());
        engine_collect(restored, &rest);
        assert_same(&rest, &alone);
        engine_answer_free(&rest);
        free(bytes);
    }
    engine_answer_free(&alone);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step),  cmocka_unit_test(test_preempted),
        cmocka_unit_test(test_forks),       cmocka_unit_test(test_other_options),
        cmocka_unit_test(test_speculation), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_version_1),
    };
    return cmocka_run_group_tests_name("grammar_snapshot", tests, NULL, NULL);
}
