/* A card that is lost in the midst of work, in one process with what goes on: a kernel writes where
 * nothing is. The program has the library's own objects in it, since only they know the context
 * that the kernel must be launched in. */
#include "device/cuda_device.h"
#include "model/arch_fixture.h"
#include "support/engine.h"

#ifdef TEST_EMULATED
#include "cuda/emulate_runtime.h"
#include "cuda/shallow_kernels.h"
#include "engine/session.h"
#include "model/gpu/run.h"
#define lost_write emulated_lose
static struct kern_cuda shallow; /* all is about when things end, and little about what they are */
#else
int32_t lost_write(void *stream);
#endif

#define N_NEXT   8
#define REQUESTS 3

static struct arch_fixture fixture;
static char folder[512];

struct side {
    struct engine e;
    infer_request *requests[REQUESTS];
};

static void open_side(struct side *s, uint64_t blocks, int worker)
{
    const uint64_t block = 3 * 2 * 2 * 16 * 16 * sizeof(float); /* layers, k and v, heads, tokens */
    const infer_device_options device = {.struct_size = sizeof device, .n_threads = 1};
    infer_model_options model = {.struct_size = sizeof model};
    const infer_kv_cache_options cache = {.struct_size = sizeof cache,
                                          .budget_bytes = blocks * block,
                                          .type = INFER_KV_F32,
                                          .swap_bytes = 64 * block,
                                          .swap_always = 1};
    infer_session_options session = {.struct_size = sizeof session,
                                     .step_tokens = 64,
                                     .max_requests = REQUESTS,
                                     .worker_thread = worker};
    memset(s, 0, sizeof *s);
    assert_ok(infer_device_create(&s->e.device, 1, &device));
    model.device = s->e.device;
    assert_ok(infer_model_load(&s->e.model, folder, &model));
    assert_ok(infer_kv_cache_create(&s->e.cache, s->e.model, &cache));
    session.kv_cache = s->e.cache;
    assert_ok(infer_session_create(&s->e.session, s->e.model, &session));
#ifdef TEST_EMULATED
    shallow = *s->e.session->ws.gpu->kernels;
    shallow_kernels(&shallow);
    s->e.session->ws.gpu->kernels = &shallow;
#endif
}

static void close_side(struct side *s)
{
    for (int i = 0; i < REQUESTS; i++)
        infer_request_destroy(&s->requests[i]);
    engine_close(&s->e);
}

static infer_status submit(struct side *s, int i, int64_t max_tokens)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    const infer_request_options options = {.struct_size = sizeof options,
                                           .tokens = fixture.tokens,
                                           .n_tokens = fixture.n_prompt - (size_t)i,
                                           .sampling = &greedy,
                                           .max_tokens = max_tokens,
                                           .ignore_eos = 1};
    return infer_session_submit(&s->requests[i], s->e.session, &options);
}

static void collect(struct side *s, int i, struct engine_answer *out)
{
    engine_collect(s->requests[i], out);
    s->requests[i] = NULL;
}

static void lose(struct side *s)
{
    void *stream;
    assert_ok(device_cuda_enter(s->e.device, &stream));
    assert_int_equal(lost_write(stream), 0);
    device_cuda_leave(s->e.device);
}

/* The first tokens of the prompt, by the whole path of a new handle. */
static void generate(struct engine_answer *out)
{
    struct side s;
    open_side(&s, 64, 0);
    assert_ok(submit(&s, 0, N_NEXT));
    collect(&s, 0, out);
    assert_int_equal(out->status, INFER_OK);
    assert_int_equal(out->n, N_NEXT);
    close_side(&s);
}

static void assert_as_before(const struct engine_answer *a, const struct engine_answer *first)
{
    assert_int_equal(a->status, INFER_OK);
    assert_int_equal(a->n, first->n);
    assert_memory_equal(a->tokens, first->tokens, first->n * sizeof *first->tokens);
}

static void assert_nothing_left(void)
{
#ifdef TEST_EMULATED
    assert_int_equal(emulated_memory_used(), 0);
    assert_int_equal(emulated_contexts(), 0); /* nor was the host's ever touched */
#endif
}

/* Whatever is asked of a lost device is told so, and what is on it goes without it. */
static void check_lost(struct side *s)
{
    infer_device_info info = {.struct_size = sizeof info};
    infer_model_options options = {.struct_size = sizeof options, .device = s->e.device};
    infer_model *model = NULL;
    struct engine_answer answer;
    assert_int_equal(infer_device_get_info(s->e.device, &info), INFER_ERR_DEVICE);
    assert_non_null(strstr(infer_last_error(), "lost"));
    assert_int_equal(infer_model_load(&model, folder, &options), INFER_ERR_DEVICE);
    assert_int_equal(infer_model_evict(s->e.model), INFER_OK);
    assert_int_equal(infer_model_restore(s->e.model, NULL), INFER_ERR_DEVICE);
    assert_ok(submit(s, 0, N_NEXT));
    infer_request_cancel(s->requests[0]);
    collect(s, 0, &answer);
    engine_answer_free(&answer);
}

/* Requests of the lost handle end with an error, those of another handle of the same card go on,
 * and a new one answers as the first did. */
static void a_lost_card_is_created_anew(void **state)
{
    struct engine_answer first, answer;
    struct side a, b;
    infer_event event = {.struct_size = sizeof event};
    (void)state;
    generate(&first);
    open_side(&a, 64, 0);
    open_side(&b, 64, 0);
    for (int i = 0; i < 2; i++)
        assert_ok(submit(&a, i, 40));
    assert_ok(submit(&b, 0, N_NEXT));
    for (int i = 0; i < 3; i++) {
        assert_ok(infer_request_next(a.requests[0], &event));
        assert_int_equal(event.token, first.tokens[i]);
    }
    assert_ok(infer_request_next(b.requests[0], &event));
    lose(&a);
    for (int i = 0; i < 2; i++) {
        collect(&a, i, &answer);
        assert_int_equal(answer.status, INFER_ERR_DEVICE);
        assert_non_null(strstr(answer.error, "GPU"));
        assert_in_range(answer.n, 0, 4);
        engine_answer_free(&answer);
    }
    collect(&b, 0, &answer);
    assert_int_equal(answer.status, INFER_OK);
    assert_int_equal(answer.n, N_NEXT - 1);
    assert_memory_equal(answer.tokens, first.tokens + 1, answer.n * sizeof *answer.tokens);
    engine_answer_free(&answer);
    check_lost(&a);
    infer_device_destroy(&a.e.device); /* the others hold it */
    close_side(&a);
    generate(&answer);
    assert_as_before(&answer, &first);
    engine_answer_free(&answer);
    assert_ok(submit(&b, 0, N_NEXT));
    collect(&b, 0, &answer);
    assert_as_before(&answer, &first);
    engine_answer_free(&answer);
    close_side(&b);
    engine_answer_free(&first);
    assert_nothing_left();
}

/* At any moment of requests that push each other out of the cache, with copies to the swap store
 * and back under way and a thread of the session's own: all end, and all can be destroyed. */
static void it_is_lost_while_blocks_move(void **state)
{
    struct engine_answer first, answer;
    (void)state;
    generate(&first);
    for (int moment = 0; moment < 4; moment++) {
        struct side s;
        infer_event event = {.struct_size = sizeof event};
        int n_lost = 0;
        open_side(&s, 8, moment & 1);
        for (int i = 0; i < REQUESTS; i++)
            assert_ok(submit(&s, i, 30));
        for (int i = 0; i < 4 + 5 * moment; i++)
            assert_ok(infer_request_next(s.requests[0], &event));
        lose(&s);
        for (int i = 0; i < REQUESTS; i++) {
            collect(&s, i, &answer);
            n_lost += answer.status == INFER_ERR_DEVICE;
            engine_answer_free(&answer);
        }
        assert_true(n_lost > 0);
        close_side(&s);
    }
    generate(&answer);
    assert_as_before(&answer, &first);
    engine_answer_free(&answer);
    engine_answer_free(&first);
    assert_nothing_left();
}

/* Lists on their way through pinned memory, with all pieces of it: who waits for them is told, and
 * who would wait for a piece. */
static void it_is_lost_while_lists_are_fetched(void **state)
{
    const size_t n = (size_t)9 << 20;
    uint8_t *bytes = calloc(1, n);
    struct side s = {0};
    struct device_buffer buffer;
    struct device_fetch f[2];
    const struct device_range range = {0, bytes, n};
    (void)state;
    assert_ok(device_create(&s.e.device, &(struct device_config){.index = 1}));
    assert_ok(device_buffer_alloc(s.e.device, DEVICE_WORKSPACE, n, &buffer));
    assert_ok(device_buffer_put(&buffer, &range, 1));
    lose(&s);
    for (int i = 0; i < 2; i++)
        (void)device_fetch_begin(&f[i], &buffer, &range, 1); /* the loss may be known by now */
    (void)device_fetch_order(&f[0]);
    for (int i = 0; i < 2; i++)
        (void)device_fetch_end(&f[i]);
    assert_int_equal(device_buffer_put(&buffer, &range, 1), INFER_ERR_DEVICE);
    assert_int_equal(device_fetch_begin(&f[0], &buffer, &range, 1), INFER_ERR_DEVICE);
    assert_int_equal(device_fetch_end(&f[0]), INFER_OK); /* nothing of it was under way */
    device_buffer_free(&buffer);
    assert_int_equal(s.e.device->used_bytes, 0);
    device_release(&s.e.device);
    free(bytes);
    assert_nothing_left();
}

static int make_model(void **state)
{
    (void)state;
    arch_fixture_make(&fixture, "llama", folder, sizeof folder);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    arch_fixture_remove(&fixture, folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_card_is_created_anew),
        cmocka_unit_test(it_is_lost_while_blocks_move),
        cmocka_unit_test(it_is_lost_while_lists_are_fetched),
    };
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for a lost card\n");
        return 0;
    }
    return cmocka_run_group_tests_name("a lost card", tests, make_model, remove_model);
}
