/* Fuzz target of the JSON reader: parses the bytes, walks the tree and reads every value in
 * each way. Beyond crashes it checks the memory and that no value is of two types. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "base/json.h"

static volatile uint8_t sink; /* keeps the reads alive */

static void touch(struct base_view v)
{
    for (size_t i = 0; i < v.size; i++)
        sink ^= (uint8_t)v.data[i];
}

static void walk(const struct base_json *v, size_t depth)
{
    int64_t i = 0;
    double f = 0;
    int32_t b = 0;
    struct base_view text = {0};
    fuzz_check(depth <= BASE_JSON_MAX_DEPTH);
    int is_number = base_json_f64(v, &f);
    fuzz_check(is_number || !base_json_i64(v, &i));
    fuzz_check(is_number + base_json_bool(v, &b) + base_json_string(v, &text) +
                   base_json_is(v, BASE_JSON_NULL) + base_json_is(v, BASE_JSON_ARRAY) +
                   base_json_is(v, BASE_JSON_OBJECT) ==
               1);
    touch(text);
    if (v->type == BASE_JSON_ARRAY)
        for (uint32_t k = 0; k < v->n; k++)
            walk(base_json_at(v, k), depth + 1);
    if (v->type == BASE_JSON_OBJECT)
        for (uint32_t k = 0; k < v->n; k++) {
            touch(v->as.member[k].key);
            walk(&v->as.member[k].value, depth + 1);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct test_alloc t;
    struct base_arena arena;
    const struct base_json *v = NULL;
    test_alloc_init(&t);
    t.limit_bytes = 64 * size + 256 * 1024; /* the arena's first chunk, the parser's frames */
    base_arena_init(&arena, &t.alloc);
    infer_status st = base_json_parse(&v, &arena, (const char *)data, size);
    fuzz_check(st == INFER_OK || st == INFER_ERR_FORMAT || st == INFER_ERR_LIMIT);
    fuzz_check((st == INFER_OK) == (v != NULL));
    if (v) {
        walk(v, 0);
        base_json_path(v, "model.vocab.x");
    }
    base_arena_release(&arena);
    fuzz_check(t.live_blocks == 0);
    return 0;
}
