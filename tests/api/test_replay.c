/* A small trace of conversations, as benchmarks/replay runs a long one: whatever the way, no
 * request is lost, all say the same, and what the prefix cache finds is what the trace says. */
#include "replay.h"
#include "support/engine.h"

#define BLOCK 16

static const struct trace_config small = {.seed = 5,
                                          .n_users = 14,
                                          .n_tenants = 3,
                                          .n_turns = 4,
                                          .system_tokens = 50,
                                          .message_tokens = 30,
                                          .answer_tokens = 24,
                                          .span_s = 1,
                                          .think_s = 0.1,
                                          .burst = 2,
                                          .n_vocab = 2048,
                                          .n_context = 512};

struct setting {
    infer_device *device;
    infer_model *model;
    struct trace trace;
    uint64_t block_bytes;
};

static void setting_open(struct setting *s)
{
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_model_options m = {.struct_size = sizeof m};
    infer_kv_cache *cache = NULL;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    *s = (struct setting){.device = NULL};
    assert_ok(infer_device_create(&s->device, 0, &d));
    m.device = s->device;
    assert_ok(infer_model_load(&s->model, test_source(TINY_MODEL), &m));
    assert_ok(infer_kv_cache_create(&cache, s->model, NULL));
    assert_ok(infer_kv_cache_get_stats(cache, &kv));
    infer_kv_cache_destroy(&cache);
    s->block_bytes = kv.block_bytes;
    trace_make(&s->trace, &small);
    assert_true(s->trace.n_requests > 2 * small.n_users);
}

static void setting_close(struct setting *s)
{
    trace_free(&s->trace);
    infer_model_destroy(&s->model);
    infer_device_destroy(&s->device);
}

/* All requests of the trace, each once, ended as it should. */
static void run(struct replay_result *out, const struct setting *s, enum replay_way way,
                int32_t max_requests, uint64_t n_blocks, double time_scale)
{
    const struct replay_options o = {.model = s->model,
                                     .way = way,
                                     .max_requests = max_requests,
                                     .budget_bytes = n_blocks * s->block_bytes,
                                     .time_scale = time_scale};
    assert_ok(replay_run(out, &s->trace, &o));
    int seen[64][TRACE_TURNS_MAX] = {{0}};
    assert_int_equal(out->n_records, s->trace.n_requests);
    for (int32_t i = 0; i < out->n_records; i++) {
        const struct replay_record *r = &out->records[i];
        assert_int_equal(seen[r->user][r->turn]++, 0);
        assert_int_equal(r->n_answer, s->trace.users[r->user].turns[r->turn].n_answer);
        assert_int_equal(r->finish, INFER_FINISH_LENGTH);
        assert_true(r->due_ns <= r->scheduled_ns && r->scheduled_ns <= r->first_ns &&
                    r->first_ns <= r->end_ns);
        assert_true(way == REPLAY_LIBINFER || r->n_cached == 0);
    }
    assert_int_equal(out->n_gaps, out->n_answer_tokens - out->n_records);
}

static const struct replay_record *find(const struct replay_result *in,
                                        const struct replay_record *r)
{
    for (int32_t i = 0; i < in->n_records; i++)
        if (in->records[i].user == r->user && in->records[i].turn == r->turn)
            return &in->records[i];
    fail_msg("turn %d of user %d was lost", r->turn, r->user);
    return NULL;
}

static void assert_same(const struct replay_result *a, const struct replay_result *b)
{
    for (int32_t i = 0; i < a->n_records; i++) {
        const struct replay_record *x = &a->records[i], *y = find(b, x);
        assert_int_equal(x->n_prompt, y->n_prompt);
        assert_int_equal(x->n_answer, y->n_answer);
        assert_memory_equal(x->tokens, y->tokens,
                            (size_t)(x->n_prompt + x->n_answer) * sizeof *x->tokens);
    }
}

/* Whole blocks of a prompt that another sequence begins with, where both are of one tenant. The
 * last token of either is never found: it was not computed, or its logits are wanted. */
static int64_t shared(const struct setting *s, const struct replay_record *r,
                      const struct replay_record *other)
{
    int32_t n = 0, computed = other->n_prompt + other->n_answer - 1;
    if (s->trace.users[r->user].tenant != s->trace.users[other->user].tenant)
        return 0;
    while (n < r->n_prompt - 1 && n < computed && r->tokens[n] == other->tokens[n])
        n++;
    return n / BLOCK * BLOCK;
}

/* One after the other in a cache for all: a prompt finds what any before it has left. */
static void test_hits_exact(void **state)
{
    (void)state;
    struct setting s;
    struct replay_result r;
    int64_t total = 0;
    setting_open(&s);
    run(&r, &s, REPLAY_LIBINFER, 1, 4000, 0);
    for (int32_t i = 0; i < r.n_records; i++) {
        int64_t expected = 0;
        for (int32_t k = 0; k < r.n_records; k++) {
            if (r.records[k].scheduled_ns >= r.records[i].scheduled_ns)
                continue;
            int64_t n = shared(&s, &r.records[i], &r.records[k]);
            expected = n > expected ? n : expected;
        }
        assert_int_equal(r.records[i].n_cached, expected);
        total += expected;
    }
    assert_int_equal(r.n_cached_tokens, total);
    assert_true(total > r.n_prompt_tokens / 2);
    print_message("%d requests, %d of %d prompt tokens found\n", r.n_records, (int)total,
                  (int)r.n_prompt_tokens);
    replay_free(&r);
    setting_close(&s);
}

/* Together: what its own user said before is there, and no more than anybody said. */
static void test_hits_bounded(void **state)
{
    (void)state;
    struct setting s;
    struct replay_result r;
    setting_open(&s);
    run(&r, &s, REPLAY_LIBINFER, 6, 4000, 0);
    for (int32_t i = 0; i < r.n_records; i++) {
        const struct replay_record *x = &r.records[i];
        int64_t least = 0, most = 0;
        for (int32_t k = 0; k < r.n_records; k++) {
            const struct replay_record *y = &r.records[k];
            int64_t n = k == i ? 0 : shared(&s, x, y);
            most = n > most ? n : most;
            if (x->user == y->user && y->turn + 1 == x->turn)
                least = n;
        }
        assert_true(x->n_cached >= least && x->n_cached <= most);
        assert_int_equal(x->n_cached % BLOCK, 0);
    }
    replay_free(&r);
    setting_close(&s);
}

static void test_ways_agree(void **state)
{
    (void)state;
    struct setting s;
    struct replay_result alone, r;
    setting_open(&s);
    run(&alone, &s, REPLAY_NO_PREFIX, 1, 4000, 0);
    for (int way = 0; way < REPLAY_WAYS; way++)
        for (int timed = 0; timed < 2; timed++) { /* all at once, and as they arrive */
            run(&r, &s, (enum replay_way)way, 6, 4000, 0.2 * timed);
            assert_same(&alone, &r);
            replay_free(&r);
        }
    /* Too small for the six: blocks are evicted, requests preempted. */
    run(&r, &s, REPLAY_LIBINFER, 6, 12, 0);
    assert_same(&alone, &r);
    print_message("%d preemptions, %d of %d prompt tokens found\n", (int)r.n_preempted,
                  (int)r.n_cached_tokens, (int)r.n_prompt_tokens);
    assert_true(r.n_preempted > 0);
    replay_free(&r);
    replay_free(&alone);
    setting_close(&s);
}

/* The trace is the same wherever it is made. */
static void test_trace(void **state)
{
    (void)state;
    struct trace a, b;
    struct trace_config other = small;
    trace_make(&a, &small);
    trace_make(&b, &small);
    assert_int_equal(a.n_requests, b.n_requests);
    for (int32_t i = 0; i < small.n_users; i++) {
        const struct trace_user *x = &a.users[i], *y = &b.users[i];
        assert_int_equal(x->n_turns, y->n_turns);
        assert_true(x->n_turns >= 1 && x->n_turns <= small.n_turns);
        assert_true(x->arrival_s == y->arrival_s);
        assert_true(!i || x->arrival_s >= a.users[i - 1].arrival_s);
        assert_true(i % small.burst == 0 || x->arrival_s == a.users[i - 1].arrival_s);
        assert_memory_equal(x->turns[0].message, y->turns[0].message,
                            (size_t)x->turns[0].n_message * sizeof(infer_token));
    }
    trace_free(&b);
    other.seed++;
    trace_make(&b, &other);
    assert_true(a.users[0].arrival_s != b.users[0].arrival_s);
    trace_free(&b);
    trace_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_hits_exact),
        cmocka_unit_test(test_hits_bounded),
        cmocka_unit_test(test_ways_agree),
    };
    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
