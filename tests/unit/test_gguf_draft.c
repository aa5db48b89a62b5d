/* Drafts: what was put in is read back by the readers of parsed files; refusals; memory. */
#include "gguf_sample.h"
#include "support/test_alloc.h"

#include "format/gguf_draft.h"

static struct base_view view(const char *text)
{
    return (struct base_view){text, strlen(text)};
}

static struct gguf_draft *new_draft(void)
{
    struct gguf_draft *d = NULL;
    assert_ok(gguf_draft_create(&d, &base_alloc_default, "some/folder"));
    return d;
}

static void test_values(void **state)
{
    BASE_UNUSED(state);
    static const int32_t ints[] = {-2147483647 - 1, 0, 7};
    static const float floats[] = {-1.5f, 0, INFINITY};
    static const uint8_t bools[] = {1, 0, 9};
    const struct base_view words[] = {view("<s>"), view(""), view("two words"), {"a\0b", 3}};
    struct gguf_draft *d = new_draft();
    assert_ok(gguf_draft_string(d, "general.architecture", view("llama")));
    assert_ok(gguf_draft_u32(d, "u32", 4294967295u));
    assert_ok(gguf_draft_f32(d, "f32", 0.1f));
    assert_ok(gguf_draft_bool(d, "yes", 17));
    assert_ok(gguf_draft_strings(d, "words", words, BASE_COUNT(words)));
    assert_ok(gguf_draft_i32s(d, "ints", ints, 3));
    assert_ok(gguf_draft_f32s(d, "floats", floats, 3));
    assert_ok(gguf_draft_bools(d, "bools", bools, 3));
    assert_ok(gguf_draft_i32s(d, "one", ints + 2, 1));
    assert_ok(gguf_draft_strings(d, "none", NULL, 0));
    assert_non_null(gguf_draft_find(d, "ints"));
    assert_null(gguf_draft_find(d, "absent"));

    struct gguf_file *file = NULL;
    assert_ok(gguf_draft_finish(&d, &file));
    assert_null(d);
    assert_string_equal(gguf_path(file), "some/folder");
    assert_int_equal(gguf_version(file), 3);
    assert_int_equal(gguf_n_kv(file), 10);
    assert_int_equal(gguf_n_tensors(file), 0);

    struct base_view text, read_words[4];
    int64_t wide;
    float f, read_floats[3];
    int32_t flag, read_ints[3];
    char name[48];
    assert_ok(gguf_get_string(file, "general.architecture", &text));
    assert_true(base_view_equal(text, "llama"));
    assert_ok(gguf_get_i64(file, "u32", &wide));
    assert_true(wide == 4294967295);
    assert_ok(gguf_get_f32(file, "f32", &f));
    assert_true(f == 0.1f);
    assert_ok(gguf_get_bool(file, "yes", &flag));
    assert_int_equal(flag, 1);
    assert_ok(gguf_array_strings(gguf_find(file, "words"), read_words));
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        assert_int_equal(read_words[i].size, words[i].size);
        assert_memory_equal(read_words[i].data, words[i].data, words[i].size);
    }
    assert_ok(gguf_array_i32(gguf_find(file, "ints"), read_ints));
    assert_memory_equal(read_ints, ints, sizeof ints);
    assert_ok(gguf_array_f32(gguf_find(file, "floats"), read_floats));
    assert_memory_equal(read_floats, floats, sizeof floats);
    const struct gguf_kv *kv = gguf_find(file, "bools");
    assert_string_equal(gguf_kv_type_name(kv, name, sizeof name), "arr[bool,3]");
    assert_memory_equal(kv->data, "\1\0\1", 3);
    assert_string_equal(gguf_kv_type_name(gguf_find(file, "one"), name, sizeof name), "arr[i32,1]");
    assert_string_equal(gguf_kv_type_name(gguf_find(file, "none"), name, sizeof name),
                        "arr[str,0]");
    assert_int_equal(gguf_get_i64(file, "one", &wide), INFER_ERR_FORMAT);
    gguf_close(&file);
}

static void test_replaced(void **state)
{
    BASE_UNUSED(state);
    struct gguf_draft *d = new_draft();
    assert_ok(gguf_draft_u32(d, "a", 1));
    assert_ok(gguf_draft_u32(d, "b", 2));
    assert_ok(gguf_draft_string(d, "a", view("text")));
    struct gguf_file *file;
    struct base_view text;
    assert_ok(gguf_draft_finish(&d, &file));
    assert_int_equal(gguf_n_kv(file), 2);
    assert_ok(gguf_get_string(file, "a", &text));
    assert_true(base_view_equal(text, "text"));
    assert_true(base_view_equal(gguf_kv_at(file, 0)->key, "a"));
    gguf_close(&file);
}

/* The copies must not point into the file that they came from. */
static void test_copied_keys(void **state)
{
    BASE_UNUSED(state);
    uint8_t *bytes;
    struct gguf_file *from = open_built(sample(), &bytes), *file;
    struct gguf_draft *d = new_draft();
    size_t n = gguf_n_kv(from), size[64];
    uint8_t *data[64];
    assert_true(n < BASE_COUNT(data));
    assert_ok(gguf_draft_string(d, "general.architecture", view("mine")));
    assert_ok(gguf_draft_copy_keys(d, from));
    for (size_t i = 0; i < n; i++) {
        size[i] = (size_t)gguf_kv_at(from, i)->bytes;
        data[i] = malloc(size[i] + 1);
        memcpy(data[i], gguf_kv_at(from, i)->data, size[i]);
    }
    gguf_close(&from);
    memset(bytes, 0xee, 64);
    free(bytes);

    assert_ok(gguf_draft_finish(&d, &file));
    assert_int_equal(gguf_n_kv(file), n);
    struct base_view text;
    int32_t small[3];
    assert_ok(gguf_get_string(file, "general.architecture", &text));
    assert_true(base_view_equal(text, "mine"));
    assert_ok(gguf_array_i32(gguf_find(file, "small"), small));
    assert_int_equal(small[0], -32768);
    for (size_t i = 1; i < n; i++) {
        assert_int_equal(gguf_kv_at(file, i)->bytes, size[i]);
        assert_memory_equal(gguf_kv_at(file, i)->data, data[i], size[i]);
    }
    for (size_t i = 0; i < n; i++)
        free(data[i]);
    gguf_close(&file);
}

static void test_tensors(void **state)
{
    BASE_UNUSED(state);
    static const float values[24] = {1, 2, 3};
    static const uint64_t dims[] = {4, 3, 2};
    struct gguf_draft *d = new_draft();
    const void *apart[2] = {values + 12, values};
    assert_ok(gguf_draft_tensor(d, "a", INFER_DTYPE_F32, 3, dims, values, NULL));
    assert_ok(gguf_draft_tensor(d, "b", INFER_DTYPE_F32, 3, dims, NULL, apart));
    assert_ok(gguf_draft_tensor(d, "c", INFER_DTYPE_F16, 1, dims, NULL, NULL));
    apart[0] = apart[1] = NULL; /* copied */
    struct gguf_file *file;
    assert_ok(gguf_draft_finish(&d, &file));
    assert_int_equal(gguf_n_tensors(file), 3);
    const struct gguf_tensor *t = gguf_find_tensor(file, "a");
    assert_int_equal(t->bytes, sizeof values);
    assert_int_equal(t->dims[3], 1);
    assert_null(t->matrices);
    assert_ptr_equal(gguf_matrix(t, 1), values + 12);
    t = gguf_find_tensor(file, "b");
    assert_int_equal(t->bytes, sizeof values);
    assert_ptr_equal(gguf_matrix(t, 0), values + 12);
    assert_ptr_equal(gguf_matrix(t, 1), values);
    assert_int_equal(gguf_find_tensor(file, "c")->bytes, 8);
    assert_null(gguf_find_tensor(file, "d"));
    assert_true(gguf_bytes(file) == 2 * sizeof values + 8);
    assert_true(gguf_memory_bytes(file) > 3 * sizeof *t);
    gguf_close(&file);
}

static void test_owned(void **state)
{
    BASE_UNUSED(state);
    struct base_file mapping;
    assert_ok(base_file_map(&mapping, test_source("COPYING")));
    const uint8_t *data = mapping.data;
    const uint64_t dims[] = {16};
    struct gguf_draft *d = new_draft();
    assert_ok(gguf_draft_own(d, &mapping));
    assert_null(mapping.data);
    assert_ok(gguf_draft_tensor(d, "text", INFER_DTYPE_I8, 1, dims, data, NULL));
    uint8_t *more = gguf_draft_memory(d, 16, 1);
    assert_non_null(more);
    memset(more, 3, 16);
    assert_ok(gguf_draft_tensor(d, "more", INFER_DTYPE_I8, 1, dims, more, NULL));
    struct gguf_file *file;
    assert_ok(gguf_draft_finish(&d, &file));
    assert_ptr_equal(gguf_find_tensor(file, "text")->data, data);
    assert_int_equal(gguf_find_tensor(file, "more")->data[15], 3);
    gguf_close(&file);
}

static void refuse_tensor(const char *name, infer_dtype type, int32_t n_dims, const uint64_t *dims,
                          infer_status status, const char *sentence)
{
    struct gguf_draft *d = new_draft();
    const void *apart[1] = {NULL};
    int is_apart = n_dims == 4;
    assert_ok(gguf_draft_tensor(d, "there", INFER_DTYPE_F32, 1, one_dim, NULL, NULL));
    assert_int_equal(gguf_draft_tensor(d, name, type, n_dims, dims, NULL, is_apart ? apart : NULL),
                     status);
    assert_says(sentence);
    struct gguf_file *file; /* the draft is whole */
    assert_ok(gguf_draft_finish(&d, &file));
    assert_int_equal(gguf_n_tensors(file), 1);
    assert_int_equal(gguf_bytes(file), 32);
    gguf_close(&file);
}

static void test_refusals(void **state)
{
    BASE_UNUSED(state);
    static const uint64_t zero[] = {8, 0}, odd[] = {33}, four[] = {8, 1, 1, 2};
    static const uint64_t huge[] = {(uint64_t)1 << 40, (uint64_t)1 << 40};
    static const char *long_name =
        "0123456789012345678901234567890123456789012345678901234567890123";
    refuse_tensor("there", INFER_DTYPE_F32, 1, one_dim, INFER_ERR_FORMAT,
                  "tensor \"there\" appears twice");
    refuse_tensor("", INFER_DTYPE_F32, 1, one_dim, INFER_ERR_FORMAT, "length of 0");
    refuse_tensor(long_name, INFER_DTYPE_F32, 1, one_dim, INFER_ERR_FORMAT, "length of 64");
    refuse_tensor("a\n", INFER_DTYPE_F32, 1, one_dim, INFER_ERR_FORMAT, "byte 0x0a at position 1");
    refuse_tensor("a", INFER_DTYPE_F32, 0, one_dim, INFER_ERR_FORMAT, "0 dimensions");
    refuse_tensor("a", INFER_DTYPE_F32, 5, one_dim, INFER_ERR_FORMAT, "5 dimensions");
    refuse_tensor("a", INFER_DTYPE_F32, 2, zero, INFER_ERR_FORMAT, "dimension 1 is 0");
    refuse_tensor("a", INFER_DTYPE_Q8_0, 1, odd, INFER_ERR_FORMAT, "rows of 33 elements");
    refuse_tensor("a", INFER_DTYPE_F32, 2, huge, INFER_ERR_FORMAT, "more than 2^63 - 1 elements");
    refuse_tensor("a", INFER_DTYPE_F32, 4, four, INFER_ERR_FORMAT, "three dimensions, not four");
    refuse_tensor("a", 4, 1, one_dim, INFER_ERR_UNSUPPORTED, "Q4_2");
    refuse_tensor("a", -1, 1, one_dim, INFER_ERR_UNSUPPORTED, "not known");

    struct gguf_draft *d = new_draft();
    struct gguf_file *file = NULL;
    assert_int_equal(gguf_draft_u32(d, "", 1), INFER_ERR_FORMAT);
    assert_int_equal(gguf_draft_u32(d, "sch\xc3\xb6n", 1), INFER_ERR_FORMAT);
    assert_says("0xc3 at position 3");
    assert_ok(gguf_draft_u32(d, "general.alignment", 48));
    assert_int_equal(gguf_draft_finish(&d, &file), INFER_ERR_FORMAT);
    assert_says("key \"general.alignment\" is 48");
    assert_null(file);
    assert_ok(gguf_draft_u32(d, "general.alignment", 64));
    assert_ok(gguf_draft_finish(&d, &file));
    gguf_close(&file);
}

static void test_many_keys(void **state)
{
    BASE_UNUSED(state);
    struct gguf_draft *d = new_draft();
    char key[16];
    for (int i = 0; i < 65536; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_ok(gguf_draft_u32(d, key, (uint32_t)i));
    }
    assert_int_equal(gguf_draft_u32(d, "one more", 1), INFER_ERR_LIMIT);
    assert_ok(gguf_draft_u32(d, "k65535", 5));
    gguf_draft_destroy(&d);
    assert_null(d);
    gguf_draft_destroy(&d);
}

static infer_status fill(struct gguf_draft *d)
{
    static const uint64_t dims[] = {4, 3, 2};
    static const float values[12];
    const void *apart[] = {values, values};
    const struct base_view words[] = {{"a", 1}, {"b", 1}};
    char key[16];
    infer_status st = gguf_draft_strings(d, "words", words, 2);
    for (int i = 0; i < 200 && st == INFER_OK; i++) {
        snprintf(key, sizeof key, "%d", i);
        st = gguf_draft_f32(d, key, 1);
        if (st == INFER_OK)
            st = gguf_draft_tensor(d, key, INFER_DTYPE_F32, 3, dims, NULL, apart);
    }
    return st;
}

/* Each allocation refused in turn: NO_MEMORY, nothing leaks, and then it works. */
static void test_no_memory(void **state)
{
    BASE_UNUSED(state);
    infer_status st = INFER_ERR_NO_MEMORY;
    size_t n = 0;
    while (st != INFER_OK) {
        struct test_alloc t;
        struct gguf_draft *d = NULL;
        struct gguf_file *file = NULL;
        test_alloc_init(&t);
        t.fail_at = ++n;
        st = gguf_draft_create(&d, &t.alloc, "path");
        if (st == INFER_OK)
            st = fill(d);
        if (st == INFER_OK)
            st = gguf_draft_finish(&d, &file);
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
        gguf_draft_destroy(&d);
        gguf_close(&file);
        assert_int_equal(t.live_blocks, 0);
        assert_true(n < 10000);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),      cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_copied_keys), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_owned),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_many_keys),   cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
