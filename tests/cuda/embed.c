/* Embedding and reranking through the public functions on a GPU: encoders and decoders against
 * independent float64 evaluations and against the CPU; where the card is emulated, failures too. */
#include "api/encoder_folder.h"
#include "support/engine.h"
#ifdef EMULATED
#include "cuda/emulate_runtime.h"
#endif

#include <math.h>
#include <sys/stat.h>

#define TOLERANCE 2e-5
#define N_MAX     8

static void need_gpu(const char *test)
{
    if (infer_device_count() > 1)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

/* A session without a cache of its own: an encoder takes none. */
struct opened {
    infer_device *device;
    infer_model *model;
    infer_session *session;
};

static infer_status try_open(struct opened *o, int32_t device, const char *path,
                             const infer_session_options *options)
{
    const infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    *o = (struct opened){0};
    infer_status st = infer_device_create(&o->device, device, &d);
    const infer_model_options m = {.struct_size = sizeof m, .device = o->device};
    if (st == INFER_OK)
        st = infer_model_load(&o->model, path, &m);
    return st == INFER_OK ? infer_session_create(&o->session, o->model, options) : st;
}

/* Steps of so many tokens want little memory, which the emulation clears. */
static const infer_session_options small = {.struct_size = sizeof small, .step_tokens = 64};

static void opened_close(struct opened *o)
{
    infer_session_destroy(&o->session);
    infer_model_destroy(&o->model);
    infer_device_destroy(&o->device);
}

/* ---------------------------------------------------------------- encoders */

/* The first token of type 1, or all. */
static size_t second_of(const json_t *text)
{
    const json_t *types = json_object_get(text, "types");
    size_t n = json_array_size(json_object_get(text, "tokens")), i = 0;
    while (i < n && !json_integer_value(json_array_get(types, i)))
        i++;
    return i;
}

static void an_encoder_embeds(void **state)
{
    static const struct {
        infer_pooling pooling;
        const char *key;
    } ways[] = {{INFER_POOLING_MEAN, "mean"}, {INFER_POOLING_MAX, "max"}};
    static char words[N_MAX][1024];
    static float out[N_MAX * 48];
    const char *texts[N_MAX];
    const json_t *wanted[N_MAX], *text;
    struct encoder_folder f;
    struct opened o;
    size_t n = 0, i;
    (void)state;
    need_gpu("an encoder");
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "nomic"});
    json_array_foreach(json_object_get(f.fixture.root, "texts"), i, text)
    {
        size_t length = json_array_size(json_object_get(text, "tokens"));
        if (second_of(text) < length || (getenv("TEST_BRIEF") && length > 20))
            continue;
        encoder_folder_words(text, 0, length, words[n], sizeof words[n]);
        texts[n] = words[n];
        wanted[n++] = text;
    }
    assert_true(n >= 2);
    assert_ok(try_open(&o, 1, f.path, &small));
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        const infer_embed_options e = {
            .struct_size = sizeof e, .pooling = ways[w].pooling, .no_normalize = 1};
        assert_ok(infer_session_embed(out, o.session, texts, NULL, n, &e, NULL));
        for (i = 0; i < n; i++)
            assert_true(encoder_folder_apart(out + i * 48,
                                             json_object_get(wanted[i], ways[w].key)) < TOLERANCE);
    }
    opened_close(&o);
    encoder_folder_remove(&f);
}

static void an_encoder_reranks(void **state)
{
    static char query[1024], words[1024];
    struct encoder_folder f;
    struct opened o;
    int n_pairs = 0;
    size_t i;
    json_t *text;
    (void)state;
    need_gpu("a reranker");
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker"});
    assert_ok(try_open(&o, 1, f.path, &small));
    json_array_foreach(json_object_get(f.fixture.root, "texts"), i, text)
    {
        const size_t length = json_array_size(json_object_get(text, "tokens"));
        const size_t second = second_of(text);
        const char *one = words;
        float score;
        if (second == length || (getenv("TEST_BRIEF") && n_pairs == 2))
            continue;
        encoder_folder_words(text, 0, second, query, sizeof query);
        encoder_folder_words(text, second, length, words, sizeof words);
        assert_ok(infer_session_rerank(&score, o.session, query, &one, NULL, 1, NULL, NULL));
        const double logit = json_number_value(json_array_get(json_object_get(text, "logits"), 0));
        assert_true(fabs(log((double)score / (1 - (double)score)) - logit) < TOLERANCE);
        n_pairs++;
    }
    assert_true(n_pairs >= 2);
    opened_close(&o);
    encoder_folder_remove(&f);
}

/* ---------------------------------------------------------------- decoders */

#define DIMS 64

static void decoder_make(struct encoder_folder *f)
{
    json_error_t error;
    *f = (struct encoder_folder){0};
    f->fixture.root = json_load_file(test_source("tests/model/qwen3_embedder.json"), 0, &error);
    assert_non_null(f->fixture.root);
    arch_folder_make(f->path, sizeof f->path);
    arch_fixture_write(&f->fixture, f->path, "F32");
}

/* Texts whose tokens go in one step or in pieces, with all poolings, beside what the CPU says. */
static void a_decoder_embeds(void **state)
{
    static const infer_pooling poolings[] = {INFER_POOLING_LAST, INFER_POOLING_MEAN,
                                             INFER_POOLING_MAX, INFER_POOLING_CLS};
    static const char *const texts[] = {"The card.", "A text of some more words than one step."};
    enum { N = sizeof texts / sizeof *texts };
    const infer_session_options gpu = {.struct_size = sizeof gpu, .step_tokens = 11};
    struct encoder_folder f;
    struct opened cpu, card;
    double worst = 0;
    (void)state;
    need_gpu("a decoder that embeds");
    decoder_make(&f);
    assert_ok(try_open(&cpu, 0, f.path, NULL));
    assert_ok(try_open(&card, 1, f.path, &gpu));
    for (size_t i = 0; i < sizeof poolings / sizeof *poolings; i++) {
        static float want[N * DIMS], got[N * DIMS];
        infer_embed_options e = {.struct_size = sizeof e, .pooling = poolings[i]};
        assert_ok(infer_session_embed(want, cpu.session, texts, NULL, N, &e, NULL));
        assert_ok(infer_session_embed(got, card.session, texts, NULL, N, &e, NULL));
        for (size_t k = 0; k < N * DIMS; k++)
            worst = fmax(worst, fabs((double)want[k] - (double)got[k]));
    }
    print_message("  off by %.2g\n", worst);
    assert_true(worst < TOLERANCE);
    opened_close(&cpu);
    opened_close(&card);
    encoder_folder_remove(&f);
}

/* Answers that are written beside are what they are alone: pooling leaves the stream as it is. */
static void a_decoder_embeds_beside_an_answer(void **state)
{
    static const char *const texts[] = {"Some words.", "Others."};
    const infer_sampling greedy = {.struct_size = sizeof greedy};
    const infer_token prompt[] = {5, 9, 100, 42};
    struct encoder_folder f;
    struct opened o;
    struct engine_answer alone, beside;
    static float out[2 * DIMS];
    (void)state;
    need_gpu("a decoder that embeds");
    decoder_make(&f);
    assert_ok(try_open(&o, 1, f.path, &small));
    const infer_request_options options = {.struct_size = sizeof options,
                                           .tokens = prompt,
                                           .n_tokens = 4,
                                           .sampling = &greedy,
                                           .max_tokens = 4,
                                           .ignore_eos = 1};
    infer_request *request = NULL;
    const infer_embed_options mean = {.struct_size = sizeof mean, .pooling = INFER_POOLING_MEAN};
    assert_ok(infer_session_submit(&request, o.session, &options));
    engine_collect(request, &alone);
    assert_ok(infer_session_submit(&request, o.session, &options));
    assert_ok(infer_session_embed(out, o.session, texts, NULL, 2, &mean, NULL));
    engine_collect(request, &beside);
    assert_int_equal(alone.n, beside.n);
    assert_memory_equal(alone.tokens, beside.tokens, alone.n * sizeof *alone.tokens);
    engine_answer_free(&alone);
    engine_answer_free(&beside);
    opened_close(&o);
    encoder_folder_remove(&f);
}

/* ----------------------------------------------------------------- failures */

#ifdef EMULATED

/* Loads, embeds or reranks two texts, and closes; call `fail_at` of the runtime fails. */
static infer_status attempt(const char *path, int rerank, long fail_at, cudaError_t error,
                            long *calls)
{
    const long before = emulated_calls();
    static const char *const texts[] = {"w1 w2", "w3"};
    static float out[2 * DIMS];
    struct opened o;
    const infer_session_options options = {
        .struct_size = sizeof options, .max_requests = 2, .step_tokens = 64};
    const infer_embed_options e = {.struct_size = sizeof e, .pooling = INFER_POOLING_MEAN};
    emulated_fail_after(fail_at, error);
    infer_status st = try_open(&o, 1, path, &options);
    if (st == INFER_OK && rerank)
        st = infer_session_rerank(out, o.session, "w4", texts, NULL, 2, NULL, NULL);
    else if (st == INFER_OK)
        st = infer_session_embed(out, o.session, texts, NULL, 2, &e, NULL);
    *calls = emulated_calls() - before;
    if (st != INFER_OK)
        assert_string_not_equal(infer_last_error(), "");
    opened_close(&o);
    emulated_fail_after(0, cudaSuccess);
    if (emulated_memory_used() != 0)
        fail_msg("call %ld: %zu bytes of the card are left behind", fail_at,
                 emulated_memory_used());
    return st;
}

/* Call number `back` from the end, where texts are computed. */
static void check_failure(const char *path, int rerank, long back, cudaError_t error,
                          infer_status wanted)
{
    long n, seen;
    assert_ok(attempt(path, rerank, 0, cudaSuccess, &n));
    const infer_status st = attempt(path, rerank, n - back, error, &seen);
    if (st != wanted)
        fail_msg("call %ld of %ld gave %d, not %d: %s", n - back, n, st, wanted,
                 infer_last_error());
}

static void failures_are_told(void **state)
{
    struct encoder_folder f;
    (void)state;
    encoder_folder_make(&f, &(struct encoder_kind){.fixture = "bert-reranker", .special = 1});
    check_failure(f.path, 0, 0, cudaErrorLaunchFailure, INFER_ERR_DEVICE);
    check_failure(f.path, 1, 83, cudaErrorMemoryAllocation, INFER_ERR_NO_MEMORY);
    encoder_folder_remove(&f);
    decoder_make(&f);
    check_failure(f.path, 0, 1, cudaErrorLaunchFailure, INFER_ERR_DEVICE);
    encoder_folder_remove(&f);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_encoder_embeds), cmocka_unit_test(an_encoder_reranks),
        cmocka_unit_test(a_decoder_embeds),  cmocka_unit_test(a_decoder_embeds_beside_an_answer),
#ifdef EMULATED
        cmocka_unit_test(failures_are_told),
#endif
    };
    return cmocka_run_group_tests_name("gpu embeddings", tests, NULL, NULL) != 0;
}
