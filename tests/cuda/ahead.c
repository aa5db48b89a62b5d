/* Steps that are launched before the last token is read: whatever happens between two steps,
 * requests say what they say without. Each scene is played twice, with and without. */
#include "cuda/ahead_scene.h"

#ifdef TEST_EMULATED
#include "cuda/emulate_runtime.h"
#include "cuda/shallow_kernels.h"
#endif

static int has_gpu(void)
{
    return infer_device_count() > 1;
}

/* -------------------------------------------------------------------- ends */

static void lengths(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 4; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, (int64_t[]){3, 1, 9, 6}[i]);
}

/* What ends by its length is known to, and has no row in a step that others go on in. */
static void lengths_are_known_beforehand(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = lengths}, &s);
    assert_int_equal(s.n_steps, 9);
    assert_int_equal(s.n_taken, 7); /* all but the prompts' and the first one of decodes */
    scene_close(&s);
}

static void ends(struct scene *s, int step)
{
    const char *const stop[] = {stage.stop_string};
    infer_request_options o = scene_options(stage.fixture.n_prompt, 30);
    if (step)
        return;
    o.stop = stop;
    o.n_stop = 1;
    scene_submit_as(s, 0, &o);
    o.n_stop = 0;
    o.ignore_eos = 0;
    scene_submit_as(s, 1, &o);
    scene_submit(s, 2, stage.fixture.n_prompt - 2, 26);
}

/* A stop string and an end token are seen one step late, and nothing of that is told. */
static void ends_are_seen_a_step_late(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = ends}, &s);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_STOP);
    assert_int_equal(s.answers[1].finish, INFER_FINISH_STOP);
    assert_int_equal(s.answers[1].n, stage.n_to_end);
    assert_null(strstr(s.answers[0].text, stage.stop_string));
    assert_true(s.n_taken > 8);
    scene_close(&s);
}

static void context(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 2; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, 0);
}

static void a_context_fills_up(void **state)
{
    (void)state;
    struct scene s;
    const struct play p = {.before = context,
                           .session = {.n_context = (int32_t)stage.fixture.n_prompt + 6}};
    scene_play(&p, &s);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_CONTEXT);
    assert_int_equal(s.answers[1].n, 7);
    scene_close(&s);
}

/* ---------------------------------------------------- what comes between two steps */

static void cancels(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 3; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, 14);
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
    scene_play(&(const struct play){.before = cancels}, &s);
    assert_int_equal(s.answers[1].finish, INFER_FINISH_CANCELLED);
    assert_int_equal(s.answers[2].n, 14);
    scene_close(&s);
}

static void last_cancel(struct scene *s, int step)
{
    if (step == 0)
        scene_submit(s, 0, stage.fixture.n_prompt, 14);
    if (step == 5)
        infer_request_cancel(s->requests[0]);
}

/* Nothing is left but a row of somebody who has gone. */
static void the_last_one_goes(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = last_cancel}, &s);
    assert_int_equal(s.answers[0].n, 5);
    scene_close(&s);
}

static void arrivals(struct scene *s, int step)
{
    if (step == 0)
        scene_submit(s, 0, stage.fixture.n_prompt, 16);
    if (step == 4)
        scene_submit(s, 1, stage.fixture.n_prompt - 3, 6);
    if (step == 5) /* while the last one's prompt is computed */
        scene_submit(s, 2, 1, 5);
    if (step == 9) {
        infer_request_options o = scene_options(stage.fixture.n_prompt - 1, 4);
        o.want_logits = 1; /* what the card does not choose alone */
        scene_submit_as(s, 3, &o);
    }
}

static void arrivals_join_at_the_next_step(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = arrivals}, &s);
    assert_int_equal(s.answers[1].n, 6);
    assert_true(s.n_taken >= 5);
    scene_close(&s);
}

static void deadlines(struct scene *s, int step)
{
    infer_request_options o = scene_options(stage.fixture.n_prompt, 12);
    if (step == 0) {
        scene_submit(s, 1, stage.fixture.n_prompt - 2, 12);
        o.deadline_ns = 1000000000;
        scene_submit_as(s, 0, &o);
    }
    if (step == 6)
        s->now_ns += 2000000000;
}

static void deadlines_pass(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = deadlines}, &s);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_DEADLINE);
    assert_int_equal(s.answers[1].n, 12);
    scene_close(&s);
}

static void full_house(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 5; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, 5 + 4 * (int64_t)i);
}

/* Steps go ahead although others wait, who cannot begin; they begin when there is a place. */
static void others_wait_for_a_place(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = full_house, .session = {.max_requests = 2}}, &s);
    assert_true(s.n_taken > 10);
    scene_close(&s);
}

static void mixed(struct scene *s, int step)
{
    infer_request_options o = scene_options(stage.fixture.n_prompt, 6);
    for (int i = 0; step == 0 && i < 3; i++) {
        o.want_logits = i != 1;
        o.max_tokens = i == 1 ? 12 : 6;
        scene_submit_as(s, i, &o);
    }
}

/* One after the other: steps that choose within their graph, and steps of the same shape whose
 * tokens are asked for behind it. */
static void some_want_more_than_tokens(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = mixed, .session = {.max_requests = 1}}, &s);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s.answers[i].n, i == 1 ? 12 : 6);
        assert_memory_equal(s.answers[i].tokens, stage.answer,
                            s.answers[i].n * sizeof *stage.answer);
    }
    assert_in_range(s.n_taken, 5, 10);
    scene_close(&s);
}

static void tight(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 3; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, 30);
}

/* Blocks run out: nobody gives way for a step that is only a guess. What was computed is computed
 * again, or comes back from the swap store into blocks that a step in flight may still write to. */
static void blocks_run_out(void **state)
{
    (void)state;
    const uint64_t block = 3 * 2 * 2 * 16 * 16 * sizeof(float); /* layers, k and v, heads, tokens */
    for (int swaps = 0; swaps < 2; swaps++) {
        struct scene s;
        infer_kv_cache_stats stats = {.struct_size = sizeof stats};
        const struct play p = {.before = tight,
                               .cache = {.budget_bytes = 8 * block,
                                         .swap_bytes = swaps ? 64 * block : 0,
                                         .swap_always = swaps}};
        scene_play(&p, &s);
        assert_true(s.n_preempted > 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(s.answers[i].n, 30);
        assert_true(s.n_taken > 10);
        assert_ok(infer_kv_cache_get_stats(s.e.cache, &stats));
        assert_int_equal(stats.n_swapped_in > 0, swaps);
        scene_close(&s);
    }
}

static void urgent(struct scene *s, int step)
{
    infer_request_options o = scene_options(stage.fixture.n_prompt - 1, 5);
    for (int i = 0; step == 0 && i < 2; i++) {
        infer_request_options slow = scene_options(stage.fixture.n_prompt - (size_t)i, 16);
        slow.priority = 5;
        scene_submit_as(s, i, &slow);
    }
    if (step == 5)
        scene_submit_as(s, 2, &o);
}

static void a_better_one_takes_a_place(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = urgent, .session = {.max_requests = 2}}, &s);
    assert_int_equal(s.n_preempted, 1);
    scene_close(&s);
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
    memcpy(known, stage.fixture.tokens, sizeof known);
    memcpy(known + stage.fixture.n_prompt, stage.answer, sizeof stage.answer);
    infer_request_options o = scene_options(stage.fixture.n_prompt + 5, 8);
    o.tokens = known;
    scene_submit_as(s, 3, &o);
    scene_submit(s, 4, stage.fixture.n_prompt - 5, 20);
}

static void prefixes_are_shared_right_after_an_end(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = prefixes}, &s);
    assert_int_equal(s.answers[3].n, 8);
    scene_close(&s);
}

static void forks(struct scene *s, int step)
{
    infer_fork_options o = {.struct_size = sizeof o, .max_tokens = 7};
    if (step == 0)
        scene_submit(s, 0, stage.fixture.n_prompt, 20);
    if (step == 6 || step == 7)
        assert_ok(infer_request_fork(&s->requests[step - 5], s->requests[0], &o));
}

static void forks_begin_where_the_source_stands(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = forks}, &s);
    assert_int_equal(s.answers[1].n, 7);
    assert_memory_equal(s.answers[1].tokens, s.answers[0].tokens + 6, 7 * sizeof(infer_token));
    scene_close(&s);
}

static void saves(struct scene *s, int step)
{
    if (step == 0) {
        scene_submit(s, 0, stage.fixture.n_prompt, 20);
        scene_submit(s, 1, stage.fixture.n_prompt - 4, 20);
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
    scene_play(&(const struct play){.before = saves}, &s);
    assert_int_equal(s.answers[0].n, 20);
    assert_int_equal(s.answers[2].n, 20);
    assert_memory_equal(s.answers[0].tokens, s.answers[2].tokens, 20 * sizeof(infer_token));
    scene_close(&s);
}

static void moves(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 2; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, 18);
    if (step == 5)
        assert_ok(infer_kv_cache_resize(s->e.cache, 2 << 20));
    if (step == 10) {
        assert_ok(infer_model_evict(stage.model));
        assert_int_equal(infer_session_step(s->e.session), INFER_AGAIN);
        assert_ok(infer_model_restore(stage.model, NULL));
    }
    if (step == 13) {
        assert_ok(infer_session_swap_model(s->e.session, stage.model, NULL));
        scene_make_ready(s->e.session->line->newest, s->e.session->ahead.off);
    }
    if (step == 14) /* the older session's go on with theirs */
        scene_submit(s, 2, stage.fixture.n_prompt, 6);
}

static void caches_and_weights_move(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = moves}, &s);
    assert_int_equal(s.answers[0].n, 18);
    assert_int_equal(s.answers[2].n, 6);
    scene_close(&s);
}

/* A session is destroyed with a step in flight. */
static void a_session_ends_in_flight(void **state)
{
    (void)state;
    struct scene s;
    scene_open(&s, &(const struct play){0}, 0);
    scene_submit(&s, 0, stage.fixture.n_prompt, 20);
    for (int i = 0; i < 4; i++)
        assert_ok(infer_session_step(s.e.session));
    assert_int_equal(s.e.session->ahead.n_live, 1);
    infer_session_destroy(&s.e.session);
    engine_collect(s.requests[0], &s.answers[0]);
    s.requests[0] = NULL;
    assert_int_equal(s.answers[0].finish, INFER_FINISH_CANCELLED);
    scene_close(&s);
}

/* ------------------------------------------------------------------ two sessions */

static void two_sessions_share_a_cache(void **state)
{
    (void)state;
    struct scene a, b;
    for (int worker = 0; worker < 2; worker++) {
        const struct play p = {.session = {.worker_thread = worker}};
        scene_open(&a, &p, 0);
        scene_open(&b, &p, 0);
        infer_session_destroy(&b.e.session);
        const infer_session_options options = {.struct_size = sizeof options,
                                               .kv_cache = a.e.cache,
                                               .step_tokens = 128,
                                               .worker_thread = worker};
        assert_ok(infer_session_create(&b.e.session, stage.model, &options));
        scene_make_ready(b.e.session, 0);
        scene_submit(&a, 0, stage.fixture.n_prompt, 12);
        scene_submit(&b, 0, stage.fixture.n_prompt, 12);
        scene_submit(&b, 1, stage.fixture.n_prompt - 3, 9);
        for (int i = 0; !worker && i < 20; i++) {
            assert_true(infer_session_step(a.e.session) >= 0);
            assert_true(infer_session_step(b.e.session) >= 0);
        }
        engine_collect(a.requests[0], &a.answers[0]);
        engine_collect(b.requests[0], &b.answers[0]);
        engine_collect(b.requests[1], &b.answers[1]);
        a.requests[0] = b.requests[0] = b.requests[1] = NULL;
        assert_int_equal(a.answers[0].n, 12);
        assert_memory_equal(a.answers[0].tokens, stage.answer, 12 * sizeof *stage.answer);
        assert_memory_equal(b.answers[0].tokens, stage.answer, 12 * sizeof *stage.answer);
        assert_int_equal(b.answers[1].n, 9);
        assert_true(b.e.session->ahead.n_taken > 2);
        scene_close(&a);
        scene_close(&b);
    }
}

#ifdef TEST_EMULATED

static void broken(struct scene *s, int step)
{
    static infer_token prompts[REQUESTS_MAX];
    for (int i = 0; step == 0 && i < REQUESTS_MAX; i++) {
        infer_request_options o = scene_options(1, 50);
        prompts[i] = 40 + i;
        o.tokens = &prompts[i];
        scene_submit_as(s, i, &o);
    }
}

/* Logits that are no numbers, found while the next step is computed already: their request fails,
 * and nobody else. */
static void broken_logits_end_their_request(void **state)
{
    (void)state;
    struct scene s;
    int n_failed = 0;
    scene_run(&s, &(const struct play){.before = broken}, 1);
    shallow_broken = s.answers[0].tokens[10];
    scene_close(&s);
    scene_play(&(const struct play){.before = broken}, &s);
    shallow_broken = -1;
    for (int i = 0; i < REQUESTS_MAX; i++) {
        const struct engine_answer *a = &s.answers[i];
        n_failed += a->status == INFER_ERR_INVALID;
        if (a->status == INFER_OK)
            assert_int_equal(a->n, 50);
        else
            assert_non_null(strstr(a->error, "broken"));
    }
    assert_in_range(n_failed, 1, REQUESTS_MAX - 1);
    scene_close(&s);
}

/* ------------------------------------------------------------------------ faults */

/* Each call of the steps fails in turn, because the card is lost or for want of memory: everybody
 * who computes is told, or what was done early is done again. */
static void calls_fail_in_flight(void **state)
{
    (void)state;
    struct scene all, s;
    scene_run(&all, &(const struct play){.before = lengths}, 0);
    for (int lost = 0; lost < 2; lost++)
        for (long n = 1; n > 0; n += lost ? 23 : 3) {
            scene_open(&s, &(const struct play){0}, 0);
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
            emulated_fail_after(0, cudaSuccess);
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
            scene_close(&s);
            if (reached && lost)
                stage_renew();
            if (!reached)
                n = -100;
        }
    scene_close(&all);
}

#endif

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
        cmocka_unit_test(some_want_more_than_tokens),
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
    return cmocka_run_group_tests_name("steps launched early", tests, stage_open, stage_close);
}
