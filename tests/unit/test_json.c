/* JSON: trees, typed reads, what is refused and where, failing allocations, JSONTestSuite. */
#include "support/test.h"
#include "support/test_alloc.h"

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

#include <dirent.h>
#include <locale.h>
#include <math.h>
#include <time.h>

static const struct base_json *parse(struct base_arena *arena, const char *text)
{
    const struct base_json *v = NULL;
    assert_ok(base_json_parse(&v, arena, text, strlen(text)));
    return v;
}

static void assert_refused(const char *text, size_t size, infer_status status, const char *sentence)
{
    struct test_alloc t;
    struct base_arena arena;
    const struct base_json *v = NULL;
    test_alloc_init(&t);
    base_arena_init(&arena, &t.alloc);
    assert_int_equal(base_json_parse(&v, &arena, text, size), status);
    assert_null(v);
    if (!strstr(base_error_text(), sentence))
        fail_msg("\"%s\" should contain \"%s\"", base_error_text(), sentence);
    base_arena_release(&arena);
    assert_int_equal(t.live_blocks, 0);
}

static void test_tree(void **state)
{
    struct base_arena arena;
    int64_t i = 0;
    double f = 0;
    int32_t b = 7;
    struct base_view text;
    (void)state;
    base_arena_init(&arena, &base_alloc_default);
    const struct base_json *v =
        parse(&arena, " {\"a\": [1, -2.5e1, true, null, \"x\\u00e9\\ud83d\\ude00\\n\"],"
                      "\"b\": {\"c\": {\"d\": 7}, \"e\": []}, \"\": false} ");
    assert_true(base_json_is(v, BASE_JSON_OBJECT));
    assert_int_equal(v->n, 3);
    assert_true(base_view_equal(v->as.member[1].key, "b"));
    const struct base_json *a = base_json_get(v, "a");
    assert_int_equal(a->n, 5);
    assert_true(base_json_i64(base_json_at(a, 0), &i) && i == 1);
    assert_true(base_json_i64(base_json_at(a, 1), &i) && i == -25);
    assert_true(base_json_f64(base_json_at(a, 1), &f) && f == -25);
    assert_true(base_json_bool(base_json_at(a, 2), &b) && b == 1);
    assert_true(base_json_is(base_json_at(a, 3), BASE_JSON_NULL));
    assert_true(base_json_string(base_json_at(a, 4), &text));
    assert_true(base_view_equal(text, "x\xc3\xa9\xf0\x9f\x98\x80\n"));
    assert_null(base_json_at(a, 5));
    assert_true(base_json_i64(base_json_path(v, "b.c.d"), &i) && i == 7);
    assert_null(base_json_path(v, "b.x.d"));
    assert_null(base_json_path(v, "a.b"));
    assert_int_equal(base_json_path(v, "b.e")->n, 0);
    assert_true(base_json_bool(base_json_get(v, ""), &b) && b == 0);
    assert_null(base_json_get(NULL, "a"));
    assert_false(base_json_i64(NULL, &i) || base_json_f64(base_json_get(v, "b"), &f) ||
                 base_json_bool(a, &b) || base_json_string(v, &text));
    base_arena_release(&arena);
}

/* Numbers at the borders, under a locale with a decimal comma too where there is one. */
static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        int is_int;
        double value;
    } cases[] = {
        {"0", 1, 0},
        {"-0", 1, 0},
        {"9223372036854775807", 1, 9223372036854775807.0},
        {"-9223372036854775808", 1, -9223372036854775808.0},
        {"9223372036854775808", 0, 9223372036854775808.0},
        {"-9223372036854775809", 0, -9223372036854775808.0},
        {"1e3", 0, 1000},
        {"1.5", 0, 1.5},
        {"0.1", 0, 0.1},
        {"-1.7976931348623157e308", 0, -1.7976931348623157e308},
        {"4.9406564584124654e-324", 0, 4.9406564584124654e-324},
        {"1e-999", 0, 0},
        {"123.456E-2", 0, 1.23456},
        {"0.000001e+6", 0, 1},
        {"0e99999999999999999999", 0, 0},
        {"3.14159265358979323846264338327950288", 0, 3.14159265358979323846},
    };
    (void)state;
    setlocale(LC_NUMERIC, "de_DE.UTF-8");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct base_arena arena;
        double f;
        base_arena_init(&arena, &base_alloc_default);
        const struct base_json *v = parse(&arena, cases[i].text);
        assert_int_equal(v->type, cases[i].is_int ? BASE_JSON_INT : BASE_JSON_REAL);
        assert_true(base_json_f64(v, &f));
        if (f != cases[i].value)
            fail_msg("%s gave %.17g", cases[i].text, f);
        base_arena_release(&arena);
    }
    setlocale(LC_NUMERIC, "C");
    int64_t unchanged = 5;
    struct base_json v = {.type = BASE_JSON_REAL, .as.real = 0x1p63};
    assert_false(base_json_i64(&v, &unchanged));
    v.as.real = 0.5;
    assert_false(base_json_i64(&v, &unchanged));
    assert_int_equal(unchanged, 5);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"", "line 1, column 1: "},
        {"{\"a\": 1,\n \"b\" 2}", "line 2, column "},
        {"[1, 2] x", "line 1, column 9: parse error: trailing garbage"},
        {"{\"a\": 1, \"b\": 2, \"a\": 3}", "duplicate key \"a\""},
        {"{\"\\u0061\": 1, \"a\": 3}", "duplicate key \"a\""},
        {"[1e999]", "a number beyond the range of a double: \"1e999\""},
        {"[-1e400]", "beyond the range"},
        {"[\"\\ud800\"]", "line 1, column 3: half of a surrogate pair"},
        {"[\"\\udc00\\ud800\"]", "half of a surrogate pair"},
        {"[\"\\ud800\\u0041\"]", "half of a surrogate pair"},
        {"[\"\xff\"]", "line 1, column 3: invalid UTF-8"},
        {"[\"\xc0\xaf\"]", "invalid UTF-8"},
        {"[\"\xed\xa0\x80\"]", "invalid UTF-8"},
        {"[\"\xf4\x90\x80\x80\"]", "invalid UTF-8"},
        {"[\"\xe2\x82", "invalid UTF-8"},
        {"\xef\xbb\xbf{}", "no part of JSON"},
        {"[\"a\nb\"]", "line 1"},
        {"[1,]", "line 1, column "},
        {"[1,\f2]", "line 1, column 4: a character that is no part of JSON"},
        {"[NaN]", "line 1, column "},
        {"/* c */ []", "line 1, column "},
        {"\"\\", "line 1"},
        {"[\"\\u12", "line 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].text, strlen(cases[i].text), INFER_ERR_FORMAT, cases[i].sentence);
    assert_refused("[\"a\0b\"]", 7, INFER_ERR_FORMAT, "line 1");
}

static void test_big_object(void **state)
{
    struct base_str text;
    struct base_arena arena;
    int64_t i = 0;
    (void)state;
    base_str_init(&text, &base_alloc_default, 0);
    assert_ok(base_str_put(&text, '{'));
    for (int k = 0; k < 50000; k++)
        assert_ok(base_str_appendf(&text, "\"key%d\": %d, ", k, k));
    size_t n = text.size;
    assert_ok(base_str_appendf(&text, "\"last\": 1}"));
    base_arena_init(&arena, &base_alloc_default);
    const struct base_json *v = parse(&arena, text.data);
    assert_int_equal(v->n, 50001);
    assert_true(base_json_i64(&v->as.member[40000].value, &i) && i == 40000);
    base_arena_release(&arena);
    assert_refused(NULL, 0, INFER_ERR_FORMAT, "line 1, column 1: ");
    memcpy(text.data + n, "\"key7\"", 6);
    assert_refused(text.data, text.size, INFER_ERR_FORMAT, "duplicate key \"key7\"");
    base_str_release(&text);
}

static void test_depth(void **state)
{
    char text[2 * BASE_JSON_MAX_DEPTH + 2];
    struct base_arena arena;
    (void)state;
    memset(text, '[', BASE_JSON_MAX_DEPTH + 1);
    memset(text + BASE_JSON_MAX_DEPTH + 1, ']', BASE_JSON_MAX_DEPTH + 1);
    assert_refused(text, sizeof text, INFER_ERR_LIMIT, "column 257: arrays and objects are nested");
    base_arena_init(&arena, &base_alloc_default);
    const struct base_json *v = NULL;
    assert_ok(base_json_parse(&v, &arena, text + 1, sizeof text - 2));
    base_arena_release(&arena);
}

/* The worst texts for memory: many small values. */
static void test_memory(void **state)
{
    static const char *const pieces[] = {"0,", "[],", "\"\",", "[0],", "{},", "[[[[0]]]],"};
    (void)state;
    for (size_t k = 0; k < sizeof pieces / sizeof pieces[0]; k++) {
        struct base_str text;
        struct test_alloc t;
        struct base_arena arena;
        const struct base_json *v = NULL;
        base_str_init(&text, &base_alloc_default, 0);
        assert_ok(base_str_put(&text, '['));
        while (text.size < 1000000)
            assert_ok(base_str_append(&text, pieces[k], strlen(pieces[k])));
        assert_ok(base_str_append(&text, "0]", 2));
        test_alloc_init(&t);
        base_arena_init(&arena, &t.alloc);
        assert_ok(base_json_parse(&v, &arena, text.data, text.size));
        base_arena_release(&arena);
        assert_int_equal(t.live_blocks, 0);
        assert_true(t.peak_bytes < 20 * text.size);
        base_str_release(&text);
    }
}

static void test_allocations(void **state)
{
    static const char text[] =
        "{\"a\": [1, 2.5, \"x\\ny\"], \"b\": {\"c\": null}, \"1\": 1, \"2\": 2,"
        "\"3\": 1, \"4\": 2, \"5\": 1, \"6\": 2, \"7\": 1, \"8\": 2,"
        "\"9\": 1, \"10\": 2, \"11\": 1, \"12\": 2, \"13\": 1, \"14\": 2,"
        "\"15\": 1, \"16\": \"\\t\"}";
    size_t n_calls = 0;
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        struct test_alloc t;
        struct base_arena arena;
        const struct base_json *v = NULL;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        base_arena_init(&arena, &t.alloc);
        infer_status st = base_json_parse(&v, &arena, text, sizeof text - 1);
        base_arena_release(&arena);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK) {
            n_calls = fail_at - 1;
            break;
        }
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_null(v);
    }
    assert_true(n_calls >= 10);
}

/* y_ must be accepted, n_ refused, i_ may be either. Duplicate keys are y_ there, because the
 * grammar allows them, and refused here. */
static void test_suite(void **state)
{
    char folder[1024];
    size_t n_yes = 0, n_no = 0, n_duplicate = 0, n_free = 0;
    (void)state;
    snprintf(folder, sizeof folder, "%s", test_data("json/JSONTestSuite/test_parsing"));
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[2048];
        size_t size;
        struct base_arena arena;
        const struct base_json *v;
        if (!strstr(e->d_name, ".json"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        char *text = test_read(path, &size);
        base_arena_init(&arena, &base_alloc_default);
        infer_status st = base_json_parse(&v, &arena, text, size);
        if (strncmp(e->d_name, "y_object_duplicated_key", 23) == 0) {
            n_duplicate += st == INFER_ERR_FORMAT && strstr(base_error_text(), "duplicate key");
        } else if (e->d_name[0] == 'y') {
            if (st != INFER_OK)
                fail_msg("%s: %s", e->d_name, base_error_text());
            n_yes++;
        } else if (e->d_name[0] == 'n') {
            if (st != INFER_ERR_FORMAT && st != INFER_ERR_LIMIT)
                fail_msg("%s was accepted", e->d_name);
            n_no++;
        } else {
            n_free++;
        }
        base_arena_release(&arena);
        free(text);
    }
    closedir(dir);
    assert_int_equal(n_yes, 93);
    assert_int_equal(n_duplicate, 2);
    assert_int_equal(n_no, 188);
    assert_int_equal(n_free, 35);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree),        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_big_object),
        cmocka_unit_test(test_depth),       cmocka_unit_test(test_memory),
        cmocka_unit_test(test_allocations), cmocka_unit_test(test_suite),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
