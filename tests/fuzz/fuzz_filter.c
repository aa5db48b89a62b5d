/* Fuzz target of filters: the bytes are a filter, a 0, and the metadata of a row. Beyond crashes it
 * checks that an index, the text and the plain reader agree, and that nothing stays allocated. */
#include "filter_naive.h"
#include "fuzz.h"
#include "support/test_alloc.h"

#include "vector/filter.h"

#include <string.h>

static void compare(const struct vector_filter *f, const struct test_alloc *t, const char *json,
                    size_t size, int32_t passes)
{
    static const char *const fields[] = {"a", "a.b", "year", "tag"};
    struct vector_meta *m = NULL;
    uint64_t bits = 0;
    int32_t n = -1;
    fuzz_check(vector_meta_create(&m, &t->alloc, fields, 2) == INFER_OK);
    fuzz_check(vector_meta_add(m, json, size) == INFER_OK);
    fuzz_check(vector_filter_rows(f, m, 1, &bits, &n) == INFER_OK); /* read as text */
    fuzz_check(bits == (uint64_t)passes && n == passes);
    for (int i = 2; i < 4; i++) /* all that is there is indexed */
        fuzz_check(vector_meta_add_field(m, fields[i]) == INFER_OK);
    fuzz_check(vector_filter_rows(f, m, 1, &bits, &n) == INFER_OK);
    fuzz_check(bits == (uint64_t)passes && n == passes);
    fuzz_check(vector_filter_most(f, m, 1) >= passes);
    vector_meta_destroy(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const char *text = (const char *)data, *json = zero ? (const char *)zero + 1 : text + size;
    const size_t n_text = zero ? (size_t)(zero - data) : size;
    const size_t n_json = size - (size_t)(json - text);
    const struct base_json *tree = NULL, *metadata = NULL;
    struct vector_filter *f = NULL;
    struct base_arena arena;
    struct test_alloc t;
    int32_t passes = -1;
    test_alloc_init(&t);
    t.limit_bytes = 512 * size + 2 * 1024 * 1024; /* arenas, and columns of few rows */
    base_arena_init(&arena, &t.alloc);
    infer_status st = vector_filter_parse(&f, &t.alloc, text, n_text);
    fuzz_check(st == INFER_OK || st == INFER_ERR_FORMAT || st == INFER_ERR_LIMIT);
    fuzz_check((st == INFER_OK) == (f != NULL));
    if (f) {
        st = vector_filter_test(f, json, n_json, &passes);
        fuzz_check(st == INFER_OK || st == INFER_ERR_FORMAT);
        if (vector_meta_check(&t.alloc, json, n_json) == INFER_OK) {
            fuzz_check(st == INFER_OK);
            fuzz_check(base_json_parse(&tree, &arena, text, n_text) == INFER_OK);
            fuzz_check(base_json_parse(&metadata, &arena, json, n_json) == INFER_OK);
            fuzz_check(passes == naive_passes(tree, metadata));
            compare(f, &t, json, n_json, passes);
        }
    }
    vector_filter_destroy(&f);
    base_arena_release(&arena);
    fuzz_check(t.live_blocks == 0);
    return 0;
}
