/* Tiny encoders of every kind against transformers in float64, as folders and as the GGUF files
 * that come of them; texts together and alone; files that do not fit. */
#include "base/error.h"
#include "encoder_fixture.h"
#include "support/test_alloc.h"

#include <math.h>
#include <unistd.h>

#define TOLERANCE 2e-5

static const char *const names[] = {ENCODER_NAMES};

/* ---------------------------------------------------------- all its numbers */

static double check_pooled(const struct encoder_case *e, const struct encoder_texts *t,
                           const float *rows)
{
    static const struct {
        const char *key;
        enum model_pooling_kind kind;
    } ways[] = {{"cls", MODEL_POOLING_CLS},
                {"last", MODEL_POOLING_LAST},
                {"mean", MODEL_POOLING_MEAN},
                {"max", MODEL_POOLING_MAX}};
    int32_t n = e->model->hp.n_embd;
    float *out = calloc((size_t)t->batch.n_texts * (size_t)n, sizeof *out);
    double worst = 0;
    for (size_t w = 0; w < BASE_COUNT(ways); w++) {
        model_pool(out, rows, &t->batch, n, ways[w].kind, 0, NULL);
        for (int32_t i = 0; i < t->batch.n_texts; i++)
            worst = fmax(worst, encoder_difference(t, i, ways[w].key, out + (size_t)i * (size_t)n));
    }
    free(out);
    return worst;
}

static double worst_of(const char *path, json_t *root, const struct encoder_setup *setup)
{
    struct encoder_case e;
    struct encoder_texts t;
    const float *rows;
    encoder_open(&e, path, setup);
    encoder_texts_make(&t, json_object_get(root, "texts"));
    assert_ok(model_encoder_run(e.encoder, &t.batch, &rows));
    double worst = check_pooled(&e, &t, rows);
    int has_head = json_object_get(json_array_get(t.list, 0), "logits") != NULL;
    assert_int_equal(model_head_labels(e.model) > 0, has_head);
    if (has_head)
        worst = fmax(worst, encoder_labels_difference(&e, &t));
    encoder_texts_free(&t);
    encoder_close(&e);
    return worst;
}

static void test_against_float64(void **state)
{
    static const struct encoder_setup setups[] = {
        {0},
        {.n_threads = 3, .pack = INFER_PACK_OFF},
        {.disabled_cpu_flags = ~(uint32_t)(KERN_CPU_AVX2 | KERN_CPU_NEON)},
        {.disabled_cpu_flags = ~0u, .pack = INFER_PACK_ON},
    };
    struct encoder_made f;
    char file[600];
    encoder_make(&f, *state, "F32", NULL, NULL);
    for (size_t i = 0; i < BASE_COUNT(setups); i++) {
        double worst = worst_of(f.path, f.fixture.root, &setups[i]);
        if (!(worst < TOLERANCE))
            fail_msg("%s, setup %zu: off by %.2g", (const char *)*state, i, worst);
    }
    snprintf(file, sizeof file, "%s/model.gguf", f.path);
    encoder_convert(f.path, file, "keep");
    assert_true(worst_of(file, f.fixture.root, &setups[0]) < TOLERANCE);
    encoder_made_remove(&f);
}

/* Weights of fixtures are numbers of BF16, whose products may round rows to BF16 as well; F16
 * rounds them a little. */
static void test_narrow_weights(void **state)
{
    static const struct {
        const char *dtype;
        int32_t fast; /* may round rows to BF16, too */
        double tolerance;
    } types[] = {{"BF16", 0, 2e-2}, {"F16", 0, 5e-3}, {"BF16", 1, 2e-2}, {"F32", 1, 2e-2}};
    static const char *const some[] = {"bert-reranker", "modern"};
    BASE_UNUSED(state);
    for (size_t n = 0; n < BASE_COUNT(some); n++)
        for (size_t i = 0; i < BASE_COUNT(types); i++) {
            struct encoder_made f;
            encoder_make(&f, some[n], types[i].dtype, NULL, NULL);
            double worst = worst_of(f.path, f.fixture.root,
                                    &(const struct encoder_setup){.fast = types[i].fast});
            if (!(worst < types[i].tolerance))
                fail_msg("%s, %s: off by %.2g", some[n], types[i].dtype, worst);
            encoder_made_remove(&f);
        }
}

/* ------------------------------------------------------- together and alone */

static void check_alone(const char *name, const char *dtype)
{
    struct encoder_made f;
    struct encoder_case one, many;
    struct encoder_texts t;
    const float *rows, *alone;
    encoder_make(&f, name, dtype, NULL, NULL);
    encoder_open(&one, f.path, &(const struct encoder_setup){0});
    encoder_open(&many, f.path, &(const struct encoder_setup){.n_threads = 3});
    encoder_texts_make(&t, json_object_get(f.fixture.root, "texts"));
    assert_ok(model_encoder_run(many.encoder, &t.batch, &rows));
    for (int32_t i = 0; i < t.batch.n_texts; i++) {
        const int32_t first = t.offsets[i], offsets[] = {0, t.offsets[i + 1] - first};
        const struct model_encode_batch batch = {t.tokens + first, t.types + first, offsets, 1};
        size_t n = (size_t)one.model->hp.n_embd;
        assert_ok(model_encoder_run(one.encoder, &batch, &alone));
        assert_memory_equal(alone, rows + (size_t)first * n, (size_t)offsets[1] * n * sizeof *rows);
    }
    encoder_texts_free(&t);
    encoder_close(&one);
    encoder_close(&many);
    encoder_made_remove(&f);
}

static void test_texts_do_not_touch(void **state)
{
    check_alone(*state, "F32");
    check_alone(*state, "BF16");
}

static void test_batches_that_are_refused(void **state)
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
    BASE_UNUSED(state);
    encoder_make(&f, "bert", "F32", NULL, NULL);
    encoder_open(&e, f.path, &(const struct encoder_setup){.max_tokens = 72});
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        tokens[1] = cases[i].token;
        const struct model_encode_batch batch = {tokens, NULL, cases[i].offsets, 2};
        assert_int_equal(model_encoder_run(e.encoder, &batch, &rows), cases[i].status);
    }
    tokens[1] = 0;
    const int32_t empty[] = {0, 0, 3}, none[] = {0};
    const struct model_encode_batch with_empty = {tokens, NULL, empty, 2};
    const struct model_encode_batch nothing = {tokens, NULL, none, 0};
    float out[96];
    assert_ok(model_encoder_run(e.encoder, &nothing, &rows));
    assert_ok(model_encoder_run(e.encoder, &with_empty, &rows));
    model_pool(out, rows, &with_empty, 48, MODEL_POOLING_MEAN, 1, NULL);
    for (int i = 0; i < 48; i++)
        assert_true(out[i] == 0);
    assert_int_equal(model_encoder_classify(e.encoder, &with_empty, out), INFER_ERR_UNSUPPORTED);
    encoder_close(&e);
    encoder_made_remove(&f);
}

static void test_prompts_left_out_of_a_mean(void **state)
{
    const float rows[] = {100, 0, 1, 2, 3, 4, 8, 8};
    const int32_t offsets[] = {0, 3, 4}, skip[] = {1, 7};
    const struct model_encode_batch batch = {NULL, NULL, offsets, 2};
    float out[4];
    BASE_UNUSED(state);
    model_pool(out, rows, &batch, 2, MODEL_POOLING_MEAN, 0, skip);
    assert_true(out[0] == 2 && out[1] == 3 && out[2] == 8 && out[3] == 8);
    model_pool(out, rows, &batch, 2, MODEL_POOLING_MAX, 1, NULL);
    assert_true(fabs((double)out[0] * (double)out[0] + (double)out[1] * (double)out[1] - 1) < 1e-6);
}

static void test_pairs_without_types(void **state)
{
    const struct model_frame frame = {.before = 7, .after = 9, .between = {9, 9}, .n_between = 2};
    infer_token left[] = {1, 2}, right[] = {3};
    const text_tokens a = {left, 2, 2}, b = {right, 1, 1};
    const infer_token want[] = {7, 1, 2, 9, 9, 3, 9};
    text_tokens out = {0};
    BASE_UNUSED(state);
    assert_ok(model_frame_add(&frame, &base_alloc_default, &a, &b, &out, NULL));
    assert_int_equal(out.size, BASE_COUNT(want));
    assert_memory_equal(out.data, want, sizeof want);
    assert_int_equal(model_frame_tokens(&frame, 1), 4);
    assert_int_equal(model_frame_tokens(&frame, 0), 2);
    base_array_release(&base_alloc_default, &out);
}

/* ------------------------------------------------------ files that do not fit */

/* The sentence that loading gives. */
static infer_status load(const char *path, const struct base_alloc *a)
{
    struct infer_device *device;
    struct infer_model *model = NULL;
    struct model_encoder *encoder = NULL;
    infer_status st = device_create(&device, &(const struct device_config){.n_threads = 1});
    assert_ok(st);
    const struct model_load_config config = {.alloc = a, .device = device, .kv_type = -1};
    st = model_load(&model, path, &config);
    if (st == INFER_OK)
        st = model_encoder_open(&encoder, a, model, 64, 0, 0);
    model_encoder_close(&encoder);
    model_release(&model);
    device_release(&device);
    return st;
}

/* Takes a tensor away, or changes one of its sizes. */
static void damage(json_t *root, const char *name, int32_t size)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(root, "weights"), i, row)
    {
        if (strcmp(json_string_value(json_array_get(row, 0)), name) != 0)
            continue;
        if (size)
            json_array_set_new(json_array_get(row, 1), 0, json_integer(size));
        else
            json_array_remove(json_object_get(root, "weights"), i);
        return;
    }
    fail_msg("no tensor %s", name);
}

static void test_damaged_folders(void **state)
{
    static const struct {
        const char *fixture, *tensor;
        int32_t size;
        const char *sentence;
    } cases[] = {
        {"bert", "embeddings.LayerNorm.weight", 0, "tensor token_embd_norm.weight is missing"},
        {"bert", "encoder.layer.1.attention.self.key.weight", 0, "tensor blk.1.attn_k.weight is"},
        {"bert", "encoder.layer.2.attention.self.query.weight", 47, "tensor blk.2.attn_q.weight"},
        {"bert", "encoder.layer.2.output.LayerNorm.bias", 0, "blk.2.layer_output_norm.bias is"},
        {"bert", "embeddings.position_embeddings.weight", 63, "tensor position_embd.weight has"},
        {"bert", "embeddings.token_type_embeddings.weight", 70000, "tensor token_types.weight has"},
        {"bert-reranker", "classifier.weight", 0, "tensor cls.output.weight is missing"},
        {"bert-reranker", "classifier.bias", 2, "cls.output.bias has 2 elements"},
        {"modern", "layers.1.attn_norm.weight", 0, "tensor blk.1.attn_norm.weight is missing"},
        {"modern", "layers.3.mlp.Wi.weight", 159, "tensor blk.3.ffn_up.weight has"},
        {"nomic-authors", "encoder.layers.0.mlp.fc12.weight", 0, "blk.0.ffn_gate.weight is"},
        {"nomic-authors", "encoder.layers.2.attn.Wqkv.weight", 0, "blk.2.attn_q.weight is missing"},
        {"roberta-classifier", "roberta.embeddings.position_embeddings.weight", 2,
         "\"pad_token_id\" is behind 2 positions"},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct encoder_made f = {.fixture = {.root = encoder_fixture(cases[i].fixture)}};
        damage(f.fixture.root, cases[i].tensor, cases[i].size);
        arch_folder_make(f.path, sizeof f.path);
        arch_fixture_write(&f.fixture, f.path, "F32");
        assert_int_equal(load(f.path, &base_alloc_default), INFER_ERR_FORMAT);
        if (!strstr(test_error_text(), cases[i].sentence))
            fail_msg("case %zu: %s", i, test_error_text());
        encoder_made_remove(&f);
    }
}

static void test_unsupported_configurations(void **state)
{
    static const struct {
        const char *fixture, *key, *value, *sentence;
    } cases[] = {
        {"bert", "position_embedding_type", "\"relative_key\"", "positions of type"},
        {"bert", "hidden_act", "\"mish\"", "activation function \"mish\""},
        {"nomic-authors", "prenorm", "true", "\"prenorm\" is not supported"},
        {"nomic-authors", "activation_function", "\"gelu\"", "Nomic BERT with \"gelu\""},
        {"bert", "use_parallel_residual", "true", "encoder with attention beside"},
        {"bert", "attn_logit_softcapping", "30.0", "encoder with scores that are changed"},
        {"modern", "local_attention", "1", "encoder with a window of one token"},
        {"modern-reranker", "classifier_activation", "\"relu\"", "\"classifier_activation\""},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct encoder_made f = {.fixture = {.root = encoder_fixture(cases[i].fixture)}};
        json_object_set_new(json_object_get(f.fixture.root, "config"), cases[i].key,
                            json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        arch_folder_make(f.path, sizeof f.path);
        arch_fixture_write(&f.fixture, f.path, "F32");
        assert_int_equal(load(f.path, &base_alloc_default), INFER_ERR_UNSUPPORTED);
        if (!strstr(test_error_text(), cases[i].sentence))
            fail_msg("case %zu: %s", i, test_error_text());
        encoder_made_remove(&f);
    }
}

/* Every allocation of loading and opening may fail; packing is left out then. */
static void test_no_memory(void **state)
{
    struct encoder_made f;
    struct test_alloc t;
    BASE_UNUSED(state);
    encoder_make(&f, "bert-reranker", "F32", NULL, NULL);
    test_alloc_init(&t);
    assert_ok(load(f.path, &t.alloc));
    assert_int_equal(t.live_blocks, 0);
    size_t calls = t.n_calls;
    for (size_t i = 1; i <= calls; i += 1 + i / 40) {
        test_alloc_init(&t);
        t.fail_at = i;
        infer_status st = load(f.path, &t.alloc);
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        assert_int_equal(t.live_blocks, 0);
    }
    encoder_made_remove(&f);
}

int main(void)
{
    struct CMUnitTest tests[2 * BASE_COUNT(names) + 16];
    char titles[2 * BASE_COUNT(names)][64];
    size_t n = 0;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        snprintf(titles[n], sizeof titles[n], "%s against float64", names[i]);
        tests[n] = (struct CMUnitTest){titles[n], test_against_float64, NULL, NULL,
                                       (void *)(uintptr_t)names[i]};
        n++;
        snprintf(titles[n], sizeof titles[n], "%s: texts do not touch each other", names[i]);
        tests[n] = (struct CMUnitTest){titles[n], test_texts_do_not_touch, NULL, NULL,
                                       (void *)(uintptr_t)names[i]};
        n++;
    }
    const struct CMUnitTest rest[] = {
        cmocka_unit_test(test_narrow_weights),
        cmocka_unit_test(test_batches_that_are_refused),
        cmocka_unit_test(test_prompts_left_out_of_a_mean),
        cmocka_unit_test(test_pairs_without_types),
        cmocka_unit_test(test_damaged_folders),
        cmocka_unit_test(test_unsupported_configurations),
        cmocka_unit_test(test_no_memory),
    };
    for (size_t i = 0; i < BASE_COUNT(rest); i++)
        tests[n++] = rest[i];
    return _cmocka_run_group_tests("encoder", tests, n, NULL, NULL) != 0;
}
