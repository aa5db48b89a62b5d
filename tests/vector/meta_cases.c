/* Random rows and filters, and the comparison with the plain reader. */
#include "meta_cases.h"

#include "filter_naive.h"

const char *const case_fields[CASE_FIELDS] = {"year", "tag", "a.b", "deep.er.x", "any"};

static int chance(uint64_t *state, uint32_t of)
{
    return test_rand(state) % of == 0;
}

static void scalar(struct base_str *s, uint64_t *state)
{
    static const char *const values[] = {
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "1",
        "1.0",
        "1e0",
        "2",
        "2.5",
        "-3",
        "9007199254740993",
        "9007199254740992.0",
        "9223372036854775807",
        "9.3e18",
        "\"\"",
        "\"a\"",
        "\"a\\\\nb\"",
        "\"\\u0061\"",
        "\"ab\"",
        "\"a\\nb\"",
        "\"b\"",
        "\"\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80\"",
        "\"\xc3\xa4\"",
        "\"a\\u0000\"",
        "\"long enough to be more than a word of eight\"",
    };
    if (chance(state, 3))
        base_str_appendf(s, "%d", (int)(test_rand(state) % 40));
    else if (chance(state, 5))
        base_str_appendf(s, "\"k%d\"", (int)(test_rand(state) % 40));
    else
        base_str_appendf(s, "%s", values[test_rand(state) % BASE_COUNT(values)]);
}

static void value(struct base_str *s, uint64_t *state)
{
    if (chance(state, 8)) {
        int n = (int)(test_rand(state) % 4);
        base_str_put(s, '[');
        for (int i = 0; i < n; i++) {
            if (i)
                base_str_appendf(s, ", ");
            if (chance(state, 8))
                base_str_appendf(s, "{\"b\": [1]}");
            else
                scalar(s, state);
        }
        base_str_put(s, ']');
    } else if (chance(state, 20)) {
        base_str_appendf(s, "{\"b\": \"}\", \"er\": {}}");
    } else {
        scalar(s, state);
    }
}

static void named(struct base_str *s, uint64_t *state, const char *name)
{
    base_str_appendf(s, "%s%s\":%s", s->data[s->size - 1] == '{' ? "\"" : ", \"", name,
                     chance(state, 2) ? " " : "");
    value(s, state);
}

void case_metadata(struct base_str *s, uint64_t *state)
{
    if (chance(state, 5))
        return;
    base_str_put(s, '{');
    if (!chance(state, 4))
        named(s, state, "year");
    if (!chance(state, 3))
        named(s, state, chance(state, 9) ? "t\\u0061g" : "tag");
    if (chance(state, 2))
        named(s, state, "other");
    if (chance(state, 9))
        named(s, state, "a.b");
    if (!chance(state, 3)) {
        base_str_appendf(s, "%s\"a\": {", s->size > 1 ? ", " : "");
        if (chance(state, 2))
            named(s, state, "c");
        named(s, state, "b");
        base_str_put(s, '}');
    }
    if (chance(state, 2)) {
        base_str_appendf(s, "%s\"deep\": {\"er\": {", s->size > 1 ? ", " : "");
        named(s, state, "x");
        base_str_appendf(s, "}}");
    }
    if (chance(state, 9))
        named(s, state, "any");
    base_str_put(s, '}');
}

static void condition(struct base_str *s, uint64_t *state, int depth)
{
    static const char *const ops[] = {"$eq",  "$ne",     "$lt",     "$lte", "$gt",
                                      "$gte", "$exists", "$prefix", "$in",  "$nin"};
    static const char *const prefixes[] = {"", "a", "k1", "\\ud83d\\ude00", "long"};
    uint32_t op = test_rand(state) % (BASE_COUNT(ops) + 1);
    if (op == BASE_COUNT(ops) && depth) {
        base_str_appendf(s, "\"$not\": {");
        condition(s, state, 0);
        base_str_put(s, '}');
        return;
    }
    op %= BASE_COUNT(ops);
    base_str_appendf(s, "\"%s\": ", ops[op]);
    if (op == 6) {
        base_str_appendf(s, "%s", chance(state, 2) ? "true" : "false");
    } else if (op == 7) {
        base_str_appendf(s, "\"%s\"", prefixes[test_rand(state) % BASE_COUNT(prefixes)]);
    } else if (op >= 8) {
        base_str_put(s, '[');
        for (int i = (int)(test_rand(state) % 5); i > 0; i--) {
            scalar(s, state);
            base_str_appendf(s, "%s", i > 1 ? "," : "");
        }
        base_str_put(s, ']');
    } else if (op >= 2) {
        base_str_appendf(s, chance(state, 2) ? "%d" : "\"k%d\"", (int)(test_rand(state) % 40));
    } else {
        scalar(s, state);
    }
}

static void filter(struct base_str *s, uint64_t *state, int depth);

static void group(struct base_str *s, uint64_t *state, int depth)
{
    int n = 1 + (int)(test_rand(state) % 3);
    if (chance(state, 3)) {
        base_str_appendf(s, "\"$not\": ");
        filter(s, state, depth - 1);
        return;
    }
    base_str_appendf(s, "\"%s\": [", chance(state, 3) ? "$and" : "$or");
    for (int i = 0; i < n; i++) {
        base_str_appendf(s, "%s", i ? ", " : "");
        filter(s, state, depth - 1);
    }
    base_str_put(s, ']');
}

/* Each field once at most, since names do not come twice. */
static void filter(struct base_str *s, uint64_t *state, int depth)
{
    static const char *const fields[] = {"year", "tag", "a.b", "deep.er.x", "any", "other", "a"};
    const size_t n = BASE_COUNT(fields);
    size_t first = test_rand(state) % n, n_fields = test_rand(state) % 3 + (depth == 0);
    base_str_put(s, '{');
    for (size_t i = 0; i < n_fields; i++) {
        base_str_appendf(s, "%s\"%s\": ", i ? ", " : "", fields[(first + i) % n]);
        if (chance(state, 4)) {
            scalar(s, state);
        } else if (chance(state, 4)) { /* a range */
            base_str_appendf(s, "{\"$gte\": %d, \"$lt\": %d}", (int)(test_rand(state) % 30),
                             (int)(test_rand(state) % 40));
        } else {
            base_str_put(s, '{');
            condition(s, state, 1);
            base_str_put(s, '}');
        }
    }
    if (depth && !chance(state, 3)) {
        base_str_appendf(s, "%s", n_fields ? ", " : "");
        group(s, state, depth);
    }
    base_str_put(s, '}');
}

void case_filter(struct base_str *out, uint64_t *state)
{
    filter(out, state, (int)(test_rand(state) % 3));
}

void case_rows_start(struct case_rows *rows, int32_t n)
{
    base_arena_init(&rows->arena, &base_alloc_default);
    rows->n = n;
    rows->texts = calloc((size_t)n, sizeof *rows->texts);
    rows->trees = calloc((size_t)n, sizeof(void *));
    for (int32_t i = 0; i < n; i++)
        base_str_init(&rows->texts[i], &base_alloc_default, 0);
}

void case_rows_parse(struct case_rows *rows)
{
    for (int32_t i = 0; i < rows->n; i++) {
        const struct base_str *text = &rows->texts[i];
        if (!text->size)
            continue;
        assert_ok(vector_meta_check(&base_alloc_default, text->data, text->size));
        assert_ok(base_json_parse(&rows->trees[i], &rows->arena, text->data, text->size));
    }
}

void case_rows_init(struct case_rows *rows, int32_t n, uint64_t *state)
{
    case_rows_start(rows, n);
    for (int32_t i = 0; i < n; i++)
        case_metadata(&rows->texts[i], state);
    case_rows_parse(rows);
}

void case_rows_release(struct case_rows *rows)
{
    for (int32_t i = 0; i < rows->n; i++)
        base_str_release(&rows->texts[i]);
    free(rows->texts);
    free(rows->trees);
    base_arena_release(&rows->arena);
}

void case_rows_add(const struct case_rows *rows, struct vector_meta *meta, int32_t begin,
                   int32_t end)
{
    for (int32_t i = begin; i < end; i++)
        assert_ok(vector_meta_add(meta, rows->texts[i].size ? rows->texts[i].data : NULL,
                                  rows->texts[i].size));
}

int32_t case_check(const struct case_rows *rows, const struct vector_meta *meta,
                   const struct base_str *text, int32_t n_rows, const int32_t *which)
{
    const size_t n_words = ((size_t)n_rows + 63) / 64;
    uint64_t *bits = malloc(n_words * sizeof *bits + 8);
    struct vector_filter *f = NULL;
    const struct base_json *tree;
    struct base_arena arena;
    int32_t n_set = -1, expected = 0;
    base_arena_init(&arena, &base_alloc_default);
    memset(bits, 0xa5, n_words * sizeof *bits + 8);
    assert_ok(base_json_parse(&tree, &arena, text->data, text->size));
    assert_ok(vector_filter_parse(&f, &base_alloc_default, text->data, text->size));
    assert_ok(vector_filter_rows(f, meta, n_rows, bits, &n_set));
    for (int32_t i = 0; i < n_rows; i++) {
        int32_t row = which ? which[i] : i;
        int passes = naive_passes(tree, rows->trees[row]);
        expected += passes;
        if ((int)(bits[i / 64] >> (i % 64) & 1) != passes)
            fail_msg("row %d, %s: %s should give %d", i, rows->texts[row].data, text->data, passes);
    }
    assert_int_equal(n_set, expected);
    if (n_rows % 64)
        assert_true(bits[n_words - 1] >> (n_rows % 64) == 0);
    assert_true(bits[n_words] == UINT64_C(0xa5a5a5a5a5a5a5a5));
    int32_t most = vector_filter_most(f, meta, n_rows);
    if (most < n_set || most > n_rows)
        fail_msg("%s: at most %d of %d are told, %d pass", text->data, most, n_rows, n_set);
    vector_filter_destroy(&f);
    base_arena_release(&arena);
    free(bits);
    return n_set;
}
