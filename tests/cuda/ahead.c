/* Steps that are launched before the last token is read: whatever happens between two steps,
 * requests say what they say without. Each scene is played twice, with and without. */
#include "engine/session.h"
#include "model/arch_fixture.h"
#include "support/engine.h"

#include <unistd.h>

#ifdef TEST_EMULATED
#include "cuda/emulate_runtime.h"
#include "cuda/shallow_kernels.h"
#include "model/gpu/run.h"

static struct kern_cuda shallow; /* all is about when things are done, and little about what */
#endif

#define REQUESTS_MAX 8

static struct arch_fixture fixture;
static char folder[512];
static infer_device *device;
static infer_model *model;
static infer_token answer[20]; /* to the whole prompt */
static size_t n_to_end;        /* the token behind so many of them is the model's end token */
static char stop_string[8];    /* is said in the midst of them */

/* ------------------------------------------------------------------ scenes */

struct scene {
    struct engine e;
    infer_request *requests[REQUESTS_MAX];
    struct engine_answer answers[REQUESTS_MAX];
    uint64_t now_ns;
    uint64_t n_steps, n_taken, n_preempted;
    int is_done; /* the last step said so */
};

struct play {
    infer_session_options session;
    infer_kv_cache_options cache;
    void (*before)(struct scene *s, int step); /* each step, the first one is 0 */
};

static uint64_t clock_of(void *data)
{
    return *(uint64_t *)data += 1000;
}

static void make_ready(infer_session *session, int off)
{
    session->ahead.off = off;
#ifdef TEST_EMULATED
    shallow = *session->ws.gpu->kernels;
    shallow_kernels(&shallow);
    session->ws.gpu->kernels = &shallow;
#endif
}

static void open_scene(struct scene *s, const struct play *p, int off)
{
    infer_kv_cache_options cache = p->cache;
    infer_session_options session = p->session;
    memset(s, 0, sizeof *s);
    s->e = (struct engine){.device = device, .model = model};
    cache.struct_size = sizeof cache;
    cache.budget_bytes = cache.budget_bytes ? cache.budget_bytes : 1 << 20;
    cache.type = INFER_KV_F32;
    assert_ok(infer_kv_cache_create(&s->e.cache, model, &cache));
    session.struct_size = sizeof session;
    session.kv_cache = s->e.cache;
    session.step_tokens = session.step_tokens ? session.step_tokens : 128;
    session.max_requests = session.max_requests ? session.max_requests : REQUESTS_MAX;
    session.clock = clock_of;
    session.clock_data = &s->now_ns;
    assert_ok(infer_session_create(&s->e.session, model, &session));
    make_ready(s->e.session, off);
}

static void close_scene(struct scene *s)
{
    for (int i = 0; i < REQUESTS_MAX; i++) {
        infer_request_destroy(&s->requests[i]);
        engine_answer_free(&s->answers[i]);
    }
    infer_session_destroy(&s->e.session);
    infer_kv_cache_destroy(&s->e.cache);
}

/* The first tokens of the fixture, by default the prompt and nothing that ends it. */
static infer_request_options options_of(size_t n_prompt, int64_t max_tokens)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    return (infer_request_options){.struct_size = sizeof(infer_request_options),
                                   .tokens = fixture.tokens,
                                   .n_tokens = n_prompt,
                                   .sampling = &greedy,
                                   .max_tokens = max_tokens,
                                   .ignore_eos = 1};
}

static void submit_as(struct scene *s, int i, const infer_request_options *options)
{
    assert_ok(infer_session_submit(&s->requests[i], s->e.session, options));
}

static void submit(struct scene *s, int i, size_t n_prompt, int64_t max_tokens)
{
    const infer_request_options options = options_of(n_prompt, max_tokens);
    submit_as(s, i, &options);
}

static void run_scene(struct scene *s, const struct play *p, int off)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_status st = INFER_OK;
    open_scene(s, p, off);
    for (int step = 0; step < 400 && st != INFER_DONE; step++) {
        p->before(s, step);
        st = infer_session_step(s->e.session);
        if (st < 0)
            fail_msg("step %d: %s", step, infer_last_error());
    }
    assert_int_equal(st, INFER_DONE);
    assert_int_equal(s->e.session->ahead.n_live, 0); /* it says so when nothing is in flight */
    for (int i = 0; i < REQUESTS_MAX; i++)
        if (s->requests[i]) {
            engine_collect(s->requests[i], &s->answers[i]);
            s->requests[i] = NULL;
        }
    assert_ok(infer_session_get_stats(s->e.session, &stats));
    s->n_steps = stats.n_steps;
    s->n_preempted = stats.n_preempted;
    s->n_taken = s->e.session->ahead.n_taken;
}

static void assert_same(const struct scene *a, const struct scene *b)
{
    for (int i = 0; i < REQUESTS_MAX; i++) {
        const struct engine_answer *x = &a->answers[i], *y = &b->answers[i];
        assert_int_equal(x->status, y->status);
        assert_int_equal(x->finish, y->finish);
        assert_int_equal(x->n, y->n);
        if (x->n)
            assert_memory_equal(x->tokens, y->tokens, x->n * sizeof *x->tokens);
        if (x->text)
            assert_string_equal(x->text, y->text);
    }
}

/* Played without and with; the latter stays open for a look. */
static void play_both(const struct play *p, struct scene *with)
{
    struct scene without;
    run_scene(&without, p, 1);
    assert_int_equal(without.n_taken, 0);
    run_scene(with, p, 0);
    assert_same(&without, with);
    print_message("  %d steps without, %d with, %d of them launched early\n", (int)without.n_steps,
                  (int)with->n_steps, (int)with->n_taken);
    close_scene(&without);
}

/* -------------------------------------------------------------------- ends */

static void lengths(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 4; i++)
        submit(s, i, fixture.n_prompt - (size_t)i, (int64_t[]){3, 1, 9, 6}[i]);
}

/* What ends by its length is known to, and has no row in a step that others go on in. */
static void lengths_are_known_beforehand(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = lengths}, &s);
    assert_int_equal(s.n_steps, 9);
    assert_int_equal(s.n_taken, 7); /* all but the prompts' and the first one of decodes */
    close_scene(&s);
}

static void ends(struct scene *s, int step)
{
    const char *const stop[] = {stop_string};
    infer_request_options o = options_of(fixture.n_prompt, 30);
    if (step)
        return;
    o.stop = stop;
    o.n_stop = 1;
    submit_as(s, 0, &o);
    o.n_stop = 0;
    o.ignore_eos = 0;
    submit_as(s, 1, &o);
    submit(s, 2, fixture.n_prompt - 2, 26);
}

/* A stop string and an end token are seen one step late, and nothing of that is told. */
static void ends_are_seen_a_step_late(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = ends}, &s);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_STOP);
    assert_int_equal(s.answers[1].finish, INFER_FINISH_STOP);
    assert_int_equal(s.answers[1].n, n_to_end);
    assert_null(strstr(s.answers[0].text, stop_string));
    assert_true(s.n_taken > 8);
    close_scene(&s);
}

static void context(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 2; i++)
        submit(s, i, fixture.n_prompt - (size_t)i, 0);
}

static void a_context_fills_up(void **state)
{
    (void)state;
    struct scene s;
    const struct play p = {.before = context,
                           .session = {.n_context = (int32_t)fixture.n_prompt + 6}};
    play_both(&p, &s);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_CONTEXT);
    assert_int_equal(s.answers[1].n, 7);
    close_scene(&s);
}

/* ---------------------------------------------------- what comes between two steps */

static void cancels(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 3; i++)
        submit(s, i, fixture.n_prompt - (size_t)i, 14);
    if (step == 5)
        infer_request_cancel(s->requests[1]);
    if (step == 8)
        infer_request_cancel(s->requests[0]);
    if (step == 9)
        infer_request_destroy(&s->requests[0]);
}

static void cancelled_requests_leave_their_row(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = cancels}, &s);
    assert_int_equal(s.answers[1].finish, INFER_FINISH_CANCELLED);
    assert_int_equal(s.answers[2].n, 14);
    close_scene(&s);
}

static void last_cancel(struct scene *s, int step)
{
    if (step == 0)
        submit(s, 0, fixture.n_prompt, 14);
    if (step == 5)
        infer_request_cancel(s->requests[0]);
}

/* Nothing is left but a row of somebody who has gone. */
static void the_last_one_goes(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = last_cancel}, &s);
    assert_int_equal(s.answers[0].n, 5);
    close_scene(&s);
}

static void arrivals(struct scene *s, int step)
{
    if (step == 0)
        submit(s, 0, fixture.n_prompt, 16);
    if (step == 4)
        submit(s, 1, fixture.n_prompt - 3, 6);
    if (step == 5) /* while the last one's prompt is computed */
        submit(s, 2, 1, 5);
    if (step == 9) {
        infer_request_options o = options_of(fixture.n_prompt - 1, 4);
        o.logprobs = 1; /* what the card does not choose alone */
        submit_as(s, 3, &o);
    }
}

static void arrivals_join_at_the_next_step(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = arrivals}, &s);
    assert_int_equal(s.answers[1].n, 6);
    assert_true(s.n_taken >= 5);
    close_scene(&s);
}

static void deadlines(struct scene *s, int step)
{
    infer_request_options o = options_of(fixture.n_prompt, 12);
    if (step == 0) {
        submit(s, 1, fixture.n_prompt - 2, 12);
        o.deadline_ns = 1000000000;
        submit_as(s, 0, &o);
    }
    if (step == 6)
        s->now_ns += 2000000000;
}

static void deadlines_pass(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = deadlines}, &s);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_DEADLINE);
    assert_int_equal(s.answers[1].n, 12);
    close_scene(&s);
}

static void full_house(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 5; i++)
        submit(s, i, fixture.n_prompt - (size_t)i, 5 + 4 * (int64_t)i);
}

/* Steps go ahead although others wait, who cannot begin; they begin when there is a place. */
static void others_wait_for_a_place(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = full_house, .session = {.max_requests = 2}}, &s);
    assert_true(s.n_taken > 10);
    close_scene(&s);
}

static void tight(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 3; i++)
        submit(s, i, fixture.n_prompt - (size_t)i, 30);
}

/* Blocks run out: nobody gives way for a step that is only a guess. */
static void blocks_run_out(void **state)
{
    (void)state;
    struct scene s;
    const uint64_t block = 3 * 2 * 2 * 16 * 16 * sizeof(float); /* layers, k and v, heads, tokens */
    const struct play p = {.before = tight, .cache = {.budget_bytes = 8 * block}};
    play_both(&p, &s);
    assert_true(s.n_preempted > 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(s.answers[i].n, 30);
    assert_true(s.n_taken > 10);
    close_scene(&s);
}

static void urgent(struct scene *s, int step)
{
    infer_request_options o = options_of(fixture.n_prompt - 1, 5);
    for (int i = 0; step == 0 && i < 2; i++) {
        infer_request_options slow = options_of(fixture.n_prompt - (size_t)i, 16);
        slow.priority = 5;
        submit_as(s, i, &slow);
    }
    if (step == 5)
        submit_as(s, 2, &o);
}

static void a_better_one_takes_a_place(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = urgent, .session = {.max_requests = 2}}, &s);
    assert_int_equal(s.n_preempted, 1);
    close_scene(&s);
}

/* ------------------------------------------------------------- what reads the cache */

static void prefixes(struct scene *s, int step)
{
    if (step == 0)
        ends(s, 0);
    /* Once the first one has ended, its row perhaps still under way: who takes its blocks, and who
     * finds what it left. */
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(s->requests[0], &info));
    if (!info.finish || s->requests[3])
        return;
    infer_token known[ARCH_MAX_TOKENS];
    memcpy(known, fixture.tokens, sizeof known);
    memcpy(known + fixture.n_prompt, answer, sizeof answer);
    infer_request_options o = options_of(fixture.n_prompt + 5, 8);
    o.tokens = known;
    submit_as(s, 3, &o);
    submit(s, 4, fixture.n_prompt - 5, 20);
}

static void prefixes_are_shared_right_after_an_end(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = prefixes}, &s);
    assert_int_equal(s.answers[3].n, 8);
    close_scene(&s);
}

static void forks(struct scene *s, int step)
{
    infer_fork_options o = {.struct_size = sizeof o, .max_tokens = 7};
    if (step == 0)
        submit(s, 0, fixture.n_prompt, 20);
    if (step == 6 || step == 7)
        assert_ok(infer_request_fork(&s->requests[step - 5], s->requests[0], &o));
}

static void forks_begin_where_the_source_stands(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = forks}, &s);
    assert_int_equal(s.answers[1].n, 7);
    assert_memory_equal(s.answers[1].tokens, s.answers[0].tokens + 6, 7 * sizeof(infer_token));
    close_scene(&s);
}

static void saves(struct scene *s, int step)
{
    if (step == 0) {
        submit(s, 0, fixture.n_prompt, 20);
        submit(s, 1, fixture.n_prompt - 4, 20);
    }
    if (step != 7)
        return;
    size_t n = 0;
    assert_ok(infer_request_save_memory(s->requests[0], NULL, &n));
    void *saved = malloc(n);
    assert_ok(infer_request_save_memory(s->requests[0], saved, &n));
    assert_ok(infer_session_restore_memory(&s->requests[2], s->e.session, saved, n, NULL));
    free(saved);
}

static void requests_are_saved_and_restored(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = saves}, &s);
    assert_int_equal(s.answers[0].n, 20);
    assert_int_equal(s.answers[2].n, 20);
    assert_memory_equal(s.answers[0].tokens, s.answers[2].tokens, 20 * sizeof(infer_token));
    close_scene(&s);
}

static void moves(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 2; i++)
        submit(s, i, fixture.n_prompt - (size_t)i, 18);
    if (step == 5)
        assert_ok(infer_kv_cache_resize(s->e.cache, 2 << 20));
    if (step == 10) {
        assert_ok(infer_model_evict(model));
        assert_int_equal(infer_session_step(s->e.session), INFER_AGAIN);
        assert_ok(infer_model_restore(model, NULL));
    }
    if (step == 13)
        assert_ok(infer_session_swap_model(s->e.session, model, NULL));
    if (step == 14) /* the older session's go on with theirs */
        submit(s, 2, fixture.n_prompt, 6);
}

static void caches_and_weights_move(void **state)
{
    (void)state;
    struct scene s;
    play_both(&(const struct play){.before = moves}, &s);
    assert_int_equal(s.answers[0].n, 18);
    assert_int_equal(s.answers[2].n, 6);
    close_scene(&s);
}

/* A session is destroyed with a step in flight. */
static void a_session_ends_in_flight(void **state)
{
    (void)state;
    struct scene s;
    open_scene(&s, &(const struct play){0}, 0);
    submit(&s, 0, fixture.n_prompt, 20);
    for (int i = 0; i < 4; i++)
        assert_ok(infer_session_step(s.e.session));
    assert_int_equal(s.e.session->ahead.n_live, 1);
    infer_session_destroy(&s.e.session);
    engine_collect(s.requests[0], &s.answers[0]);
    s.requests[0] = NULL;
    assert_int_equal(s.answers[0].finish, INFER_FINISH_CANCELLED);
    close_scene(&s);
}

/* ------------------------------------------------------------------ two sessions */

static void two_sessions_share_a_cache(void **state)
{
    (void)state;
    struct scene a, b;
    for (int worker = 0; worker < 2; worker++) {
        const struct play p = {.session = {.worker_thread = worker}};
        open_scene(&a, &p, 0);
        open_scene(&b, &p, 0);
        infer_session_destroy(&b.e.session);
        const infer_session_options options = {.struct_size = sizeof options,
                                               .kv_cache = a.e.cache,
                                               .step_tokens = 128,
                                               .worker_thread = worker};
        assert_ok(infer_session_create(&b.e.session, model, &options));
        make_ready(b.e.session, 0);
        submit(&a, 0, fixture.n_prompt, 12);
        submit(&b, 0, fixture.n_prompt, 12);
        submit(&b, 1, fixture.n_prompt - 3, 9);
        for (int i = 0; !worker && i < 20; i++) {
            assert_true(infer_session_step(a.e.session) >= 0);
            assert_true(infer_session_step(b.e.session) >= 0);
        }
        engine_collect(a.requests[0], &a.answers[0]);
        engine_collect(b.requests[0], &b.answers[0]);
        engine_collect(b.requests[1], &b.answers[1]);
        a.requests[0] = b.requests[0] = b.requests[1] = NULL;
        assert_int_equal(a.answers[0].n, 12);
        assert_memory_equal(a.answers[0].tokens, answer, 12 * sizeof *answer);
        assert_memory_equal(b.answers[0].tokens, answer, 12 * sizeof *answer);
        assert_int_equal(b.answers[1].n, 9);
        assert_true(b.e.session->ahead.n_taken > 2);
        close_scene(&a);
        close_scene(&b);
    }
}

#ifdef TEST_EMULATED

static void broken(struct scene *s, int step)
{
    static infer_token prompts[REQUESTS_MAX];
    for (int i = 0; step == 0 && i < REQUESTS_MAX; i++) {
        infer_request_options o = options_of(1, 50);
        prompts[i] = 40 + i;
        o.tokens = &prompts[i];
        submit_as(s, i, &o);
    }
}

/* Logits that are no numbers, found while the next step is computed already: their request fails,
 * and nobody else. */
static void broken_logits_end_their_request(void **state)
{
    (void)state;
    struct scene s;
    int n_failed = 0;
    play_both(&(const struct play){.before = broken}, &s);
    for (int i = 0; i < REQUESTS_MAX; i++) {
        const struct engine_answer *a = &s.answers[i];
        n_failed += a->status == INFER_ERR_INVALID;
        if (a->status == INFER_OK)
            assert_int_equal(a->n, 50);
        else
            assert_non_null(strstr(a->error, "broken"));
    }
    assert_in_range(n_failed, 1, REQUESTS_MAX - 1);
    close_scene(&s);
}

/* ------------------------------------------------------------------------ faults */

/* Each call of the steps fails in turn, because the card is lost or for want of memory: everybody
 * who computes is told, or what was done early is done again. */
static void calls_fail_in_flight(void **state)
{
    (void)state;
    struct scene all, s;
    run_scene(&all, &(const struct play){.before = lengths}, 0);
    for (int lost = 0; lost < 2; lost++)
        for (long n = 1; n > 0; n += lost ? 7 : 3) {
            open_scene(&s, &(const struct play){0}, 0);
            lengths(&s, 0);
            for (int i = 0; i < 2; i++) /* the prompts are computed, and a step is in flight */
                assert_ok(infer_session_step(s.e.session));
            const long before = emulated_calls();
            emulated_fail_after(n, lost ? cudaErrorLaunchFailure : cudaErrorMemoryAllocation);
            for (int i = 0; i < 4; i++) {
                engine_collect(s.requests[i], &s.answers[i]);
                s.requests[i] = NULL;
                assert_int_equal(s.e.session->ahead.n_live && !s.e.session->n_running, 0);
            }
            const int reached = emulated_calls() - before >= n;
            emulated_reset();
            for (int i = 0; i < 4; i++) {
                const struct engine_answer *got = &s.answers[i], *right = &all.answers[i];
                if (got->status != INFER_OK)
                    assert_int_equal(got->status, lost ? INFER_ERR_DEVICE : INFER_ERR_NO_MEMORY);
                else
                    assert_int_equal(got->n, right->n);
                if (got->n)
                    assert_memory_equal(got->tokens, right->tokens, got->n * sizeof *got->tokens);
            }
            if (reached && lost) /* the longest one was not done */
                assert_int_equal(s.answers[2].status, INFER_ERR_DEVICE);
            close_scene(&s);
            if (!reached)
                n = -100;
        }
    close_scene(&all);
}

#endif

/* ------------------------------------------------------------------------ the group */

static int has_gpu(void)
{
    return infer_device_count() > 1;
}

/* What the prompt is answered, and an end and a stop string in the midst of that. */
static void look_at_the_answer(void)
{
    struct scene s;
    open_scene(&s, &(const struct play){0}, 1);
    submit(&s, 0, fixture.n_prompt, 20);
    engine_collect(s.requests[0], &s.answers[0]);
    s.requests[0] = NULL;
    assert_int_equal(s.answers[0].n, 20);
    memcpy(answer, s.answers[0].tokens, sizeof answer);
    for (size_t i = 0; i < n_to_end; i++)
        if (answer[i] == answer[n_to_end])
            n_to_end++, i = 0;
    const char *text = s.answers[0].text;
    const size_t n = strlen(text);
    for (size_t at = n / 2; at + 3 < n && !stop_string[0]; at++) {
        memcpy(stop_string, text + at, 3);
        if ((size_t)(strstr(text, stop_string) - text) < n / 4)
            stop_string[0] = 0;
    }
    assert_int_not_equal(stop_string[0], 0);
    close_scene(&s);
}

static void load_model(void)
{
    const infer_model_options load = {.struct_size = sizeof load, .device = device};
    arch_fixture_write(&fixture, folder, "F32");
    assert_ok(infer_model_load(&model, folder, &load));
}

static int open_model(void **state)
{
    (void)state;
    arch_fixture_open(&fixture, "llama");
    arch_folder_make(folder, sizeof folder);
    const infer_device_options options = {.struct_size = sizeof options, .n_threads = 1};
    assert_ok(infer_device_create(&device, 1, &options));
    load_model();
    n_to_end = 4;
    look_at_the_answer();
    infer_model_destroy(&model);
    json_object_set_new(json_object_get(fixture.root, "config"), "eos_token_id",
                        json_integer(answer[n_to_end]));
    load_model();
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    infer_model_destroy(&model);
    infer_device_destroy(&device);
    arch_folder_remove(folder);
    arch_fixture_close(&fixture);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_are_known_beforehand),
        cmocka_unit_test(ends_are_seen_a_step_late),
        cmocka_unit_test(a_context_fills_up),
        cmocka_unit_test(cancelled_requests_leave_their_row),
        cmocka_unit_test(the_last_one_goes),
        cmocka_unit_test(arrivals_join_at_the_next_step),
        cmocka_unit_test(deadlines_pass),
        cmocka_unit_test(others_wait_for_a_place),
        cmocka_unit_test(blocks_run_out),
        cmocka_unit_test(a_better_one_takes_a_place),
        cmocka_unit_test(prefixes_are_shared_right_after_an_end),
        cmocka_unit_test(forks_begin_where_the_source_stands),
        cmocka_unit_test(requests_are_saved_and_restored),
        cmocka_unit_test(caches_and_weights_move),
        cmocka_unit_test(a_session_ends_in_flight),
        cmocka_unit_test(two_sessions_share_a_cache),
#ifdef TEST_EMULATED
        cmocka_unit_test(broken_logits_end_their_request),
        cmocka_unit_test(calls_fail_in_flight),
#endif
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (!has_gpu()) {
        print_message("skipped: no GPU for steps launched early\n");
        return 0;
    }
    return cmocka_run_group_tests_name("steps launched early", tests, open_model, close_model);
}
