/* Steps that draw their tokens by seed and position, launched before the last token is read: the
 * tokens are those of steps that are launched one by one. Each scene is played twice, as in
 * ahead.c.
 */
#include "cuda/ahead_scene.h"

#ifdef TEST_EMULATED
#include "cuda/shallow_kernels.h"
#include "model/gpu/run.h"
#endif

/* As a chat asks for it; each request by a seed of its own. */
static infer_sampling chat(int i)
{
    return (infer_sampling){.struct_size = sizeof(infer_sampling),
                            .temperature = 0.7f + 0.1f * (float)i,
                            .top_k = i % 2 ? 0 : 6,
                            .top_p = i % 3 ? 1 : 0.95f,
                            .min_p = i == 2 ? 0.05f : 0,
                            .repetition_penalty = 1,
                            .seed = 11 + (uint64_t)i};
}

static void draw(struct scene *s, int i, size_t n_prompt, int64_t max_tokens)
{
    const infer_sampling sampling = chat(i);
    infer_request_options o = scene_options(n_prompt, max_tokens);
    o.sampling = &sampling;
    scene_submit_as(s, i, &o);
}

/* --------------------------------------------------------------------- plain chats */

static void chats(struct scene *s, int step)
{
    for (int i = 0; step == 0 && i < 4; i++) {
        const size_t n_prompt = stage.fixture.n_prompt - (size_t)i;
        const int64_t n = (int64_t[]){3, 1, 9, 6}[i];
        if (i == 3) /* among them one that draws nothing */
            scene_submit(s, i, n_prompt, n);
        else
            draw(s, i, n_prompt, n);
    }
}

static void chats_go_early(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = chats}, &s);
    assert_int_equal(s.n_steps, 9);
    assert_int_equal(s.n_taken, 7); /* all but the prompts' and the first one of decodes */
    scene_close(&s);
}

/* Seeds tell: a scene of rows that did not draw would pass as well. */
static void seeds_matter(void **state)
{
    (void)state;
    struct scene s;
    int differ = 0;
    scene_open(&s, &(const struct play){0}, 0);
    for (int i = 0; i < 2; i++) {
        infer_sampling sampling = chat(1);
        infer_request_options o = scene_options(stage.fixture.n_prompt, 16);
        sampling.seed = (uint64_t)i;
        o.sampling = &sampling;
        scene_submit_as(&s, i, &o);
    }
    for (int i = 0; i < 2; i++) {
        engine_collect(s.requests[i], &s.answers[i]);
        s.requests[i] = NULL;
        assert_int_equal(s.answers[i].n, 16);
    }
    for (int i = 0; i < 16; i++)
        differ += s.answers[0].tokens[i] != s.answers[1].tokens[i];
    assert_true(differ > 4);
    assert_true(s.e.session->ahead.n_taken > 10);
    scene_close(&s);
}

/* -------------------------------------------------- what happens in between */

static void turmoil(struct scene *s, int step)
{
    infer_fork_options fork = {.struct_size = sizeof fork, .max_tokens = 5};
    const infer_sampling sampling = chat(0);
    const char *const stop[] = {stage.stop_string};
    infer_request_options o = scene_options(stage.fixture.n_prompt, 12);
    o.sampling = &sampling;
    o.ignore_eos = 0;
    o.stop = stop;
    o.n_stop = 1;
    if (step == 0)
        scene_submit_as(s, 0, &o);
    for (int i = 1; step == 0 && i < 3; i++)
        draw(s, i, stage.fixture.n_prompt - (size_t)i, 16);
    if (step == 4) /* by random numbers of its own */
        assert_ok(infer_request_fork(&s->requests[3], s->requests[1], &fork));
    if (step == 7)
        infer_request_cancel(s->requests[2]);
    if (step == 8)
        scene_submit(s, 4, stage.fixture.n_prompt - 6, 5);
    if (step == 11) { /* saved and restored in the midst of its numbers */
        size_t n = 0;
        assert_ok(infer_request_save_memory(s->requests[1], NULL, &n));
        void *saved = malloc(n);
        assert_ok(infer_request_save_memory(s->requests[1], saved, &n));
        assert_ok(infer_session_restore_memory(&s->requests[5], s->e.session, saved, n, NULL));
        free(saved);
    }
}

static void whatever_happens_tokens_are_the_same(void **state)
{
    (void)state;
    struct scene s;
    scene_play(&(const struct play){.before = turmoil}, &s);
    assert_int_equal(s.answers[2].finish, INFER_FINISH_CANCELLED);
    assert_int_equal(s.answers[3].n, 5);
    assert_int_equal(s.answers[1].n, 16);
    assert_int_equal(s.answers[5].n, 16);
    assert_memory_equal(s.answers[1].tokens, s.answers[5].tokens, 16 * sizeof(infer_token));
    assert_true(s.n_taken > 8);
    scene_close(&s);
}

static void tight(struct scene *s, int step)
{
    for (int i = 1; step == 0 && i < 6; i += 4)
        draw(s, i, stage.fixture.n_prompt - (size_t)(i / 4), 24);
}

/* Who gave way draws the same tokens again. */
static void preempted_chats_go_on(void **state)
{
    (void)state;
    const uint64_t block = 3 * 2 * 2 * 16 * 16 * sizeof(float); /* layers, k and v, heads, tokens */
    struct scene s;
    const struct play p = {
        .before = tight,
        .cache = {.budget_bytes = 5 * block, .swap_bytes = 64 * block, .swap_always = 1}};
    scene_play(&p, &s);
    assert_true(s.n_preempted > 0);
    for (int i = 1; i < 6; i += 4)
        assert_int_equal(s.answers[i].n, 24);
    assert_true(s.n_taken > 10);
    scene_close(&s);
}

/* --------------------------------------------------------- what is said of tokens */

#define TOLD 10

/* Steps of one, of the other and of both kinds: what each row is asked for is its own. */
static void play_told(struct scene *s, int off, infer_top_logprob top[3][TOLD][4], float *logprobs)
{
    scene_open(s, &(const struct play){0}, off);
    for (int i = 0; i < 3; i++) {
        const infer_sampling sampling = chat(i);
        infer_request_options o = scene_options(stage.fixture.n_prompt - (size_t)i, TOLD - 3 * i);
        o.sampling = i == 1 ? o.sampling : &sampling;
        o.logprobs = i < 2;
        o.n_top_logprobs = i == 1 ? 4 : i == 2 ? 2 : 0;
        scene_submit_as(s, i, &o);
    }
    while (infer_session_step(s->e.session) == INFER_OK)
        continue;
    for (int i = 0; i < 3; i++) {
        infer_event event = {.struct_size = sizeof event};
        for (int t = 0; t < TOLD - 3 * i; t++) {
            assert_ok(infer_request_next(s->requests[i], &event));
            assert_int_equal(event.type, INFER_EVENT_TOKEN);
            assert_int_equal(event.n_top, i == 1 ? 4 : i == 2 ? 2 : 0);
            if (event.n_top)
                memcpy(top[i][t], event.top, event.n_top * sizeof *event.top);
            *logprobs++ = event.logprob;
            *logprobs++ = (float)event.token;
        }
    }
}

static void likely_tokens_are_told_early_too(void **state)
{
    (void)state;
    static infer_top_logprob top[2][3][TOLD][4];
    static float logprobs[2][2 * 3 * TOLD];
    struct scene s[2];
    for (int off = 0; off < 2; off++)
        play_told(&s[off], off, top[off], logprobs[off]);
    assert_int_equal(s[1].e.session->ahead.n_taken, 0);
    assert_int_equal(s[0].e.session->ahead.n_taken, TOLD - 2);
    assert_memory_equal(top[0], top[1], sizeof top[0]);
    assert_memory_equal(logprobs[0], logprobs[1], sizeof logprobs[0]);
    assert_true(logprobs[0][0] < 0);
    assert_true(top[0][1][0][0].logprob >= top[0][1][0][1].logprob);
    assert_true(top[0][2][0][0].logprob < 0);
#ifdef TEST_EMULATED /* each kind of head is part of a graph of its own */
    uint32_t captured = 0;
    for (int i = 0; i < GPU_GRAPHS_MAX; i++)
        if (s[0].e.session->ws.gpu->graphs[i].exec)
            captured |= 1u << s[0].e.session->ws.gpu->graphs[i].chooses;
    assert_int_equal(captured, 1u << GPU_CHOOSE_TOP | 1u << GPU_CHOOSE_LOGPROBS);
#endif
    for (int i = 0; i < 2; i++)
        scene_close(&s[i]);
}

/* ---------------------------------------------------------------- what stays behind */

static void set_apart(infer_sampling *sampling, infer_request_options *o, int what)
{
    static const infer_logit_bias bias = {.token = 5, .bias = 2};
    if (what == 0)
        sampling->frequency_penalty = 0.5f;
    if (what == 1)
        sampling->repetition_penalty = 1.3f;
    if (what == 2) {
        sampling->logit_bias = &bias;
        sampling->n_logit_bias = 1;
    }
    if (what == 3) {
        o->ignore_eos = 0;
        o->min_tokens = 4;
    }
    if (what == 4)
        o->want_logits = 1;
}

static int what_is_set;

static void apart(struct scene *s, int step)
{
    infer_sampling sampling = chat(1);
    infer_request_options o = scene_options(stage.fixture.n_prompt, 6);
    o.sampling = &sampling;
    set_apart(&sampling, &o, what_is_set);
    if (step == 0)
        scene_submit_as(s, 1, &o);
    if (step == 0)
        draw(s, 5, stage.fixture.n_prompt - 2, 4);
}

/* What hangs on the tokens before, or on lists, is asked of each head when all of them are known;
 * a generation that must not end yet, until it may. */
static void others_are_launched_one_by_one(void **state)
{
    (void)state;
    for (what_is_set = 0; what_is_set < 5; what_is_set++) {
        struct scene s;
        scene_play(&(const struct play){.before = apart}, &s);
        if (what_is_set == 3)
            assert_in_range(s.n_taken, 0, 2);
        else
            assert_int_equal(s.n_taken, 0);
        scene_close(&s);
    }
}

#ifdef TEST_EMULATED

static void broken(struct scene *s, int step)
{
    const infer_sampling cold = {.struct_size = sizeof cold, .temperature = 0.02f, .seed = 3};
    infer_request_options o = scene_options(1, 14);
    o.sampling = &cold;
    for (int i = 0; step == 0 && i < 2; i++) {
        o.n_tokens = 1 + (size_t)i;
        scene_submit_as(s, i, &o);
    }
}

/* Logits that are no numbers end the request that has them, and nobody else. */
static void broken_logits_end_their_request(void **state)
{
    (void)state;
    struct scene s;
    scene_run(&s, &(const struct play){.before = broken}, 1);
    shallow_broken = s.answers[0].tokens[8];
    scene_close(&s);
    scene_play(&(const struct play){.before = broken}, &s);
    shallow_broken = -1;
    assert_int_equal(s.answers[0].status, INFER_ERR_INVALID);
    assert_int_equal(s.answers[0].n, 8);
    assert_int_equal(s.answers[1].status, INFER_OK);
    assert_int_equal(s.answers[1].n, 14);
    scene_close(&s);
}

#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chats_go_early),
        cmocka_unit_test(seeds_matter),
        cmocka_unit_test(whatever_happens_tokens_are_the_same),
        cmocka_unit_test(preempted_chats_go_on),
        cmocka_unit_test(likely_tokens_are_told_early_too),
        cmocka_unit_test(others_are_launched_one_by_one),
#ifdef TEST_EMULATED
        cmocka_unit_test(broken_logits_end_their_request),
#endif
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for steps that draw early\n");
        return 0;
    }
    return cmocka_run_group_tests_name("steps that draw early", tests, stage_open, stage_close);
}
