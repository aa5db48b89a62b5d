/* GGUF reader: what it refuses, and that the sentence names the wrong thing. */
#include "gguf_sample.h"
#include "support/test_alloc.h"

static void refuse_built(struct gguf_builder *b, infer_status expected, const char *sentence)
{
    struct gguf_file *file = NULL;
    size_t size;
    uint8_t *bytes = gguf_builder_finish(b, &size);
    gguf_builder_free(b);
    assert_int_equal(gguf_open_memory(&file, &base_alloc_default, bytes, size, 0), expected);
    assert_null(file);
    assert_says(sentence);
    free(bytes);
}

/* The names of the wrong thing must be in the sentence. */
static void test_refused_metadata(void **state)
{
    BASE_UNUSED(state);
    static const uint8_t bools[] = {1, 0, 2};
    struct gguf_builder *b;
    char *long_key = calloc(1, 65537);
    memset(long_key, 'k', 65536);

    b = sample();
    gguf_builder_int(b, "u8", GGUF_U8, 0);
    refuse_built(b, INFER_ERR_FORMAT, "key \"u8\" at byte");
    b = sample();
    gguf_builder_int(b, "flag", GGUF_BOOL, 2);
    refuse_built(b, INFER_ERR_FORMAT, "key \"flag\": bool at byte");
    b = sample();
    gguf_builder_array(b, "flags", GGUF_BOOL, bools, 3);
    refuse_built(b, INFER_ERR_FORMAT, "key \"flags\": bool at byte");
    b = sample();
    gguf_builder_array(b, "nested", GGUF_ARRAY, NULL, 1);
    refuse_built(b, INFER_ERR_UNSUPPORTED, "key \"nested\": array at byte");
    b = sample();
    gguf_builder_int(b, "odd", 13, 0);
    refuse_built(b, INFER_ERR_FORMAT, "key \"odd\": value type 13 at byte");
    b = gguf_builder_new();
    gguf_builder_int(b, "tab\there", GGUF_U8, 0);
    refuse_built(b, INFER_ERR_FORMAT, "key 1 of 1: the key at byte 24 holds byte 0x09");
    b = gguf_builder_new();
    gguf_builder_int(b, "", GGUF_U64, 0);
    refuse_built(b, INFER_ERR_FORMAT, "key 1 of 1: the key at byte 24 has a length of 0");
    b = gguf_builder_new();
    gguf_builder_int(b, long_key, GGUF_U8, 0);
    refuse_built(b, INFER_ERR_FORMAT, "length of 65536, 1 to 65535 bytes");
    for (int shift = 0; shift < 32; shift++) {
        if (shift >= 3 && shift <= 24)
            continue;
        b = gguf_builder_new();
        gguf_builder_int(b, "general.alignment", GGUF_U32, (int64_t)1 << shift);
        refuse_built(b, INFER_ERR_FORMAT, "key \"general.alignment\"");
    }
    b = gguf_builder_new();
    gguf_builder_int(b, "general.alignment", GGUF_U32, 48);
    refuse_built(b, INFER_ERR_FORMAT, "key \"general.alignment\" is 48");
    b = gguf_builder_new();
    gguf_builder_int(b, "general.alignment", GGUF_U64, 32);
    refuse_built(b, INFER_ERR_FORMAT, "key \"general.alignment\"");
    /* A long key leaves room for what is wrong with it. */
    long_key[65535] = 0;
    b = gguf_builder_new();
    gguf_builder_int(b, long_key, 99, 0);
    refuse_built(b, INFER_ERR_FORMAT, "value type 99");
    free(long_key);
}

static void refuse_tensor(const char *name, int32_t type, int32_t n_dims, const uint64_t *dims,
                          size_t bytes, infer_status expected, const char *sentence)
{
    struct gguf_builder *b = sample();
    gguf_builder_tensor(b, name, type, n_dims, dims, NULL, bytes);
    refuse_built(b, expected, sentence);
}

static void test_refused_tensors(void **state)
{
    BASE_UNUSED(state);
    static const uint64_t ones[5] = {1, 1, 1, 1, 1}, zero[2] = {4, 0}, negative[1] = {1ull << 63};
    static const uint64_t product[4] = {1ull << 32, 1ull << 31, 1, 1}, block[1] = {48};
    static const uint64_t wide[1] = {1ull << 61}, wrap[3] = {1ull << 32, 1ull << 32, 4};
    static const uint64_t beyond[1] = {9};
    static const char *const name63 =
        "123456789012345678901234567890123456789012345678901234567890123";
    static const char *const name64 =
        "1234567890123456789012345678901234567890123456789012345678901234";
    const infer_status format = INFER_ERR_FORMAT, unsupported = INFER_ERR_UNSUPPORTED;
    uint8_t *bytes;

    refuse_tensor("t", 0, 0, NULL, 4, format, "tensor \"t\": 0 dimensions at byte");
    refuse_tensor("t", 0, 5, ones, 4, format, "tensor \"t\": 5 dimensions at byte");
    refuse_tensor("t", 0, 2, zero, 4, format, "tensor \"t\": dimension 1 at byte");
    refuse_tensor("t", 0, 1, negative, 4, format, "tensor \"t\": dimension 0 at byte");
    refuse_tensor("t", 0, 4, product, 4, format, "tensor \"t\": the shape has more than");
    refuse_tensor("t", 0, 3, wrap, 4, format, "tensor \"t\": the shape has more than");
    refuse_tensor("t", 0, 1, wide, 4, format, "tensor \"t\": 2305843009213693952 elements of F32");
    refuse_tensor("t", 2, 1, block, 27, format, "tensor \"t\": rows of 48 elements");
    refuse_tensor("t", 15, 1, one_dim, 292, unsupported, "tensor \"t\": element type Q8_K at byte");
    refuse_tensor("t", 64, 1, one_dim, 32, unsupported, "tensor \"t\": element type 64 at byte");
    refuse_tensor("t", 66, 1, block, 132, format, "tensor \"t\": rows of 48 elements");
    refuse_tensor("t", 67, 1, one_dim, 32, unsupported, "tensor \"t\": element type 67 at byte");
    refuse_tensor("t", 31, 1, one_dim, 8, unsupported, "element type Q4_0_4_4 (withdrawn)");
    refuse_tensor("t", 999, 1, one_dim, 8, unsupported, "tensor \"t\": element type 999 at byte");
    refuse_tensor("t", -1, 1, one_dim, 8, unsupported, "element type 4294967295 at byte");
    refuse_tensor("t", 0, 1, beyond, 32, format, "tensor \"t\": its data at bytes");
    refuse_tensor("", 0, 1, one_dim, 32, format, "tensor 3 of 3: the name at byte");
    refuse_tensor(name64, 0, 1, one_dim, 32, format, "tensor 3 of 3: the name at byte");
    refuse_tensor("\xc3\xa4", 0, 1, one_dim, 32, format, "holds byte 0xc3 at position 0");
    refuse_tensor("a.weight", 0, 1, one_dim, 32, format, "tensor \"a.weight\" at byte");

    struct gguf_builder *b = sample();
    gguf_builder_tensor(b, name63, 0, 1, one_dim, NULL, 32);
    struct gguf_file *file = open_built(b, &bytes);
    assert_non_null(gguf_find_tensor(file, name63));
    gguf_close(&file);
    free(bytes);
}

static void test_offsets(void **state)
{
    BASE_UNUSED(state);
    static const struct {
        uint64_t a, b;
        const char *sentence; /* NULL: accepted */
    } cases[] = {
        {0, 96, NULL},
        {64, 0, NULL},
        {96, 0, NULL},
        {32, 0, NULL},
        {0, 160, NULL},
        {128, 0, "tensor \"a.weight\": its data at bytes"},
        {0, 192, "tensor \"b.bias\": its data at bytes"},
        {0, 64, "tensors \"a.weight\" and \"b.bias\" overlap"},
        {0, 0, "overlap"},
        {32, 64, "overlap"},
        {0, 100, "tensor \"b.bias\": the data offset 100 at byte"},
        {UINT64_MAX - 31, 96, "tensor \"a.weight\": the data offset"},
        {1ull << 40, 96, "tensor \"a.weight\": its data at bytes"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct gguf_builder *b = sample();
        struct gguf_file *file = NULL;
        size_t size;
        uint8_t *bytes = gguf_builder_finish(b, &size);
        bytes = realloc(bytes, size + 64); /* room to move: 192 bytes of data */
        assert_non_null(bytes);
        memset(bytes + size, 0, 64);
        size += 64;
        memcpy(offset_field(bytes, size, "a.weight", 2), &cases[i].a, 8);
        memcpy(offset_field(bytes, size, "b.bias", 1), &cases[i].b, 8);
        infer_status st = gguf_open_memory(&file, &base_alloc_default, bytes, size, 0);
        if (cases[i].sentence) {
            assert_int_equal(st, INFER_ERR_FORMAT);
            assert_says(cases[i].sentence);
        } else {
            assert_ok(st);
            gguf_close(&file);
        }
        gguf_builder_free(b);
        free(bytes);
    }
}

/* Every prefix of the file, in a block of exactly its size: an error each time,
 * but with GGUF_OPEN_METADATA_ONLY none once the directory is complete. */
static void test_truncated(void **state)
{
    BASE_UNUSED(state);
    struct gguf_builder *b = sample();
    size_t size, accepted = 0;
    uint8_t *bytes = gguf_builder_finish(b, &size);
    size_t directory = (size_t)(offset_field(bytes, size, "b.bias", 1) + 8 - bytes);
    for (size_t n = 0; n < size; n++) {
        struct gguf_file *file = NULL;
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, bytes, n);
        assert_int_equal(gguf_open_memory(&file, &base_alloc_default, cut, n, 0), INFER_ERR_FORMAT);
        assert_null(file);
        assert_true(strlen(test_error_text()) > 10);
        infer_status st =
            gguf_open_memory(&file, &base_alloc_default, cut, n, GGUF_OPEN_METADATA_ONLY);
        assert_int_equal(st, n < directory ? INFER_ERR_FORMAT : INFER_OK);
        if (st == INFER_OK) {
            const struct gguf_tensor *t = gguf_find_tensor(file, "b.bias");
            assert_null(t->data);
            assert_int_equal(t->bytes, 32);
            accepted++;
            gguf_close(&file);
        }
        free(cut);
    }
    assert_int_equal(accepted, size - directory);
    gguf_builder_free(b);
    free(bytes);
}

static void test_lookalikes(void **state)
{
    BASE_UNUSED(state);
    static const struct {
        const char *text;
        size_t size;
        const char *sentence;
    } cases[] = {
        {"", 0, "empty"},
        {"GGU", 3, "only 3 bytes"},
        {"<!DOCTYPE html><html>", 21, "an HTML page"},
        {"\xef\xbb\xbf \r\n<HTML>", 12, "an HTML page"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull"},
        {"PK\3\4\0\0\0\0", 8, "ZIP archive"},
        {"tjgg\3\0\0\0", 8, "before GGUF"},
        {"\x40\0\0\0\0\0\0\0{\"a\"", 12, "safetensors"},
        {"{\"error\": 1}", 12, "JSON"},
        {"        ", 8, "magic at byte 0 is 20 20 20 20"},
        {"GGUF\0\0\0\3", 8, "big-endian"},
        {"GGUF\1\0\0\0", 8, "version 1"},
        {"GGUF\4\0\0\0", 8, "version 4"},
        {"GGUF\0\0\0\0", 8, "version 0"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct gguf_file *file = NULL;
        assert_true(gguf_open_memory(&file, &base_alloc_default, cases[i].text, cases[i].size, 0) <
                    0);
        assert_says(cases[i].sentence);
    }
}

/* Counts that the bytes cannot justify are refused before memory is taken. */
static void test_claims(void **state)
{
    BASE_UNUSED(state);
    static const uint64_t counts[] = {
        40, 1000, 65537, 1ull << 32, 1ull << 48, 1ull << 60, UINT64_MAX / 48 + 1, UINT64_MAX};
    for (size_t i = 0; i < 2 * BASE_COUNT(counts); i++) {
        struct gguf_builder *b = sample();
        struct gguf_file *file = NULL;
        struct test_alloc t;
        size_t size;
        uint8_t *bytes = gguf_builder_finish(b, &size);
        test_alloc_init(&t);
        memcpy(bytes + (i & 1 ? 8 : 16), &counts[i / 2], 8);
        assert_int_equal(gguf_open_memory(&file, &t.alloc, bytes, size, 0), INFER_ERR_FORMAT);
        assert_true(t.peak_bytes < 16 * size);
        assert_int_equal(t.live_blocks, 0);
        gguf_builder_free(b);
        free(bytes);
    }
}

static void test_too_many_keys(void **state)
{
    BASE_UNUSED(state);
    struct gguf_builder *b = gguf_builder_new();
    struct gguf_file *file;
    char key[16];
    uint8_t *bytes;
    for (int i = 0; i < 65536; i++) {
        snprintf(key, sizeof key, "k%d", i);
        gguf_builder_int(b, key, GGUF_U8, i);
    }
    size_t size;
    bytes = gguf_builder_finish(b, &size);
    assert_ok(gguf_open_memory(&file, &base_alloc_default, bytes, size, 0));
    int64_t value;
    assert_ok(gguf_get_i64(file, "k65535", &value));
    assert_int_equal(value, 255);
    gguf_close(&file);
    free(bytes);
    gguf_builder_int(b, "one more", GGUF_U8, 0);
    refuse_built(b, INFER_ERR_LIMIT, "65537 keys");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_metadata), cmocka_unit_test(test_refused_tensors),
        cmocka_unit_test(test_offsets),          cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_lookalikes),       cmocka_unit_test(test_claims),
        cmocka_unit_test(test_too_many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
