/* Speculation as an application uses it: drafts that are found, limits and stops inside of them,
 * forks, cancelling, threads, what is refused. Answers against those without, to the last token. */
#include "support/engine.h"

#include "engine/session.h"

#include <pthread.h>

static const char prompt[] =
    "The list: apple 1, pear 2, plum 3. The list: apple 1, pear 2, plum 3. The list: apple";

/* Repeats the token of one number endlessly, or draws. */
static infer_request_options options_of(infer_sampling *sampling, infer_logit_bias *bias, int kind)
{
    *bias = (infer_logit_bias){.token = 300, .bias = 60};
    *sampling = (infer_sampling){.struct_size = sizeof *sampling};
    if (kind == 0) {
        sampling->logit_bias = bias;
        sampling->n_logit_bias = 1;
    }
    if (kind == 2) {
        sampling->temperature = 0.7f;
        sampling->seed = 5;
    }
    return (infer_request_options){.struct_size = sizeof(infer_request_options),
                                   .prompt = prompt,
                                   .sampling = sampling,
                                   .max_tokens = 60,
                                   .ignore_eos = 1,
                                   .logprobs = 1};
}

static void run(struct engine *e, const infer_request_options *o, struct engine_answer *out,
                infer_request_info *info)
{
    infer_request *request = NULL;
    assert_ok(infer_session_submit(&request, e->session, o));
    *info = (infer_request_info){.struct_size = sizeof *info};
    infer_status st = INFER_OK; /* the events are taken after the numbers */
    while (st == INFER_OK && !info->finish) {
        st = infer_session_step(e->session);
        assert_ok(infer_request_get_info(request, info));
    }
    engine_collect(request, out);
    assert_ok(out->status);
}

static void assert_equal(const struct engine_answer *a, const struct engine_answer *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
    assert_memory_equal(a->logprobs, b->logprobs, a->n * sizeof *a->logprobs);
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->finish, b->finish);
}

static void test_ngrams(void **state)
{
    (void)state;
    struct engine e;
    infer_session_stats stats = {.struct_size = sizeof stats};
    uint64_t n_drafted = 0, n_accepted = 0;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    e.session->draft.fixed = 1; /* whatever time a step takes here */
    for (int kind = 0; kind < 3; kind++) {
        struct engine_answer plain, fast;
        infer_request_info info;
        infer_sampling sampling;
        infer_logit_bias bias;
        infer_request_options o = options_of(&sampling, &bias, kind);
        run(&e, &o, &plain, &info);
        assert_int_equal(info.n_drafted_tokens, 0);
        o.speculation = INFER_SPECULATION_NGRAM;
        run(&e, &o, &fast, &info);
        assert_equal(&plain, &fast);
        assert_true(info.n_accepted_tokens <= info.n_drafted_tokens);
        if (kind == 0) /* always the same token: nearly all drafts are right */
            assert_true(info.n_accepted_tokens > 20);
        n_drafted += (uint64_t)info.n_drafted_tokens;
        n_accepted += (uint64_t)info.n_accepted_tokens;
        engine_answer_free(&plain);
        engine_answer_free(&fast);
    }
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_int_equal(stats.n_drafted_tokens, n_drafted);
    assert_int_equal(stats.n_accepted_tokens, n_accepted);
    assert_true(stats.n_generated_tokens > stats.n_steps); /* some steps gave several */
    char text[65536], line[80];
    size_t size = sizeof text;
    assert_ok(infer_session_metrics(e.session, text, &size));
    snprintf(line, sizeof line, "\ninfer_draft_tokens_total %d\n", (int)n_drafted);
    assert_non_null(strstr(text, line));
    snprintf(line, sizeof line, "\ninfer_accepted_draft_tokens_total %d\n", (int)n_accepted);
    assert_non_null(strstr(text, line));
    engine_close(&e);
}

/* Ends that lie inside of drafts: token limits, stop strings, a full context. */
static void test_ends(void **state)
{
    (void)state;
    struct engine e;
    struct engine_setup setup = {.n_threads = 1, .n_context = 110};
    engine_open(&e, test_source(TINY_MODEL), &setup);
    for (int i = 0; i < 48; i++) {
        struct engine_answer plain, fast;
        infer_request_info info;
        infer_sampling sampling;
        infer_logit_bias bias;
        infer_request_options o = options_of(&sampling, &bias, i % 3);
        const char *stop[] = {"apple 1", "m 3."};
        o.max_tokens = i % 4 ? 1 + i : 0;
        o.stop = stop;
        o.n_stop = i % 2 ? 2 : 0;
        o.ignore_eos = i % 5 != 0;
        run(&e, &o, &plain, &info);
        o.speculation = INFER_SPECULATION_NGRAM;
        o.max_draft_tokens = 1 + i % 9;
        o.ngram_min = 1 + i % 2;
        run(&e, &o, &fast, &info);
        assert_equal(&plain, &fast);
        engine_answer_free(&plain);
        engine_answer_free(&fast);
    }
    engine_close(&e);
}

static infer_session *with_drafts(struct engine *e, infer_model *draft)
{
    infer_session *session = NULL;
    infer_session_options o = {
        .struct_size = sizeof o, .kv_cache = e->cache, .draft_model = draft, .step_tokens = 64};
    assert_ok(infer_session_create(&session, e->model, &o));
    return session;
}

/* The model drafts for itself; a request made with nothing said about it drafts too. */
static void test_draft_model(void **state)
{
    (void)state;
    struct engine e;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    infer_session *plain_session = e.session, *session = with_drafts(&e, e.model);
    for (int kind = 0; kind < 3; kind++) {
        struct engine_answer plain, fast;
        infer_request_info info;
        infer_sampling sampling;
        infer_logit_bias bias;
        infer_request_options o = options_of(&sampling, &bias, kind);
        e.session = plain_session;
        run(&e, &o, &plain, &info);
        e.session = session;
        run(&e, &o, &fast, &info);
        assert_equal(&plain, &fast);
        assert_int_equal(info.n_accepted_tokens, info.n_drafted_tokens);
        assert_true(info.n_drafted_tokens > 0); /* at the latest, after a while, as a trial */
        engine_answer_free(&fast);
        o.speculation = INFER_SPECULATION_OFF;
        run(&e, &o, &fast, &info);
        assert_equal(&plain, &fast);
        assert_int_equal(info.n_drafted_tokens, 0);
        engine_answer_free(&plain);
        engine_answer_free(&fast);
    }
    infer_session_destroy(&session);
    e.session = plain_session;
    engine_close(&e);
}

/* Forks of a request in the midst of drafts are what fresh requests would be. */
static void test_forks(void **state)
{
    (void)state;
    struct engine e;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int kind = 0; kind < 3; kind++) {
        infer_sampling sampling;
        infer_logit_bias bias;
        infer_request_options o = options_of(&sampling, &bias, kind);
        infer_request *source = NULL, *fork[6] = {NULL};
        o.speculation = INFER_SPECULATION_NGRAM;
        assert_ok(infer_session_submit(&source, e.session, &o));
        for (int i = 0; i < 6; i++) {
            infer_fork_options f = {.struct_size = sizeof f, .max_tokens = 20, .seed = 7};
            assert_int_equal(infer_session_step(e.session), INFER_OK);
            assert_ok(infer_request_fork(&fork[i], source, &f));
        }
        for (int i = 0; i < 6; i++) {
            struct engine_answer plain, forked;
            infer_request_info info;
            infer_request_options p = o;
            size_t n;
            const infer_token *tokens = infer_request_prompt(fork[i], &n);
            infer_token copy[512];
            assert_true(n <= 512);
            memcpy(copy, tokens, n * sizeof *copy);
            engine_collect(fork[i], &forked);
            p.prompt = NULL;
            p.tokens = copy;
            p.n_tokens = n;
            p.speculation = INFER_SPECULATION_OFF;
            p.max_tokens = 20;
            sampling.seed = 7;
            run(&e, &p, &plain, &info);
            assert_equal(&plain, &forked);
            engine_answer_free(&plain);
            engine_answer_free(&forked);
        }
        infer_request_destroy(&source);
    }
    engine_close(&e);
}

/* ------------------------------------------------------------------ threads */

struct user {
    infer_session *session;
    const struct engine_answer *expected; /* of kinds 0 .. 2 */
    int number, n_wrong;
};

static void *use(void *arg)
{
    struct user *u = arg;
    for (int i = 0; i < 12; i++) {
        struct engine_answer answer;
        infer_sampling sampling;
        infer_logit_bias bias;
        int kind = (u->number + i) % 3;
        infer_request_options o = options_of(&sampling, &bias, kind);
        infer_request *request = NULL;
        o.speculation = (infer_speculation)(1 + i % 3);
        if (infer_session_submit(&request, u->session, &o) != INFER_OK) {
            u->n_wrong++;
            continue;
        }
        if (i % 4 == 3) { /* given up in the midst */
            infer_event event = {.struct_size = sizeof event};
            for (int j = 0; j < 1 + i; j++)
                infer_request_next(request, &event);
            infer_request_destroy(&request);
            continue;
        }
        engine_collect(request, &answer);
        u->n_wrong +=
            answer.n != u->expected[kind].n ||
            memcmp(answer.tokens, u->expected[kind].tokens, answer.n * sizeof *answer.tokens) != 0;
        engine_answer_free(&answer);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct engine e;
    struct engine_answer expected[3];
    struct user users[4];
    pthread_t threads[4];
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    for (int kind = 0; kind < 3; kind++) {
        infer_request_info info;
        infer_sampling sampling;
        infer_logit_bias bias;
        infer_request_options o = options_of(&sampling, &bias, kind);
        run(&e, &o, &expected[kind], &info);
    }
    infer_session *session = with_drafts(&e, e.model);
    for (int i = 0; i < 4; i++) {
        users[i] = (struct user){session, expected, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, use, &users[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(users[i].n_wrong, 0);
    }
    infer_session_destroy(&session);
    assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
    assert_int_equal(kv.n_blocks_used, 0);
    for (int kind = 0; kind < 3; kind++)
        engine_answer_free(&expected[kind]);
    engine_close(&e);
}

/* ----------------------------------------------------------------- refusals */

static void refuse(infer_session *session, infer_request_options o, infer_status status,
                   const char *sentence)
{
    infer_request *request = NULL;
    o.struct_size = sizeof o;
    o.prompt = "a";
    assert_int_equal(infer_session_submit(&request, session, &o), status);
    assert_null(request);
    if (!strstr(infer_last_error(), sentence))
        fail_msg("%s", infer_last_error());
}

static void test_refusals(void **state)
{
    (void)state;
    struct engine e;
    infer_session *session = NULL;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    refuse(e.session, (infer_request_options){.speculation = 4}, INFER_ERR_UNSUPPORTED,
           "infer_speculation 4 is not known");
    refuse(e.session, (infer_request_options){.speculation = INFER_SPECULATION_DRAFT},
           INFER_ERR_INVALID, "the session has none");
    refuse(e.session, (infer_request_options){.max_draft_tokens = 65}, INFER_ERR_INVALID,
           "max_draft_tokens is 65, expected 0 to 64");
    refuse(e.session, (infer_request_options){.max_draft_tokens = -1}, INFER_ERR_INVALID,
           "max_draft_tokens is -1");
    refuse(e.session, (infer_request_options){.ngram_min = 4, .ngram_max = 3}, INFER_ERR_INVALID,
           "ngram_min is 4 and ngram_max 3");
    refuse(e.session, (infer_request_options){.ngram_max = 17}, INFER_ERR_INVALID, "ngram_max 17");

    infer_model *vocabulary = NULL;
    infer_model_options m = {.struct_size = sizeof m, .vocabulary_only = 1};
    infer_session_options o = {.struct_size = sizeof o};
    assert_ok(infer_model_load(&vocabulary, test_source(TINY_MODEL), &m));
    o.draft_model = vocabulary;
    assert_int_equal(infer_session_create(&session, e.model, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "vocabulary_only"));
    infer_model_destroy(&vocabulary);
    engine_close(&e);
}

static void test_other_vocabulary(void **state)
{
    (void)state;
    struct engine e, other;
    infer_session *session = NULL;
    infer_session_options o = {.struct_size = sizeof o};
    const char *path = test_data("llm/stories260K/stories260K.f32.gguf");
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    engine_open(&other, path, &(struct engine_setup){.n_threads = 1});
    o.draft_model = other.model;
    assert_int_equal(infer_session_create(&session, e.model, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "must have the same vocabulary"));
    assert_null(session);
    engine_close(&other);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ngrams),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_draft_model),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_other_vocabulary),
    };
    return cmocka_run_group_tests_name("speculation", tests, NULL, NULL);
}
