/* Scenes: sessions that are stepped by hand, played without and with steps launched early. */
#include "cuda/ahead_scene.h"

#ifdef TEST_EMULATED
#include "cuda/shallow_kernels.h"
#include "model/gpu/run.h"

static struct kern_cuda shallow; /* all is about when things are done, and little about what */
#endif

struct stage stage;

static uint64_t clock_of(void *data)
{
    return *(uint64_t *)data += 1000;
}

void scene_make_ready(infer_session *session, int off)
{
    session->ahead.off = off;
#ifdef TEST_EMULATED
    shallow = *session->ws.gpu->kernels;
    shallow_kernels(&shallow);
    session->ws.gpu->kernels = &shallow;
#endif
}

void scene_open(struct scene *s, const struct play *p, int off)
{
    infer_kv_cache_options cache = p->cache;
    infer_session_options session = p->session;
    memset(s, 0, sizeof *s);
    s->e = (struct engine){.device = stage.device, .model = stage.model};
    cache.struct_size = sizeof cache;
    cache.budget_bytes = cache.budget_bytes ? cache.budget_bytes : 1 << 20;
    cache.type = INFER_KV_F32;
    assert_ok(infer_kv_cache_create(&s->e.cache, stage.model, &cache));
    session.struct_size = sizeof session;
    session.kv_cache = s->e.cache;
    session.step_tokens = session.step_tokens ? session.step_tokens : 128;
    session.max_requests = session.max_requests ? session.max_requests : REQUESTS_MAX;
    session.clock = clock_of;
    session.clock_data = &s->now_ns;
    assert_ok(infer_session_create(&s->e.session, stage.model, &session));
    scene_make_ready(s->e.session, off);
}

void scene_close(struct scene *s)
{
    for (int i = 0; i < REQUESTS_MAX; i++) {
        infer_request_destroy(&s->requests[i]);
        engine_answer_free(&s->answers[i]);
    }
    infer_session_destroy(&s->e.session);
    infer_kv_cache_destroy(&s->e.cache);
}

/* The first tokens of the fixture, by default the prompt and nothing that ends it. */
infer_request_options scene_options(size_t n_prompt, int64_t max_tokens)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    return (infer_request_options){.struct_size = sizeof(infer_request_options),
                                   .tokens = stage.fixture.tokens,
                                   .n_tokens = n_prompt,
                                   .sampling = &greedy,
                                   .max_tokens = max_tokens,
                                   .ignore_eos = 1};
}

void scene_submit_as(struct scene *s, int i, const infer_request_options *options)
{
    assert_ok(infer_session_submit(&s->requests[i], s->e.session, options));
}

void scene_submit(struct scene *s, int i, size_t n_prompt, int64_t max_tokens)
{
    const infer_request_options options = scene_options(n_prompt, max_tokens);
    scene_submit_as(s, i, &options);
}

void scene_run(struct scene *s, const struct play *p, int off)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_status st = INFER_OK;
    scene_open(s, p, off);
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
void scene_play(const struct play *p, struct scene *with)
{
    struct scene without;
    scene_run(&without, p, 1);
    assert_int_equal(without.n_taken, 0);
    scene_run(with, p, 0);
    assert_same(&without, with);
    print_message("  %d steps without, %d with, %d of them launched early\n", (int)without.n_steps,
                  (int)with->n_steps, (int)with->n_taken);
    scene_close(&without);
}

/* What the prompt is answered, and an end and a stop string in the midst of that. */
static void look_at_the_answer(void)
{
    struct scene s;
    scene_open(&s, &(const struct play){0}, 1);
    scene_submit(&s, 0, stage.fixture.n_prompt, 20);
    engine_collect(s.requests[0], &s.answers[0]);
    s.requests[0] = NULL;
    assert_int_equal(s.answers[0].n, 20);
    memcpy(stage.answer, s.answers[0].tokens, sizeof stage.answer);
    for (size_t i = 0; i < stage.n_to_end; i++)
        if (stage.answer[i] == stage.answer[stage.n_to_end])
            stage.n_to_end++, i = 0;
    const char *text = s.answers[0].text;
    const size_t n = strlen(text);
    for (size_t at = n / 2; at + 3 < n && !stage.stop_string[0]; at++) {
        memcpy(stage.stop_string, text + at, 3);
        if ((size_t)(strstr(text, stage.stop_string) - text) < n / 4)
            stage.stop_string[0] = 0;
    }
    assert_int_not_equal(stage.stop_string[0], 0);
    scene_close(&s);
}

static void load_model(void)
{
    const infer_model_options load = {.struct_size = sizeof load, .device = stage.device};
    arch_fixture_write(&stage.fixture, stage.folder, "F32");
    assert_ok(infer_model_load(&stage.model, stage.folder, &load));
}

static void open_device(void)
{
    const infer_device_options options = {.struct_size = sizeof options, .n_threads = 1};
    assert_ok(infer_device_create(&stage.device, 1, &options));
}

void stage_renew(void)
{
    infer_model_destroy(&stage.model);
    infer_device_destroy(&stage.device);
    open_device();
    load_model();
}

int stage_open(void **state)
{
    (void)state;
    arch_fixture_open(&stage.fixture, "llama");
    arch_folder_make(stage.folder, sizeof stage.folder);
    open_device();
    load_model();
    stage.n_to_end = 4;
    look_at_the_answer();
    infer_model_destroy(&stage.model);
    json_object_set_new(json_object_get(stage.fixture.root, "config"), "eos_token_id",
                        json_integer(stage.answer[stage.n_to_end]));
    load_model();
    return 0;
}

int stage_close(void **state)
{
    (void)state;
    infer_model_destroy(&stage.model);
    infer_device_destroy(&stage.device);
    arch_folder_remove(stage.folder);
    arch_fixture_close(&stage.fixture);
    return 0;
}
