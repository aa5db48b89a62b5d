/* Fuzz target of a batch's lines: what is a request, and the JSON reader under it, which must take
 * what the library's own reader takes and nothing else, and read the same out of it. */
#include "fuzz.h"

#include "base/error.h"
#include "base/json.h"
#include "batch_line.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct grammar_cache grammars;

static void check_text(const struct json_value *value, struct base_view want)
{
    struct buffer text = {0};
    fuzz_check(json_in_text(value, &text) == 0 && !text.failed);
    fuzz_check(text.size == want.size && memcmp(text.data, want.data, want.size) == 0);
    buffer_free(&text);
}

static void check_number(const struct json_value *value, const struct base_json *want)
{
    int64_t a = 0, b = 0;
    double x = 0, y = 0;
    fuzz_check(json_in_f64(value, &x) == 0 && base_json_f64(want, &y) && x == y);
    if (want->type == BASE_JSON_INT)
        fuzz_check(json_in_i64(value, &a) == 0 && base_json_i64(want, &b) && a == b);
    else if (json_in_i64(value, &a) == 0)
        fuzz_check((double)a == y);
}

static void compare(const struct json_value *value, const struct base_json *want)
{
    static const enum json_kind kinds[] = {JSON_NULL,   JSON_BOOL, JSON_BOOL,  JSON_NUMBER,
                                           JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT};
    struct json_value key, item;
    struct json_walk walk;
    uint32_t n = 0;
    int32_t truth = -1;
    fuzz_check(value->kind == kinds[want->type]);
    fuzz_check((json_in_bool(value, &truth) == 0) == (value->kind == JSON_BOOL));
    if (value->kind == JSON_BOOL)
        fuzz_check(truth == (want->type == BASE_JSON_TRUE));
    else if (value->kind == JSON_NUMBER)
        check_number(value, want);
    else if (value->kind == JSON_TEXT)
        check_text(value, want->as.text);
    if (value->kind < JSON_ARRAY)
        return;
    for (walk = json_walk_begin(value); json_walk_next(&walk, &key, &item); n++) {
        fuzz_check(n < want->n);
        if (value->kind == JSON_OBJECT)
            check_text(&key, want->as.member[n].key);
        compare(&item,
                value->kind == JSON_OBJECT ? &want->as.member[n].value : base_json_at(want, n));
    }
    fuzz_check(n == want->n);
}

/* Duplicate names and numbers beyond a double are the library's to refuse. */
static void compare_readers(const char *text, size_t size)
{
    struct base_arena arena;
    const struct base_json *want = NULL;
    struct json_value value = {0};
    char error[128];
    base_arena_init(&arena, &base_alloc_default);
    infer_status st = base_json_parse(&want, &arena, text, size);
    int refused = json_in_check(&value, text, size, error, sizeof error);
    if (st == INFER_OK && refused) /* yajl passes the beginning of a token behind the value */
        fuzz_check(strstr(error, "something follows the value"));
    else if (st == INFER_OK)
        compare(&value, want);
    else if (!refused)
        fuzz_check(strstr(base_error_text(), "duplicate key") ||
                   strstr(base_error_text(), "beyond the range of a double"));
    base_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_defaults defaults = {.max_tokens = 7};
    struct batch_line line;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    compare_readers(text, size);
    int status = batch_line_read(&line, &defaults, &grammars, text, size);
    fuzz_check((status == 0) == (line.error[0] == 0));
    if (status == 0)
        fuzz_check(!!line.options.prompt + !!line.options.tokens + !!line.options.context == 1);
    batch_line_free(&line);
    free(text);
    return 0;
}
