/* The language of filters: what passes, what is refused and in which words. */
#include "filter_naive.h"
#include "support/test.h"
#include "support/test_alloc.h"

#include "base/error.h"
#include "vector/filter.h"

struct language {
    const char *filter, *metadata; /* NULL: none */
    int passes;
};

static const struct language table[] = {
    {"{}", "{\"a\": 1}", 1},
    {"{}", NULL, 1},
    /* equality, by kinds */
    {"{\"a\": 1}", "{\"a\": 1}", 1},
    {"{\"a\": 1}", "{\"a\": 2}", 0},
    {"{\"a\": 1}", "{\"b\": 1}", 0},
    {"{\"a\": 1}", NULL, 0},
    {"{\"a\": 1}", "{\"a\": 1.0}", 1},
    {"{\"a\": 10}", "{\"a\": 1e1}", 1},
    {"{\"a\": 0}", "{\"a\": -0.0}", 1},
    {"{\"a\": 1}", "{\"a\": \"1\"}", 0},
    {"{\"a\": 1}", "{\"a\": true}", 0},
    {"{\"a\": \"x\"}", "{\"a\": \"x\"}", 1},
    {"{\"a\": \"x\"}", "{\"a\": \"xy\"}", 0},
    {"{\"a\": \"\"}", "{\"a\": \"\"}", 1},
    {"{\"a\": true}", "{\"a\": true}", 1},
    {"{\"a\": true}", "{\"a\": false}", 0},
    {"{\"a\": null}", "{\"a\": null}", 1},
    {"{\"a\": null}", "{\"b\": null}", 0},
    {"{\"a\": null}", "{\"a\": 0}", 0},
    {"{\"a\": {\"$eq\": 3}}", "{\"a\": 3}", 1},
    /* integers and doubles compare as numbers, not as doubles */
    {"{\"a\": 9007199254740993}", "{\"a\": 9007199254740993}", 1},
    {"{\"a\": 9007199254740993}", "{\"a\": 9007199254740992}", 0},
    {"{\"a\": 9007199254740993}", "{\"a\": 9007199254740992.0}", 0},
    {"{\"a\": {\"$gt\": 9007199254740992.0}}", "{\"a\": 9007199254740993}", 1},
    {"{\"a\": {\"$lt\": 9223372036854775807}}", "{\"a\": 9223372036854775808}", 0},
    {"{\"a\": {\"$gt\": 9223372036854775807}}", "{\"a\": 9223372036854775808}", 1},
    {"{\"a\": {\"$gte\": -9223372036854775808}}", "{\"a\": -9223372036854775808.0}", 1},
    {"{\"a\": 0.1}", "{\"a\": 1e-1}", 1},
    {"{\"a\": {\"$lt\": 0.30000000000000004}}", "{\"a\": 0.3}", 1},
    {"{\"a\": 5e-324}", "{\"a\": 4.9406564584124654e-324}", 1},
    {"{\"a\": 1e23}", "{\"a\": 99999999999999991611392}", 1},
    {"{\"a\": 1e-23}", "{\"a\": 0.00000000000000000000001}", 1},
    {"{\"a\": 90071992547409936}", "{\"a\": 9007199254740993e1}", 1},
    /* order */
    {"{\"a\": {\"$lt\": 3}}", "{\"a\": 2.5}", 1},
    {"{\"a\": {\"$lt\": 3}}", "{\"a\": 3}", 0},
    {"{\"a\": {\"$lte\": 3}}", "{\"a\": 3}", 1},
    {"{\"a\": {\"$gt\": 3}}", "{\"a\": 3}", 0},
    {"{\"a\": {\"$gte\": 3}}", "{\"a\": 3}", 1},
    {"{\"a\": {\"$gte\": 3, \"$lt\": 5}}", "{\"a\": 4}", 1},
    {"{\"a\": {\"$gte\": 3, \"$lt\": 5}}", "{\"a\": 5}", 0},
    {"{\"a\": {\"$gt\": 1, \"$gte\": 3}}", "{\"a\": 2}", 0},
    {"{\"a\": {\"$gt\": 3, \"$lt\": \"x\"}}", "{\"a\": 4}", 0},
    {"{\"a\": {\"$lt\": 3}}", "{\"a\": \"2\"}", 0},
    {"{\"a\": {\"$lt\": 3}}", "{\"a\": null}", 0},
    {"{\"a\": {\"$lt\": 3}}", "{\"a\": false}", 0},
    {"{\"a\": {\"$lt\": \"b\"}}", "{\"a\": \"ab\"}", 1},
    {"{\"a\": {\"$lt\": \"b\"}}", "{\"a\": \"b\"}", 0},
    {"{\"a\": {\"$gt\": \"Z\"}}", "{\"a\": \"a\"}", 1},
    {"{\"a\": {\"$gt\": \"z\"}}", "{\"a\": \"\xc3\xa4\"}", 1},
    {"{\"a\": {\"$gt\": \"ab\"}}", "{\"a\": \"abc\"}", 1},
    /* lists */
    {"{\"a\": {\"$in\": [3, \"x\", null]}}", "{\"a\": \"x\"}", 1},
    {"{\"a\": {\"$in\": [3, \"x\", null]}}", "{\"a\": null}", 1},
    {"{\"a\": {\"$in\": [3, \"x\", null]}}", "{\"a\": 4}", 0},
    {"{\"a\": {\"$in\": [3, \"x\", null]}}", "{}", 0},
    {"{\"a\": {\"$in\": []}}", "{\"a\": 1}", 0},
    {"{\"a\": {\"$nin\": []}}", "{}", 1},
    {"{\"a\": {\"$nin\": [1, 2]}}", "{\"a\": 3}", 1},
    {"{\"a\": {\"$nin\": [1, 2]}}", "{\"a\": 2}", 0},
    {"{\"a\": {\"$in\": [5, 1, 5, 4, 2, 3, 9, 8, 7, 6]}}", "{\"a\": 7}", 1},
    /* negation is true of what is missing */
    {"{\"a\": {\"$ne\": 1}}", "{\"a\": 2}", 1},
    {"{\"a\": {\"$ne\": 1}}", "{\"a\": 1.0}", 0},
    {"{\"a\": {\"$ne\": 1}}", "{\"a\": \"1\"}", 1},
    {"{\"a\": {\"$ne\": 1}}", "{}", 1},
    {"{\"a\": {\"$ne\": 1}}", NULL, 1},
    {"{\"a\": {\"$not\": {\"$gt\": 3}}}", "{\"a\": 3}", 1},
    {"{\"a\": {\"$not\": {\"$gt\": 3}}}", "{\"a\": 4}", 0},
    {"{\"a\": {\"$not\": {\"$gt\": 3}}}", "{}", 1},
    {"{\"a\": {\"$not\": {\"$not\": {\"$gt\": 3}}}}", "{\"a\": 4}", 1},
    {"{\"$not\": {\"a\": 1, \"b\": 2}}", "{\"a\": 1, \"b\": 3}", 1},
    {"{\"$not\": {\"a\": 1, \"b\": 2}}", "{\"a\": 1, \"b\": 2}", 0},
    {"{\"$not\": {}}", "{\"a\": 1}", 0},
    /* presence */
    {"{\"a\": {\"$exists\": true}}", "{\"a\": null}", 1},
    {"{\"a\": {\"$exists\": true}}", "{\"a\": {}}", 1},
    {"{\"a\": {\"$exists\": true}}", "{\"a\": []}", 1},
    {"{\"a\": {\"$exists\": true}}", "{\"b\": 1}", 0},
    {"{\"a\": {\"$exists\": false}}", "{\"b\": 1}", 1},
    {"{\"a\": {\"$exists\": false}}", NULL, 1},
    {"{\"a.b\": {\"$exists\": true}}", "{\"a\": {\"b\": 1}}", 1},
    {"{\"a.b\": {\"$exists\": true}}", "{\"a\": 1}", 0},
    /* beginnings */
    {"{\"a\": {\"$prefix\": \"ab\"}}", "{\"a\": \"abc\"}", 1},
    {"{\"a\": {\"$prefix\": \"ab\"}}", "{\"a\": \"ab\"}", 1},
    {"{\"a\": {\"$prefix\": \"ab\"}}", "{\"a\": \"a\"}", 0},
    {"{\"a\": {\"$prefix\": \"\"}}", "{\"a\": \"\"}", 1},
    {"{\"a\": {\"$prefix\": \"\"}}", "{\"a\": 1}", 0},
    /* arrays: any element; two bounds may be met by two */
    {"{\"a\": 2}", "{\"a\": [1, 2]}", 1},
    {"{\"a\": 3}", "{\"a\": [1, 2]}", 0},
    {"{\"a\": {\"$ne\": 2}}", "{\"a\": [1, 2]}", 0},
    {"{\"a\": {\"$ne\": 3}}", "{\"a\": [1, 2]}", 1},
    {"{\"a\": {\"$in\": [2, 9]}}", "{\"a\": [1, 2]}", 1},
    {"{\"a\": {\"$gt\": 1}}", "{\"a\": [0, 2]}", 1},
    {"{\"a\": {\"$gte\": 3, \"$lt\": 5}}", "{\"a\": [1, 9]}", 1},
    {"{\"a\": {\"$gte\": 3, \"$lt\": 5}}", "{\"a\": [6, 9]}", 0},
    {"{\"a\": {\"$prefix\": \"b\"}}", "{\"a\": [\"a\", \"bc\", 3]}", 1},
    {"{\"a\": 1}", "{\"a\": []}", 0},
    {"{\"a\": 1}", "{\"a\": [[1]]}", 0},
    {"{\"a\": null}", "{\"a\": [null]}", 1},
    {"{\"a.b\": 1}", "{\"a\": [{\"b\": 1}]}", 0},
    {"{\"a\": 1}", "{\"a\": {\"b\": 1}}", 0},
    /* paths */
    {"{\"a.b\": 1}", "{\"a\": {\"b\": 1}}", 1},
    {"{\"a.b.c\": 1}", "{\"a\": {\"x\": 0, \"b\": {\"c\": 1}}}", 1},
    {"{\"a.b\": 1}", "{\"a.b\": 1}", 1},
    {"{\"a.b\": 1}", "{\"a\": {\"b\": 1}, \"a.b\": 2}", 0},
    {"{\"a.b\": 2}", "{\"a\": {\"b\": 1}, \"a.b\": 2}", 1},
    {"{\"a.b\": 2}", "{\"a.b\": 2, \"a\": {\"b\": 1}}", 1},
    {"{\"a.b.c\": 1}", "{\"a.b\": {\"c\": 1}}", 0},
    {"{\"a.b.c\": 1}", "{\"a\": {\"b.c\": 1}}", 0},
    {"{\"a\": {\"$exists\": true}, \"a.b\": 1}", "{\"a\": {\"b\": 1}}", 1},
    {"{\"a.b\": 1, \"a.c\": 2, \"d\": 3}", "{\"d\": 3, \"a\": {\"c\": 2, \"b\": 1}}", 1},
    {"{\"\": 1}", "{\"\": 1}", 1},
    {"{\"a..b\": 1}", "{\"a\": {\"\": {\"b\": 1}}}", 1},
    {"{\"a.\": 1}", "{\"a\": {\"\": 1}}", 1},
    {"{\"a.b\": 1}", "{\"a\": {\"b\": 2}, \"b\": 1}", 0},
    /* escapes, on both sides */
    {"{\"a\": \"x\\ny\"}", "{\"a\": \"x\\u000ay\"}", 1},
    {"{\"a\": \"\\u00e4\"}", "{\"a\": \"\xc3\xa4\"}", 1},
    {"{\"a\": \"\xf0\x9f\x98\x80\"}", "{\"a\": \"\\ud83d\\ude00\"}", 1},
    {"{\"a\": \"\\u0000\"}", "{\"a\": \"\\u0000\"}", 1},
    {"{\"a\": {\"$gt\": \"a\"}}", "{\"a\": \"\\u0062\"}", 1},
    {"{\"a\": {\"$prefix\": \"a/\"}}", "{\"a\": \"\\u0061\\/b\"}", 1},
    {"{\"a\": {\"$prefix\": \"\xc3\"}}", NULL, -1},
    {"{\"ab\": 1}", "{\"\\u0061b\": 1}", 1},
    {"{\"a\\\"b\": 1}", "{\"a\\\"b\": 1}", 1},
    {"{\"a\": \"b\\\\n\"}", "{\"a\": \"b\\\\n\"}", 1},
    {"{\"a\": \"q\\\"\"}", "{\"z\": \"\\\\\", \"a\": \"q\\\"\"}", 1},
    /* what is passed over */
    {"{\"z\": 1}", "{\"a\": [1, {\"z\": 2, \"s\": \"]}\"}], \"b\": {\"z\": 3}, \"z\": 1}", 1},
    {"{\"z\": 1}", " \n{ \"a\" : \"{\\\"z\\\": 2\" ,\t\"z\" : 1 } ", 1},
    {"{\"z\": 1}", "{\"a\": -1.5e+3, \"b\": null, \"c\": true, \"d\": false, \"z\": 1}", 1},
    /* tables of the document */
    {"{\"a\": {\"$ne\": 9}}", "{\"a\": [1, 9]}", 0},
    {"{\"a\": {\"$ne\": 9}}", "{\"a\": [4]}", 1},
    {"{\"a\": {\"$ne\": 9}}", "{\"a\": []}", 1},
    {"{\"a\": {\"$gt\": 3}}", "{\"a\": []}", 0},
    {"{\"a\": {\"$gte\": 3, \"$lt\": 5}}", "{\"a\": [4]}", 1},
    {"{\"a.b\": 1}", "{\"x\": {\"a.b\": 1}}", 0},
    {"{\"x.a.b\": 1}", "{\"x\": {\"a.b\": 1}}", 0},
    {"{\"a.$b\": 1}", "{\"a\": {\"$b\": 1}}", 1},
    {"{\"rating\": {\"$not\": {\"$gte\": 3}}}", "{}", 1},
    {"{\"rating\": {\"$lt\": 3}}", "{}", 0},
    /* joining */
    {"{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"a\": 1}", 1},
    {"{\"a\": 1, \"b\": 2}", "{\"b\": 3, \"a\": 1}", 0},
    {"{\"$and\": [{\"a\": 1}, {\"b\": 2}]}", "{\"b\": 2, \"a\": 1}", 1},
    {"{\"$or\": [{\"a\": 1}, {\"b\": 2}]}", "{\"b\": 2, \"a\": 9}", 1},
    {"{\"$or\": [{\"a\": 1}, {\"b\": 2}]}", "{\"b\": 9, \"a\": 9}", 0},
    {"{\"c\": 1, \"$or\": [{\"a\": 1}, {\"$and\": [{\"b\": 2}, {}]}]}", "{\"b\": 2, \"c\": 1}", 1},
    {"{\"c\": 1, \"$or\": [{\"a\": 1}, {\"$and\": [{\"b\": 2}, {}]}]}", "{\"b\": 2, \"c\": 2}", 0},
};

static struct vector_filter *parse(const struct base_alloc *a, const char *text)
{
    struct vector_filter *f = NULL;
    infer_status st = vector_filter_parse(&f, a, text, strlen(text));
    if (st != INFER_OK)
        print_message("%s: %s\n", text, base_error_text());
    assert_int_equal(st, INFER_OK);
    return f;
}

static void every_case_passes_as_it_is_written(void **state)
{
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(table); i++) {
        const struct language *c = &table[i];
        struct vector_filter *f = NULL;
        int32_t passes = -1;
        if (c->passes < 0) { /* no UTF-8 */
            assert_int_equal(
                vector_filter_parse(&f, &base_alloc_default, c->filter, strlen(c->filter)),
                INFER_ERR_FORMAT);
            continue;
        }
        f = parse(&base_alloc_default, c->filter);
        assert_int_equal(
            vector_filter_test(f, c->metadata, c->metadata ? strlen(c->metadata) : 0, &passes),
            INFER_OK);
        if (passes != c->passes)
            fail_msg("%s with %s gives %d", c->filter, c->metadata ? c->metadata : "nothing",
                     passes);
        vector_filter_destroy(&f);
    }
}

static void the_plain_reader_agrees_with_every_case(void **state)
{
    struct base_arena arena;
    BASE_UNUSED(state);
    base_arena_init(&arena, &base_alloc_default);
    for (size_t i = 0; i < BASE_COUNT(table); i++) {
        const struct language *c = &table[i];
        const struct base_json *filter, *metadata = NULL;
        if (c->passes < 0)
            continue;
        assert_int_equal(base_json_parse(&filter, &arena, c->filter, strlen(c->filter)), INFER_OK);
        if (c->metadata)
            assert_int_equal(base_json_parse(&metadata, &arena, c->metadata, strlen(c->metadata)),
                             INFER_OK);
        assert_int_equal(naive_passes(filter, metadata), c->passes);
    }
    base_arena_release(&arena);
}

static void what_is_no_filter_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *filter, *words[2];
    } cases[] = {
        {"", {"filter: line 1"}},
        {"{\"a\": 1", {"filter: line 1"}},
        {"[]", {"an object is expected at the top", "an empty array"}},
        {"{\"a\": 1, \"a\": 2}", {"duplicate key \"a\""}},
        {"{\"a\": [1]}", {"expected at a, not an array", "$in"}},
        {"{\"a\": {}}", {"expected at a, not an empty object", "operators"}},
        {"{\"a\": {\"b\": 1}}", {"operator is expected at a.b:", "$eq, $ne"}},
        {"{\"a\": {\"$like\": 1}}", {"operator is expected at a.$like:", "$prefix"}},
        {"{\"$xor\": [{}]}", {"expected at $xor", "$and, $or, $not"}},
        {"{\"$or\": {}}", {"an array of filters is expected at $or"}},
        {"{\"$or\": []}", {"an array of filters is expected at $or, not an empty array"}},
        {"{\"$or\": [{}, 3]}", {"an object is expected at $or[1], not a number"}},
        {"{\"$not\": true}", {"an object is expected at $not, not true"}},
        {"{\"$or\": [{}, {\"y\": {\"$gte\": true}}]}",
         {"a number or a string is expected at $or[1].y.$gte, not true"}},
        {"{\"y\": {\"$lt\": null}}", {"expected at y.$lt, not null"}},
        {"{\"y\": {\"$in\": 3}}", {"an array of values is expected at y.$in, not a number"}},
        {"{\"y\": {\"$nin\": [1, [2]]}}", {"expected at y.$nin[1], not an array"}},
        {"{\"y\": {\"$eq\": {\"a\": 1}}}", {"expected at y.$eq, not an object"}},
        {"{\"y\": {\"$exists\": 1}}", {"true or false is expected at y.$exists, not a number"}},
        {"{\"y\": {\"$prefix\": 1}}", {"a string is expected at y.$prefix, not a number"}},
        {"{\"y\": {\"$not\": 1}}", {"expected at y.$not, not a number"}},
        {"{\"y\": {\"$or\": [{}]}}", {"operator is expected at y.$or"}},
    };
    BASE_UNUSED(state);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        struct vector_filter *f = NULL;
        assert_int_equal(
            vector_filter_parse(&f, &base_alloc_default, cases[i].filter, strlen(cases[i].filter)),
            INFER_ERR_FORMAT);
        assert_null(f);
        for (size_t j = 0; j < 2 && cases[i].words[j]; j++)
            if (!strstr(base_error_text(), cases[i].words[j]))
                fail_msg("%s gives: %s", cases[i].filter, base_error_text());
    }
}

/* n times `open`, the middle, n times `close`. */
static char *nest(const char *open, const char *middle, const char *close, int n)
{
    char *text = calloc((strlen(open) + strlen(close)) * (size_t)n + strlen(middle) + 1, 1);
    char *end = text;
    for (int i = 0; i < n; i++)
        end = stpcpy(end, open);
    end = stpcpy(end, middle);
    for (int i = 0; i < n; i++)
        end = stpcpy(end, close);
    return text;
}

/* The piece n times, between a beginning and an end. */
static char *repeat(const char *begin, const char *piece, int n, const char *end)
{
    char *pieces = nest(piece, "", "", n), *text = calloc(strlen(begin) + strlen(pieces) + 8, 1);
    sprintf(text, "%s%s%s", begin, pieces, end);
    free(pieces);
    return text;
}

static infer_status status_of(char *text)
{
    struct vector_filter *f = NULL;
    infer_status st = vector_filter_parse(&f, &base_alloc_default, text, strlen(text));
    assert_int_equal(st == INFER_OK, f != NULL);
    vector_filter_destroy(&f);
    free(text);
    return st;
}

/* {"f0": 1, "f1": 1, ...}; `ending` behind the number. */
static char *many_fields(int n, const char *ending)
{
    char *text = calloc((size_t)n * 64 + 3, 1);
    size_t at = 0;
    text[at++] = '{';
    for (int i = 0; i < n; i++)
        at += (size_t)sprintf(text + at, "%s\"f%d\": %s", i ? "," : "", i, ending);
    text[at] = '}';
    return text;
}

static void size_and_depth_are_bounded(void **state)
{
    BASE_UNUSED(state);
    assert_int_equal(status_of(nest("{\"$not\":", "{}", "}", 31)), INFER_OK);
    assert_int_equal(status_of(nest("{\"$not\":", "{}", "}", 32)), INFER_ERR_LIMIT);
    assert_int_equal(status_of(nest("{\"$not\":", "{}", "}", 300)), INFER_ERR_LIMIT);
    assert_int_equal(status_of(nest("{\"$or\":[{},", "{}", "]}", 15)), INFER_OK);
    assert_int_equal(status_of(nest("{\"$or\":[{},", "{}", "]}", 16)), INFER_ERR_LIMIT);
    assert_int_equal(status_of(nest(" ", "{}", " ", 32767)), INFER_OK);
    assert_int_equal(status_of(nest(" ", "{}", " ", 32768)), INFER_ERR_LIMIT);
    assert_int_equal(status_of(many_fields(256, "1")), INFER_OK);
    assert_int_equal(status_of(many_fields(257, "1")), INFER_ERR_LIMIT);
    assert_int_equal(status_of(many_fields(2, "{\"$not\": {\"$gt\": 1}}")), INFER_OK);
    assert_int_equal(status_of(nest("{\"$and\":[", "{\"a\":1}", "]}", 1)), INFER_OK);
    assert_int_equal(status_of(repeat("{\"$and\":[{\"a\":1}", ",{\"a\":1}", 1023, "]}")), INFER_OK);
    assert_int_equal(status_of(repeat("{\"$and\":[{\"a\":1}", ",{\"a\":1}", 1024, "]}")),
                     INFER_ERR_LIMIT);
    assert_int_equal(status_of(repeat("{\"$and\":[{}", ",{}", 4093, "]}")), INFER_OK);
    assert_int_equal(status_of(repeat("{\"$and\":[{}", ",{}", 4094, "]}")), INFER_ERR_LIMIT);
    assert_int_equal(status_of(repeat("{\"a", ".a", 31, "\": 1}")), INFER_OK);
    assert_int_equal(status_of(repeat("{\"a", ".a", 32, "\": 1}")), INFER_ERR_LIMIT);
}

/* Every line of its blocks of JSON; and its limits are those that hold. */
static void what_the_document_shows_is_taken(void **state)
{
    size_t size;
    char *text = test_read(test_source("doc/filters.md"), &size), *rest = text, limit[64];
    int is_json = 0, n = 0;
    BASE_UNUSED(state);
    sprintf(limit, "| %d |\n", VECTOR_FILTER_CONDITIONS);
    assert_non_null(strstr(text, limit));
    sprintf(limit, "| %d |\n", VECTOR_FILTER_NODES);
    assert_non_null(strstr(text, limit));
    sprintf(limit, "| %d KiB |\n", VECTOR_FILTER_BYTES / 1024);
    assert_non_null(strstr(text, limit));
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "```", 3) == 0) {
            is_json = strcmp(line, "```json") == 0;
        } else if (is_json) {
            struct vector_filter *f = parse(&base_alloc_default, line);
            vector_filter_destroy(&f);
            n++;
        }
    }
    assert_in_range(n, 7, 100);
    free(text);
}

static void a_refused_allocation_is_no_memory_and_leaves_nothing(void **state)
{
    static const char text[] =
        "{\"a.b\": {\"$gte\": 1, \"$lt\": \"x\", \"$ne\": 3}, \"$or\": [{\"c\": "
        "{\"$in\": [1, 2, 3]}}, {\"$not\": {\"d\": null}}]}";
    struct test_alloc t;
    BASE_UNUSED(state);
    for (size_t fail_at = 1;; fail_at++) {
        struct vector_filter *f = NULL;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = vector_filter_parse(&f, &t.alloc, text, strlen(text));
        vector_filter_destroy(&f);
        assert_int_equal(t.live_blocks, 0);
        if (t.n_calls < fail_at)
            break;
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
    }
}

static void damaged_text_gives_an_answer_or_format(void **state)
{
    static const char text[] =
        "{\"a\": [1, \"x\\u00e4\", -2.5e3], \"b\": {\"c\": true}, \"d\": null, \"e\": 7}";
    struct vector_filter *f =
        parse(&base_alloc_default, "{\"$or\": [{\"a\": \"x\"}, {\"b.c\": 1}, {\"e\": 8}]}");
    int n_refused = 0;
    BASE_UNUSED(state);
    for (size_t size = 1; size < sizeof text - 1; size++)
        for (int c = 0; c < 256; c += c < 128 ? 1 : 31) {
            int32_t passes = -1;
            char *copy = malloc(size); /* exactly, so that a sanitizer sees a step too far */
            memcpy(copy, text, size);
            copy[size / 2] = (char)c;
            infer_status st = vector_filter_test(f, copy, size, &passes);
            assert_true(st == INFER_OK ? passes == 0 || passes == 1
                                       : st == INFER_ERR_FORMAT && passes == -1);
            n_refused += st != INFER_OK;
            free(copy);
        }
    assert_true(n_refused > 1000);
    vector_filter_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_passes_as_it_is_written),
        cmocka_unit_test(the_plain_reader_agrees_with_every_case),
        cmocka_unit_test(what_is_no_filter_is_refused_with_its_place),
        cmocka_unit_test(size_and_depth_are_bounded),
        cmocka_unit_test(what_the_document_shows_is_taken),
        cmocka_unit_test(a_refused_allocation_is_no_memory_and_leaves_nothing),
        cmocka_unit_test(damaged_text_gives_an_answer_or_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
