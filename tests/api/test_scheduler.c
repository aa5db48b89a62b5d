/* Who runs when: priorities, deadlines, fair shares, a target of latency, full queues. Time is the
 * test's own clock, which a trace callback moves with each step. Whatever the schedule, answers are
 * those of a request alone. */
#include "support/engine.h"

#define MS           ((uint64_t)1000000)
#define EVENTS_MAX   20000
#define REQUESTS_MAX 1024

/* A step costs `step_ns`, and `token_ns` for each of its tokens. */
struct world {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
    uint64_t now, step_ns, token_ns;
    infer_trace_event events[EVENTS_MAX];
    int32_t n_events;
};

static struct world world;

static uint64_t read_clock(void *user_data)
{
    return ((struct world *)user_data)->now;
}

static void note(const infer_trace_event *event, void *user_data)
{
    struct world *w = user_data;
    if (event->type == INFER_TRACE_STEP_BEGIN)
        w->now += w->step_ns + w->token_ns * (uint64_t)event->n_tokens;
    assert_true(w->n_events < EVENTS_MAX);
    w->events[w->n_events++] = *event;
}

/* With the default cache, or one of so many blocks and without a prefix cache. */
static struct world *world_open(infer_session_options o, int32_t n_blocks)
{
    struct world *w = &world;
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_model_options m = {.struct_size = sizeof m};
    infer_kv_cache_options k = {.struct_size = sizeof k, .disable_prefix_cache = n_blocks > 0};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    memset(w, 0, sizeof *w);
    w->now = 1000 * MS;
    w->step_ns = w->token_ns = MS;
    assert_ok(infer_device_create(&w->device, 0, &d));
    m.device = w->device;
    assert_ok(infer_model_load(&w->model, test_source(TINY_MODEL), &m));
    assert_ok(infer_kv_cache_create(&w->cache, w->model, &k));
    if (n_blocks) {
        infer_kv_cache_get_stats(w->cache, &kv);
        infer_kv_cache_destroy(&w->cache);
        k.budget_bytes = kv.block_bytes * (uint64_t)n_blocks;
        assert_ok(infer_kv_cache_create(&w->cache, w->model, &k));
    }
    o.struct_size = sizeof o;
    o.kv_cache = w->cache;
    o.clock = read_clock;
    o.trace = note;
    o.clock_data = o.trace_data = w;
    assert_ok(infer_session_create(&w->session, w->model, &o));
    return w;
}

static void world_close(struct world *w)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session_destroy(&w->session);
    infer_kv_cache_get_stats(w->cache, &kv);
    assert_int_equal(kv.n_blocks_used, 0);
    infer_kv_cache_destroy(&w->cache);
    infer_model_destroy(&w->model);
    infer_device_destroy(&w->device);
}

/* What a request is, beyond its length. */
struct ask {
    int32_t n_prompt, max_tokens, priority;
    uint64_t deadline_ns;
    const char *tenant;
    int32_t text; /* which prompt */
};

static infer_status ask(infer_session *session, const struct ask *a, infer_request **out)
{
    infer_token prompt[512];
    infer_sampling greedy = {.struct_size = sizeof greedy};
    for (int32_t i = 0; i < a->n_prompt; i++)
        prompt[i] = 300 + (i * 7 + a->text * 31) % 200;
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompt,
                               .n_tokens = (size_t)a->n_prompt,
                               .sampling = &greedy,
                               .max_tokens = a->max_tokens,
                               .ignore_eos = 1,
                               .tenant = a->tenant,
                               .priority = a->priority,
                               .deadline_ns = a->deadline_ns};
    return infer_session_submit(out, session, &o);
}

static infer_request *must_ask(struct world *w, const struct ask *a)
{
    infer_request *r = NULL;
    assert_ok(ask(w->session, a, &r));
    return r;
}

static infer_request_info info_of(const infer_request *r)
{
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(r, &info));
    return info;
}

static void run_all(struct world *w)
{
    while (infer_session_step(w->session) == INFER_OK)
        continue;
}

/* Compares what a finished request said with the same request alone; destroys it. */
static void check_alone(struct world *w, infer_request *r, const struct ask *a)
{
    infer_request *alone = NULL;
    infer_session *session = NULL;
    infer_event said = {.struct_size = sizeof said}, expected = {.struct_size = sizeof expected};
    infer_session_options o = {.struct_size = sizeof o};
    struct ask plain = *a;
    plain.deadline_ns = 0;
    assert_ok(infer_session_create(&session, w->model, &o));
    assert_ok(ask(session, &plain, &alone));
    int n = 0;
    while (infer_request_poll(r, &said) == INFER_OK && said.type == INFER_EVENT_TOKEN) {
        assert_ok(infer_request_next(alone, &expected));
        assert_int_equal(said.token, expected.token);
        n++;
    }
    assert_int_equal(said.type, INFER_EVENT_FINISH);
    if (said.finish == INFER_FINISH_LENGTH)
        assert_int_equal(n, a->max_tokens);
    infer_request_destroy(&alone);
    infer_session_destroy(&session);
    infer_request_destroy(&r);
}

/* -------------------------------------------------------------------- priorities */

/* One place: the lower number goes first, whatever came first; equal ones as they came. */
static void test_priority_order(void **state)
{
    (void)state;
    static const int32_t priorities[6] = {1, 3, -2, 1, 0, 3}, places[6] = {2, 4, 0, 3, 1, 5};
    struct world *w =
        world_open((infer_session_options){.max_requests = 1, .priority_age_ns = UINT64_MAX}, 0);
    struct ask asks[6];
    infer_request *requests[6];
    uint64_t ends[6];
    for (int i = 0; i < 6; i++) {
        asks[i] = (struct ask){20, 5, priorities[i], 0, NULL, i};
        requests[i] = must_ask(w, &asks[i]);
    }
    run_all(w);
    for (int i = 0; i < 6; i++)
        ends[i] = info_of(requests[i]).finished_ns;
    for (int i = 0; i < 6; i++) {
        int place = 0;
        for (int k = 0; k < 6; k++)
            place += ends[k] < ends[i];
        assert_int_equal(place, places[i]);
        check_alone(w, requests[i], &asks[i]);
    }
    world_close(w);
}

/* An arrival of better priority takes the place, or the blocks, of what runs. */
static void check_preemption(infer_session_options o, int32_t n_blocks, int32_t n_low)
{
    struct world *w = world_open(o, n_blocks);
    struct ask low = {40, 60, 1, 0, NULL, 0}, high = {60, 8, 0, 0, NULL, 9};
    infer_request *requests[8];
    int64_t n_preempted = 0;
    for (int32_t i = 0; i < n_low; i++) {
        low.text = i;
        requests[i] = must_ask(w, &low);
    }
    for (int i = 0; i < 6; i++)
        assert_ok(infer_session_step(w->session));
    infer_request *urgent = must_ask(w, &high);
    run_all(w);
    infer_request_info info = info_of(urgent);
    assert_int_equal(info.queue_ns, 0); /* it ran in the next step */
    for (int32_t i = 0; i < n_low; i++) {
        infer_request_info other = info_of(requests[i]);
        assert_true(other.finished_ns > info.finished_ns);
        n_preempted += other.n_preempted;
        low.text = i;
        check_alone(w, requests[i], &low);
    }
    assert_true(n_preempted > 0);
    assert_int_equal(info.n_preempted, 0);
    check_alone(w, urgent, &high);
    world_close(w);
}

static void test_priority_preempts(void **state)
{
    (void)state;
    check_preemption((infer_session_options){.max_requests = 1}, 0, 1);
    check_preemption((infer_session_options){.max_requests = 2}, 0, 2);
    check_preemption((infer_session_options){.max_requests = 8}, 14, 3); /* blocks, not places */
}

/* A crowd of better priority that never ends: with ageing the other one gets through, and runs to
 * its end; without it never. Gives back when it ended, or 0. */
static uint64_t end_in_a_crowd(uint64_t age_ns, int32_t n_blocks)
{
    struct world *w =
        world_open((infer_session_options){.max_requests = 3, .priority_age_ns = age_ns}, n_blocks);
    struct ask patient = {30, 20, 4, 0, NULL, 1}, pushy = {30, 12, 0, 0, NULL, 2};
    infer_request *crowd[6] = {NULL}, *r = must_ask(w, &patient);
    uint64_t begin = w->now, end = 0;
    for (int step = 0; step < 1200 && !end; step++) {
        for (int i = 0; i < 6; i++) {
            if (crowd[i] && info_of(crowd[i]).finish)
                infer_request_destroy(&crowd[i]);
            if (!crowd[i])
                crowd[i] = must_ask(w, &pushy);
        }
        infer_session_step(w->session);
        w->n_events = 0;
        end = info_of(r).finished_ns;
    }
    for (int i = 0; i < 6; i++)
        infer_request_destroy(&crowd[i]);
    if (end)
        check_alone(w, r, &patient);
    else
        infer_request_destroy(&r);
    world_close(w);
    return end ? end - begin : 0;
}

static void test_starvation(void **state)
{
    (void)state;
    /* Blocks for three, and for one and a half. */
    for (int32_t n_blocks = 5; n_blocks <= 12; n_blocks += 7) {
        uint64_t took = end_in_a_crowd(50 * MS, n_blocks);
        print_message("%d blocks: through after %d ms\n", n_blocks, (int)(took / MS));
        assert_true(took > 150 * MS && took < 3000 * MS);
        assert_int_equal(end_in_a_crowd(UINT64_MAX, n_blocks), 0);
    }
}

/* --------------------------------------------------------------------- fair shares */

#define N_TENANTS 3

struct shares {
    infer_request *requests[N_TENANTS][REQUESTS_MAX];
    int32_t n[N_TENANTS];
};

/* Weighted tokens of a tenant so far: what was computed of its prompts, twice what was said. */
static int64_t got(const struct shares *s, int32_t tenant, int32_t *n_waiting)
{
    int64_t sum = 0;
    *n_waiting = 0;
    for (int32_t i = 0; i < s->n[tenant]; i++) {
        infer_request_info info = info_of(s->requests[tenant][i]);
        sum += 2 * info.n_generated_tokens;
        if (info.scheduled_ns)
            sum += info.n_prompt_tokens - info.n_cached_tokens;
        else
            ++*n_waiting;
    }
    return sum;
}

static void run_until(struct world *w, const struct shares *s, int32_t tenant, int64_t weight)
{
    int32_t n_waiting;
    while (got(s, tenant, &n_waiting) < weight) {
        assert_true(n_waiting > 0);
        for (int i = 0; i < 20; i++)
            assert_ok(infer_session_step(w->session));
        w->n_events = 0;
    }
}

static void fill(struct world *w, struct shares *s, int32_t tenant, const struct ask *a, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        struct ask one = *a;
        one.text = i;
        s->requests[tenant][s->n[tenant]++] = must_ask(w, &one);
    }
}

static void empty(struct shares *s)
{
    for (int32_t t = 0; t < N_TENANTS; t++)
        for (int32_t i = 0; i < s->n[t]; i++)
            infer_request_destroy(&s->requests[t][i]);
}

static void assert_near(int64_t a, int64_t b, int32_t percent)
{
    print_message("%d against %d tokens\n", (int)a, (int)b);
    assert_true(llabs(a - b) * 100 <= percent * b);
}

/* Long prompts, short ones in numbers, long answers: all tenants get as many tokens. */
static void test_fair_shares(void **state)
{
    (void)state;
    static const struct ask kinds[N_TENANTS] = {
        {200, 10, 0, 0, "long", 0}, {20, 4, 0, 0, "many", 0}, {60, 20, 0, 0, "talk", 0}};
    static const int32_t numbers[N_TENANTS] = {70, 560, 160};
    static struct shares s;
    int32_t n_waiting;
    int64_t sum[N_TENANTS], all = 0;
    memset(&s, 0, sizeof s);
    struct world *w = world_open((infer_session_options){.max_requests = 6}, 200);
    for (int32_t t = 0; t < N_TENANTS; t++)
        fill(w, &s, t, &kinds[t], numbers[t]);
    run_until(w, &s, 0, 12000);
    for (int32_t t = 0; t < N_TENANTS; t++) {
        all += sum[t] = got(&s, t, &n_waiting);
        assert_true(n_waiting > 0); /* all of them still wanted more */
    }
    for (int32_t t = 0; t < N_TENANTS; t++)
        assert_near(sum[t], all / N_TENANTS, 5);
    empty(&s);
    world_close(w);
}

/* Who comes later gets its share from then on, and nothing for the time before. */
static void test_late_tenant(void **state)
{
    (void)state;
    static const struct ask early = {50, 6, 0, 0, "early", 0}, late = {80, 8, 0, 0, "late", 0};
    static struct shares s;
    int32_t n_waiting;
    memset(&s, 0, sizeof s);
    struct world *w = world_open((infer_session_options){.max_requests = 4}, 200);
    fill(w, &s, 0, &early, 400);
    run_until(w, &s, 0, 6000);
    int64_t before = got(&s, 0, &n_waiting);
    fill(w, &s, 1, &late, 200);
    run_until(w, &s, 1, 8000);
    int64_t sum = got(&s, 0, &n_waiting) - before;
    assert_true(n_waiting > 0);
    assert_near(got(&s, 1, &n_waiting), sum, 5);
    empty(&s);
    world_close(w);
}

/* ----------------------------------------------------------------------- deadlines */

static void test_deadlines(void **state)
{
    (void)state;
    struct world *w = world_open((infer_session_options){.max_requests = 1}, 0);
    struct ask runs = {20, 400, 0, 100 * MS, NULL, 1}, waits = {20, 5, 0, 60 * MS, NULL, 2};
    struct ask in_time = {20, 5, 0, 400 * MS, NULL, 3};
    infer_request *a = must_ask(w, &runs), *b = must_ask(w, &waits), *c = must_ask(w, &in_time);
    run_all(w);
    infer_request_info info = info_of(a);
    assert_int_equal(info.finish, INFER_FINISH_DEADLINE);
    assert_int_equal(info.status, INFER_OK);
    assert_true(info.n_generated_tokens > 10);
    assert_true(info.finished_ns >= info.submitted_ns + 100 * MS);
    assert_true(info.finished_ns < info.submitted_ns + 103 * MS); /* the next step */
    check_alone(w, a, &runs);
    info = info_of(b);
    assert_int_equal(info.finish, INFER_FINISH_DEADLINE);
    assert_int_equal(info.n_generated_tokens, 0);
    assert_int_equal(info.scheduled_ns, 0);
    infer_request_destroy(&b);
    assert_int_equal(info_of(c).finish, INFER_FINISH_LENGTH);
    check_alone(w, c, &in_time);

    /* Nobody steps: who looks finds it ended. */
    infer_event event = {.struct_size = sizeof event};
    a = must_ask(w, &runs);
    assert_int_equal(infer_request_poll(a, &event), INFER_AGAIN);
    assert_ok(infer_request_fork(&b, a, NULL)); /* has the same time, from now on */
    w->now += 100 * MS;
    assert_int_equal(infer_request_poll(a, &event), INFER_OK);
    assert_int_equal(event.finish, INFER_FINISH_DEADLINE);
    assert_int_equal(infer_request_poll(b, &event), INFER_OK);
    assert_int_equal(event.finish, INFER_FINISH_DEADLINE);
    infer_request_destroy(&a);
    infer_request_destroy(&b);

    infer_request_options o = {.struct_size = sizeof o, .ignore_eos = 1, .deadline_ns = 20 * MS};
    assert_int_equal(infer_session_generate(w->session, "Once", &o, NULL, NULL), INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "deadline"));
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_session_get_stats(w->session, &stats);
    assert_int_equal(stats.n_expired, 5);
    assert_int_equal(stats.n_finished, 1);
    world_close(w);
}

/* -------------------------------------------------------------------------- queues */

static void test_full_queues(void **state)
{
    (void)state;
    struct world *w = world_open(
        (infer_session_options){
            .max_requests = 1, .max_queue = 8, .max_queue_tokens = 202, .max_tenant_queue = 3},
        0);
    struct ask a = {10, 2, 0, 0, "a", 1}, b = {150, 2, 0, 0, "b", 1}, c = {10, 2, 0, 0, "c", 1};
    infer_request *requests[8], *refused = NULL;
    for (int i = 0; i < 3; i++)
        requests[i] = must_ask(w, &a);
    assert_int_equal(ask(w->session, &a, &refused), INFER_ERR_BUSY);
    assert_non_null(strstr(infer_last_error(), "tenant"));
    requests[3] = must_ask(w, &b);
    assert_int_equal(ask(w->session, &b, &refused), INFER_ERR_BUSY);
    assert_non_null(strstr(infer_last_error(), "prompt tokens"));
    requests[4] = must_ask(w, &c);
    requests[5] = must_ask(w, &c);
    c.tenant = "d";
    assert_int_equal(ask(w->session, &c, &refused), INFER_ERR_BUSY); /* 202 would be passed */
    c.n_prompt = 1;
    requests[6] = must_ask(w, &c);
    requests[7] = must_ask(w, &c);
    assert_int_equal(ask(w->session, &c, &refused), INFER_ERR_BUSY);
    assert_non_null(strstr(infer_last_error(), "full"));
    assert_null(refused);
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_session_get_stats(w->session, &stats);
    assert_int_equal(stats.n_waiting, 8);
    assert_int_equal(stats.n_refused, 4);
    run_all(w);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(info_of(requests[i]).finish, INFER_FINISH_LENGTH);
        infer_request_destroy(&requests[i]);
    }
    world_close(w);
}

/* ------------------------------------------------------------------ latency target */

/* Four requests generate while long prompts come in. Gives back the longest step with decodes
 * among the last, and the tokens of prompts that such steps had on average. */
static double longest_step(uint64_t target_ns, uint64_t later_token_ns, double *n_prompt)
{
    struct world *w = world_open((infer_session_options){.target_itl_ns = target_ns}, 400);
    struct ask talk = {10, 300, 0, 0, NULL, 1}, prompt = {400, 1, 0, 0, NULL, 2};
    infer_request *requests[56];
    uint64_t begin = 0, longest = 0;
    int64_t n_steps = 0, n_tokens = 0;
    w->token_ns = MS / 10;
    for (int i = 0; i < 4; i++)
        requests[i] = must_ask(w, &talk);
    for (int i = 0; i < 5; i++)
        assert_ok(infer_session_step(w->session));
    for (int i = 4; i < 56; i++)
        requests[i] = must_ask(w, &prompt);
    for (int i = 0; i < 30; i++)
        assert_ok(infer_session_step(w->session));
    w->token_ns = later_token_ns; /* the machine gets slower, or stays */
    for (int i = 0; i < 20; i++)
        assert_ok(infer_session_step(w->session));
    w->n_events = 0;
    for (int i = 0; i < 25; i++)
        assert_ok(infer_session_step(w->session));
    for (int32_t i = 0; i < w->n_events; i++) {
        const infer_trace_event *e = &w->events[i];
        if (e->type == INFER_TRACE_STEP_BEGIN)
            begin = e->time_ns;
        if (e->type != INFER_TRACE_STEP_END || !e->n_decodes)
            continue;
        longest = e->time_ns - begin > longest ? e->time_ns - begin : longest;
        n_steps++;
        n_tokens += e->n_tokens - e->n_decodes;
    }
    for (int i = 0; i < 56; i++)
        infer_request_destroy(&requests[i]);
    world_close(w);
    *n_prompt = n_steps ? (double)n_tokens / (double)n_steps : 0;
    return (double)longest / (double)MS;
}

static void test_latency_target(void **state)
{
    (void)state;
    double n, ms = longest_step(10 * MS, MS / 10, &n);
    print_message("target 10 ms: longest step %.2f ms, %.1f prompt tokens a step\n", ms, n);
    assert_true(ms <= 10 && n > 50); /* 1 ms, and 90 tokens of 0.1 ms */
    ms = longest_step(10 * MS, MS / 5, &n);
    print_message("tokens twice as slow: %.2f ms, %.1f prompt tokens\n", ms, n);
    assert_true(ms <= 10 && n > 25);
    ms = longest_step(MS, MS / 10, &n);
    print_message("target out of reach: %.2f ms, %.1f prompt tokens\n", ms, n);
    assert_true(n >= 7.9 && n <= 8.1);
    ms = longest_step(0, MS / 10, &n);
    print_message("no target: %.2f ms\n", ms);
    assert_true(ms > 20);
}

/* --------------------------------------------------------------------------- trace */

static void test_trace_and_info(void **state)
{
    (void)state;
    static const infer_trace_type expected[] = {
        INFER_TRACE_SUBMITTED,   INFER_TRACE_SCHEDULED, INFER_TRACE_STEP_BEGIN,
        INFER_TRACE_FIRST_TOKEN, INFER_TRACE_STEP_END,  INFER_TRACE_STEP_BEGIN,
        INFER_TRACE_FINISHED,    INFER_TRACE_STEP_END,
    };
    struct world *w = world_open((infer_session_options){.max_requests = 1}, 0);
    struct ask a = {10, 2, 0, 0, NULL, 1};
    infer_request *r = must_ask(w, &a);
    infer_event event = {.struct_size = sizeof event};
    w->now += 5 * MS;
    run_all(w);
    assert_int_equal(w->n_events, sizeof expected / sizeof *expected);
    for (int32_t i = 0; i < w->n_events; i++) {
        const infer_trace_event *e = &w->events[i];
        int is_step = e->type == INFER_TRACE_STEP_BEGIN || e->type == INFER_TRACE_STEP_END;
        assert_int_equal(e->type, expected[i]);
        assert_int_equal(e->request_id, is_step ? 0 : 1);
        assert_true(!i || e->type == INFER_TRACE_STEP_BEGIN ||
                    e->time_ns >= w->events[i - 1].time_ns);
    }
    assert_int_equal(w->events[2].n_tokens, 10);
    assert_int_equal(w->events[5].n_decodes, 1);
    assert_int_equal(w->events[6].finish, INFER_FINISH_LENGTH);
    infer_request_info info = info_of(r);
    assert_int_equal(info.id, 1);
    assert_int_equal(info.submitted_ns, 1000 * MS);
    assert_int_equal(info.scheduled_ns, 1005 * MS);
    assert_int_equal(info.first_token_ns, 1016 * MS); /* 1 ms, and 10 tokens */
    assert_int_equal(info.last_token_ns, 1018 * MS);
    assert_int_equal(info.finished_ns, 1018 * MS);
    assert_int_equal(info.queue_ns, 5 * MS);
    assert_int_equal(info.prefill_ns, 11 * MS);
    assert_int_equal(info.decode_ns, 2 * MS);
    for (int i = 0; i < 2; i++) {
        assert_ok(infer_request_next(r, &event));
        assert_int_equal(event.time_ns, (i ? 1018 : 1016) * MS);
    }
    infer_request_destroy(&r);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_priority_order), cmocka_unit_test(test_priority_preempts),
        cmocka_unit_test(test_starvation),     cmocka_unit_test(test_fair_shares),
        cmocka_unit_test(test_late_tenant),    cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_full_queues),    cmocka_unit_test(test_latency_target),
        cmocka_unit_test(test_trace_and_info),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
