/* Vectors of texts by a decoder: against rows and sums of single calls, on every kind of session,
 * beside requests, from threads, with bad input. */
#include "support/engine.h"

#include <math.h>
#include <pthread.h>

#define N_TEXTS  9
#define MAX_DIMS 512

static const char *const texts[N_TEXTS] = {
    "Anna has a red kite.",
    "rice",
    "Hugo likes rice. Anna has a red kite, and the wind is strong today over the hills of Oslo.",
    "What day comes after Monday?",
    "x",
    ("Once upon a time there was a small house in the woods, and in it lived an old man who had "
     "three sons, of whom the youngest was called Hans."),
    "Oslo.\n\n",
    "rice",
    "<|im_end|>"};

static int32_t dims_of(const struct engine *e)
{
    infer_model_info info = {.struct_size = sizeof info};
    assert_ok(infer_model_get_info(e->model, &info));
    assert_true(info.n_embedding <= MAX_DIMS);
    return info.n_embedding;
}

static infer_embed_options pooled(infer_pooling pooling)
{
    return (infer_embed_options){.struct_size = sizeof(infer_embed_options), .pooling = pooling};
}

/* Each text by a call of its own. */
static void embed_alone(struct engine *e, float *out, const char *const *t, size_t n,
                        const infer_embed_options *o)
{
    const size_t dims = (size_t)dims_of(e);
    for (size_t i = 0; i < n; i++)
        assert_ok(infer_session_embed(out + i * dims, e->session, &t[i], NULL, 1, o, NULL));
}

static void test_batch_is_as_alone(void **state)
{
    static float alone[N_TEXTS * MAX_DIMS], together[N_TEXTS * MAX_DIMS];
    struct engine e;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    const size_t bytes = (size_t)dims_of(&e) * sizeof(float);
    for (infer_pooling p = INFER_POOLING_MEAN; p <= INFER_POOLING_MAX; p++) {
        const infer_embed_options o = pooled(p);
        embed_alone(&e, alone, texts, N_TEXTS, &o);
        assert_ok(infer_session_embed(together, e.session, texts, NULL, N_TEXTS, &o, NULL));
        assert_memory_equal(alone, together, N_TEXTS * bytes);
        assert_memory_equal(alone + dims_of(&e), alone + 7 * dims_of(&e), bytes); /* "rice" */
        assert_memory_not_equal(alone, alone + dims_of(&e), bytes);
        /* Long ones that have nothing in common, so that nothing is shared. */
        static const char *const strangers[] = {"Hugo likes rice, and so does everybody else here.",
                                                "Once upon a time there was a small house."};
        embed_alone(&e, alone, strangers, 2, &o);
        assert_ok(infer_session_embed(together, e.session, strangers, NULL, 2, &o, NULL));
        assert_memory_equal(alone, together, 2 * bytes);
    }
    engine_close(&e);
}

/* The same bits on every kind of session, whatever it does to its requests. */
static void test_sessions(void **state)
{
    static const struct engine_setup setups[] = {
        {.n_threads = 1},
        {.n_threads = 2, .step_tokens = 5},
        {.n_threads = 1, .max_requests = 1},
        {.n_threads = 1, .max_requests = 2, .max_queue = 1},
        {.n_threads = 1, .max_requests = 1, .max_queue = 1, .disable_prefix_cache = 1},
        {.n_threads = 2, .worker_thread = 1},
        {.n_threads = 1, .step_tokens = 7, .kv_budget_bytes = 1}, /* below: little more than one */
    };
    static float first[4][2 * N_TEXTS * MAX_DIMS], again[2 * N_TEXTS * MAX_DIMS];
    const char *many[2 * N_TEXTS];
    (void)state;
    for (size_t i = 0; i < 2 * N_TEXTS; i++)
        many[i] = texts[(i * 4) % N_TEXTS];
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        struct engine e;
        struct engine_setup setup = setups[k];
        infer_session_stats stats = {.struct_size = sizeof stats};
        if (setup.kv_budget_bytes) {
            infer_kv_cache_stats kv = {.struct_size = sizeof kv};
            engine_open(&e, test_source(TINY_MODEL), &setups[0]);
            assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
            engine_close(&e);
            setup.kv_budget_bytes = kv.block_bytes * 4;
        }
        engine_open(&e, test_source(TINY_MODEL), &setup);
        const size_t bytes = 2 * N_TEXTS * (size_t)dims_of(&e) * sizeof(float);
        for (int p = 0; p < 4; p++) {
            infer_embed_options o = pooled(INFER_POOLING_MEAN + p);
            o.prompt = p ? "Tell me what this is about: " : NULL;
            assert_ok(infer_session_embed(again, e.session, many, NULL, 2 * N_TEXTS, &o, NULL));
            if (!k)
                memcpy(first[p], again, bytes);
            assert_memory_equal(first[p], again, bytes);
        }
        assert_ok(infer_session_get_stats(e.session, &stats));
        assert_int_equal(stats.n_failed + stats.n_running + stats.n_waiting, 0);
        engine_close(&e);
    }
}

/* Rows of single tokens are those of the last tokens of shorter texts. */
static void test_pooling_is_of_rows(void **state)
{
    static float rows[16 * MAX_DIMS], out[MAX_DIMS];
    static const char text[] = "a b c d e f g h";
    struct engine e;
    infer_token all[32], part[32];
    size_t n = 32, sizes[16];
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    const infer_tokenizer *t = infer_model_tokenizer(e.model);
    const size_t dims = (size_t)dims_of(&e);
    const char *whole = text;
    infer_embed_options last = pooled(INFER_POOLING_LAST), o;
    assert_ok(infer_tokenizer_encode(t, text, strlen(text), NULL, all, &n));
    size_t n_rows = 0;
    for (size_t size = 1; size <= strlen(text); size++) { /* where it has one token more */
        size_t m = 32;
        assert_ok(infer_tokenizer_encode(t, text, size, NULL, part, &m));
        if (m == n_rows + 1 && memcmp(all, part, m * sizeof *all) == 0)
            sizes[n_rows++] = size;
    }
    assert_int_equal(n_rows, n);
    assert_true(n >= 8);
    for (size_t i = 0; i < n; i++)
        assert_ok(
            infer_session_embed(rows + i * dims, e.session, &whole, &sizes[i], 1, &last, NULL));
    o = pooled(INFER_POOLING_CLS);
    assert_ok(infer_session_embed(out, e.session, &whole, NULL, 1, &o, NULL));
    assert_memory_equal(out, rows, dims * sizeof *out);
    for (infer_pooling p = INFER_POOLING_MEAN; p <= INFER_POOLING_MAX;
         p += INFER_POOLING_MAX - INFER_POOLING_MEAN) {
        o = pooled(p);
        assert_ok(infer_session_embed(out, e.session, &whole, NULL, 1, &o, NULL));
        for (size_t k = 0; k < dims; k++) {
            double sum = 0, highest = -INFINITY;
            for (size_t i = 0; i < n; i++) {
                sum += (double)rows[i * dims + k];
                highest = fmax(highest, (double)rows[i * dims + k]);
            }
            double expected = p == INFER_POOLING_MEAN ? sum / (double)n : highest;
            assert_true(fabs((double)out[k] - expected) <= 1e-5 * (1 + fabs(expected)));
        }
    }
    engine_close(&e);
}

static void test_prompts_and_dims(void **state)
{
    static float a[2 * MAX_DIMS], b[2 * MAX_DIMS];
    static const char *const bare[] = {"red kites", "rice"};
    static const char *const whole[] = {"About many things, such as: red kites",
                                        "About many things, such as: rice"};
    struct engine e;
    infer_session_stats stats = {.struct_size = sizeof stats};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    const size_t dims = (size_t)dims_of(&e);
    infer_embed_options o = pooled(INFER_POOLING_LAST);
    assert_ok(infer_session_embed(a, e.session, whole, NULL, 2, &o, NULL));
    assert_ok(infer_session_get_stats(e.session, &stats));
    /* What both begin with is computed once. */
    assert_true(stats.n_cached_tokens > 0);
    o.prompt = "About many things, such as: ";
    assert_ok(infer_session_embed(b, e.session, bare, NULL, 2, &o, NULL));
    assert_memory_equal(a, b, 2 * dims * sizeof *a);
    o.dims = 5;
    assert_ok(infer_session_embed(b, e.session, bare, NULL, 2, &o, NULL));
    assert_memory_equal(b, a, 5 * sizeof *a);
    assert_memory_equal(b + 5, a + dims, 5 * sizeof *a);
    engine_close(&e);
}

static void test_long_texts(void **state)
{
    static float out[3 * MAX_DIMS], cut[MAX_DIMS];
    static const char *const mixed[] = {"rice", "a b c d e f g h i j k l m n o p q r s t u v w",
                                        "x"};
    struct engine e;
    infer_token tokens[64];
    size_t n = 64, size = 0;
    infer_embed_report report = {.struct_size = sizeof report};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .n_context = 12});
    const infer_tokenizer *t = infer_model_tokenizer(e.model);
    const size_t dims = (size_t)dims_of(&e);
    assert_ok(infer_tokenizer_encode(t, mixed[1], strlen(mixed[1]), NULL, tokens, &n));
    assert_true(n > 12);
    infer_embed_options o = pooled(INFER_POOLING_LAST);
    assert_int_equal(infer_session_embed(out, e.session, mixed, NULL, 3, &o, &report),
                     INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "texts[1]"));
    assert_non_null(strstr(infer_last_error(), "12"));
    o.truncate = 1;
    assert_ok(infer_session_embed(out, e.session, mixed, NULL, 3, &o, &report));
    assert_int_equal(report.n_cut_texts, 1);
    assert_int_equal(report.n_cut_tokens, n - 12);
    do { /* the text of its first 12 tokens */
        n = 64;
        assert_ok(infer_tokenizer_encode(t, mixed[1], ++size, NULL, tokens, &n));
    } while (n < 12);
    assert_ok(infer_session_embed(cut, e.session, &mixed[1], &size, 1, &o, &report));
    assert_int_equal(report.n_tokens, 12);
    assert_int_equal(report.n_cut_texts + report.n_cut_tokens, 0);
    assert_memory_equal(cut, out + dims, dims * sizeof *cut);
    o.prompt = mixed[1];
    assert_int_equal(infer_session_embed(out, e.session, mixed, NULL, 1, &o, &report),
                     INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "prompt"));
    engine_close(&e);
}

static void refuse(infer_session *s, const char *const *t, size_t n, const infer_embed_options *o,
                   infer_status status, const char *sentence)
{
    static float out[N_TEXTS * MAX_DIMS];
    assert_int_equal(infer_session_embed(out, s, t, NULL, n, o, NULL), status);
    if (!strstr(infer_last_error(), sentence))
        fail_msg("\"%s\" does not say \"%s\"", infer_last_error(), sentence);
}

static void test_errors(void **state)
{
    static const char *const good[] = {"rice"}, *const null[] = {"rice", NULL},
                             *const empty[] = {"rice", ""};
    float score;
    struct engine e;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    infer_embed_options o = pooled(INFER_POOLING_DEFAULT);
    refuse(e.session, good, 1, &o, INFER_ERR_INVALID, "names no pooling");
    refuse(e.session, good, 1, NULL, INFER_ERR_INVALID, "names no pooling");
    o.pooling = 5;
    refuse(e.session, good, 1, &o, INFER_ERR_UNSUPPORTED, "infer_pooling 5");
    o = pooled(INFER_POOLING_MEAN);
    refuse(e.session, good, 0, &o, INFER_ERR_INVALID, "no texts");
    refuse(e.session, null, 2, &o, INFER_ERR_INVALID, "texts[1] is NULL");
    refuse(e.session, empty, 2, &o, INFER_ERR_INVALID, "texts[1] is empty");
    refuse(e.session, NULL, 1, &o, INFER_ERR_INVALID, "texts is NULL");
    refuse(NULL, good, 1, &o, INFER_ERR_INVALID, "session is NULL");
    o.dims = dims_of(&e) + 1;
    refuse(e.session, good, 1, &o, INFER_ERR_INVALID, "dims");
    o.dims = -1;
    refuse(e.session, good, 1, &o, INFER_ERR_INVALID, "dims");
    o.dims = 0;
    o.as = 3;
    refuse(e.session, good, 1, &o, INFER_ERR_UNSUPPORTED, "infer_embed_as 3");
    o.as = 0;
    o.truncate = 2;
    refuse(e.session, good, 1, &o, INFER_ERR_INVALID, "truncate");
    o.truncate = 0;
    o.reserved = 1;
    refuse(e.session, good, 1, &o, INFER_ERR_INVALID, "reserved");
    o.reserved = 0;
    o.deadline_ns = 1;
    refuse(e.session, good, 1, &o, INFER_ERR_LIMIT, "deadline_ns");
    assert_int_equal(infer_session_rerank(&score, e.session, "kites?", good, NULL, 1, NULL, NULL),
                     INFER_ERR_UNSUPPORTED);
    assert_non_null(strstr(infer_last_error(), "rerank_template"));
    engine_close(&e);
}

static void test_info(void **state)
{
    struct engine e;
    infer_embedding_info info = {.struct_size = sizeof info}, again = {.struct_size = sizeof again};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    assert_ok(infer_model_get_embedding_info(e.model, &info));
    assert_int_equal(info.dims, dims_of(&e));
    assert_int_equal(info.pooling, INFER_POOLING_DEFAULT);
    assert_int_equal(info.can_embed + info.can_rerank + info.normalized, 0);
    assert_string_equal(info.pooling_name, "");
    assert_string_equal(info.query_prompt, "");
    assert_string_equal(info.document_prompt, "");
    assert_int_equal(strspn(info.digest, "0123456789abcdef"), 32);
    assert_int_equal(strlen(info.digest), 32);
    assert_ok(infer_model_evict(e.model)); /* borrowed from the model, not from its weights */
    assert_ok(infer_model_get_embedding_info(e.model, &again));
    assert_ptr_equal(info.digest, again.digest);
    assert_int_equal(infer_model_get_embedding_info(e.model, NULL), INFER_ERR_INVALID);
    engine_close(&e);
}

/* A text that gives way in its middle is computed again, and counted once. A step has one row for
 * the text beside one of the answer, which goes before it, outgrows its blocks meanwhile and so
 * takes those of the text. */
static void test_preempted(void **state)
{
    static float expected[MAX_DIMS], out[MAX_DIMS];
    struct engine e;
    infer_request *urgent;
    struct engine_answer answer;
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_embed_report report = {.struct_size = sizeof report};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .block_tokens = 16});
    const size_t dims = (size_t)dims_of(&e);
    infer_embed_options o = pooled(INFER_POOLING_MEAN);
    o.priority = 1;
    assert_ok(infer_session_embed(expected, e.session, texts + 5, NULL, 1, &o, &report));
    assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
    engine_close(&e);
    const uint64_t n_blocks = 1 + (report.n_tokens + 15) / 16; /* one of the answer */
    assert_true(report.n_tokens > 30);
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1,
                                       .step_tokens = 2,
                                       .block_tokens = 16,
                                       .disable_prefix_cache = 1,
                                       .kv_budget_bytes = kv.block_bytes * n_blocks});
    infer_request_options r = {.struct_size = sizeof r, .priority = -1, .prompt = "rice"};
    r.max_tokens = 20;
    r.ignore_eos = 1;
    assert_ok(infer_session_submit(&urgent, e.session, &r));
    assert_ok(infer_session_embed(out, e.session, texts + 5, NULL, 1, &o, NULL));
    assert_memory_equal(out, expected, dims * sizeof *out);
    assert_ok(infer_session_get_stats(e.session, &stats));
    assert_true(stats.n_preempted > 0);
    engine_collect(urgent, &answer);
    assert_ok(answer.status);
    engine_answer_free(&answer);
    engine_close(&e);
}

static uint64_t tick(void *user_data)
{
    return ++*(uint64_t *)user_data;
}

/* The deadline is the call's, not that of each text. */
static void test_deadline(void **state)
{
    static float out[N_TEXTS * MAX_DIMS];
    uint64_t now = 0, long_call;
    struct engine e;
    infer_session *session = NULL;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    const infer_session_options s = {.struct_size = sizeof s,
                                     .kv_cache = e.cache,
                                     .max_requests = 1,
                                     .clock = tick,
                                     .clock_data = &now};
    assert_ok(infer_session_create(&session, e.model, &s));
    infer_embed_options o = pooled(INFER_POOLING_MEAN);
    assert_ok(infer_session_embed(out, session, texts, NULL, N_TEXTS, &o, NULL));
    long_call = now;
    o.deadline_ns = long_call / 2;
    refuse(session, texts, N_TEXTS, &o, INFER_ERR_LIMIT, "of 9 were done");
    if (strstr(infer_last_error(), ": 0 of"))
        fail_msg("%s", infer_last_error());
    assert_true(now < 2 * long_call);
    o.deadline_ns = 2 * long_call;
    assert_ok(infer_session_embed(out, session, texts, NULL, N_TEXTS, &o, NULL));
    o.deadline_ns = UINT64_MAX;
    assert_ok(infer_session_embed(out, session, texts, NULL, N_TEXTS, &o, NULL));
    infer_session_destroy(&session);
    engine_close(&e);
}

/* ------------------------------------------------------------------ threads */

#define N_THREADS 6
#define N_ROUNDS  6

struct caller {
    struct engine *e;
    const float *expected; /* by MEAN, then by LAST */
    size_t number, dims;
    pthread_t thread;
    int failed;
};

static void *call(void *arg)
{
    struct caller *c = arg;
    float out[2 * MAX_DIMS];
    for (size_t i = 0; i < N_ROUNDS && !c->failed; i++) {
        const size_t at = (c->number + i) % (N_TEXTS - 1), kind = i % 2;
        const infer_embed_options o = pooled(kind ? INFER_POOLING_LAST : INFER_POOLING_MEAN);
        infer_status st = infer_session_embed(out, c->e->session, texts + at, NULL, 2, &o, NULL);
        c->failed = st != INFER_OK || memcmp(out, c->expected + (kind * N_TEXTS + at) * c->dims,
                                             2 * c->dims * sizeof *out) != 0;
    }
    return NULL;
}

/* Calls of several threads, and a request that generates meanwhile. */
static void run_threads(int32_t worker_thread)
{
    static float expected[2 * N_TEXTS * MAX_DIMS];
    struct caller callers[N_THREADS];
    struct engine e;
    infer_token prompt[] = {5, 6, 7};
    struct engine_answer before, after;
    engine_open(
        &e, test_source(TINY_MODEL),
        &(struct engine_setup){.n_threads = 2, .worker_thread = worker_thread, .step_tokens = 48});
    const size_t dims = (size_t)dims_of(&e);
    infer_embed_options o = pooled(INFER_POOLING_MEAN);
    assert_ok(infer_session_embed(expected, e.session, texts, NULL, N_TEXTS, &o, NULL));
    o.pooling = INFER_POOLING_LAST;
    assert_ok(
        infer_session_embed(expected + N_TEXTS * dims, e.session, texts, NULL, N_TEXTS, &o, NULL));
    engine_greedy(&e, prompt, 3, 20, &before);
    for (size_t i = 0; i < N_THREADS; i++) {
        callers[i] = (struct caller){.e = &e, .expected = expected, .number = i, .dims = dims};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    engine_greedy(&e, prompt, 3, 20, &after);
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].failed, 0);
    }
    assert_int_equal(before.n, after.n);
    assert_memory_equal(before.tokens, after.tokens, before.n * sizeof *before.tokens);
    engine_answer_free(&before);
    engine_answer_free(&after);
    engine_close(&e);
}

static void test_threads(void **state)
{
    (void)state;
    run_threads(0);
}

static void test_threads_and_worker(void **state)
{
    (void)state;
    run_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_is_as_alone),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_pooling_is_of_rows),
        cmocka_unit_test(test_prompts_and_dims),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_preempted),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_threads_and_worker),
    };
    return cmocka_run_group_tests_name("embed", tests, NULL, NULL);
}
