/* Fuzz target of JSON Schema: the bytes are a schema. What compiles is followed for some
 * bytes. Beyond crashes it checks that no way ends in nothing and that nothing stays allocated. */
#include "grammar_follow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct test_alloc t;
    struct grammar_builder b;
    struct base_view text = {size ? (const char *)data : "", size};
    uint32_t root = 0;
    test_alloc_init(&t);
    grammar_builder_init(&b, &t.alloc);
    b.max_bytes = 16 << 20;
    infer_status st = grammar_read_json_schema(&b, text, (int)(size % 2), &root);
    grammar_finish(&b, st, root, &t, (uint32_t)size * 2654435761u);
    return 0;
}
