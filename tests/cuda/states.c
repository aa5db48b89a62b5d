/* Sessions with recurrent layers on a GPU: what happens to a sequence's state between two steps
 * (forks, snapshots, kept prefixes, preemption) leaves what it says as the CPU says it. */
#include "engine/session.h"
#include "model/arch_fixture.h"
#include "model/gpu/run.h"
#include "support/engine.h"

#ifdef TEST_EMULATED
#include "cuda/plain_kernels.h"

static struct kern_cuda plain;
#endif

#define N_PROMPT  34 /* two blocks, and something behind them */
#define N_ANSWER  5
#define N_TOLD    2 /* before the first one is forked, saved and preempted */
#define N_ANSWERS 6

/* Said by the first, its fork, the saved one, one that finds its prefix, an urgent one, and what
 * the CPU saved. */
struct play {
    struct engine e;
    infer_token prompt[N_PROMPT];
    struct engine_answer answers[N_ANSWERS];
    void *saved;
    size_t n_saved;
};

static infer_request *submit(struct play *p, size_t first, int32_t priority)
{
    const infer_sampling greedy = {.struct_size = sizeof greedy};
    const infer_request_options options = {.struct_size = sizeof options,
                                           .tokens = p->prompt + first,
                                           .n_tokens = N_PROMPT - first,
                                           .sampling = &greedy,
                                           .max_tokens = N_ANSWER,
                                           .ignore_eos = 1,
                                           .priority = priority};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, p->e.session, &options));
    return request;
}

static infer_request *restore(struct play *p, const void *saved, size_t n)
{
    infer_request *request = NULL;
    assert_ok(infer_session_restore_memory(&request, p->e.session, saved, n, NULL));
    return request;
}

static void open_play(struct play *p, const char *path, const struct arch_fixture *f,
                      int32_t device)
{
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < N_PROMPT; i++)
        p->prompt[i] = f->tokens[i * 7 % f->n_tokens];
    engine_open(&p->e, path,
                &(const struct engine_setup){.device = device,
                                             .max_requests = 2,
                                             .block_tokens = 16,
                                             .kv_type = INFER_KV_F32,
                                             .kv_budget_bytes = 4 << 20,
                                             .swap_bytes = 16 << 20,
                                             .swap_always = 1});
    if (!device)
        return;
    p->e.model->gpu->ways |= GPU_WAY_MEGA; /* which steps with recurrent layers cannot be */
#ifdef TEST_EMULATED
    plain = *p->e.session->ws.gpu->kernels;
    plain_kernels(&plain);
    p->e.session->ws.gpu->kernels = &plain;
#endif
}

static void play(struct play *p, const struct play *cpu)
{
    const infer_fork_options fork = {.struct_size = sizeof fork, .max_tokens = N_ANSWER - N_TOLD};
    infer_request *requests[N_ANSWERS] = {NULL};
    infer_event event = {.struct_size = sizeof event};
    requests[0] = submit(p, 0, 3);
    for (int i = 0; i < N_TOLD; i++) {
        assert_ok(infer_request_next(requests[0], &event));
        assert_int_equal(event.type, INFER_EVENT_TOKEN);
    }
    assert_int_equal(p->e.session->ahead.n_taken + (uint64_t)p->e.session->ahead.n_live, 0);
    assert_ok(infer_request_fork(&requests[1], requests[0], &fork));
    assert_ok(infer_request_save_memory(requests[0], NULL, &p->n_saved));
    p->saved = malloc(p->n_saved);
    assert_ok(infer_request_save_memory(requests[0], p->saved, &p->n_saved));
    assert_ok(infer_session_step(p->e.session)); /* two run now, and one gives way */
    requests[4] = submit(p, N_PROMPT - 3, 0);
    requests[2] = restore(p, p->saved, p->n_saved);
    requests[3] = submit(p, 0, 3);
    if (cpu)
        requests[5] = restore(p, cpu->saved, cpu->n_saved);
    for (int i = 0; i < N_ANSWERS; i++)
        if (requests[i]) {
            engine_collect(requests[i], &p->answers[i]);
            assert_int_equal(p->answers[i].status, INFER_OK);
        }
}

static void close_play(struct play *p)
{
    for (int i = 0; i < N_ANSWERS; i++)
        engine_answer_free(&p->answers[i]);
    free(p->saved);
    engine_close(&p->e);
}

static void assert_moved(const struct play *p)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_kv_cache_stats cache = {.struct_size = sizeof cache};
    assert_ok(infer_session_get_stats(p->e.session, &stats));
    assert_ok(infer_kv_cache_get_stats(p->e.cache, &cache));
    assert_true(stats.n_preempted > 0);
    assert_true(cache.n_swapped_in > 0);
    assert_true(cache.n_prefix_hits > 0);
}

static void said_as_on_the_cpu(void **state)
{
    struct arch_fixture f;
    struct play cpu, card;
    char folder[512];
    arch_fixture_make(&f, *state, folder, sizeof folder);
    open_play(&cpu, folder, &f, 0);
    open_play(&card, folder, &f, 1);
    play(&cpu, NULL);
    play(&card, &cpu);
    for (int i = 0; i < N_ANSWERS; i++) {
        const struct engine_answer *got = &card.answers[i], *want = &cpu.answers[i < 5 ? i : 2];
        assert_int_equal(got->n, want->n);
        assert_true(got->n >= N_ANSWER - N_TOLD);
        assert_memory_equal(got->tokens, want->tokens, got->n * sizeof *got->tokens);
    }
    assert_moved(&cpu);
    assert_moved(&card);
    assert_int_equal(card.e.session->ws.gpu->mega.launch.n_ops, 0);
    close_play(&card);
    close_play(&cpu);
    arch_fixture_remove(&f, folder);
}

int main(int argc, char **argv)
{
    static char mamba2[] = "mamba2", qwen35[] = "qwen3.5";
    static const struct CMUnitTest tests[] = {
        {"Mamba 2", said_as_on_the_cpu, NULL, NULL, mamba2},
        {"gated delta networks", said_as_on_the_cpu, NULL, NULL, qwen35},
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for recurrent state\n");
        return 0;
    }
    if (getenv("TEST_BRIEF")) { /* a state is a state */
        print_message("gated delta networks left to a card\n");
        cmocka_set_skip_filter(tests[1].name);
    }
    return cmocka_run_group_tests_name("recurrent state", tests, NULL, NULL);
}
