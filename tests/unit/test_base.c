/* The ground floor: memory, errors, text, maps, options, numbers, threads, files. */
#include "support/test.h"

#include "base/array.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "base/options.h"
#include "base/rng.h"
#include "base/str.h"
#include "support/test_alloc.h"

#include <errno.h>
#include <sys/mman.h>

static void test_alloc_refuses_overflow(void **state)
{
    (void)state;
    assert_null(base_new(&base_alloc_default, SIZE_MAX / 2, 4));
    assert_non_null(strstr(base_error_text(), "overflow"));
    void *p = base_new(&base_alloc_default, 0, 8);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % BASE_CACHE_LINE, 0);
    base_free(&base_alloc_default, p);
}

static void test_pages_go_back_to_the_system(void **state)
{
    static const size_t sizes[] = {1, 1 << 16, 3 << 20};
    struct test_alloc t;
    (void)state;
    test_alloc_init(&t);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        char *p = base_new_pages(&base_alloc_default, sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % BASE_CACHE_LINE, 0);
        memset(p, 1, sizes[i]);
        base_free_pages(&base_alloc_default, p, sizes[i]);
        if (i > 0) {
            assert_int_equal(msync(p, 1, MS_ASYNC), -1);
            assert_int_equal(errno, ENOMEM);
        }
        assert_non_null(p = base_new_pages(&t.alloc, sizes[i])); /* the host sees its own */
        assert_int_equal(t.live_blocks, 1);
        base_free_pages(&t.alloc, p, sizes[i]);
        assert_int_equal(t.live_blocks, 0);
    }
    assert_null(base_new_pages(&base_alloc_default, SIZE_MAX / 2));
    assert_non_null(strstr(base_error_text(), "out of memory"));
    base_free_pages(&base_alloc_default, NULL, 1 << 20);
}

static void test_arena(void **state)
{
    (void)state;
    struct test_alloc t;
    struct base_arena arena;
    test_alloc_init(&t);
    base_arena_init(&arena, &t.alloc);
    for (size_t i = 1; i < 3000; i++) {
        unsigned char *p = base_arena_new(&arena, i * 7 % 400 + 1, 1);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t j = 0; j < i * 7 % 400 + 1; j++)
            assert_int_equal(p[j], 0);
        memset(p, 0xff, i * 7 % 400 + 1);
    }
    assert_non_null(base_arena_new(&arena, 1 << 20, 1));
    assert_true(arena.used_bytes >= 1 << 20);
    assert_string_equal(base_arena_strdup(&arena, "text and more", 4), "text");
    base_arena_release(&arena);
    assert_int_equal(t.live_blocks, 0);
}

static void test_error_sentences(void **state)
{
    (void)state;
    char long_name[2 * BASE_ERROR_MAX];
    assert_int_equal(base_error(INFER_ERR_IO, "bad\nname %s", "x\x01y"), INFER_ERR_IO);
    assert_string_equal(base_error_text(), "bad?name x?y"); /* one printable line */
    base_error_prefix(INFER_ERR_IO, "%s", "file");
    assert_string_equal(base_error_text(), "file: bad?name x?y");
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    base_error(INFER_ERR_IO, "%s", long_name);
    assert_int_equal(strlen(base_error_text()), BASE_ERROR_MAX - 1);
    base_error_prefix(INFER_ERR_IO, "front");
    assert_memory_equal(base_error_text(), "front: nn", 9);
    /* A character cut in half at the limit is dropped. */
    for (size_t i = 0; i + 3 < sizeof long_name; i += 3)
        memcpy(long_name + i, "\xe2\x82\xac", 3);
    base_error(INFER_ERR_IO, "%s", long_name);
    size_t n = strlen(base_error_text());
    assert_int_equal(n % 3, 0);
    assert_true(n > BASE_ERROR_MAX - 5);
}

static void test_strings(void **state)
{
    (void)state;
    struct base_str s;
    base_str_init(&s, &base_alloc_default, 100);
    for (int i = 0; i < 10; i++)
        assert_ok(base_str_appendf(&s, "%d,", i));
    assert_string_equal(s.data, "0,1,2,3,4,5,6,7,8,9,");
    assert_int_equal(base_str_append(&s, s.data, 81), INFER_ERR_LIMIT);
    assert_int_equal(s.size, 20);
    char *taken = base_str_take(&s);
    assert_string_equal(taken, "0,1,2,3,4,5,6,7,8,9,");
    base_free(&base_alloc_default, taken);
    base_str_release(&s);
}

static void test_map(void **state)
{
    (void)state;
    enum { N = 20000 };
    static char keys[N][8];
    struct base_map map;
    assert_ok(base_map_init(&map, &base_alloc_default, 4)); /* has to grow */
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "%x", i);
        assert_ok(base_map_add(&map, keys[i], strlen(keys[i]), i));
    }
    assert_int_equal(base_map_add(&map, "5", 1, 99), INFER_AGAIN);
    for (int i = 0; i < N; i++)
        assert_int_equal(base_map_get(&map, keys[i], strlen(keys[i]), -1), i);
    assert_int_equal(base_map_get(&map, "zz", 2, -7), -7);
    base_map_release(&map);
}

struct options_v1 {
    size_t struct_size;
    int32_t a;
};

struct options_v2 {
    size_t struct_size;
    int32_t a, b;
    int64_t c;
};

static void test_options_grow(void **state)
{
    (void)state;
    struct options_v2 lib;
    struct options_v1 old_app = {sizeof old_app, 5};
    assert_ok(base_options_copy(&lib, sizeof lib, &old_app, "options"));
    assert_int_equal(lib.a, 5);
    assert_int_equal(lib.c, 0);
    struct options_v2 new_app = {sizeof new_app, 6, 0, 0};
    struct options_v1 old_lib;
    assert_ok(base_options_copy(&old_lib, sizeof old_lib, &new_app, "options"));
    assert_int_equal(old_lib.a, 6);
    new_app.c = 1;
    assert_int_equal(base_options_copy(&old_lib, sizeof old_lib, &new_app, "options"),
                     INFER_ERR_UNSUPPORTED);
    new_app.struct_size = 0;
    assert_int_equal(base_options_copy(&lib, sizeof lib, &new_app, "options"), INFER_ERR_INVALID);
    assert_ok(base_options_copy(&lib, sizeof lib, NULL, "options"));
    assert_int_equal(lib.struct_size, sizeof lib);
}

/* Known answers of Random123 (Salmon et al.), philox4x32-10. */
static void test_philox(void **state)
{
    (void)state;
    uint32_t out[4];
    base_rng_philox(out, (uint32_t[]){0, 0, 0, 0}, (uint32_t[]){0, 0});
    const uint32_t zeros[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    assert_memory_equal(out, zeros, sizeof zeros);
    const uint32_t all = 0xffffffff;
    base_rng_philox(out, (uint32_t[]){all, all, all, all}, (uint32_t[]){all, all});
    const uint32_t ones[] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    assert_memory_equal(out, ones, sizeof ones);
    double sum = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double u = base_rng_uniform(1, 2, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    assert_true(sum > 49500 && sum < 50500);
}

static void test_files(void **state)
{
    (void)state;
    struct base_file file;
    assert_int_equal(base_file_map(&file, "/nonexistent"), INFER_ERR_NOT_FOUND);
    assert_int_equal(base_file_map(&file, "/tmp"), INFER_ERR_INVALID);
    assert_int_equal(base_file_map(&file, "/dev/null"), INFER_ERR_INVALID);
    assert_ok(base_file_map(&file, test_source("COPYING")));
    assert_memory_equal(file.data, "MIT License", 11);
    base_file_unmap(&file);
    assert_null(file.data);
}

static void remember(int32_t level, const char *text, void *user_data)
{
    snprintf(user_data, 64, "%d %s", (int)level, text);
}

static void test_log(void **state)
{
    (void)state;
    char last[64] = "";
    base_log(0, "nobody listens");
    base_log_set(remember, last, 1);
    base_log(2, "too detailed");
    assert_string_equal(last, "");
    base_log(1, "n = %d", 3);
    assert_string_equal(last, "1 n = 3");
    base_log_set(NULL, NULL, 0);
    base_log(0, "nobody again");
    assert_string_equal(last, "1 n = 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_refuses_overflow),
        cmocka_unit_test(test_pages_go_back_to_the_system),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_error_sentences),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_options_grow),
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
