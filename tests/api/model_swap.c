/* Sessions over two models. */
#include "model_swap.h"

#include "support/hf_folder.h"

#include <unistd.h>

static const char *const prompts[SWAP_PROMPTS] = {"What is the capital of Italy?",
                                                  "3 + 4 =", "Once upon a"};

void *swap_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct swap_counter *c = user_data;
    void *p = NULL;
    if (atomic_fetch_add(&c->n_calls, 1) + 1 == atomic_load(&c->fail_at))
        return NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    atomic_fetch_add(&c->live, 1);
    return p;
}

void swap_free(void *ptr, void *user_data)
{
    struct swap_counter *c = user_data;
    atomic_fetch_sub(&c->live, 1);
    free(ptr);
}

char swap_paths[2][512];
struct engine_answer swap_expected[2][SWAP_PROMPTS];
static struct hf_folder folder;

infer_request *swap_submit(infer_session *session, int prompt)
{
    infer_request_options o = {.struct_size = sizeof o,
                               .prompt = prompts[prompt],
                               .max_tokens = SWAP_TOKENS,
                               .ignore_eos = 1,
                               .logprobs = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, session, &o));
    return request;
}

int swap_same(const struct engine_answer *a, const struct engine_answer *b)
{
    return a->n == b->n && memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0 &&
           memcmp(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs) == 0;
}

void swap_check(infer_request *request, int model, int prompt)
{
    struct engine_answer answer;
    engine_collect(request, &answer);
    assert_int_equal(answer.status, INFER_OK);
    assert_true(swap_same(&answer, &swap_expected[model][prompt]));
    engine_answer_free(&answer);
}

int swap_make_models(void **state)
{
    (void)state;
    infer_convert_options o = {.struct_size = sizeof o, .type = "Q4_0", .allow_requantize = 1};
    hf_folder_make(&folder);
    snprintf(swap_paths[0], sizeof swap_paths[0], "%s", test_source(TINY_MODEL));
    snprintf(swap_paths[1], sizeof swap_paths[1], "%s/q4.gguf", folder.path);
    assert_ok(infer_convert(NULL, swap_paths[0], swap_paths[1], &o));
    for (int m = 0; m < 2; m++) {
        struct engine e;
        engine_open(&e, swap_paths[m], &(struct engine_setup){.n_threads = 1});
        for (int i = 0; i < SWAP_PROMPTS; i++)
            engine_collect(swap_submit(e.session, i), &swap_expected[m][i]);
        engine_close(&e);
    }
    for (int i = 0; i < SWAP_PROMPTS; i++)
        assert_false(swap_same(&swap_expected[0][i], &swap_expected[1][i]));
    return 0;
}

int swap_drop_models(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * SWAP_PROMPTS; i++)
        engine_answer_free(&swap_expected[i / SWAP_PROMPTS][i % SWAP_PROMPTS]);
    hf_folder_remove(&folder);
    return 0;
}

infer_model *swap_load(int which, struct swap_counter *c)
{
    infer_model *model = NULL;
    infer_allocator allocator = {sizeof allocator, swap_alloc, swap_free, c};
    infer_device *device = NULL;
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    assert_ok(infer_device_create(&device, 0, &d));
    infer_model_options o = {.struct_size = sizeof o, .device = device, .allocator = &allocator};
    assert_ok(infer_model_load(&model, swap_paths[which], &o));
    infer_device_destroy(&device);
    return model;
}

infer_session *swap_open(infer_model *model, const infer_session_options *more)
{
    infer_session_options o = *more;
    static struct swap_counter uncounted;
    infer_allocator plain = {sizeof plain, swap_alloc, swap_free, &uncounted};
    infer_session *session = NULL;
    o.struct_size = sizeof o;
    o.allocator = &plain;
    assert_ok(infer_session_create(&session, model, &o));
    return session;
}

infer_session_stats swap_stats(const infer_session *session)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(session, &stats));
    return stats;
}

void swap_wait_for_one(const infer_session *session)
{
    for (int i = 0; i < 5000 && swap_stats(session).n_models > 1; i++)
        usleep(1000);
    assert_int_equal(swap_stats(session).n_models, 1);
}

void swap_wait_until_gone(struct swap_counter *c)
{
    for (int i = 0; i < 5000 && c->live; i++)
        usleep(1000);
    assert_int_equal(c->live, 0);
}

void swap_now(infer_session *session, int which, struct swap_counter *c)
{
    infer_model *model = swap_load(which, c);
    assert_ok(infer_session_swap_model(session, model, NULL));
    infer_model_destroy(&model);
}

void swap_take(infer_request *request, int n)
{
    infer_event event = {.struct_size = sizeof event};
    for (int i = 0; i < n; i++) {
        assert_ok(infer_request_next(request, &event));
        assert_int_equal(event.type, INFER_EVENT_TOKEN);
    }
}
