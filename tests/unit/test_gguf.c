/* GGUF reader: values, tensors, memory. */
#include "gguf_sample.h"
#include "support/test_alloc.h"

#include "format/quant_layout.h"

static void test_integers(void **state)
{
    BASE_UNUSED(state);
    static const struct {
        const char *key;
        int64_t value;
    } cases[] = {
        {"u8", 255},         {"i8", -128},         {"u16", 65535},     {"i16", -32768},
        {"u32", 4294967295}, {"i32", -2147483648}, {"u64", INT64_MAX}, {"i64", INT64_MIN},
    };
    uint8_t *bytes;
    struct gguf_file *file = open_built(sample(), &bytes);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        int64_t wide = 0;
        int32_t narrow = 77;
        assert_ok(gguf_get_i64(file, cases[i].key, &wide));
        assert_true(wide == cases[i].value);
        infer_status st = gguf_get_i32(file, cases[i].key, &narrow);
        if (wide >= INT32_MIN && wide <= INT32_MAX) {
            assert_int_equal(st, INFER_OK);
            assert_true(narrow == wide);
        } else {
            assert_int_equal(st, INFER_ERR_FORMAT);
            assert_says(cases[i].key);
            assert_int_equal(narrow, 77);
        }
    }
    int64_t wide = 5;
    assert_int_equal(gguf_get_i64(file, "u64.big", &wide), INFER_ERR_FORMAT);
    assert_says("key \"u64.big\" is 18446744073709551615");
    assert_int_equal(gguf_get_i64(file, "absent", &wide), INFER_ERR_NOT_FOUND);
    assert_says("\"absent\"");
    assert_int_equal(gguf_get_i64(file, "f32", &wide), INFER_ERR_FORMAT);
    assert_says("key \"f32\" has the type f32, an integer was expected");
    assert_int_equal(gguf_get_i64(file, "true", &wide), INFER_ERR_FORMAT);
    assert_int_equal(gguf_get_i64(file, "small", &wide), INFER_ERR_FORMAT);
    assert_says("arr[i16,3]");
    assert_true(wide == 5);
    gguf_close(&file);
    assert_null(file);
    gguf_close(&file);
    free(bytes);
}

static void test_other_values(void **state)
{
    BASE_UNUSED(state);
    uint8_t *bytes;
    struct gguf_file *file = open_built(sample(), &bytes);
    float f = 3;
    int32_t flag = 9;
    struct base_view text = {0};
    assert_ok(gguf_get_f32(file, "f32", &f));
    assert_true(f == 0.1f);
    assert_ok(gguf_get_f32(file, "f64", &f));
    assert_true(f == 1e-5f);
    assert_int_equal(gguf_get_f32(file, "f64.big", &f), INFER_ERR_FORMAT);
    assert_says("\"f64.big\"");
    assert_int_equal(gguf_get_f32(file, "f32.nan", &f), INFER_ERR_FORMAT);
    assert_int_equal(gguf_get_f32(file, "u8", &f), INFER_ERR_FORMAT);
    assert_int_equal(gguf_get_f32(file, "absent", &f), INFER_ERR_NOT_FOUND);
    assert_true(f == 1e-5f);

    assert_ok(gguf_get_bool(file, "true", &flag));
    assert_int_equal(flag, 1);
    assert_ok(gguf_get_bool(file, "false", &flag));
    assert_int_equal(flag, 0);
    assert_int_equal(gguf_get_bool(file, "u8", &flag), INFER_ERR_FORMAT);
    assert_int_equal(gguf_get_bool(file, "absent", &flag), INFER_ERR_NOT_FOUND);

    assert_ok(gguf_get_string(file, "general.architecture", &text));
    assert_true(base_view_equal(text, "llama"));
    assert_ok(gguf_get_string(file, "empty", &text));
    assert_true(base_view_equal(text, ""));
    assert_int_equal(gguf_get_string(file, "words", &text), INFER_ERR_FORMAT);
    assert_says("arr[str,3]");
    assert_int_equal(gguf_get_string(file, "absent", &text), INFER_ERR_NOT_FOUND);
    gguf_close(&file);
    free(bytes);
}

static void test_arrays(void **state)
{
    BASE_UNUSED(state);
    uint8_t *bytes;
    struct gguf_file *file = open_built(sample(), &bytes);
    struct base_view words[3];
    float scores[3];
    int32_t small[3];
    char name[32];
    const struct gguf_kv *kv = gguf_find(file, "words");
    assert_int_equal(kv->type, GGUF_ARRAY);
    assert_int_equal(kv->element_type, GGUF_STRING);
    assert_int_equal(kv->n, 3);
    assert_int_equal(kv->bytes, 3 * 8 + 3 + 9);
    assert_ok(gguf_array_strings(kv, words));
    assert_true(base_view_equal(words[0], "<s>"));
    assert_true(base_view_equal(words[1], ""));
    assert_true(base_view_equal(words[2], "two words"));
    assert_string_equal(gguf_kv_type_name(kv, name, sizeof name), "arr[str,3]");
    assert_int_equal(gguf_array_f32(kv, scores), INFER_ERR_FORMAT);
    assert_says("key \"words\"");
    assert_int_equal(gguf_array_i32(kv, small), INFER_ERR_FORMAT);

    kv = gguf_find(file, "scores");
    assert_ok(gguf_array_f32(kv, scores));
    assert_true(scores[0] == -1.5f && scores[1] == 0 && isinf(scores[2]));
    assert_int_equal(gguf_array_strings(kv, words), INFER_ERR_FORMAT);
    kv = gguf_find(file, "small");
    assert_ok(gguf_array_i32(kv, small));
    assert_true(small[0] == -32768 && small[1] == 0 && small[2] == 32767);
    assert_int_equal(gguf_find(file, "none")->n, 0);
    assert_ok(gguf_array_i32(gguf_find(file, "none"), small));
    assert_ok(gguf_array_strings(gguf_find(file, "no words"), words));
    assert_int_equal(gguf_array_i32(gguf_find(file, "u8"), small), INFER_ERR_FORMAT);
    assert_string_equal(gguf_kv_type_name(gguf_find(file, "f64"), name, sizeof name), "f64");
    gguf_close(&file);
    free(bytes);
}

static void test_array_ranges(void **state)
{
    BASE_UNUSED(state);
    static const int64_t wide[] = {0, 2147483648};
    static const uint64_t huge[] = {UINT64_MAX};
    static const double doubles[] = {0.5, 1e300};
    static const uint32_t ids[] = {7, 2147483647};
    uint8_t *bytes;
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_array(b, "wide", GGUF_I64, wide, 2);
    gguf_builder_array(b, "huge", GGUF_U64, huge, 1);
    gguf_builder_array(b, "doubles", GGUF_F64, doubles, 2);
    gguf_builder_array(b, "ids", GGUF_U32, ids, 2);
    struct gguf_file *file = open_built(b, &bytes);
    int32_t out[2];
    float f[2];
    assert_int_equal(gguf_array_i32(gguf_find(file, "wide"), out), INFER_ERR_FORMAT);
    assert_says("element 1 of key \"wide\"");
    assert_int_equal(gguf_array_i32(gguf_find(file, "huge"), out), INFER_ERR_FORMAT);
    assert_int_equal(gguf_array_f32(gguf_find(file, "doubles"), f), INFER_ERR_FORMAT);
    assert_says("element 1 of key \"doubles\"");
    assert_ok(gguf_array_i32(gguf_find(file, "ids"), out));
    assert_int_equal(out[1], 2147483647);
    gguf_close(&file);
    free(bytes);
}

static void test_tensors(void **state)
{
    BASE_UNUSED(state);
    static const uint32_t alignments[] = {8, 32, 64, 4096};
    for (size_t i = 0; i < BASE_COUNT(alignments); i++) {
        struct gguf_builder *b = sample();
        uint8_t *bytes;
        gguf_builder_version(b, 2 + (i & 1));
        gguf_builder_alignment(b, alignments[i]);
        struct gguf_file *file = open_built(b, &bytes);
        assert_int_equal(gguf_version(file), 2 + (i & 1));
        assert_int_equal(gguf_n_tensors(file), 2);
        const struct gguf_tensor *t = gguf_tensor_at(file, 0);
        assert_true(base_view_equal(t->name, "a.weight"));
        assert_int_equal(t->type, INFER_DTYPE_Q8_0);
        assert_int_equal(t->n_dims, 2);
        assert_int_equal(t->dims[0], 32);
        assert_int_equal(t->dims[1], 2);
        assert_int_equal(t->dims[2], 1);
        assert_int_equal(t->bytes, 68);
        assert_int_equal(t->offset % alignments[i], 0);
        assert_ptr_equal(t->data, bytes + t->offset);

        const struct gguf_tensor *u = gguf_find_tensor(file, "b.bias");
        float ramp[8];
        assert_ptr_equal(u, gguf_tensor_at(file, 1));
        assert_int_equal(u->bytes, sizeof ramp);
        assert_int_equal(u->offset, BASE_ALIGN_UP(t->offset + t->bytes, alignments[i]));
        memcpy(ramp, u->data, sizeof ramp);
        for (int k = 0; k < 8; k++)
            assert_true(ramp[k] == (float)k);
        assert_null(gguf_find_tensor(file, "b"));
        assert_null(gguf_find_tensor(file, ""));
        gguf_close(&file);
        free(bytes);
    }
}

static void test_layouts(void **state)
{
    BASE_UNUSED(state);
    static const struct {
        infer_dtype type;
        const char *name;
        uint64_t bytes; /* of 512 elements */
    } cases[] = {
        {INFER_DTYPE_F32, "F32", 2048},        {INFER_DTYPE_F16, "F16", 1024},
        {INFER_DTYPE_BF16, "BF16", 1024},      {INFER_DTYPE_Q4_0, "Q4_0", 288},
        {INFER_DTYPE_Q4_1, "Q4_1", 320},       {INFER_DTYPE_Q5_0, "Q5_0", 352},
        {INFER_DTYPE_Q5_1, "Q5_1", 384},       {INFER_DTYPE_Q8_0, "Q8_0", 544},
        {INFER_DTYPE_Q2_K, "Q2_K", 168},       {INFER_DTYPE_Q3_K, "Q3_K", 220},
        {INFER_DTYPE_Q4_K, "Q4_K", 288},       {INFER_DTYPE_Q5_K, "Q5_K", 352},
        {INFER_DTYPE_Q6_K, "Q6_K", 420},       {INFER_DTYPE_IQ1_S, "IQ1_S", 100},
        {INFER_DTYPE_IQ1_M, "IQ1_M", 112},     {INFER_DTYPE_IQ2_XXS, "IQ2_XXS", 132},
        {INFER_DTYPE_IQ2_XS, "IQ2_XS", 148},   {INFER_DTYPE_IQ2_S, "IQ2_S", 164},
        {INFER_DTYPE_IQ3_XXS, "IQ3_XXS", 196}, {INFER_DTYPE_IQ3_S, "IQ3_S", 220},
        {INFER_DTYPE_IQ4_NL, "IQ4_NL", 288},   {INFER_DTYPE_IQ4_XS, "IQ4_XS", 272},
        {INFER_DTYPE_TQ1_0, "TQ1_0", 108},     {INFER_DTYPE_TQ2_0, "TQ2_0", 132},
        {INFER_DTYPE_MXFP4, "MXFP4", 272},     {INFER_DTYPE_NVFP4, "NVFP4", 288},
        {INFER_DTYPE_I8, "I8", 512},           {INFER_DTYPE_I16, "I16", 1024},
        {INFER_DTYPE_I32, "I32", 2048},        {INFER_DTYPE_I64, "I64", 4096},
        {INFER_DTYPE_F64, "F64", 4096},        {INFER_DTYPE_F8_128, "F8_128", 528},
    };
    static const uint64_t dims[] = {256, 1, 2, 1};
    struct gguf_builder *b = gguf_builder_new();
    uint8_t *bytes;
    size_t known = 0;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        assert_string_equal(quant_layout_of(cases[i].type)->name, cases[i].name);
        gguf_builder_tensor(b, cases[i].name, cases[i].type, 4, dims, NULL, cases[i].bytes);
    }
    struct gguf_file *file = open_built(b, &bytes);
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        assert_int_equal(gguf_tensor_at(file, i)->bytes, cases[i].bytes);
    for (infer_dtype type = -3; type < 300; type++)
        known += quant_layout_of(type) != NULL;
    assert_int_equal(known, BASE_COUNT(cases) + 2); /* plain F8 has no number in GGUF */
    assert_string_equal(quant_layout_of(INFER_DTYPE_F8_E4M3)->name, "F8_E4M3");
    assert_string_equal(quant_layout_of(INFER_DTYPE_F8_E5M2)->name, "F8_E5M2");
    assert_string_equal(quant_type_name(15), "Q8_K");
    assert_null(quant_type_name(-1));
    assert_null(quant_type_name(1000));
    gguf_close(&file);
    free(bytes);
}

static void test_without_content(void **state)
{
    BASE_UNUSED(state);
    uint8_t *bytes;
    struct gguf_file *file = open_built(gguf_builder_new(), &bytes);
    assert_int_equal(gguf_n_kv(file), 0);
    assert_int_equal(gguf_n_tensors(file), 0);
    assert_null(gguf_find(file, "general.architecture"));
    assert_null(gguf_find_tensor(file, "output.weight"));
    assert_string_equal(gguf_path(file), "");
    assert_int_equal(gguf_bytes(file), 24);
    gguf_close(&file);
    free(bytes);
}

/* 20,000 tensors whose data lie in a shuffled order, then one moved onto another. */
static void test_many_tensors(void **state)
{
    BASE_UNUSED(state);
    enum { N = 20000 };
    struct gguf_builder *b = gguf_builder_new();
    struct gguf_file *file = NULL;
    char name[16];
    size_t size;
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "t%05d", i);
        gguf_builder_tensor(b, name, INFER_DTYPE_F32, 1, one_dim, NULL, 32);
    }
    uint8_t *bytes = gguf_builder_finish(b, &size), *victim = NULL;
    uint8_t *record = bytes + 24;
    for (uint64_t i = 0; i < N; i++, record += 8 + 6 + 4 + 8 + 4 + 8) {
        uint64_t offset = (i * 7919 % N) * 32; /* 7919 is prime to N: a permutation */
        victim = record + 8 + 6 + 4 + 8 + 4;
        memcpy(victim, &offset, 8);
    }
    assert_ok(gguf_open_memory(&file, &base_alloc_default, bytes, size, 0));
    assert_int_equal(gguf_n_tensors(file), N);
    for (int i = 0; i < N; i += 37) {
        snprintf(name, sizeof name, "t%05d", i);
        assert_ptr_equal(gguf_find_tensor(file, name), gguf_tensor_at(file, (size_t)i));
    }
    gguf_close(&file);
    uint64_t taken = (uint64_t)(4711 * 7919 % N) * 32;
    memcpy(victim, &taken, 8);
    assert_int_equal(gguf_open_memory(&file, &base_alloc_default, bytes, size, 0),
                     INFER_ERR_FORMAT);
    assert_says("overlap");
    assert_says("\"t04711\"");
    gguf_builder_free(b);
    free(bytes);
}

static void test_metadata_only_types(void **state)
{
    BASE_UNUSED(state);
    struct gguf_builder *b = sample();
    struct gguf_file *file;
    size_t size;
    gguf_builder_tensor(b, "q8_k", 15, 1, one_dim, NULL, 64);
    uint8_t *bytes = gguf_builder_finish(b, &size);
    assert_int_equal(gguf_open_memory(&file, &base_alloc_default, bytes, size, 0),
                     INFER_ERR_UNSUPPORTED);
    assert_says("Q8_K");
    assert_ok(gguf_open_memory(&file, &base_alloc_default, bytes, size, GGUF_OPEN_METADATA_ONLY));
    assert_null(gguf_find_tensor(file, "q8_k")->data);
    assert_int_equal(gguf_find_tensor(file, "q8_k")->bytes, 0);
    assert_non_null(gguf_find_tensor(file, "b.bias")->data);
    gguf_close(&file);
    gguf_builder_free(b);
    free(bytes);
}

/* Each allocation refused in turn: NO_MEMORY, nothing leaks, and then it works. */
static void test_no_memory(void **state)
{
    BASE_UNUSED(state);
    struct gguf_builder *b = sample();
    size_t size;
    uint8_t *bytes = gguf_builder_finish(b, &size);
    uint64_t swapped[2] = {32, 0}; /* takes the path that sorts */
    memcpy(offset_field(bytes, size, "a.weight", 2), &swapped[0], 8);
    memcpy(offset_field(bytes, size, "b.bias", 1), &swapped[1], 8);
    for (size_t k = 1;; k++) {
        struct test_alloc t;
        struct gguf_file *file = NULL;
        test_alloc_init(&t);
        t.fail_at = k;
        infer_status st = gguf_open_memory(&file, &t.alloc, bytes, size, 0);
        if (st == INFER_OK) {
            assert_true(k > 6);
            assert_in_range(gguf_memory_bytes(file), t.live_bytes, t.live_bytes + 64);
            gguf_close(&file);
            assert_int_equal(t.live_blocks, 0);
            break;
        }
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_null(file);
        assert_int_equal(t.live_blocks, 0);
    }
    gguf_builder_free(b);
    free(bytes);
}

static void test_real_vocabulary(void **state)
{
    BASE_UNUSED(state);
    const char *path = test_data("tokenizers/llamacpp_vocab/ggml-vocab-llama-spm.gguf");
    struct gguf_file *file;
    struct test_alloc t;
    char name[32];
    test_alloc_init(&t);
    assert_ok(gguf_open(&file, &t.alloc, path, GGUF_OPEN_METADATA_ONLY));
    assert_string_equal(gguf_path(file), path);
    const struct gguf_kv *kv = gguf_find(file, "tokenizer.ggml.tokens");
    assert_non_null(kv);
    assert_string_equal(gguf_kv_type_name(kv, name, sizeof name), "arr[str,32000]");
    struct base_view *words = malloc(kv->n * sizeof *words);
    assert_ok(gguf_array_strings(kv, words));
    assert_true(base_view_equal(words[1], "<s>"));
    assert_true(base_view_equal(words[13], "<0x0A>"));
    assert_ptr_equal(words[kv->n - 1].data + words[kv->n - 1].size, kv->data + kv->bytes);
    free(words);
    assert_true(t.peak_bytes < 16384); /* the directory alone: strings are not copied */
    gguf_close(&file);
    assert_int_equal(t.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_other_values),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_array_ranges),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_without_content),
        cmocka_unit_test(test_many_tensors),
        cmocka_unit_test(test_metadata_only_types),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_real_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
