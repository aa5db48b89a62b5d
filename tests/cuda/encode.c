/* Encoders on a GPU, on the model's floor: every kind against an independent float64 evaluation, in
 * one pass and text by text, all poolings and heads, batches that are replayed from graphs, and
 * batches that are refused. */
#include "device/backend.h"
#include "model/encoder_fixture.h"
#include "model/gpu/gpu.h"
#ifdef EMULATED
#include "cuda/emulate_cublas.h"
#include "cuda/emulate_runtime.h"
#endif

#include <math.h>

/* F32 weights stay F32 on the card, as factors of products and of attention. */
#define TOLERANCE 2e-5

static const char *const names[] = {ENCODER_NAMES};

static void need_gpu(const char *test)
{
    if (device_cuda_count() > 0)
        return;
    print_message("skipped: no GPU for %s\n", test);
    skip();
}

/* ---------------------------------------------------------- all its numbers */

static const struct {
    const char *key;
    enum model_pooling_kind kind;
} ways[] = {{"cls", MODEL_POOLING_CLS},
            {"last", MODEL_POOLING_LAST},
            {"mean", MODEL_POOLING_MEAN},
            {"max", MODEL_POOLING_MAX}};

/* Vectors that were joined on the card, of all kinds at once. */
static double check_vectors(const struct encoder_case *e, const struct encoder_texts *t)
{
    const int32_t n = e->model->hp.n_embd, n_texts = t->batch.n_texts;
    float *out = calloc(BASE_COUNT(ways) * (size_t)n_texts * (size_t)n, sizeof *out);
    struct model_fold folds[BASE_COUNT(ways) * ENCODER_TEXTS_MAX];
    int32_t n_folds = 0;
    double worst = 0;
    for (size_t w = 0; w < BASE_COUNT(ways); w++)
        for (int32_t i = 0; i < n_texts; i++, n_folds++)
            folds[n_folds] = (struct model_fold){
                .vector = out + (size_t)n_folds * (size_t)n,
                .row = t->offsets[i],
                .n_rows = w ? t->offsets[i + 1] - t->offsets[i] : 1,
                .kind = ways[w].kind,
            };
    assert_ok(model_encoder_fold(e->encoder, &t->batch, folds, n_folds));
    for (int32_t k = 0; k < n_folds; k++) {
        for (int32_t d = 0; d < n && folds[k].kind == MODEL_POOLING_MEAN; d++)
            folds[k].vector[d] /= (float)folds[k].n_rows;
        worst =
            fmax(worst, encoder_difference(t, k % n_texts, ways[k / n_texts].key, folds[k].vector));
    }
    free(out);
    return worst;
}

/* The host's own pooling of rows that came back. */
static double check_rows(const struct encoder_case *e, const struct encoder_texts *t)
{
    const int32_t n = e->model->hp.n_embd;
    float *out = calloc((size_t)t->batch.n_texts * (size_t)n, sizeof *out);
    const float *rows;
    double worst = 0;
    assert_ok(model_encoder_run(e->encoder, &t->batch, &rows));
    model_pool(out, rows, &t->batch, n, MODEL_POOLING_MEAN, 0, NULL);
    for (int32_t i = 0; i < t->batch.n_texts; i++)
        worst = fmax(worst, encoder_difference(t, i, "mean", out + (size_t)i * (size_t)n));
    free(out);
    return worst;
}

/* Text i alone goes other ways than all together: products of a few rows. */
static double check_alone(const struct encoder_case *e, const struct encoder_texts *t, int32_t i)
{
    const int32_t first = t->offsets[i], length = t->offsets[i + 1] - first;
    const int32_t offsets[] = {0, length};
    const struct model_encode_batch batch = {t->tokens + first, t->types + first, offsets, 1};
    float vector[64] = {0};
    const struct model_fold fold = {.vector = vector, .n_rows = 1, .kind = MODEL_POOLING_CLS};
    assert_true(e->model->hp.n_embd <= 64);
    assert_ok(model_encoder_fold(e->encoder, &batch, &fold, 1));
    return encoder_difference(t, i, "cls", vector);
}

/* The emulation takes a thousand times as long: the shorter texts of most fixtures, which are in
 * the order of their length. */
static int brief(void)
{
    return getenv("TEST_BRIEF") != NULL;
}

static void leave_out_long(struct encoder_texts *t, int32_t most)
{
    while (brief() && t->offsets[t->batch.n_texts] > most)
        t->batch.n_texts--;
}

static double worst_of(const char *name, const char *dtype, int32_t fast, int32_t most)
{
    struct encoder_made f;
    struct encoder_case e;
    struct encoder_texts t;
    encoder_make(&f, name, dtype, NULL, NULL);
    encoder_open(
        &e, f.path,
        &(const struct encoder_setup){.device = 1, .fast = fast, .max_tokens = brief() ? 64 : 0});
    encoder_texts_make(&t, json_object_get(f.fixture.root, "texts"));
    leave_out_long(&t, most);
    double worst = check_vectors(&e, &t);
    worst = fmax(worst, check_alone(&e, &t, 1));
    if (!brief() || strcmp(name, "distilbert") == 0) { /* weights that went away and came back */
        assert_ok(model_evict(e.model));
        assert_ok(model_restore(e.model, &(const struct model_restore_config){0}));
        worst = fmax(worst, check_rows(&e, &t));
    }
    if (json_object_get(json_array_get(t.list, 0), "logits"))
        worst = fmax(worst, encoder_labels_difference(&e, &t));
    encoder_texts_free(&t);
    encoder_close(&e);
    encoder_made_remove(&f);
    return worst;
}

static void against_float64(void **state)
{
    need_gpu(*state);
    /* A window, and more than one tile of keys. */
    const double worst = worst_of(*state, "F32", 0, strcmp(*state, "modern") == 0 ? 50 : 16);
    print_message("  relative error %.2g\n", worst);
    assert_true(worst < TOLERANCE);
}

/* Weights of fixtures are numbers of BF16; rows become BF16 in front of products, and queries, keys
 * and values F16. */
static void narrow_weights(void **state)
{
    static const struct {
        const char *name, *dtype;
        int32_t fast;
        double tolerance;
    } cases[] = {
        {"bert-reranker", "F16", 0, 5e-3},
        {"modern", "F16", 0, 2e-2},
        {"bert-reranker", "BF16", 0, 2e-2}, /* by cuBLASLt: not emulated */
        {"nomic", "F32", 1, 1e-2},
    };
    (void)state;
    need_gpu("narrow weights");
    for (size_t i = 0; i < BASE_COUNT(cases) - 2 * (size_t)brief(); i++) {
        const double worst = worst_of(cases[i].name, cases[i].dtype, cases[i].fast, 16);
        print_message("  %s in %s: relative error %.2g\n", cases[i].name, cases[i].dtype, worst);
        assert_true(worst < cases[i].tolerance);
    }
}

/* With invariant numerics one kernel takes a product of any number of rows. */
static void a_text_alone_has_the_same_bits(void **state)
{
    struct encoder_made f;
    struct encoder_case e;
    struct encoder_texts t;
    float together[64] = {0}, alone[64] = {0};
    (void)state;
    need_gpu("invariant numerics");
    encoder_make(&f, "distilbert", "F32", NULL, NULL);
    encoder_open(&e, f.path,
                 &(const struct encoder_setup){.device = 1, .max_tokens = 64, .invariant = 1});
    encoder_texts_make(&t, json_object_get(f.fixture.root, "texts"));
    const int32_t length = t.offsets[2] - t.offsets[1], offsets[] = {0, length};
    const struct model_encode_batch all = {t.tokens, NULL, t.offsets, 3};
    const struct model_encode_batch one = {t.tokens + t.offsets[1], NULL, offsets, 1};
    struct model_fold fold = {
        .vector = together, .row = t.offsets[1], .n_rows = length, .kind = MODEL_POOLING_MEAN};
    assert_ok(model_encoder_fold(e.encoder, &all, &fold, 1));
    fold.vector = alone;
    fold.row = 0;
    assert_ok(model_encoder_fold(e.encoder, &one, &fold, 1));
    assert_memory_equal(together, alone, sizeof alone);
    encoder_texts_free(&t);
    encoder_close(&e);
    encoder_made_remove(&f);
}

/* ------------------------------------------------------------------- graphs */

#define MADE_TEXTS 4
#define MADE_ROWS  80
#define MADE_DIMS  48

/* Texts of these lengths. */
struct made_batch {
    infer_token tokens[MADE_ROWS];
    uint8_t types[MADE_ROWS];
    int32_t offsets[MADE_TEXTS + 1];
    struct model_encode_batch batch;
};

struct made_vectors {
    float of[MADE_TEXTS][MADE_DIMS];
};

static void batch_make(struct made_batch *b, const int32_t lengths[MADE_TEXTS], int32_t seed)
{
    *b = (struct made_batch){.batch = {b->tokens, b->types, b->offsets, MADE_TEXTS}};
    for (int32_t i = 0; i < MADE_TEXTS; i++)
        b->offsets[i + 1] = b->offsets[i] + lengths[i];
    assert_in_range(b->offsets[MADE_TEXTS], 1, MADE_ROWS);
    for (int32_t k = 0; k < b->offsets[MADE_TEXTS]; k++) {
        b->tokens[k] = 1 + (k * 37 + seed * 101) % 250;
        b->types[k] = (k + seed) % 3 == 0;
    }
}

static infer_status try_vectors(struct model_encoder *encoder, const struct made_batch *b,
                                struct made_vectors *out)
{
    struct model_fold folds[MADE_TEXTS];
    memset(out, 0, sizeof *out);
    for (int32_t i = 0; i < MADE_TEXTS; i++)
        folds[i] = (struct model_fold){.vector = out->of[i],
                                       .row = b->offsets[i],
                                       .n_rows = b->offsets[i + 1] - b->offsets[i],
                                       .kind = MODEL_POOLING_MEAN};
    return model_encoder_fold(encoder, &b->batch, folds, MADE_TEXTS);
}

static void open_made(struct encoder_case *e, const char *path, struct model_encoder **walker)
{
    const int32_t most = MADE_ROWS;
    encoder_open(e, path, &(const struct encoder_setup){.device = 1, .max_tokens = most});
    assert_int_equal(e->model->hp.n_embd, MADE_DIMS);
    assert_ok(model_encoder_open(walker, &base_alloc_default, e->model, most, 0, 0));
}

/* Kernel by kernel, by an encoder of its own. */
static void walk(struct encoder_case *e, struct model_encoder *walker, const struct made_batch *b,
                 struct made_vectors *out)
{
    e->model->gpu->ways |= GPU_WAY_WALKED;
    assert_ok(try_vectors(walker, b, out));
    e->model->gpu->ways &= ~(uint32_t)GPU_WAY_WALKED;
}

static long n_calls(void)
{
#ifdef EMULATED
    return emulated_calls();
#else
    return 0;
#endif
}

/* Of calls of the runtime: a replay makes few, however many layers there are. */
static void check_calls(long calls, int replayed)
{
#ifdef EMULATED
    if (replayed)
        assert_in_range(calls, 3, 12);
    else
        assert_in_range(calls, 24, 1000);
#else
    (void)calls;
    (void)replayed;
#endif
}

struct graph_case {
    const char *name, *dtype;
    int32_t lengths[4][MADE_TEXTS]; /* of one shape */
};

static void check_graphs(const struct graph_case *c)
{
    struct encoder_made f;
    struct encoder_case e;
    struct model_encoder *walker = NULL;
    struct made_batch batches[4];
    struct made_vectors want[4], got;
    encoder_make(&f, c->name, c->dtype, NULL, NULL);
    open_made(&e, f.path, &walker);
    for (int i = 3; i >= 0; i--) { /* in another order, so that other rows are left behind */
        batch_make(&batches[i], c->lengths[i], i);
        walk(&e, walker, &batches[i], &want[i]);
    }
    for (int k = 0; k < 6; k++) { /* walked, captured, replayed */
        const long before = n_calls();
        assert_ok(try_vectors(e.encoder, &batches[k % 4], &got));
        if (k != 1)
            check_calls(n_calls() - before, k > 1);
        assert_memory_equal(&got, &want[k % 4], sizeof got);
    }
    assert_ok(model_evict(e.model)); /* weights that lie elsewhere now */
    assert_ok(model_restore(e.model, &(const struct model_restore_config){0}));
    assert_ok(try_vectors(e.encoder, &batches[3], &got));
    assert_memory_equal(&got, &want[3], sizeof got);
    model_encoder_close(&walker);
    encoder_close(&e);
    encoder_made_remove(&f);
}

/* Positions, types and tiles change within a shape; neither what fills it up nor what a larger
 * batch left there changes a bit. */
static void replayed_texts_are_walked_texts(void **state)
{
    static const struct graph_case cases[] = {
        {"bert", "F32", {{5, 6, 5, 0}, {1, 1, 1, 9}, {3, 4, 2, 0}, {6, 1, 2, 2}}},
        {"modern", "F16", {{66, 3, 0, 0}, {0, 69, 1, 0}, {3, 67, 0, 0}, {1, 0, 0, 70}}},
        {"nomic", "BF16", {{5, 6, 0, 0}, {1, 15, 0, 0}, {7, 2, 0, 0}, {0, 0, 3, 9}}},
    };
    (void)state;
    need_gpu("texts that are replayed");
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
#ifdef EMULATED
        emulated_cublas_set_version(strcmp(cases[i].dtype, "BF16") == 0 ? 120901 : 0);
#endif
        check_graphs(&cases[i]);
    }
#ifdef EMULATED
    assert_true(emulated_cublas_products(0) > 0);
    emulated_cublas_set_version(0);
#endif
}

/* Token 0, with which batches are filled up, is no number. */
static void spoil(const char *name, size_t n_dims, const uint64_t *dims, float *values, void *data)
{
    (void)n_dims;
    (void)dims;
    (void)data;
    for (int i = 0; i < MADE_DIMS && strstr(name, "word_embeddings"); i++)
        values[i] = NAN;
}

static void what_fills_up_spoils_nothing(void **state)
{
    static const int32_t lengths[][MADE_TEXTS] = {{3, 4, 2, 0}, {5, 6, 5, 0}};
    struct encoder_made clean, spoilt;
    struct encoder_case e;
    struct model_encoder *walker = NULL;
    struct made_batch batch, broken;
    struct made_vectors want, got;
    (void)state;
    need_gpu("batches that are filled up");
    batch_make(&batch, lengths[0], 0);
    batch_make(&broken, lengths[1], 1);
    memset(broken.tokens, 0, sizeof broken.tokens);
    encoder_make(&clean, "distilbert", "F32", NULL, NULL);
    open_made(&e, clean.path, &walker);
    walk(&e, walker, &batch, &want);
    model_encoder_close(&walker);
    encoder_close(&e);
    encoder_make(&spoilt, "distilbert", "F32", spoil, NULL);
    open_made(&e, spoilt.path, &walker);
    for (int i = 0; i < 4; i++) {
        assert_ok(try_vectors(e.encoder, i % 2 ? &batch : &broken, &got));
        if (i % 2)
            assert_memory_equal(&got, &want, sizeof got);
        else
            assert_true(isnan(got.of[0][0]));
    }
    model_encoder_close(&walker);
    encoder_close(&e);
    encoder_made_remove(&clean);
    encoder_made_remove(&spoilt);
}

#ifdef EMULATED

/* A batch that is walked, and one that is captured and one that is replayed while a call fails. */
static long fail_once(const struct encoder_case *e, const struct made_batch *b, long fail_at,
                      const struct made_vectors *want)
{
    struct model_encoder *encoder = NULL;
    struct made_vectors got;
    assert_ok(model_encoder_open(&encoder, &base_alloc_default, e->model, 16, 0, 0));
    assert_ok(try_vectors(encoder, b, &got));
    const long before = emulated_calls();
    emulated_fail_after(fail_at, cudaErrorMemoryAllocation);
    for (int i = 0; i < 2; i++) {
        const infer_status st = try_vectors(encoder, b, &got);
        if (st == INFER_OK)
            assert_memory_equal(&got, want, sizeof got);
        else
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_true(fail_at || st == INFER_OK);
    }
    const long calls = emulated_calls() - before;
    emulated_fail_after(0, cudaSuccess);
    for (int i = 0; i < 2; i++) { /* as if nothing had been */
        const long at = emulated_calls();
        assert_ok(try_vectors(encoder, b, &got));
        assert_memory_equal(&got, want, sizeof got);
        if (i || !fail_at)
            check_calls(emulated_calls() - at, 1);
    }
    model_encoder_close(&encoder);
    return calls;
}

static void calls_fail_while_texts_are_captured(void **state)
{
    static const int32_t lengths[MADE_TEXTS] = {2, 1, 0, 0};
    struct encoder_made f;
    struct encoder_case e;
    struct model_encoder *walker = NULL;
    struct made_batch batch;
    struct made_vectors want;
    (void)state;
    need_gpu("failures while texts are captured");
    batch_make(&batch, lengths, 0);
    encoder_make(&f, "distilbert", "F32", NULL, NULL);
    open_made(&e, f.path, &walker);
    walk(&e, walker, &batch, &want);
    const long all = fail_once(&e, &batch, 0, &want);
    for (long n = 1; n <= all; n++)
        fail_once(&e, &batch, n, &want);
    print_message("  %ld calls\n", all);
    model_encoder_close(&walker);
    encoder_close(&e);
    encoder_made_remove(&f);
}

#endif

/* -------------------------------------------------------- batches and memory */

static void batches_that_are_refused(void **state)
{
    struct encoder_made f;
    struct encoder_case e;
    const float *rows;
    infer_token tokens[80] = {0};
    const struct {
        int32_t offsets[3];
        infer_token token;
        infer_status status;
    } cases[] = {
        {{0, 1, 2}, 288, INFER_ERR_INVALID}, {{0, 1, 2}, -1, INFER_ERR_INVALID},
        {{0, 5, 2}, 0, INFER_ERR_INVALID},   {{1, 2, 3}, 0, INFER_ERR_INVALID},
        {{0, 3, 71}, 0, INFER_ERR_LIMIT},    {{0, 60, 80}, 0, INFER_ERR_LIMIT},
    };
    (void)state;
    need_gpu("refused batches");
    encoder_make(&f, "bert", "F32", NULL, NULL);
    encoder_open(&e, f.path, &(const struct encoder_setup){.device = 1, .max_tokens = 72});
    assert_true(model_encoder_bytes(e.model, 144) > model_encoder_bytes(e.model, 72));
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        tokens[1] = cases[i].token;
        const struct model_encode_batch batch = {tokens, NULL, cases[i].offsets, 2};
        assert_int_equal(model_encoder_run(e.encoder, &batch, &rows), cases[i].status);
        assert_int_equal(model_encoder_fold(e.encoder, &batch, NULL, 0), cases[i].status);
    }
    tokens[1] = 0;
    const int32_t empty[] = {0, 0, 3}, none[] = {0};
    const struct model_encode_batch with_empty = {tokens, NULL, empty, 2};
    const struct model_encode_batch nothing = {tokens, NULL, none, 0};
    float out[96] = {0};
    const struct model_fold folds[] = {
        {.vector = out, .kind = MODEL_POOLING_MEAN},
        {.vector = out + 48, .n_rows = 3, .kind = MODEL_POOLING_MAX}};
    assert_ok(model_encoder_run(e.encoder, &nothing, &rows));
    assert_ok(model_encoder_run(e.encoder, &with_empty, &rows));
    assert_ok(model_encoder_fold(e.encoder, &with_empty, folds, 2));
    for (int i = 0; i < 48; i++)
        assert_true(out[i] == 0);
    assert_true(out[48] != 0);
    const struct model_encode_batch whole = {tokens, NULL, empty + 1, 1};
    assert_int_equal(model_encoder_classify(e.encoder, &whole, out), INFER_ERR_UNSUPPORTED);
    encoder_close(&e);
    encoder_made_remove(&f);
}

/* ------------------------------------------------------------- the real model */

/* 1 - cosine of the shortest text's vector: the emulation takes seconds for more. */
static double distance_of(const char *path, json_t *root)
{
    struct encoder_case e;
    struct encoder_texts t;
    encoder_open(&e, path, &(const struct encoder_setup){.device = 1, .max_tokens = 64});
    encoder_texts_make(&t, json_object_get(root, "texts"));
    const int32_t length = t.offsets[1];
    const struct model_encode_batch one = {t.tokens, NULL, t.offsets, 1};
    float vector[384] = {0}, want[384];
    const struct model_fold fold = {.vector = vector, .n_rows = length, .kind = MODEL_POOLING_MEAN};
    const json_t *golden = json_object_get(json_array_get(t.list, 0), "vector");
    assert_int_equal(e.model->hp.n_embd, 384);
    assert_ok(model_encoder_fold(e.encoder, &one, &fold, 1));
    for (size_t d = 0; d < 384; d++)
        want[d] = (float)json_number_value(json_array_get(golden, d));
    const double apart = encoder_distance(want, vector, 384);
    print_message("  %d tokens, 1 - cosine %.2g\n", length, apart);
    encoder_texts_free(&t);
    encoder_close(&e);
    return apart;
}

/* Its own F32 weights, and eight bits of them. */
static void minilm(void **state)
{
    const char *path = getenv("INFER_TEST_MINILM");
    char folder[512], file[600];
    (void)state;
    need_gpu("MiniLM");
    if (!path || !*path) {
        print_message("INFER_TEST_MINILM is not set\n");
        skip();
    }
    json_t *root = encoder_fixture("minilm");
    assert_true(distance_of(path, root) < 1e-6);
    arch_folder_make(folder, sizeof folder);
    snprintf(file, sizeof file, "%s/model.gguf", folder);
    encoder_convert(path, file, "q8_0");
    assert_true(distance_of(file, root) < 2e-3);
    arch_folder_remove(folder);
    json_decref(root);
}

/* Those that differ from another one in their files alone are left to a card. */
static int is_left_out(const char *name)
{
    static const char *const out[] = {"bert",        "bert-reranker", "bert-gamma",
                                      "xlm-roberta", "nomic-authors", "modern-reranker"};
    size_t i = 0;
    while (i < BASE_COUNT(out) && strcmp(name, out[i]) != 0)
        i++;
    return i < BASE_COUNT(out);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
#ifdef EMULATED
    emulated_cublas_set_version(0); /* not there, but where a test says so */
#endif
    struct CMUnitTest tests[BASE_COUNT(names) + 12];
    size_t n = 0;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (!brief() || !is_left_out(names[i]))
            tests[n++] = (struct CMUnitTest){names[i], against_float64, NULL, NULL,
                                             (void *)(uintptr_t)names[i]};
    const struct CMUnitTest rest[] = {
        cmocka_unit_test(narrow_weights),
        cmocka_unit_test(a_text_alone_has_the_same_bits),
        cmocka_unit_test(replayed_texts_are_walked_texts),
        cmocka_unit_test(what_fills_up_spoils_nothing),
#ifdef EMULATED
        cmocka_unit_test(calls_fail_while_texts_are_captured),
#endif
        cmocka_unit_test(batches_that_are_refused),
        cmocka_unit_test(minilm),
    };
    for (size_t i = 0; i < BASE_COUNT(rest); i++)
        tests[n++] = rest[i];
    return _cmocka_run_group_tests("gpu encoders", tests, n, NULL, NULL) != 0;
}
