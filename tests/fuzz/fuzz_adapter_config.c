/* Fuzz target of adapter_config.json: reads the settings and asks what they say of some modules. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "model/lora_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const modules[] = {"model.layers.0.self_attn.q_proj",
                                          "model.layers.17.mlp.up_proj", "lm_head", "x", ""};
    struct test_alloc t;
    struct model_lora_settings s;
    test_alloc_init(&t);
    /* The tree of the text, and at most 64 expressions of at most 64 KiB in PCRE2's form. */
    t.limit_bytes = 128 * size + ((size_t)16 << 20);
    infer_status st = model_lora_settings_read(&s, &t.alloc, (const char *)data, size);
    fuzz_check(st == INFER_OK || st == INFER_ERR_FORMAT || st == INFER_ERR_LIMIT ||
               st == INFER_ERR_UNSUPPORTED);
    for (size_t i = 0; st == INFER_OK && i < sizeof modules / sizeof *modules; i++) {
        int64_t rank = -1;
        double scale = 0;
        struct base_view module = {modules[i], strlen(modules[i])};
        infer_status found = model_lora_settings_of(&s, module, &rank, &scale);
        fuzz_check(found == INFER_OK || found == INFER_ERR_LIMIT);
        fuzz_check(found != INFER_OK || (rank >= 1 && scale - scale == 0)); /* finite */
    }
    model_lora_settings_release(&s);
    fuzz_check(t.live_blocks == 0);
    return 0;
}
