/* The real all-MiniLM-L6-v2 (INFER_TEST_MINILM names its folder) against ONNX Runtime, whose
 * vectors of the same weights are in minilm_golden.json. */
#include "support/engine.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

#define DIMS    384
#define N_TEXTS 8

struct golden {
    json_t *root;
    const char *texts[N_TEXTS];
    int64_t n_tokens[N_TEXTS];
    float vectors[N_TEXTS][DIMS];
};

static void golden_open(struct golden *g)
{
    json_error_t error;
    g->root = json_load_file(test_source("tests/model/minilm_golden.json"), 0, &error);
    assert_non_null(g->root);
    assert_int_equal(json_array_size(g->root), N_TEXTS);
    for (size_t i = 0; i < N_TEXTS; i++) {
        const json_t *item = json_array_get(g->root, i), *v = json_object_get(item, "vector");
        g->texts[i] = json_string_value(json_object_get(item, "text"));
        g->n_tokens[i] = json_integer_value(json_object_get(item, "n_tokens"));
        assert_int_equal(json_array_size(v), DIMS);
        for (size_t k = 0; k < DIMS; k++)
            g->vectors[i][k] = (float)json_number_value(json_array_get(v, k));
    }
}

static const char *model_folder(void)
{
    const char *folder = getenv("INFER_TEST_MINILM");
    if (!folder || !*folder) {
        print_message("INFER_TEST_MINILM is not set\n");
        skip();
    }
    return folder;
}

static double distance(const float *a, const float *b, size_t n)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return 1 - dot / sqrt(aa * bb);
}

/* The largest distance of any text from what ONNX Runtime says, the empty one included. */
static double farthest(const struct golden *g, const char *path)
{
    static float out[N_TEXTS * DIMS];
    infer_model *model = NULL;
    infer_session *session = NULL;
    double most = 0;
    const infer_embed_options o = {.struct_size = sizeof o, .truncate = 1};
    assert_ok(infer_model_load(&model, path, NULL));
    assert_ok(infer_session_create(&session, model, NULL));
    assert_ok(infer_session_embed(out, session, g->texts, NULL, N_TEXTS, &o, NULL));
    for (size_t i = 0; i < N_TEXTS; i++)
        most = fmax(most, distance(out + i * DIMS, g->vectors[i], DIMS));
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    return most;
}

static void test_as_onnx_runtime(void **state)
{
    static struct golden g;
    const char *folder = model_folder();
    (void)state;
    golden_open(&g);
    double most = farthest(&g, folder);
    print_message("F32: cosine distance %.2g at most\n", most);
    assert_true(most < 1e-6);
    json_decref(g.root);
}

static void convert_and_compare(const char *type, double limit)
{
    static struct golden g;
    const char *folder = model_folder();
    char path[] = "minilm-test-XXXXXX.gguf";
    golden_open(&g);
    int file = mkstemps(path, 5);
    assert_true(file >= 0);
    close(file);
    infer_convert_options o = {.struct_size = sizeof o, .type = type};
    assert_ok(infer_convert(NULL, folder, path, &o));
    double most = farthest(&g, path);
    print_message("%s: cosine distance %.2g at most\n", type, most);
    unlink(path);
    assert_true(most < limit);
    json_decref(g.root);
}

static void test_f16(void **state)
{
    (void)state;
    convert_and_compare("f16", 1e-3);
}

static void test_q8(void **state)
{
    (void)state;
    convert_and_compare("q8_0", 1e-3);
}

static void test_what_it_says(void **state)
{
    static float together[N_TEXTS * DIMS], alone[DIMS], half[DIMS];
    static struct golden g;
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_embedding_info info = {.struct_size = sizeof info};
    infer_embed_report report = {.struct_size = sizeof report};
    infer_embed_options o = {.struct_size = sizeof o, .truncate = 1};
    uint64_t n_tokens = 0;
    (void)state;
    assert_ok(infer_model_load(&model, model_folder(), NULL));
    golden_open(&g);
    assert_ok(infer_model_get_embedding_info(model, &info));
    assert_int_equal(info.dims, DIMS);
    assert_int_equal(info.n_context, 256);
    assert_int_equal(info.pooling, INFER_POOLING_MEAN);
    assert_string_equal(info.pooling_name, "mean");
    assert_true(info.normalized && info.can_embed && !info.can_rerank);
    assert_ok(infer_session_create(&session, model, NULL));
    assert_ok(infer_session_embed(together, session, g.texts, NULL, N_TEXTS, &o, &report));
    for (size_t i = 0; i < N_TEXTS; i++) {
        n_tokens += (uint64_t)g.n_tokens[i];
        assert_ok(infer_session_embed(alone, session, &g.texts[i], NULL, 1, &o, NULL));
        assert_memory_equal(alone, together + i * DIMS, sizeof alone);
    }
    assert_int_equal(report.n_tokens, n_tokens);
    assert_int_equal(report.n_cut_texts, 1);
    assert_true(report.n_cut_tokens > 100);
    /* Kites are nearer to toys that fly than to the stock market. */
    assert_true(distance(together, together + DIMS, DIMS) + 0.2 <
                distance(together, together + 2 * DIMS, DIMS));
    o.dims = DIMS / 2;
    assert_ok(infer_session_embed(half, session, g.texts, NULL, 1, &o, NULL));
    assert_true(fabs(distance(half, together, DIMS / 2)) < 1e-6);
    double length = 0;
    for (size_t k = 0; k < DIMS / 2; k++)
        length += (double)half[k] * (double)half[k];
    assert_true(fabs(length - 1) < 1e-5);
    o.truncate = 0;
    assert_int_equal(infer_session_embed(together, session, g.texts, NULL, N_TEXTS, &o, NULL),
                     INFER_ERR_LIMIT);
    assert_non_null(strstr(infer_last_error(), "texts[7]"));
    json_decref(g.root);
    infer_session_destroy(&session);
    infer_model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_onnx_runtime),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_q8),
        cmocka_unit_test(test_what_it_says),
    };
    return cmocka_run_group_tests_name("embed_minilm", tests, NULL, NULL);
}
