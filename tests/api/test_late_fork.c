/* A fork brings a session back to its line at the very moment when others see it leave. That moment
 * is made long: threads that ask for it sleep behind every mutex that they give back. */
#include "support/engine.h"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

static __thread int is_slow;

__attribute__((visibility("default"))) int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int (*real)(pthread_mutex_t *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
    int result = real(mutex);
    if (is_slow)
        usleep(20000);
    return result;
}

static infer_request *submit(infer_session *session, int64_t max_tokens)
{
    infer_request_options o = {
        .struct_size = sizeof o, .prompt = "Who", .max_tokens = max_tokens, .ignore_eos = 1};
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, session, &o));
    return request;
}

static void *finish(void *request)
{
    infer_event event = {.struct_size = sizeof event};
    is_slow = 1;
    while (infer_request_next(request, &event) == INFER_OK)
        continue;
    is_slow = 0;
    return NULL;
}

static int32_t n_models(const infer_session *session)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_ok(infer_session_get_stats(session, &stats));
    return stats.n_models;
}

/* Of three models the oldest ends its last request, leaves, and is forked back. The one between,
 * whose request goes on, must stay in the line. */
static void test_leaving(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer answer;
    pthread_t thread;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    infer_request *first = submit(e.session, 1), *fork = NULL;
    finish(first);
    infer_request *last = submit(e.session, 2);
    assert_ok(infer_session_swap_model(e.session, e.model, NULL));
    infer_request *between = submit(e.session, 40);
    assert_ok(infer_session_swap_model(e.session, e.model, NULL));
    assert_int_equal(n_models(e.session), 3);
    assert_int_equal(pthread_create(&thread, NULL, finish, last), 0);
    while (n_models(e.session) == 3)
        continue;
    assert_ok(infer_request_fork(&fork, first, NULL));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(n_models(e.session), 3);
    engine_collect(between, &answer);
    assert_int_equal(answer.n, 40);
    engine_answer_free(&answer);
    engine_collect(fork, &answer);
    assert_int_equal(answer.n, 1);
    engine_answer_free(&answer);
    infer_request_destroy(&first);
    infer_request_destroy(&last);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_leaving)};
    return cmocka_run_group_tests_name("late fork", tests, NULL, NULL);
}
