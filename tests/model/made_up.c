/* The made-up model: its files, loading it, and refusals. */
#include "made_up.h"

#include "support/test_alloc.h"

const char made_up_tokenizer[] =
    "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0, "
    "\"a\": 1, \"b\": 2, \"c\": 3, \"##a\": 4, \"<s>\": 5, \"</s>\": 6, \"<e>\": 7}}}";

float made_up_numbers[8 * 8];

const struct hf_tensor made_up_tensors[N_TENSORS] = {
    MATRIX("model.embed_tokens.weight", 8),
    MATRIX("lm_head.weight", 8),
    VECTOR("model.norm.weight"),
    VECTOR(LAYER "input_layernorm.weight"),
    VECTOR(LAYER "post_attention_layernorm.weight"),
    MATRIX(LAYER "self_attn.q_proj.weight", 8),
    MATRIX(LAYER "self_attn.k_proj.weight", 4),
    MATRIX(LAYER "self_attn.v_proj.weight", 4),
    MATRIX(LAYER "self_attn.o_proj.weight", 8),
    MATRIX(LAYER "mlp.gate_proj.weight", 8),
    MATRIX(LAYER "mlp.up_proj.weight", 8),
    MATRIX(LAYER "mlp.down_proj.weight", 8),
};

const char *made_up_config(const char *key, const char *value)
{
    static const char *const members[][2] = {
        {"architectures", "[\"LlamaForCausalLM\"]"},
        {"hidden_size", "8"},
        {"num_hidden_layers", "1"},
        {"num_attention_heads", "2"},
        {"num_key_value_heads", "1"},
        {"intermediate_size", "8"},
        {"rms_norm_eps", "1e-6"},
        {"max_position_embeddings", "64"},
    };
    static char text[16384];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"model_type\": \"made_up\"");
    int found = 0;
    for (size_t i = 0; i < BASE_COUNT(members); i++) {
        int is_it = strcmp(members[i][0], key) == 0;
        const char *v = is_it ? value : members[i][1];
        found |= is_it;
        if (v)
            n += (size_t)snprintf(text + n, sizeof text - n, ", \"%s\": %s", members[i][0], v);
    }
    if (!found && key[0])
        n += (size_t)snprintf(text + n, sizeof text - n, ", \"%s\": %s", key, value);
    snprintf(text + n, sizeof text - n, "}");
    return text;
}

void made_up_write(struct hf_folder *f, const char *config, const struct hf_tensor *tensors,
                   size_t n)
{
    hf_folder_make(f);
    hf_folder_text(f, "config.json", config);
    hf_folder_text(f, "tokenizer.json", made_up_tokenizer);
    hf_folder_tensors(f, "model.safetensors", tensors, n);
}

infer_status made_up_load(struct infer_model **out, const struct base_alloc *a, const char *path)
{
    static struct infer_device *device; /* one for all tests */
    struct device_config cpu = {.n_threads = 1};
    *out = NULL;
    if (!device)
        assert_ok(device_create(&device, &cpu));
    struct model_load_config config = {.alloc = a, .device = device};
    return model_load(out, path, &config);
}

void made_up_refuse(const struct hf_folder *f, infer_status status, const char *sentence)
{
    struct infer_model *model;
    struct test_alloc t;
    test_alloc_init(&t);
    infer_status st = made_up_load(&model, &t.alloc, f->path);
    const char *text = test_error_text();
    if (st != status || !strstr(text, sentence) || strncmp(text, f->path, strlen(f->path)) != 0)
        fail_msg("%d: \"%s\" should be %d, begin with %s and contain \"%s\"", (int)st, text,
                 (int)status, f->path, sentence);
    assert_null(model);
    assert_int_equal(t.live_blocks, 0);
}
