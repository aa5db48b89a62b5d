/* Many requests over a cache too small for them: a thousand at once, a life with cancelling,
 * deadlines and failing allocations, sixteen threads. What ends says what it says alone; blocks and
 * memory come back. */
#include "support/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define STORIES    "llm/stories260K/stories260K.f32.gguf"
#define N_MANY     1000
#define PROMPT_MAX 120
#define N_VOCAB    512

/* Counts what lives; refuses one of `one_in` where that is set. */
struct memory {
    _Atomic int64_t n_live;
    _Atomic uint64_t n_calls;
    _Atomic uint32_t one_in;
};

static void *take(size_t bytes, size_t alignment, void *user_data)
{
    struct memory *m = user_data;
    uint64_t state = atomic_fetch_add(&m->n_calls, 1);
    void *p = NULL;
    if (m->one_in && test_rand(&state) % m->one_in == 0)
        return NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    atomic_fetch_add(&m->n_live, 1);
    return p;
}

static void give(void *ptr, void *user_data)
{
    atomic_fetch_sub(&((struct memory *)user_data)->n_live, 1);
    free(ptr);
}

struct load {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session, *plain; /* under load; for one request after the other */
    struct memory memory;           /* of cache and session */
};

/* With `swap`, who gives way goes to a store in memory that is often full. */
static void load_open(struct load *l, infer_session_options o, uint64_t n_blocks, int swap)
{
    memset(l, 0, sizeof *l);
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_model_options m = {.struct_size = sizeof m};
    infer_kv_cache_options k = {.struct_size = sizeof k};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session_options plain = {.struct_size = sizeof plain};
    infer_allocator a = {sizeof a, take, give, &l->memory};
    assert_ok(infer_device_create(&l->device, 0, &d));
    m.device = l->device;
    assert_ok(infer_model_load(&l->model, test_data(STORIES), &m));
    assert_ok(infer_session_create(&l->plain, l->model, &plain));
    assert_ok(infer_kv_cache_create(&l->cache, l->model, &k));
    infer_kv_cache_get_stats(l->cache, &kv);
    infer_kv_cache_destroy(&l->cache);
    k.budget_bytes = kv.block_bytes * n_blocks;
    k.allocator = &a;
    k.swap_bytes = swap ? 192 << 10 : 0;
    k.swap_always = swap;
    assert_ok(infer_kv_cache_create(&l->cache, l->model, &k));
    o.struct_size = sizeof o;
    o.kv_cache = l->cache;
    o.allocator = &a;
    assert_ok(infer_session_create(&l->session, l->model, &o));
}

static uint64_t preemptions(const struct load *l)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_session_get_stats(l->session, &stats);
    return stats.n_preempted;
}

static void load_close(struct load *l)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_kv_cache_get_stats(l->cache, &kv);
    assert_int_equal(kv.n_blocks_used, 0);
    assert_int_equal(kv.swap_used_bytes, 0);
    assert_int_equal(kv.n_swap_failed + kv.n_swap_damaged, 0);
    if (kv.swap_bytes)
        print_message("%d swapped out, %d back, %d found no room, of %d preempted\n",
                      (int)kv.n_swapped_out, (int)kv.n_swapped_in, (int)kv.n_swap_full,
                      (int)preemptions(l));
    infer_session_destroy(&l->session);
    infer_kv_cache_destroy(&l->cache);
    assert_int_equal(l->memory.n_live, 0);
    infer_session_destroy(&l->plain);
    infer_model_destroy(&l->model);
    infer_device_destroy(&l->device);
}

/* A request that its number describes. */
struct job {
    infer_token prompt[PROMPT_MAX];
    infer_sampling sampling;
    infer_request_options options;
};

static void job_make(struct job *j, uint64_t number)
{
    static const char *const tenants[] = {NULL, "a", "b", "c", "d"};
    uint64_t random = number;
    *j = (struct job){.sampling = {.struct_size = sizeof j->sampling, .seed = number}};
    size_t n = 1 + test_rand(&random) % PROMPT_MAX, own = test_rand(&random) % (n + 1);
    for (size_t i = 0; i < n; i++) /* some begin alike */
        j->prompt[i] = (infer_token)(3 + (i < own ? i * 11 : test_rand(&random)) % (N_VOCAB - 3));
    j->sampling.temperature = number % 2 ? 1 : 0;
    j->options = (infer_request_options){.struct_size = sizeof j->options,
                                         .tokens = j->prompt,
                                         .n_tokens = n,
                                         .sampling = &j->sampling,
                                         .max_tokens = 1 + test_rand(&random) % 40,
                                         .ignore_eos = 1,
                                         .tenant = tenants[test_rand(&random) % 5],
                                         .priority = (int32_t)(test_rand(&random) % 3)};
}

/* Takes what a request said and compares it with the same request alone; destroys it. */
static void job_check(struct load *l, uint64_t number, infer_request *r)
{
    struct job j;
    infer_request *alone = NULL;
    infer_event said = {.struct_size = sizeof said}, expected = {.struct_size = sizeof expected};
    job_make(&j, number);
    assert_ok(infer_session_submit(&alone, l->plain, &j.options));
    for (int64_t i = 0; i < j.options.max_tokens; i++) {
        assert_ok(infer_request_poll(r, &said));
        assert_ok(infer_request_next(alone, &expected));
        assert_int_equal(said.type, INFER_EVENT_TOKEN);
        assert_int_equal(said.token, expected.token);
        assert_string_equal(said.text, expected.text);
    }
    assert_ok(infer_request_poll(r, &said));
    assert_int_equal(said.finish, INFER_FINISH_LENGTH);
    infer_request_destroy(&alone);
    infer_request_destroy(&r);
}

/* -------------------------------------------------------------------- a thousand */

static void test_thousand(void **state)
{
    (void)state;
    static struct load l;
    static infer_request *requests[N_MANY];
    struct job j;
    infer_request *refused = NULL;
    load_open(&l, (infer_session_options){.max_requests = 32, .max_queue = N_MANY}, 48, 0);
    for (uint64_t i = 0; i < N_MANY; i++) {
        job_make(&j, i);
        assert_ok(infer_session_submit(&requests[i], l.session, &j.options));
    }
    /* The queue is full: nothing that is refused leaves anything behind. */
    int64_t n_live = l.memory.n_live;
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(infer_session_submit(&refused, l.session, &j.options), INFER_ERR_BUSY);
    assert_int_equal(l.memory.n_live, n_live);
    while (infer_session_step(l.session) == INFER_OK)
        continue;
    for (uint64_t i = 0; i < N_MANY; i++) {
        infer_request_info info = {.struct_size = sizeof info};
        assert_ok(infer_request_get_info(requests[i], &info));
        assert_int_equal(info.finish, INFER_FINISH_LENGTH);
        if (i % 5 == 0)
            job_check(&l, i, requests[i]);
        else
            infer_request_destroy(&requests[i]);
    }
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_session_get_stats(l.session, &stats);
    assert_int_equal(stats.n_finished, N_MANY);
    assert_int_equal(stats.n_refused, 100);
    assert_true(stats.n_preempted > 50);
    print_message("%d steps, %d preemptions, %d tokens cached\n", (int)stats.n_steps,
                  (int)stats.n_preempted, (int)stats.n_cached_tokens);
    load_close(&l);
}

/* ------------------------------------------------------------------ what goes wrong */

#define N_SLOTS 40
#define N_ACTS  6000

struct slot {
    infer_request *request;
    uint64_t number;
};

struct tally {
    int n_checked, n_cancelled, n_expired, n_failed, n_refused;
};

static void end(struct load *l, struct slot *s, struct tally *t)
{
    infer_request_info info = {.struct_size = sizeof info};
    uint32_t one_in = l->memory.one_in;
    assert_ok(infer_request_get_info(s->request, &info));
    t->n_cancelled += info.finish == INFER_FINISH_CANCELLED;
    t->n_expired += info.finish == INFER_FINISH_DEADLINE;
    t->n_failed += info.finish == INFER_FINISH_ERROR;
    if (info.finish == INFER_FINISH_ERROR)
        assert_int_equal(info.status, INFER_ERR_NO_MEMORY);
    l->memory.one_in = 0; /* taking events allocates too */
    if (info.finish == INFER_FINISH_LENGTH && ++t->n_checked)
        job_check(l, s->number, s->request);
    else
        infer_request_destroy(&s->request);
    s->request = NULL;
    l->memory.one_in = one_in;
}

static void act(struct load *l, struct slot *s, struct tally *t, uint64_t number, uint64_t *random)
{
    infer_request_info info = {.struct_size = sizeof info};
    uint32_t what = test_rand(random) % 100;
    if (!s->request) {
        struct job j;
        job_make(&j, number);
        j.options.want_logits = what % 2; /* what steps allocate for */
        if (what < 20)
            j.options.deadline_ns = 1 + test_rand(random) % 3000000;
        s->number = number;
        infer_status st = infer_session_submit(&s->request, l->session, &j.options);
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY || st == INFER_ERR_BUSY);
        t->n_refused += st != INFER_OK;
        return;
    }
    assert_ok(infer_request_get_info(s->request, &info));
    if (info.finish)
        end(l, s, t);
    else if (what < 4)
        infer_request_cancel(s->request);
    else if (what < 6)
        infer_request_destroy(&s->request);
}

static void test_faults(void **state)
{
    (void)state;
    static struct load l;
    struct slot slots[N_SLOTS] = {{0}};
    struct tally t = {0};
    uint64_t random = 7;
    load_open(&l, (infer_session_options){.max_requests = 12, .max_queue = 20, .step_tokens = 64},
              16, 1);
    l.memory.one_in = 150;
    for (uint64_t i = 0; i < N_ACTS; i++) {
        act(&l, &slots[test_rand(&random) % N_SLOTS], &t, i, &random);
        if (test_rand(&random) % 3)
            assert_true(infer_session_step(l.session) >= 0);
    }
    l.memory.one_in = 0;
    while (infer_session_step(l.session) == INFER_OK)
        continue;
    for (int i = 0; i < N_SLOTS; i++)
        if (slots[i].request)
            end(&l, &slots[i], &t);
    print_message("%d compared, %d cancelled, %d expired, %d failed, %d refused\n", t.n_checked,
                  t.n_cancelled, t.n_expired, t.n_failed, t.n_refused);
    assert_true(t.n_checked > 50 && t.n_cancelled > 10 && t.n_expired > 10 && t.n_failed > 10);
    assert_true(t.n_refused > 10);
    load_close(&l);
}

/* ------------------------------------------------------------------ sixteen threads */

#define N_THREADS 16
#define N_EACH    4

struct work {
    struct load *load;
    uint64_t first;
    _Atomic int *n_wrong, *n_traced;
    infer_token expected[N_EACH][40];
};

static void count_trace(const infer_trace_event *event, void *user_data)
{
    atomic_fetch_add((_Atomic int *)user_data, event->type == INFER_TRACE_FINISHED);
}

/* 0: it ended otherwise than it does alone. */
static int same(infer_request *r, const struct job *j, const infer_token *expected)
{
    infer_event event = {.struct_size = sizeof event};
    int64_t n = 0;
    while (infer_request_next(r, &event) == INFER_OK && event.type == INFER_EVENT_TOKEN)
        if (n >= j->options.max_tokens || event.token != expected[n++])
            return 0;
    return event.type == INFER_EVENT_FINISH &&
           (event.finish == INFER_FINISH_LENGTH ? n == j->options.max_tokens
                                                : event.finish == INFER_FINISH_DEADLINE);
}

static void *client(void *arg)
{
    struct work *w = arg;
    static _Thread_local char text[65536];
    for (int i = 0; i < N_EACH; i++) {
        struct job j;
        infer_request *r = NULL;
        infer_status st;
        size_t size = sizeof text;
        job_make(&j, w->first + (uint64_t)i);
        if (i % 4 == 3)
            j.options.deadline_ns = 2000000;
        while ((st = infer_session_submit(&r, w->load->session, &j.options)) == INFER_ERR_BUSY)
            usleep(200);
        if (st != INFER_OK) {
            atomic_fetch_add(w->n_wrong, 1);
            continue;
        }
        if (i % 4 == 1)
            infer_request_cancel(r);
        else if (!same(r, &j, w->expected[i]))
            atomic_fetch_add(w->n_wrong, 1);
        infer_request_destroy(&r);
        if (infer_session_metrics(w->load->session, text, &size) != INFER_OK)
            atomic_fetch_add(w->n_wrong, 1);
    }
    return NULL;
}

static void run_threads(int32_t worker_thread)
{
    static struct load l;
    static struct work work[N_THREADS];
    pthread_t threads[N_THREADS];
    static _Atomic int n_wrong, n_traced;
    infer_session_stats stats = {.struct_size = sizeof stats};
    n_wrong = n_traced = 0;
    load_open(&l,
              (infer_session_options){.max_requests = 8,
                                      .max_queue = 10,
                                      .worker_thread = worker_thread,
                                      .trace = count_trace,
                                      .trace_data = &n_traced},
              20, worker_thread);
    for (int t = 0; t < N_THREADS; t++) {
        work[t] = (struct work){.load = &l, .first = (uint64_t)t * N_EACH, .n_wrong = &n_wrong};
        for (int i = 0; i < N_EACH; i++) {
            struct job j;
            infer_request *r = NULL;
            infer_event event = {.struct_size = sizeof event};
            job_make(&j, work[t].first + (uint64_t)i);
            assert_ok(infer_session_submit(&r, l.plain, &j.options));
            for (int n = 0; infer_request_next(r, &event) == INFER_OK && event.token >= 0; n++)
                work[t].expected[i][n] = event.token;
            infer_request_destroy(&r);
        }
    }
    for (int t = 0; t < N_THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, client, &work[t]), 0);
    for (int t = 0; t < N_THREADS; t++)
        pthread_join(threads[t], NULL);
    while (infer_session_step(l.session) == INFER_OK)
        continue;
    assert_int_equal(n_wrong, 0);
    while (n_traced < N_THREADS * N_EACH) /* a worker still ends what was cancelled last */
        usleep(200);
    assert_int_equal(n_traced, N_THREADS * N_EACH);
    infer_session_get_stats(l.session, &stats);
    assert_int_equal(stats.n_finished + stats.n_cancelled + stats.n_expired, N_THREADS * N_EACH);
    print_message("%d finished, %d cancelled, %d expired, %d preempted, %d refused\n",
                  (int)stats.n_finished, (int)stats.n_cancelled, (int)stats.n_expired,
                  (int)stats.n_preempted, (int)stats.n_refused);
    load_close(&l);
}

static void test_threads_step(void **state)
{
    (void)state;
    run_threads(0);
}

static void test_worker_steps(void **state)
{
    (void)state;
    run_threads(1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thousand),
        cmocka_unit_test(test_faults),
    };
    const struct CMUnitTest threads[] = {
        cmocka_unit_test(test_threads_step),
        cmocka_unit_test(test_worker_steps),
    };
    if (argc > 1 && strcmp(argv[1], "threads") == 0)
        return cmocka_run_group_tests_name("load_threads", threads, NULL, NULL);
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
