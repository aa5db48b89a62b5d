/* Metadata that grows: what is kept, and filters over it, indexed or not. */
#include "meta_cases.h"

#include "base/error.h"
#include "vector/meta_index.h"

static struct vector_meta *new_meta(const char *const *fields, int32_t n)
{
    struct vector_meta *m = NULL;
    assert_ok(vector_meta_create(&m, &base_alloc_default, fields, n));
    return m;
}

static void texts_stay_as_they_were_written(void **state)
{
    struct case_rows rows;
    uint64_t seed = 1;
    const char *json;
    size_t size;
    BASE_UNUSED(state);
    struct vector_meta *m = new_meta(case_fields, 2);
    case_rows_init(&rows, 5000, &seed);
    case_rows_add(&rows, m, 0, rows.n);
    assert_int_equal(vector_meta_size(m), rows.n);
    for (int32_t i = 0; i < rows.n; i++) {
        vector_meta_get(m, i, &json, &size);
        assert_int_equal(size, rows.texts[i].size);
        assert_true(size ? memcmp(json, rows.texts[i].data, size) == 0 : json == NULL);
    }
    vector_meta_get(m, rows.n, &json, &size);
    assert_null(json);
    vector_meta_get(m, -1, &json, &size);
    assert_null(json);
    assert_true(vector_meta_bytes(m) > 100000);
    case_rows_release(&rows);
    vector_meta_destroy(&m);
}

static void what_is_no_object_is_refused(void **state)
{
    const struct base_alloc *a = &base_alloc_default;
    char *big = malloc(VECTOR_META_MAX + 1);
    BASE_UNUSED(state);
    assert_int_equal(vector_meta_check(a, "[1]", 3), INFER_ERR_FORMAT);
    assert_non_null(strstr(base_error_text(), "object"));
    assert_int_equal(vector_meta_check(a, "{\"a\": 1,}", 9), INFER_ERR_FORMAT);
    assert_non_null(strstr(base_error_text(), "metadata: line 1, column"));
    assert_int_equal(vector_meta_check(a, "{\"a\": 1, \"a\": 2}", 16), INFER_ERR_FORMAT);
    assert_int_equal(vector_meta_check(a, "", 0), INFER_ERR_FORMAT);
    memset(big, ' ', VECTOR_META_MAX + 1);
    memcpy(big, "{}", 2);
    assert_ok(vector_meta_check(a, big, VECTOR_META_MAX));
    assert_int_equal(vector_meta_check(a, big, VECTOR_META_MAX + 1), INFER_ERR_LIMIT);
    free(big);
}

static void indexed_or_not_filters_find_what_the_plain_reader_finds(void **state)
{
    struct case_rows rows;
    struct base_str text;
    uint64_t seed = 7;
    int64_t n_found = 0;
    BASE_UNUSED(state);
    struct vector_meta *m[3] = {new_meta(NULL, 0), new_meta(case_fields, CASE_FIELDS),
                                new_meta(case_fields, 1)};
    case_rows_init(&rows, 1500, &seed);
    for (int i = 0; i < 3; i++)
        case_rows_add(&rows, m[i], 0, rows.n);
    for (int i = 0; i < 600; i++) {
        base_str_init(&text, &base_alloc_default, 0);
        case_filter(&text, &seed);
        int32_t n_rows = i % 3 ? rows.n : (int32_t)(test_rand(&seed) % 1501);
        for (int j = 0; j < 3; j++)
            n_found += case_check(&rows, m[j], &text, n_rows, NULL);
        base_str_release(&text);
    }
    assert_in_range(n_found, 100000, 2000000); /* neither all nor nothing */
    for (int i = 0; i < 3; i++)
        vector_meta_destroy(&m[i]);
    case_rows_release(&rows);
}

/* Columns are merged as rows arrive; every size in between is asked. */
static void filters_follow_every_row(void **state)
{
    struct case_rows rows;
    struct base_str texts[8];
    uint64_t seed = 3;
    BASE_UNUSED(state);
    struct vector_meta *m = new_meta(case_fields, 3);
    case_rows_init(&rows, 700, &seed);
    for (size_t i = 0; i < BASE_COUNT(texts); i++) {
        base_str_init(&texts[i], &base_alloc_default, 0);
        case_filter(&texts[i], &seed);
    }
    for (int32_t i = 0; i < rows.n; i++) {
        case_rows_add(&rows, m, i, i + 1);
        case_check(&rows, m, &texts[(size_t)i % BASE_COUNT(texts)], i + 1, NULL);
        if (i == 333)
            for (int32_t j = 3; j < CASE_FIELDS; j++)
                assert_ok(vector_meta_add_field(m, case_fields[j]));
    }
    for (size_t i = 0; i < BASE_COUNT(texts); i++)
        base_str_release(&texts[i]);
    vector_meta_destroy(&m);
    case_rows_release(&rows);
}

/* Rows of the last column are few, so that its walk is what is tested. */
static void indexed_conditions_read_no_text(void **state)
{
    struct vector_meta *m = new_meta(case_fields, 1);
    char json[64];
    BASE_UNUSED(state);
    for (int i = 0; i < 1280; i++) {
        int n = sprintf(json, "{\"year\": %d}", i % 100);
        assert_ok(vector_meta_add(m, json, (size_t)n));
    }
    struct vector_meta_index *index = vector_meta_index_hold(m);
    assert_int_equal(index->end, 1280);
    assert_in_range(index->fields[0].stack.n, 1, 4);
    vector_meta_index_drop(&index);
    static const struct {
        const char *filter;
        int32_t most;
    } cases[] = {
        {"{\"year\": 7}", 13},
        {"{\"year\": 300}", 0},
        {"{\"year\": {\"$gte\": 10, \"$lt\": 20}}", 130},
        {"{\"year\": {\"$in\": [1, 2, 99]}}", 38},
        {"{\"year\": {\"$ne\": 7}}", 1267},
        {"{\"year\": {\"$exists\": false}}", 0},
        {"{\"$or\": [{\"year\": 1}, {\"year\": 2}]}", 26},
        {"{\"year\": 1, \"$and\": [{\"year\": {\"$lt\": 50}}]}", 13},
        {"{\"other\": 1}", 1280},
        {"{\"other\": 1, \"year\": 3}", 13},
        {"{\"$not\": {\"other\": 1}}", 1280},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct vector_filter *f = NULL;
        assert_ok(
            vector_filter_parse(&f, &base_alloc_default, cases[i].filter, strlen(cases[i].filter)));
        assert_int_equal(vector_filter_most(f, m, 1280), cases[i].most);
        vector_filter_destroy(&f);
    }
    vector_meta_destroy(&m);
}

/* A value that most rows have is set by clearing the others: not where rows have several, nor where
 * another value was set before. */
static void values_of_most_rows_are_found(void **state)
{
    static const struct {
        const char *filter;
        int32_t most; /* -1: not looked at */
    } cases[] = {
        {"{\"one\": 1}", 1024},
        {"{\"one\": {\"$in\": [0, 1]}}", 1152},
        {"{\"one\": {\"$in\": [1, 9]}}", 1152},
        {"{\"one\": {\"$in\": [1, 1.0, 1e0]}}", 1024},
        {"{\"one\": {\"$lt\": 9}}", 1152},
        {"{\"one\": {\"$gt\": 0}}", 1152},
        {"{\"one\": {\"$not\": {\"$gt\": 0}}}", 128},
        {"{\"some\": 1}", -1},
        {"{\"some\": {\"$in\": [1, 2]}}", -1},
        {"{\"some\": {\"$gte\": 1, \"$lte\": 1}}", -1},
        {"{\"some\": {\"$not\": {\"$gt\": 0}}}", -1},
        {"{\"late\": 1}", -1},
        {"{\"late\": {\"$lt\": 3}}", -1},
        {"{\"late\": {\"$gt\": 1, \"$lt\": 2}}", -1},
        {"{\"twice\": 5}", 640},
        {"{\"twice\": {\"$ne\": 5}}", 640},
    };
    const char *fields[] = {"one", "some", "late", "twice"};
    struct case_rows rows;
    BASE_UNUSED(state);
    struct vector_meta *m = new_meta(fields, 4);
    case_rows_start(&rows, 1280);
    for (int i = 0; i < rows.n; i++) {
        /* as many values in all as rows that have the field, and two in one row */
        const char *some = i % 8 == 0 ? "[1, 2]" : i % 8 == 1 ? "[]" : "1";
        base_str_appendf(&rows.texts[i], "{\"one\": %d, \"some\": %s, \"late\": %s, \"twice\": %s}",
                         i % 10 == 0   ? 0
                         : i % 10 == 1 ? 9
                                       : 1,
                         some, i < 1000 ? "1" : some, i % 2 ? "[5, 5]" : "[6]");
    }
    case_rows_parse(&rows);
    case_rows_add(&rows, m, 0, rows.n);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct base_str text;
        base_str_init(&text, &base_alloc_default, 0);
        base_str_appendf(&text, "%s", cases[i].filter);
        for (int32_t n = 1200; n <= rows.n; n += 40)
            case_check(&rows, m, &text, n, NULL);
        struct vector_filter *f = NULL;
        assert_ok(vector_filter_parse(&f, &base_alloc_default, text.data, text.size));
        if (cases[i].most >= 0)
            assert_int_equal(vector_filter_most(f, m, rows.n), cases[i].most);
        vector_filter_destroy(&f);
        base_str_release(&text);
    }
    vector_meta_destroy(&m);
    case_rows_release(&rows);
}

/* More values than are sorted at once, and lists longer than are looked up to judge them. */
static void many_values_are_indexed_in_pieces(void **state)
{
    static const char *const filters[] = {
        "{\"n\": 77}",
        "{\"n\": {\"$gte\": 9990, \"$lt\": 20}}",
        "{\"n\": {\"$gt\": 9000, \"$lte\": 9040}, \"s\": {\"$prefix\": \"v12\"}}",
        "{\"s\": {\"$gt\": \"v9\"}}",
        "{\"n\": {\"$in\": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, "
        "21,"
        " 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33]}, \"s\": {\"$lt\": \"v3\"}}",
    };
    struct case_rows rows;
    uint64_t seed = 31;
    BASE_UNUSED(state);
    struct vector_meta *m = new_meta(NULL, 0);
    case_rows_start(&rows, 200);
    for (int i = 0; i < rows.n; i++) {
        const int n = i % 3 ? 10 : 400;
        base_str_appendf(&rows.texts[i], "{\"n\": [");
        for (int j = 0; j < n; j++)
            base_str_appendf(&rows.texts[i], "%s%d", j ? "," : "", (int)(test_rand(&seed) % 10000));
        base_str_appendf(&rows.texts[i], "], \"s\": [");
        for (int j = 0; j < n; j++)
            base_str_appendf(&rows.texts[i], "%s\"v%d\"", j ? "," : "",
                             (int)(test_rand(&seed) % 10000));
        base_str_appendf(&rows.texts[i], "]}");
    }
    case_rows_parse(&rows);
    case_rows_add(&rows, m, 0, rows.n);
    assert_ok(vector_meta_add_field(m, "n"));
    assert_ok(vector_meta_add_field(m, "s"));
    for (size_t i = 0; i < BASE_COUNT(filters); i++) {
        struct base_str text;
        base_str_init(&text, &base_alloc_default, 0);
        base_str_appendf(&text, "%s", filters[i]);
        assert_in_range(case_check(&rows, m, &text, rows.n, NULL), 1, rows.n - 1);
        base_str_release(&text);
    }
    vector_meta_destroy(&m);
    case_rows_release(&rows);
}

static void fields_are_bounded(void **state)
{
    char path[64 * 2 + 2000];
    BASE_UNUSED(state);
    struct vector_meta *m = new_meta(NULL, 0);
    assert_int_equal(vector_meta_add_field(m, ""), INFER_ERR_INVALID);
    memset(path, 'a', sizeof path);
    path[1025] = 0;
    assert_int_equal(vector_meta_add_field(m, path), INFER_ERR_INVALID);
    for (int i = 0; i < 65; i++)
        path[i] = i % 2 ? '.' : 'a';
    path[65] = 0;
    assert_int_equal(vector_meta_add_field(m, path), INFER_ERR_INVALID);
    for (int i = 0; i < VECTOR_FIELDS_MAX; i++) {
        sprintf(path, "field.%d", i);
        assert_ok(vector_meta_add_field(m, path));
        assert_ok(vector_meta_add_field(m, path));
    }
    assert_int_equal(vector_meta_add_field(m, "more"), INFER_ERR_LIMIT);
    vector_meta_destroy(&m);
}

/* Adds, asks, adds a field; every allocation in turn fails. What was acknowledged stays. */
static void a_refused_allocation_loses_nothing(void **state)
{
    static const char text[] =
        "{\"year\": {\"$gte\": 3}, \"$or\": [{\"tag\": \"ab\"}, {\"other\": 1}]}";
    struct case_rows rows;
    struct test_alloc t;
    uint64_t seed = 5, bits[8];
    BASE_UNUSED(state);
    case_rows_init(&rows, 400, &seed);
    for (size_t fail_at = 1;; fail_at++) {
        struct vector_meta *m = NULL;
        struct vector_filter *f = NULL;
        int32_t n_added = 0, n_set = 0, n_failed = 0;
        test_alloc_init(&t);
        assert_ok(vector_filter_parse(&f, &t.alloc, text, strlen(text)));
        t.n_calls = 0;
        t.fail_at = fail_at;
        if (vector_meta_create(&m, &t.alloc, case_fields, 2) == INFER_OK) {
            for (int32_t i = 0; i < rows.n; i++) {
                infer_status st = vector_meta_add(m, rows.texts[i].data, rows.texts[i].size);
                n_failed += st != INFER_OK;
                if (st != INFER_OK)
                    assert_ok(vector_meta_add(m, rows.texts[i].data, rows.texts[i].size));
                n_added++;
            }
            if (vector_meta_add_field(m, "other") != INFER_OK)
                assert_ok(vector_meta_add_field(m, "other"));
            assert_int_equal(vector_meta_size(m), n_added);
            if (vector_filter_rows(f, m, n_added, bits, &n_set) != INFER_OK)
                assert_ok(vector_filter_rows(f, m, n_added, bits, &n_set));
            for (int32_t i = 0; i < n_added; i++) {
                int32_t passes;
                assert_ok(vector_filter_test(f, rows.texts[i].data, rows.texts[i].size, &passes));
                assert_int_equal(bits[i / 64] >> (i % 64) & 1, passes);
            }
        }
        vector_meta_destroy(&m);
        vector_filter_destroy(&f);
        assert_int_equal(t.live_blocks, 0);
        assert_in_range(n_failed, 0, 1);
        if (t.n_calls < fail_at)
            break;
    }
    case_rows_release(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_stay_as_they_were_written),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(indexed_or_not_filters_find_what_the_plain_reader_finds),
        cmocka_unit_test(filters_follow_every_row),
        cmocka_unit_test(indexed_conditions_read_no_text),
        cmocka_unit_test(values_of_most_rows_are_found),
        cmocka_unit_test(many_values_are_indexed_in_pieces),
        cmocka_unit_test(fields_are_bounded),
        cmocka_unit_test(a_refused_allocation_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
