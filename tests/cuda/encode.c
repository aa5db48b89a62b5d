/* Encoders on a GPU, on the model's floor: every kind against an independent float64 evaluation, in
 * one pass and text by text, all poolings and heads, and batches that are refused. */
#include "device/backend.h"
#include "model/encoder_fixture.h"

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
    struct CMUnitTest tests[BASE_COUNT(names) + 8];
    size_t n = 0;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (!brief() || !is_left_out(names[i]))
            tests[n++] = (struct CMUnitTest){names[i], against_float64, NULL, NULL,
                                             (void *)(uintptr_t)names[i]};
    const struct CMUnitTest rest[] = {
        cmocka_unit_test(narrow_weights),
        cmocka_unit_test(a_text_alone_has_the_same_bits),
        cmocka_unit_test(batches_that_are_refused),
        cmocka_unit_test(minilm),
    };
    for (size_t i = 0; i < BASE_COUNT(rest); i++)
        tests[n++] = rest[i];
    return _cmocka_run_group_tests("gpu encoders", tests, n, NULL, NULL) != 0;
}
