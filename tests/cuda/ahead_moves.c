/* Blocks that move to the swap store and back while steps are under way that nobody has waited for:
 * what is answered is what is answered where nothing moves. Emulated, each order of work across
 * streams shows other mistakes (emulated_set_order()); tests/cuda/meson.build runs them all. */
#include "cuda/ahead_scene.h"

static const uint64_t block = 3 * 2 * 2 * 16 * 16 * sizeof(float); /* layers, k, v, heads, tokens */

static uint64_t n_preempted(const struct scene *s)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(s->e.session, &stats));
    return stats.n_preempted;
}

static uint64_t n_swapped_in(const struct scene *s)
{
    infer_kv_cache_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_kv_cache_get_stats(s->e.cache, &stats));
    return stats.n_swapped_in;
}

static void assert_same_answer(const struct scene *a, const struct scene *b, int i)
{
    const struct engine_answer *x = &a->answers[i], *y = &b->answers[i];
    assert_int_equal(x->status, INFER_OK);
    assert_int_equal(y->status, INFER_OK);
    assert_int_equal(x->n, y->n);
    assert_memory_equal(x->tokens, y->tokens, x->n * sizeof *x->tokens);
}

/* The play with little room, and the same requests with plenty of it. */
static void play_tight(const struct play *p, uint64_t blocks, struct scene *tight,
                       struct scene *roomy)
{
    struct play little = *p;
    little.cache.disable_prefix_cache = 1; /* or that would still have most of it */
    little.cache.budget_bytes = blocks * block;
    little.cache.swap_bytes = 64 * block;
    little.cache.swap_always = 1;
    scene_run(roomy, p, 1);
    scene_run(tight, &little, 0);
    print_message("  %d preempted, %d swapped in, %d steps launched early\n",
                  (int)tight->n_preempted, (int)n_swapped_in(tight), (int)tight->n_taken);
    assert_true(n_swapped_in(tight) > 0);
}

/* ------------------------------------------------------------------ running out */

static void tight(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 3; i++)
        scene_submit(s, i, stage.fixture.n_prompt - (size_t)i, 30);
}

static void what_comes_back_is_what_went(void **state)
{
    (void)state;
    struct scene s, roomy;
    play_tight(&(const struct play){.before = tight}, 8, &s, &roomy);
    assert_true(s.n_taken > 10);
    for (int i = 0; i < 3; i++)
        assert_same_answer(&s, &roomy, i);
    scene_close(&s);
    scene_close(&roomy);
}

/* ---------------------------------------------------------- a row of nobody's any more */

static void leaves(struct scene *s, int step)
{
    infer_request_options o = scene_options(stage.fixture.n_tokens, 20);
    o.priority = 5;
    if (step == 0) {
        scene_submit_as(s, 1, &o);
        scene_submit(s, 0, 10, 28);
    }
    if (n_preempted(s) && s->requests[0] && s->e.session->ahead.n_live)
        infer_request_cancel(s->requests[0]);
}

/* The one that took another's place is cancelled with its row in flight: its blocks go to the one
 * that comes back from the swap store, while the row still writes to one of them. */
static void a_row_in_flight_writes_before_what_comes_back(void **state)
{
    (void)state;
    struct scene s, roomy;
    play_tight(&(const struct play){.before = leaves}, 4, &s, &roomy);
    assert_int_equal(s.answers[0].finish, INFER_FINISH_CANCELLED);
    assert_in_range(s.answers[0].n, 1, 27);
    assert_same_answer(&s, &roomy, 1);
    scene_close(&s);
    scene_close(&roomy);
}

/* ---------------------------------------------------------- there and back at once */

static void comes_and_goes(struct scene *s, int step)
{
    infer_request *first = NULL;
    if (step == 0)
        scene_submit(s, 0, stage.fixture.n_prompt, 14);
    if (step != 5)
        return;
    /* What a restored request is saved as before any step has waited for it to come in. */
    for (int i = 0; i < 2; i++) {
        infer_request *from = i ? first : s->requests[0];
        size_t n = 0;
        assert_ok(infer_request_save_memory(from, NULL, &n));
        void *saved = malloc(n);
        assert_ok(infer_request_save_memory(from, saved, &n));
        assert_ok(infer_session_restore_memory(i ? &s->requests[1] : &first, s->e.session, saved, n,
                                               NULL));
        free(saved);
    }
    infer_request_destroy(&first);
}

static void what_has_come_in_can_go_at_once(void **state)
{
    (void)state;
    struct scene s;
    const struct play p = {.before = comes_and_goes, .cache = {.disable_prefix_cache = 1}};
    scene_run(&s, &p, 0);
    assert_int_equal(s.answers[0].n, 14);
    assert_int_equal(s.answers[1].n, 14);
    assert_memory_equal(s.answers[0].tokens, stage.answer, 14 * sizeof *stage.answer);
    assert_memory_equal(s.answers[1].tokens, stage.answer, 14 * sizeof *stage.answer);
    scene_close(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_back_is_what_went),
        cmocka_unit_test(a_row_in_flight_writes_before_what_comes_back),
        cmocka_unit_test(what_has_come_in_can_go_at_once),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for blocks that move\n");
        return 0;
    }
    return cmocka_run_group_tests_name("blocks that move", tests, stage_open, stage_close);
}
