/* Files of sections: what is written comes back, damage is found, a full disk leaves nothing. */
#include "disk.h"
#include "fail_calls.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "support/test_alloc.h"
#include "vector/file.h"

#include <errno.h>

#define BIG (3 * VECTOR_FILE_BLOCK + 77)

static uint8_t big[BIG];

static infer_status write_file(const struct base_alloc *a, const char *path)
{
    struct vector_file_writer *w = NULL;
    infer_status st = vector_file_create(&w, a, path, "test");
    if (st != INFER_OK)
        return st;
    st = vector_file_section(w, "small", "hello", 5);
    if (st == INFER_OK)
        st = vector_file_begin(w, "big", 4096);
    for (size_t at = 0, n = 1; st == INFER_OK && at < BIG; at += n, n = n * 3 + 1) {
        n = n < BIG - at ? n : BIG - at;
        st = vector_file_append(w, big + at, n);
    }
    if (st == INFER_OK)
        st = vector_file_section(w, "none", NULL, 0);
    if (st == INFER_OK)
        st = vector_file_section(w, "whole", big, 2 * VECTOR_FILE_BLOCK);
    if (st == INFER_OK)
        return vector_file_finish(&w);
    vector_file_abandon(&w);
    return st;
}

static void check_file(const struct vector_file *f)
{
    const uint8_t *data;
    size_t size;
    assert_ok(vector_file_find(f, "small", &data, &size));
    assert_int_equal(size, 5);
    assert_memory_equal(data, "hello", 5);
    assert_int_equal((uintptr_t)data % 64, 0);
    assert_ok(vector_file_find(f, "big", &data, &size));
    assert_int_equal(size, BIG);
    assert_int_equal((uintptr_t)data % 4096, 0);
    assert_memory_equal(data, big, BIG);
    assert_ok(vector_file_find(f, "none", &data, &size));
    assert_int_equal(size, 0);
    assert_ok(vector_file_find(f, "whole", &data, &size));
    assert_memory_equal(data, big, 2 * VECTOR_FILE_BLOCK);
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *path = disk_path("a");
    struct vector_file *f = NULL;
    const uint8_t *data;
    const void *array;
    size_t size;
    assert_ok(write_file(&base_alloc_default, path));
    assert_int_equal(disk_count(disk_folder), 1);
    assert_ok(vector_file_open(&f, &base_alloc_default, path, "test", 1));
    assert_int_equal(unlink(path), 0); /* the mapping stays */
    check_file(f);
    assert_ok(vector_file_verify(f));
    assert_string_equal(vector_file_path(f), path);
    assert_true(vector_file_size(f) > BIG);
    assert_int_equal(vector_file_find(f, "smal", &data, &size), INFER_ERR_NOT_FOUND);
    assert_int_equal(vector_file_array(f, "smal", &array, 1, 1), INFER_ERR_FORMAT);
    assert_ok(vector_file_array(f, "whole", &array, VECTOR_FILE_BLOCK / 2, 4));
    assert_int_equal(vector_file_array(f, "whole", &array, VECTOR_FILE_BLOCK, 4), INFER_ERR_FORMAT);
    assert_says("\"whole\"");
    assert_int_equal(vector_file_array(f, "small", &array, 1, 4), INFER_ERR_FORMAT);
    assert_int_equal(vector_file_array(f, "small", &array, SIZE_MAX / 4 + 2, 4), INFER_ERR_FORMAT);
    assert_ok(vector_file_array(f, "none", &array, 0, 4));
    vector_file_close(&f);
    vector_file_close(&f);
    assert_int_equal(vector_file_open(&f, &base_alloc_default, path, "test", 0),
                     INFER_ERR_NOT_FOUND);
}

/* The bytes are on the disk before the name is, and the name before the caller hears of it. */
static void test_order_of_flushes(void **state)
{
    (void)state;
    struct vector_file_writer *w = NULL;
    assert_ok(vector_file_create(&w, &base_alloc_default, disk_path("a"), "test"));
    assert_ok(vector_file_section(w, "s", big, BIG));
    fail_calls(0, 0, 0, 0);
    assert_ok(vector_file_finish(&w));
    assert_string_equal(fail_calls_trace(), "wwwwfmf"); /* the rest, zeros, table, header */
    unlink(disk_path("a"));
}

static void test_what_a_writer_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t align;
    } bad[] = {
        {"", 1}, {"a name of more than thirty-one bytes", 1}, {"x", 3}, {"x", 8192}, {"there", 1}};
    struct vector_file_writer *w = NULL, *second = NULL;
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        assert_ok(vector_file_create(&w, &base_alloc_default, disk_path("a"), "test"));
        assert_int_equal(vector_file_create(&second, &base_alloc_default, disk_path("a"), "test"),
                         INFER_ERR_BUSY);
        assert_ok(vector_file_section(w, "there", "x", 1));
        assert_int_equal(vector_file_begin(w, bad[i].name, bad[i].align), INFER_ERR_INVALID);
        assert_int_equal(vector_file_append(w, "x", 1), INFER_ERR_INVALID);
        assert_int_equal(vector_file_finish(&w), INFER_ERR_INVALID);
        assert_null(w);
        assert_int_equal(disk_count(disk_folder), 0);
    }
    assert_ok(vector_file_create(&w, &base_alloc_default, disk_path("a"), "test"));
    assert_int_equal(vector_file_append(w, "x", 1), INFER_ERR_INTERNAL);
    vector_file_abandon(&w);
    vector_file_abandon(&w);
    assert_int_equal(vector_file_create(&w, &base_alloc_default, disk_path("no/a"), "test"),
                     INFER_ERR_IO);
    assert_int_equal(disk_count(disk_folder), 0);
}

/* Each one is found, at opening or by verify; opening alone gives a file whose sections lie within
 * the mapping. */
static void test_damage(void **state)
{
    (void)state;
    uint64_t seed = 7;
    size_t size;
    const char *path = disk_path("a");
    assert_ok(write_file(&base_alloc_default, path));
    uint8_t *whole = (uint8_t *)test_read(path, &size), *bytes = malloc(size);
    for (int i = 0; i < 900; i++) {
        struct vector_file *f = NULL;
        memcpy(bytes, whole, size);
        size_t left = disk_damage(bytes, size, i / 300, &seed);
        if (i % 3 == 0 && i >= 300) { /* every third in header or table, where little room is */
            memcpy(bytes, whole, size);
            size_t at = test_rand(&seed) % 512;
            at = at < 128 ? at : size - 512 + at;
            bytes[at] ^= i < 600 ? (uint8_t)(1u << i % 8) : (uint8_t)(1 + i % 255);
        }
        disk_put(path, bytes, left);
        assert_int_equal(vector_file_open(&f, &base_alloc_default, path, "test", 1),
                         INFER_ERR_FORMAT);
        assert_says(path);
        if (vector_file_open(&f, &base_alloc_default, path, "test", 0) == INFER_OK) {
            assert_int_equal(vector_file_verify(f), INFER_ERR_FORMAT);
            vector_file_close(&f);
        }
    }
    unlink(path);
    free(whole);
    free(bytes);
}

static void put_sum(uint8_t *p, struct base_hash128 sum)
{
    base_put_u64(p, sum.low);
    base_put_u64(p + 8, sum.high);
}

/* A file of somebody who computes the checksums: numbers that cannot be. */
static void test_hostile_tables(void **state)
{
    (void)state;
    static const struct {
        int table;
        size_t at;
        uint64_t value;
        int bytes;
        const char *says;
    } bad[] = {{0, 8, 2, 4, "format 2"},
               {0, 8, 0, 4, "format 0"},
               {0, 16, 4096, 4, "cannot be"},
               {0, 20, 5, 4, "table"},
               {0, 20, 1 << 30, 4, "cannot be"},
               {0, 20, 3, 4, "table"},
               {0, 24, 'x', 1, "\"xest\""},
               {0, 56, 100, 8, "says 100"},
               {0, 64, UINT64_MAX, 8, "cannot be"},
               {0, 64, 64, 8, "cannot be"},
               {0, 72, UINT64_MAX, 8, "cannot be"},
               {1, 0, 0, 1, "no name, place"},
               {1, 31, 'x', 1, ""},
               {1, 32, 64, 8, "\"small\""},
               {1, 32, 129, 8, "\"small\""},
               {1, 32, 1 << 20, 8, "\"small\""},
               {1, 40, UINT64_MAX, 8, "\"small\""},
               {1, 40, UINT64_MAX - 127, 8, "\"small\""},
               {1, 48, 1, 8, ""},
               {1, 64 + 32, 128, 8, "\"big\""},
               {1, 64 + 40, 1, 8, ""},
               {1, 128 + 40, UINT64_MAX - 64, 8, "\"none\""},
               {1, 64, 0x6c6c616d73, 8, "twice"},
               {1, 192 + 32, UINT64_MAX - 63, 8, "\"whole\""},
               {1, 192 + 40, 1, 8, "table"},
               {1, 64 + 40, 3 * VECTOR_FILE_BLOCK, 8, "table"}};
    size_t size;
    const char *path = disk_path("a");
    assert_ok(write_file(&base_alloc_default, path));
    uint8_t *whole = (uint8_t *)test_read(path, &size), *bytes = malloc(size);
    const uint64_t table = base_get_u64(whole + 64), table_bytes = base_get_u64(whole + 72);
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        struct vector_file *f = NULL;
        memcpy(bytes, whole, size);
        uint8_t *p = bytes + (bad[i].table ? table : 0) + bad[i].at;
        for (int k = 0; k < bad[i].bytes; k++)
            p[k] = (uint8_t)(bad[i].value >> (8 * k));
        put_sum(bytes + 96, base_hash128_plain(bytes + table, table_bytes));
        put_sum(bytes + 112, base_hash128_plain(bytes, 112));
        disk_put(path, bytes, size);
        if (vector_file_open(&f, &base_alloc_default, path, "test", 0) != INFER_ERR_FORMAT)
            fail_msg("case %zu was not refused", i);
        assert_says(bad[i].says);
        assert_says(path);
    }
    unlink(path);
    free(whole);
    free(bytes);
}

static void test_full_disk(void **state)
{
    (void)state;
    const char *path = disk_path("a");
    struct vector_file *f = NULL;
    assert_ok(write_file(&base_alloc_default, path));
    for (size_t bytes = 1; bytes < 5 * VECTOR_FILE_BLOCK; bytes = bytes * 3 + 100) {
        disk_limit(bytes);
        infer_status st = write_file(&base_alloc_default, path);
        disk_limit(0);
        assert_int_equal(st, INFER_ERR_IO);
        assert_int_equal(disk_count(disk_folder), 1);
    }
    assert_ok(vector_file_open(&f, &base_alloc_default, path, "test", 1)); /* the one before */
    check_file(f);
    vector_file_close(&f);
    unlink(path);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const char *path = disk_path("a");
    struct test_alloc t;
    size_t n = 0;
    for (infer_status st = INFER_ERR_NO_MEMORY; st != INFER_OK;) {
        test_alloc_init(&t);
        t.fail_at = ++n;
        st = write_file(&t.alloc, path);
        assert_int_equal(t.live_blocks, 0);
        assert_int_equal(disk_count(disk_folder), st == INFER_OK);
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
    assert_true(n > 5);
    n = 0;
    for (infer_status st = INFER_ERR_NO_MEMORY; st != INFER_OK;) {
        struct vector_file *f = NULL;
        test_alloc_init(&t);
        t.fail_at = ++n;
        st = vector_file_open(&f, &t.alloc, path, "test", 1);
        vector_file_close(&f);
        assert_int_equal(t.live_blocks, 0);
        if (st != INFER_OK)
            assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
    assert_true(n > 3);
    unlink(path);
}

/* Each call of the system fails once: an error, and nothing left but what was there. */
static void test_every_call_fails(void **state)
{
    (void)state;
    const char *path = disk_path("a");
    for (int at = 1, done = 0; !done; at++) {
        struct vector_file *f = NULL;
        fail_calls(FAIL_ALL, at, at % 2 ? EIO : ENOSPC, 0);
        infer_status st = write_file(&base_alloc_default, path);
        done = fail_calls_count(FAIL_ALL) < at;
        assert_int_equal(st, done ? INFER_OK : INFER_ERR_IO);
        assert_int_equal(disk_count(disk_folder), done);
        fail_calls(0, 0, 0, 0);
        assert_ok(write_file(&base_alloc_default, path));
        fail_calls(FAIL_ALL, at, EIO, 0);
        st = vector_file_open(&f, &base_alloc_default, path, "test", 1);
        assert_int_equal(st, fail_calls_count(FAIL_ALL) < at ? INFER_OK : INFER_ERR_IO);
        fail_calls(0, 0, 0, 0);
        vector_file_close(&f);
        unlink(path);
    }
}

/* A file that takes the place of another: the one before or the new one, never none. */
static void test_replace(void **state)
{
    (void)state;
    const char *path = disk_path("a");
    assert_ok(write_file(&base_alloc_default, path));
    for (int at = 1, done = 0; !done; at++) {
        struct vector_file_writer *w = NULL;
        struct vector_file *f = NULL;
        const uint8_t *data;
        size_t size;
        char text[12];
        int32_t placed;
        assert_ok(vector_file_create(&w, &base_alloc_default, path, "test"));
        snprintf(text, sizeof text, "%d", at);
        assert_ok(vector_file_section(w, "number", text, strlen(text)));
        fail_calls(FAIL_ALL, at, EIO, 0);
        infer_status st = vector_file_replace(&w, &placed);
        done = fail_calls_count(FAIL_ALL) < at;
        fail_calls(0, 0, 0, 0);
        assert_null(w);
        assert_int_equal(st, done ? INFER_OK : INFER_ERR_IO);
        assert_int_equal(disk_count(disk_folder), 1);
        assert_ok(vector_file_open(&f, &base_alloc_default, path, "test", 1));
        st = vector_file_find(f, "number", &data, &size);
        assert_int_equal(st == INFER_OK && size == strlen(text) && memcmp(data, text, size) == 0,
                         placed);
        vector_file_close(&f);
    }
    unlink(path);
}

/* Opening reads header and table, whatever the sections hold. */
static void test_opening_is_no_matter_of_size(void **state)
{
    (void)state;
    const char *path = disk_path("a");
    struct vector_file_writer *w = NULL;
    struct vector_file *f = NULL;
    assert_ok(vector_file_create(&w, &base_alloc_default, path, "test"));
    assert_ok(vector_file_begin(w, "much", 64));
    for (int i = 0; i < 64; i++)
        assert_ok(vector_file_append(w, big, VECTOR_FILE_BLOCK));
    assert_ok(vector_file_finish(&w));
    fail_calls(FAIL_READ, 0, 0, 0);
    assert_ok(vector_file_open(&f, &base_alloc_default, path, "test", 0));
    assert_int_equal(fail_calls_count(FAIL_READ), 2);
    assert_ok(vector_file_verify(f));
    assert_true(fail_calls_count(FAIL_READ) >= 2 + 64);
    fail_calls(0, 0, 0, 0);
    vector_file_close(&f);
    assert_int_equal(vector_file_open(&f, &base_alloc_default, path, "segment", 0),
                     INFER_ERR_FORMAT);
    assert_says("\"segment\" was expected");
    assert_int_equal(vector_file_open(&f, &base_alloc_default, disk_folder, "test", 0),
                     INFER_ERR_INVALID);
    unlink(path);
}

int main(void)
{
    fail_calls_slow(-1);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (uint8_t)(i * 2654435761u >> 13);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_order_of_flushes),
        cmocka_unit_test(test_what_a_writer_refuses),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile_tables),
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_opening_is_no_matter_of_size),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, disk_make_folder, disk_remove_folder);
}
