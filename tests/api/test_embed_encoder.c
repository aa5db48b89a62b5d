/* Encoders through the public interface: tiny ones of tests/model/encoder with a vocabulary of
 * words "w0", "w1" ..., as folders of Sentence Transformers. */
#include "encoder_folder.h"
#include "support/engine.h"

#include <math.h>
#include <pthread.h>

#define DIMS      48
#define CONTEXT   64
#define TOLERANCE 2e-5

static const char mean[] = "{\"word_embedding_dimension\":48,\"pooling_mode_mean_tokens\":true}";
static const char mean_without_prompt[] = "{\"word_embedding_dimension\":48,"
                                          "\"pooling_mode_mean_tokens\":true,"
                                          "\"include_prompt\":false}";

/* A model and a session, which may be another's. */
struct opened {
    infer_device *device;
    infer_model *model;
    infer_session *session;
};

static void open_with(struct opened *o, const char *path, const infer_session_options *options)
{
    const infer_device_options d = {.struct_size = sizeof d, .n_threads = 2};
    assert_ok(infer_device_create(&o->device, 0, &d));
    const infer_model_options m = {.struct_size = sizeof m, .device = o->device};
    assert_ok(infer_model_load(&o->model, path, &m));
    assert_ok(infer_session_create(&o->session, o->model, options));
}

static void opened_close(struct opened *o)
{
    infer_session_destroy(&o->session);
    infer_model_destroy(&o->model);
    infer_device_destroy(&o->device);
}

static infer_embed_options pooled(infer_pooling pooling)
{
    return (infer_embed_options){
        .struct_size = sizeof(infer_embed_options), .pooling = pooling, .no_normalize = 1};
}

/* Texts of one type against transformers in float64, all at once. */
static void test_as_float64(void **state)
{
    static const struct {
        infer_pooling pooling;
        const char *key;
    } ways[] = {{INFER_POOLING_MEAN, "mean"},
                {INFER_POOLING_CLS, "cls"},
                {INFER_POOLING_LAST, "last"},
                {INFER_POOLING_MAX, "max"}};
    static char words[8][1024];
    static float out[8 * DIMS];
    const char *texts[8];
    const json_t *wanted[8];
    struct encoder_folder f;
    struct opened o;
    size_t n = 0, i;
    json_t *text;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "nomic"});
    json_array_foreach(json_object_get(f.fixture.root, "texts"), i, text)
    {
        const json_t *types = json_object_get(text, "types");
        size_t length = json_array_size(json_object_get(text, "tokens"));
        if (json_integer_value(json_array_get(types, length - 1))) /* a pair */
            continue;
        encoder_folder_words(text, 0, length, words[n], sizeof words[n]);
        texts[n] = words[n];
        wanted[n++] = text;
    }
    assert_true(n >= 2);
    open_with(&o, f.path, NULL);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        const infer_embed_options e = pooled(ways[w].pooling);
        assert_ok(infer_session_embed(out, o.session, texts, NULL, n, &e, NULL));
        for (i = 0; i < n; i++)
            assert_true(encoder_folder_apart(out + i * DIMS,
                                             json_object_get(wanted[i], ways[w].key)) < TOLERANCE);
    }
    opened_close(&o);
    encoder_folder_remove(&f);
}

/* Pairs against transformers: the second text has types of its own. */
static void test_rerank_as_float64(void **state)
{
    static char query[1024], words[1024];
    struct encoder_folder f;
    struct opened o;
    infer_embedding_info info = {.struct_size = sizeof info};
    int n_pairs = 0;
    size_t i;
    json_t *text;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker"});
    open_with(&o, f.path, NULL);
    assert_ok(infer_model_get_embedding_info(o.model, &info));
    assert_int_equal(info.can_rerank, 1);
    json_array_foreach(json_object_get(f.fixture.root, "texts"), i, text)
    {
        const json_t *types = json_object_get(text, "types");
        size_t length = json_array_size(types), second = 0;
        const char *one = words;
        float score;
        while (second < length && !json_integer_value(json_array_get(types, second)))
            second++;
        if (second == length)
            continue;
        encoder_folder_words(text, 0, second, query, sizeof query);
        encoder_folder_words(text, second, length, words, sizeof words);
        assert_ok(infer_session_rerank(&score, o.session, query, &one, NULL, 1, NULL, NULL));
        double logit = json_number_value(json_array_get(json_object_get(text, "logits"), 0));
        assert_true(fabs(log((double)score / (1 - (double)score)) - logit) < 1e-5);
        n_pairs++;
    }
    assert_true(n_pairs >= 2);
    opened_close(&o);
    encoder_folder_remove(&f);
}

/* What stands around a pair is as if it were written there. */
static void test_frame_of_pairs(void **state)
{
    const char *inner = "w5 w6", *outer = "w5 w6 x3";
    float framed, written;
    struct encoder_folder f;
    struct opened o;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker", .special = 1});
    open_with(&o, f.path, NULL);
    assert_ok(infer_session_rerank(&framed, o.session, "w1 w2", &inner, NULL, 1, NULL, NULL));
    opened_close(&o);
    encoder_folder_remove(&f);
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker"});
    open_with(&o, f.path, NULL);
    assert_ok(
        infer_session_rerank(&written, o.session, "x2 w1 w2 x3", &outer, NULL, 1, NULL, NULL));
    opened_close(&o);
    encoder_folder_remove(&f);
    assert_true(framed == written);
}

static const char *const texts[] = {
    "w1 w2 w3", "w4",
    "",         "w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20 w21",
    "w1 w2 w3", "nothing that is known, nor this",
    "w3 w2 w1"};
#define N_TEXTS (sizeof texts / sizeof *texts)

static void test_together_as_alone(void **state)
{
    static const infer_session_options setups[] = {
        {.struct_size = sizeof *setups},
        {.struct_size = sizeof *setups, .step_tokens = 1},
        {.struct_size = sizeof *setups, .max_requests = 1, .max_queue = 1},
        {.struct_size = sizeof *setups, .max_requests = 3, .step_tokens = 40},
        {.struct_size = sizeof *setups, .worker_thread = 1},
    };
    static float alone[N_TEXTS * DIMS], many[20 * N_TEXTS * DIMS];
    const char *list[20 * N_TEXTS];
    struct encoder_folder f;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean, 1});
    for (size_t i = 0; i < 20 * N_TEXTS; i++)
        list[i] = texts[i * 3 % N_TEXTS];
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        struct opened o;
        infer_session_stats stats = {.struct_size = sizeof stats};
        infer_embed_report report = {.struct_size = sizeof report};
        open_with(&o, f.path, &setups[k]);
        for (size_t i = 0; !k && i < N_TEXTS; i++)
            assert_ok(
                infer_session_embed(alone + i * DIMS, o.session, &texts[i], NULL, 1, NULL, NULL));
        assert_ok(infer_session_get_stats(o.session, &stats));
        const uint64_t before = stats.n_steps;
        assert_ok(infer_session_embed(many, o.session, list, NULL, 20 * N_TEXTS, NULL, &report));
        for (size_t i = 0; i < 20 * N_TEXTS; i++)
            assert_memory_equal(many + i * DIMS, alone + i * 3 % N_TEXTS * DIMS,
                                DIMS * sizeof *many);
        assert_ok(infer_session_get_stats(o.session, &stats));
        assert_true(stats.workspace_bytes > 0);
        assert_int_equal(stats.n_failed + stats.n_running + stats.n_waiting, 0);
        if (!k) /* runs are full */
            assert_true(stats.n_steps - before <= report.n_tokens / 512 + 2);
        opened_close(&o);
    }
    assert_memory_equal(alone, alone + 4 * DIMS, DIMS * sizeof *alone);
    assert_memory_not_equal(alone, alone + 6 * DIMS, DIMS * sizeof *alone);
    for (size_t i = 0; i < N_TEXTS; i++) {
        double length = 0;
        for (size_t k = 0; k < DIMS; k++)
            length += (double)alone[i * DIMS + k] * (double)alone[i * DIMS + k];
        assert_true(fabs(length - 1) < 1e-5);
    }
    encoder_folder_remove(&f);
}

static void embed_one(struct opened *o, const char *text, const infer_embed_options *e, float *out)
{
    assert_ok(infer_session_embed(out, o->session, &text, NULL, 1, e, NULL));
}

static void test_what_files_say(void **state)
{
    float a[DIMS], b[DIMS], raw[DIMS];
    struct encoder_folder f;
    struct opened o;
    infer_embedding_info info = {.struct_size = sizeof info};
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean, 1});
    open_with(&o, f.path, NULL);
    assert_ok(infer_model_get_embedding_info(o.model, &info));
    assert_int_equal(info.dims, DIMS);
    assert_int_equal(info.n_context, 32);
    assert_int_equal(info.pooling, INFER_POOLING_MEAN);
    assert_string_equal(info.pooling_name, "mean");
    assert_string_equal(info.query_prompt, "w7 w8 ");
    assert_string_equal(info.document_prompt, "w9 ");
    assert_true(info.normalized && info.can_embed && !info.can_rerank);
    infer_embed_options e = {.struct_size = sizeof e, .as = INFER_EMBED_AS_QUERY};
    embed_one(&o, "w1", &e, a);
    embed_one(&o, "w7 w8 w1", NULL, b);
    assert_memory_equal(a, b, sizeof a);
    e.as = INFER_EMBED_AS_DOCUMENT;
    embed_one(&o, "w1", &e, a);
    embed_one(&o, "w9 w1", NULL, b);
    assert_memory_equal(a, b, sizeof a);
    e.prompt = "w30 w31 "; /* instead of the model's */
    embed_one(&o, "w1", &e, a);
    embed_one(&o, "w30 w31 w1", NULL, b);
    assert_memory_equal(a, b, sizeof a);
    /* Leading elements, normalised anew or as they are. */
    e = pooled(INFER_POOLING_DEFAULT);
    embed_one(&o, "w1 w2", &e, raw);
    e.dims = 7;
    embed_one(&o, "w1 w2", &e, a);
    assert_memory_equal(a, raw, 7 * sizeof *a);
    e.no_normalize = 0;
    embed_one(&o, "w1 w2", &e, a);
    double length = 0;
    for (size_t k = 0; k < 7; k++)
        length += (double)raw[k] * (double)raw[k];
    for (size_t k = 0; k < 7; k++)
        assert_true(fabs((double)a[k] - (double)raw[k] / sqrt(length)) < 1e-6);
    opened_close(&o);
    encoder_folder_remove(&f);
    /* Only the end token is neither prompt nor before it. */
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean_without_prompt, 1});
    open_with(&o, f.path, NULL);
    e = pooled(INFER_POOLING_DEFAULT);
    e.prompt = "w1 w2 ";
    embed_one(&o, "", &e, a);
    e.pooling = INFER_POOLING_LAST;
    embed_one(&o, "", &e, b);
    assert_memory_equal(a, b, sizeof a);
    e.pooling = INFER_POOLING_MAX;
    embed_one(&o, "", &e, a);
    assert_memory_equal(a, b, sizeof a);
    e.pooling = INFER_POOLING_DEFAULT;
    embed_one(&o, "w3", &e, a);
    e.prompt = NULL;
    embed_one(&o, "w1 w2 w3", &e, b);
    assert_memory_not_equal(a, b, sizeof a);
    opened_close(&o);
    encoder_folder_remove(&f);
}

static void test_long_texts(void **state)
{
    static char words[2048], query[2048];
    const char *list[2] = {"w1", words};
    float out[2 * DIMS], cut[DIMS], scores[2], score;
    struct encoder_folder f;
    struct opened o;
    infer_embed_report report = {.struct_size = sizeof report};
    infer_embed_options e = {.struct_size = sizeof e};
    size_t n = 0, size = 0;
    (void)state;
    for (int i = 0; i < 100; i++) {
        n += (size_t)snprintf(words + n, sizeof words - n, "%sw%d", i ? " " : "", i);
        size = i == 29 ? n : size; /* 30 words and two special tokens are 32 */
    }
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean, 1});
    open_with(&o, f.path, NULL);
    assert_int_equal(infer_session_embed(out, o.session, list, NULL, 2, &e, NULL), INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "texts[1] has 102 tokens"));
    e.truncate = 1;
    assert_ok(infer_session_embed(out, o.session, list, NULL, 2, &e, &report));
    assert_int_equal(report.n_tokens, 3 + 32);
    assert_int_equal(report.n_cut_texts, 1);
    assert_int_equal(report.n_cut_tokens, 70);
    assert_ok(infer_session_embed(cut, o.session, &list[1], &size, 1, NULL, NULL));
    assert_memory_equal(cut, out + DIMS, sizeof cut);
    opened_close(&o);
    /* A session may ask for more than max_seq_length, up to the model's context. */
    open_with(&o, f.path,
              &(infer_session_options){.struct_size = sizeof(infer_session_options),
                                       .n_context = CONTEXT});
    assert_ok(infer_session_embed(out, o.session, list, NULL, 2, &e, &report));
    assert_int_equal(report.n_tokens, 3 + CONTEXT);
    opened_close(&o);
    encoder_folder_remove(&f);
    /* Of a pair the text is cut, never the query. */
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker", .special = 1});
    open_with(&o, f.path, NULL);
    snprintf(query, sizeof query, "w1 w2 w3");
    assert_int_equal(infer_session_rerank(scores, o.session, query, list, NULL, 2, NULL, NULL),
                     INFER_ERR_LIMIT);
    assert_ok(infer_session_rerank(scores, o.session, query, list, NULL, 2, &e, &report));
    assert_int_equal(report.n_tokens, 3 + 3 + 1 + CONTEXT);
    assert_int_equal(report.n_cut_tokens, 3 + 3 + 100 - CONTEXT);
    for (size = n = 0; n < CONTEXT - 6; n++)
        size += strcspn(words + size, " ") + 1;
    size--;
    assert_ok(infer_session_rerank(&score, o.session, query, &list[1], &size, 1, NULL, NULL));
    assert_true(score == scores[1] && scores[0] != scores[1]);
    assert_int_equal(infer_session_rerank(scores, o.session, words, list, NULL, 1, &e, NULL),
                     INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "query"));
    opened_close(&o);
    encoder_folder_remove(&f);
}

static void expect(infer_status got, const char *sentence)
{
    assert_int_equal(got, INFER_ERR_UNSUPPORTED);
    if (!strstr(infer_last_error(), sentence))
        fail_msg("\"%s\" does not say \"%s\"", infer_last_error(), sentence);
}

/* What an encoder has nothing to do with. */
static void test_refusals(void **state)
{
    struct encoder_folder f;
    struct opened o;
    struct engine tiny;
    infer_kv_cache *cache = NULL;
    infer_request *request = NULL;
    infer_session *session = NULL;
    infer_self_test_report self_test = {.struct_size = sizeof self_test};
    infer_continuation c = {.text = "w2"};
    infer_score score;
    float scores[1];
    char metrics[32768];
    size_t size = sizeof metrics;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean, 1});
    open_with(&o, f.path, NULL);
    const infer_request_options r = {.struct_size = sizeof r, .prompt = "w1"};
    expect(infer_session_generate(o.session, "w1", NULL, NULL, NULL), "is an encoder");
    expect(infer_session_submit(&request, o.session, &r), "is an encoder");
    expect(infer_session_score(&score, o.session, "w1", &c, 1, NULL), "is an encoder");
    expect(infer_kv_cache_create(&cache, o.model, NULL), "is an encoder");
    expect(infer_model_self_test(&self_test, o.model, NULL), "is an encoder");
    expect(infer_session_rerank(scores, o.session, "w1", texts, NULL, 1, NULL, NULL), "no head");
    engine_open(&tiny, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    const infer_session_options s = {.struct_size = sizeof s, .draft_model = o.model};
    expect(infer_session_create(&session, tiny.model, &s), "is an encoder");
    engine_close(&tiny);
    assert_ok(infer_session_metrics(o.session, metrics, &size));
    infer_memory_estimate memory = {.struct_size = sizeof memory}, ahead = memory;
    assert_ok(infer_model_memory(o.model, 0, &memory));
    assert_int_equal(memory.kv_bytes, 0);
    assert_true(memory.workspace_bytes > 0);
    const infer_model_options m = {.struct_size = sizeof m, .device = o.device};
    assert_ok(infer_model_estimate(&ahead, f.path, 0, &m));
    assert_true(ahead.workspace_bytes > 0 && ahead.kv_bytes == 0);
    opened_close(&o);
    encoder_folder_remove(&f);
    /* Three classes are no score. */
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "roberta-classifier", .special = 1});
    open_with(&o, f.path, NULL);
    expect(infer_session_rerank(scores, o.session, "w1", texts, NULL, 1, NULL, NULL), "outputs");
    opened_close(&o);
    encoder_folder_remove(&f);
}

/* Models come and go behind the handle, and weights under it. */
static void test_swap_and_evict(void **state)
{
    float before[DIMS], after[DIMS];
    struct encoder_folder f;
    struct opened o;
    struct engine tiny;
    infer_token prompt[] = {5, 6, 7};
    struct engine_answer answer;
    infer_embed_options e = {.struct_size = sizeof e};
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean, 1});
    open_with(&o, f.path, NULL);
    embed_one(&o, texts[3], NULL, before);
    assert_ok(infer_model_evict(o.model));
    e.deadline_ns = 1000000;
    assert_int_equal(infer_session_embed(after, o.session, texts, NULL, 1, &e, NULL),
                     INFER_ERR_LIMIT);
    assert_ok(infer_model_restore(o.model, NULL));
    embed_one(&o, texts[3], NULL, after);
    assert_memory_equal(before, after, sizeof before);
    engine_open(&tiny, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .step_tokens = 8});
    assert_ok(infer_session_swap_model(tiny.session, o.model, NULL));
    assert_ok(infer_session_embed(after, tiny.session, &texts[3], NULL, 1, NULL, NULL));
    assert_memory_equal(before, after, sizeof before);
    assert_ok(infer_session_swap_model(tiny.session, tiny.model, NULL));
    engine_greedy(&tiny, prompt, 3, 5, &answer);
    assert_int_equal(answer.n, 5);
    engine_answer_free(&answer);
    engine_close(&tiny);
    opened_close(&o);
    encoder_folder_remove(&f);
}

/* ------------------------------------------------------------------ threads */

#define N_THREADS 6
#define N_ROUNDS  15

struct caller {
    struct opened *o;
    const float *expected;
    size_t number;
    pthread_t thread;
    int failed;
};

static void *call(void *arg)
{
    struct caller *c = arg;
    float out[DIMS];
    for (size_t i = 0; i < N_ROUNDS && !c->failed; i++) {
        const size_t at = (c->number + i) % N_TEXTS;
        infer_status st = infer_session_embed(out, c->o->session, texts + at, NULL, 1, NULL, NULL);
        c->failed = st != INFER_OK || memcmp(out, c->expected + at * DIMS, sizeof out) != 0;
    }
    return NULL;
}

static void run_threads(int32_t worker_thread)
{
    static float expected[N_TEXTS * DIMS];
    struct caller callers[N_THREADS];
    struct encoder_folder f;
    struct opened o;
    const infer_session_options s = {.struct_size = sizeof s, .worker_thread = worker_thread};
    encoder_folder_make(&f, &(struct encoder_kind){"bert", mean, 1});
    open_with(&o, f.path, &s);
    assert_ok(infer_session_embed(expected, o.session, texts, NULL, N_TEXTS, NULL, NULL));
    for (size_t i = 0; i < N_THREADS; i++) {
        callers[i] = (struct caller){.o = &o, .expected = expected, .number = i};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].failed, 0);
    }
    opened_close(&o);
    encoder_folder_remove(&f);
}

static void test_threads(void **state)
{
    (void)state;
    run_threads(0);
    run_threads(1);
}

/* ----------------------------------------------------------------- failures */

struct counter {
    long n_calls, live, fail_at; /* fail_at 0: never */
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct counter *c = user_data;
    void *p = NULL;
    if (++c->n_calls == c->fail_at ||
        posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    c->live++;
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    struct counter *c = user_data;
    c->live--;
    free(ptr);
}

/* A session, vectors and scores; the model is there already. */
static infer_status use(struct counter *c, infer_model *model, float *out)
{
    const infer_allocator allocator = {sizeof allocator, counting_alloc, counting_free, c};
    const infer_session_options s = {.struct_size = sizeof s, .allocator = &allocator};
    const infer_embed_options e = {.struct_size = sizeof e,
                                   .pooling = INFER_POOLING_MEAN,
                                   .prompt = "w7 ",
                                   .tenant = "who pays",
                                   .truncate = 1};
    infer_session *session = NULL;
    infer_status st = infer_session_create(&session, model, &s);
    if (st == INFER_OK)
        st = infer_session_embed(out, session, texts, NULL, 3, &e, NULL);
    if (st == INFER_OK)
        st = infer_session_rerank(out + 3 * DIMS, session, "w1 w2", texts, NULL, 3, NULL, NULL);
    infer_session_destroy(&session);
    return st;
}

static void test_failing_allocations(void **state)
{
    float expected[3 * DIMS + 3], out[3 * DIMS + 3];
    struct counter c = {0};
    struct encoder_folder f;
    struct opened o;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker", .special = 1});
    open_with(&o, f.path, NULL);
    assert_ok(use(&c, o.model, expected));
    const long n = c.n_calls;
    assert_true(n > 40);
    for (long i = 1; i <= n; i++) {
        c = (struct counter){.fail_at = i};
        assert_int_equal(use(&c, o.model, out), INFER_ERR_NO_MEMORY);
        assert_int_equal(c.live, 0);
    }
    c = (struct counter){0};
    assert_ok(use(&c, o.model, out));
    assert_memory_equal(out, expected, sizeof out);
    opened_close(&o);
    encoder_folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_float64),     cmocka_unit_test(test_rerank_as_float64),
        cmocka_unit_test(test_frame_of_pairs), cmocka_unit_test(test_together_as_alone),
        cmocka_unit_test(test_what_files_say), cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_swap_and_evict),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("embed_encoder", tests, NULL, NULL);
}
