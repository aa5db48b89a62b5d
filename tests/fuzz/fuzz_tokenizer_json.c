/* Fuzz target of tokenizer.json: JSON of any content becomes a tokenizer or an error. */
#include "vocab_files.h"

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct base_arena arena;
    const struct base_json *root = NULL;
    base_arena_init(&arena, &base_alloc_default);
    if (base_json_parse(&root, &arena, (const char *)data, size) == INFER_OK) {
        /* Beside itself as tokenizer_config.json, config.json and so on. */
        struct hf_tokenizer_files files = {.tokenizer = root,
                                           .config = base_json_get(root, "config"),
                                           .special = base_json_get(root, "special"),
                                           .model = base_json_get(root, "model_config"),
                                           .generation = base_json_get(root, "generation")};
        vocab_files_check(&files);
    }
    base_arena_release(&arena);
    return 0;
}
