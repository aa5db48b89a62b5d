/* all-MiniLM-L6-v2 itself, from the folder INFER_TEST_MINILM: tokens, vectors and pairs against
 * transformers in float64, as a folder and converted. */
#include "encoder_fixture.h"
#include "support/hf_folder.h"

#include <math.h>
#include <unistd.h>

static const char *folder(void)
{
    const char *path = getenv("INFER_TEST_MINILM");
    if (!path || !*path) {
        print_message("INFER_TEST_MINILM is not set\n");
        skip();
    }
    return path;
}

/* The vector of each text, by the model's own files; its distance to the reference. A text without
 * words is special tokens alone, which gain nothing from a mean: the worst of them. */
static double worst_distance(struct encoder_case *e, json_t *root)
{
    struct encoder_texts texts;
    const float *rows;
    const struct model_pooling *p = &e->model->pooling;
    int32_t n = e->model->hp.n_embd;
    double worst = 0;
    encoder_texts_make(&texts, json_object_get(root, "texts"));
    float *vectors = calloc((size_t)texts.batch.n_texts * (size_t)n, sizeof *vectors);
    assert_ok(model_encoder_run(e->encoder, &texts.batch, &rows));
    model_pool(vectors, rows, &texts.batch, n, p->kind, p->normalize, NULL);
    for (int32_t i = 0; i < texts.batch.n_texts; i++) {
        float want[384];
        double length = 0;
        const json_t *vector = json_object_get(json_array_get(texts.list, (size_t)i), "vector");
        assert_int_equal(n, 384);
        for (int32_t d = 0; d < n; d++) {
            const float x = vectors[(size_t)i * (size_t)n + (size_t)d];
            want[d] = (float)json_number_value(json_array_get(vector, (size_t)d));
            length += (double)x * (double)x;
        }
        assert_true(fabs(length - 1) < 1e-5);
        worst = fmax(worst, encoder_distance(want, vectors + (size_t)i * (size_t)n, n));
    }
    free(vectors);
    encoder_texts_free(&texts);
    return worst;
}

static void test_pooling_is_read(void **state)
{
    struct encoder_case e;
    BASE_UNUSED(state);
    encoder_open(&e, folder(), &(const struct encoder_setup){0});
    assert_int_equal(e.model->pooling.kind, MODEL_POOLING_MEAN);
    assert_int_equal(e.model->pooling.normalize, 1);
    assert_int_equal(e.model->pooling.max_tokens, 256);
    assert_string_equal(e.model->pooling.query_prompt, "");
    assert_int_equal(model_head_labels(e.model), 0);
    assert_int_equal(e.model->n_kv_groups, 0);
    encoder_close(&e);
}

static void test_tokens(void **state)
{
    struct encoder_case e;
    json_t *root = encoder_fixture("minilm"), *text;
    size_t i, k;
    BASE_UNUSED(state);
    encoder_open(&e, folder(), &(const struct encoder_setup){0});
    const struct text_tokenizer *t = model_vocab_tokenizer(e.model->vocab);
    const struct model_frame frame = model_frame_of(e.model);
    json_array_foreach(json_object_get(root, "texts"), i, text)
    {
        const json_t *string = json_object_get(text, "text");
        const json_t *want = json_object_get(text, "tokens");
        text_tokens plain = {0}, framed = {0};
        assert_ok(text_tokenizer_encode(t, &base_alloc_default, json_string_value(string),
                                        json_string_length(string), 0, &plain));
        assert_ok(model_frame_add(&frame, &base_alloc_default, &plain, NULL, &framed, NULL));
        assert_int_equal(framed.size, json_array_size(want));
        assert_int_equal((int)(framed.size - plain.size), model_frame_tokens(&frame, 0));
        for (k = 0; k < framed.size; k++)
            assert_int_equal(framed.data[k], json_integer_value(json_array_get(want, k)));
        base_array_release(&base_alloc_default, &plain);
        base_array_release(&base_alloc_default, &framed);
    }
    encoder_close(&e);
    json_decref(root);
}

static void test_pair(void **state)
{
    struct encoder_case e;
    json_t *root = encoder_fixture("minilm");
    const json_t *pair = json_object_get(root, "pair");
    text_tokens sides[2] = {{0}}, all = {0};
    model_types types = {0};
    BASE_UNUSED(state);
    encoder_open(&e, folder(), &(const struct encoder_setup){0});
    const struct model_frame frame = model_frame_of(e.model);
    for (int i = 0; i < 2; i++) {
        const json_t *text = json_object_get(pair, i ? "b" : "a");
        assert_ok(text_tokenizer_encode(model_vocab_tokenizer(e.model->vocab), &base_alloc_default,
                                        json_string_value(text), json_string_length(text), 0,
                                        &sides[i]));
    }
    assert_ok(model_frame_add(&frame, &base_alloc_default, &sides[0], &sides[1], &all, &types));
    const json_t *tokens = json_object_get(pair, "tokens"), *kinds = json_object_get(pair, "types");
    assert_int_equal(all.size, json_array_size(tokens));
    assert_int_equal(types.size, all.size);
    for (size_t i = 0; i < all.size; i++) {
        assert_int_equal(all.data[i], json_integer_value(json_array_get(tokens, i)));
        assert_int_equal(types.data[i], json_integer_value(json_array_get(kinds, i)));
    }
    base_array_release(&base_alloc_default, &sides[0]);
    base_array_release(&base_alloc_default, &sides[1]);
    base_array_release(&base_alloc_default, &all);
    base_array_release(&base_alloc_default, &types);
    encoder_close(&e);
    json_decref(root);
}

static void test_vectors_of_the_folder(void **state)
{
    struct encoder_case e;
    json_t *root = encoder_fixture("minilm");
    BASE_UNUSED(state);
    encoder_open(&e, folder(), &(const struct encoder_setup){.n_threads = 2});
    double worst = worst_distance(&e, root);
    print_message("F32: cosine distance %.2g\n", worst);
    assert_true(worst < 1e-6);
    encoder_close(&e);
    json_decref(root);
}

/* A converted model has no folder beside it: the keys say how to pool. */
static void test_converted(void **state)
{
    static const struct {
        const char *type;
        double limit;
    } types[] = {{"f16", 1e-4}, {"bf16", 1e-3}, {"q8_0", 1e-3}};
    struct hf_folder out;
    json_t *root = encoder_fixture("minilm");
    const char *path = folder();
    BASE_UNUSED(state);
    hf_folder_make(&out);
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        struct encoder_case e;
        char file[300];
        snprintf(file, sizeof file, "%s/%s.gguf", out.path, types[i].type);
        encoder_convert(path, file, types[i].type);
        encoder_open(&e, file, &(const struct encoder_setup){.n_threads = 2});
        assert_int_equal(e.model->pooling.kind, MODEL_POOLING_MEAN);
        assert_int_equal(e.model->pooling.max_tokens, 256);
        double worst = worst_distance(&e, root);
        print_message("%s: cosine distance %.2g\n", types[i].type, worst);
        assert_true(worst < types[i].limit);
        encoder_close(&e);
        unlink(file);
    }
    hf_folder_remove(&out);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pooling_is_read),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_vectors_of_the_folder),
        cmocka_unit_test(test_converted),
    };
    return cmocka_run_group_tests_name("minilm", tests, NULL, NULL);
}
