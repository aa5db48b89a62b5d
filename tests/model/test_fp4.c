/* A model of 4-bit floats with a scale for each matrix and expert, against the same numbers as
 * plain floats: products, fused and turned matrices, experts; and what its GGUF file keeps. */
#include "support/engine.h"
#include "support/hf_folder.h"
#include "support/safetensors_writer.h"

#include <math.h>
#include <string.h>

enum { EMBD = 64, HEADS = 4, KV_HEADS = 2, HEAD = 16, FF = 128, EXPERTS = 4, LAYERS = 2 };
enum { VOCAB = 288, RUN = 16, MAX_ELEMENTS = VOCAB * EMBD };

static const char config[] =
    "{\"architectures\": [\"MixtralForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": "
    "128, \"max_position_embeddings\": 256, \"num_attention_heads\": 4, \"num_hidden_layers\": 2, "
    "\"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-05, \"vocab_size\": 288, "
    "\"num_experts_per_tok\": 2, \"num_local_experts\": 4%s}";
static const char packed[] =
    ", \"quantization_config\": {\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\"}";

struct twins {
    struct safetensors_writer *small, *plain;
    uint64_t seed;
};

static float e2m1(uint32_t v)
{
    static const float sizes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return v & 8 ? -sizes[v & 7] : sizes[v & 7];
}

/* Numbers of E4M3 from 1 to 15. */
static float e4m3(uint8_t b)
{
    return ldexpf(8 + (float)(b & 7), (b >> 3) - 10);
}

static void add_floats(struct twins *t, const char *name, size_t n_dims, uint64_t rows,
                       uint64_t cols, float middle, float spread)
{
    static float x[MAX_ELEMENTS];
    const uint64_t dims[2] = {rows, cols};
    for (size_t i = 0; i < rows * cols; i++)
        x[i] = middle + spread * test_randf(&t->seed);
    safetensors_writer_floats(t->small, name, "F32", n_dims, dims, x);
    safetensors_writer_floats(t->plain, name, "F32", n_dims, dims, x);
}

/* A scale for all that differs by matrix, so that one that is lost or exchanged shows. */
static void add_matrix(struct twins *t, const char *stem, uint64_t rows, uint64_t cols)
{
    static float x[MAX_ELEMENTS];
    static uint8_t q[MAX_ELEMENTS / 2], scales[MAX_ELEMENTS / RUN];
    const uint64_t dims[3][2] = {{rows, cols}, {rows, cols / 2}, {rows, cols / RUN}};
    char name[128];
    size_t n = rows * cols;
    float whole = ldexpf(1 + (float)(test_rand(&t->seed) % 64) / 16, -9) / sqrtf((float)cols / 64);
    memset(q, 0, sizeof q);
    for (size_t i = 0; i < n; i++) {
        uint32_t v = test_rand(&t->seed) % 16;
        if (i % RUN == 0)
            scales[i / RUN] = (uint8_t)(7 << 3 | test_rand(&t->seed) % 32);
        q[i / 2] = (uint8_t)(q[i / 2] | v << 4 * (i % 2));
        x[i] = e2m1(v) * e4m3(scales[i / RUN]) * whole;
    }
    snprintf(name, sizeof name, "%s.weight", stem);
    safetensors_writer_floats(t->plain, name, "F32", 2, dims[0], x);
    safetensors_writer_add(t->small, name, "U8", 2, dims[1], q, n / 2);
    snprintf(name, sizeof name, "%s.weight_scale", stem);
    safetensors_writer_add(t->small, name, "F8_E4M3", 2, dims[2], scales, n / RUN);
    snprintf(name, sizeof name, "%s.weight_scale_2", stem);
    safetensors_writer_floats(t->small, name, "F32", 0, NULL, &whole);
    snprintf(name, sizeof name, "%s.input_scale", stem);
    safetensors_writer_floats(t->small, name, "F32", 0, NULL, &whole);
}

static void add_layer(struct twins *t, int layer)
{
    static const struct {
        const char *part;
        uint64_t rows, cols;
    } attention[] = {{"q_proj", HEADS * HEAD, EMBD},
                     {"k_proj", KV_HEADS * HEAD, EMBD},
                     {"v_proj", KV_HEADS * HEAD, EMBD},
                     {"o_proj", EMBD, HEADS * HEAD}};
    char name[128];
    for (size_t i = 0; i < sizeof attention / sizeof *attention; i++) {
        snprintf(name, sizeof name, "model.layers.%d.self_attn.%s", layer, attention[i].part);
        add_matrix(t, name, attention[i].rows, attention[i].cols);
    }
    for (int i = 0; i < 3 * EXPERTS; i++) {
        snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.experts.%d.w%d", layer, i / 3,
                 i % 3 + 1);
        add_matrix(t, name, i % 3 == 1 ? EMBD : FF, i % 3 == 1 ? FF : EMBD);
    }
    snprintf(name, sizeof name, "model.layers.%d.block_sparse_moe.gate.weight", layer);
    add_floats(t, name, 2, EXPERTS, EMBD, 0, 0.5f);
    snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", layer);
    add_floats(t, name, 1, EMBD, 1, 1, 0.2f);
    snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", layer);
    add_floats(t, name, 1, EMBD, 1, 1, 0.2f);
}

static void make_folder(struct hf_folder *f, const struct safetensors_writer *w, const char *more)
{
    char text[1024];
    size_t size;
    char *tokenizer = test_read(test_source("tests/model/arch/tokenizer.json"), &size);
    hf_folder_make(f);
    snprintf(text, sizeof text, config, more);
    hf_folder_text(f, "config.json", text);
    hf_folder_bytes(f, "tokenizer.json", tokenizer, size);
    safetensors_writer_save(w, hf_folder_path(f, "model.safetensors"));
    free(tokenizer);
}

static void make_twins(struct hf_folder *small, struct hf_folder *plain)
{
    struct twins t = {safetensors_writer_new(), safetensors_writer_new(), 11};
    add_floats(&t, "model.embed_tokens.weight", 2, VOCAB, EMBD, 0, 1);
    add_floats(&t, "lm_head.weight", 2, VOCAB, EMBD, 0, 0.2f);
    add_floats(&t, "model.norm.weight", 1, EMBD, 1, 1, 0.2f);
    for (int i = 0; i < LAYERS; i++)
        add_layer(&t, i);
    make_folder(small, t.small, packed);
    make_folder(plain, t.plain, "");
    safetensors_writer_free(t.small);
    safetensors_writer_free(t.plain);
}

enum { N_TOKENS = 24 };

static float *logits_of(const char *path)
{
    struct engine e;
    infer_token tokens[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (infer_token)(3 + i * 11 % 270);
    engine_open(&e, path, &(struct engine_setup){.n_threads = 2, .kv_type = INFER_KV_F32});
    float *logits = engine_logits(&e, tokens, N_TOKENS);
    engine_close(&e);
    return logits;
}

/* Activations are rounded to 8 bits. Lost scales would be 1.7, those of other experts 2e-3. */
static void test_logits(void **state)
{
    struct hf_folder small, plain;
    double apart = 0, largest = 0;
    (void)state;
    make_twins(&small, &plain);
    float *got = logits_of(small.path), *want = logits_of(plain.path);
    for (int i = 0; i < VOCAB; i++) {
        apart = fmax(apart, fabs((double)got[i] - (double)want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    print_message("logits to %.2f, %.2g of that apart\n", largest, apart / largest);
    assert_true(apart <= 5e-4 * largest);

    const char *file = hf_folder_path(&small, "model.gguf");
    assert_ok(infer_convert(NULL, small.path, file, NULL));
    float *again = logits_of(file);
    assert_memory_equal(again, got, VOCAB * sizeof *got);
    free(again);
    free(got);
    free(want);
    hf_folder_remove(&small);
    hf_folder_remove(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits)};
    return cmocka_run_group_tests_name("fp4", tests, NULL, NULL);
}
