/* A model of 8-bit floats with scales in all three forms, against the same numbers as plain floats:
 * as a folder, as a file with the same codes (F8_128), on the CPU and on a GPU where there is one.
 */
#include "arch_fixture.h"
#include "support/engine.h"
#include "support/hf_folder.h"
#include "support/safetensors_writer.h"

#include <math.h>
#include <string.h>

#ifdef EMULATED
#include "cuda/emulate_cublas.h"
#endif

enum { EMBD = 128, HEADS = 4, KV_HEADS = 2, HEAD = 32, FF = 256, EXPERTS = 4 };
enum { LONG = 55, VOCAB = 288, BLOCK = 128, MAX_ELEMENTS = VOCAB * EMBD };
enum { ONE, ROWS, BLOCKS };

static const char config[] =
    "{\"architectures\": [\"MixtralForCausalLM\"], \"hidden_size\": 128, \"intermediate_size\": "
    "256, \"max_position_embeddings\": 256, \"num_attention_heads\": 4, \"num_hidden_layers\": 1, "
    "\"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-05, \"vocab_size\": 288, "
    "\"num_experts_per_tok\": 2, \"num_local_experts\": 4%s}";
static const char packed[] = ", \"quantization_config\": {\"quant_method\": \"fp8\", "
                             "\"weight_block_size\": [128, 128]}";

struct twins {
    struct safetensors_writer *small, *plain;
    uint64_t seed;
};

static float e4m3(uint32_t b)
{
    int e = b >> 3 & 15, f = b & 7;
    float v = e ? ldexpf(8 + (float)f, e - 10) : ldexpf((float)f, -9);
    return b & 128 ? -v : v;
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

/* Scales differ by a factor of 4, so that one that is lost or another's shows. */
static void add_matrix(struct twins *t, const char *stem, uint64_t rows, uint64_t cols, int form)
{
    static float x[MAX_ELEMENTS], scales[VOCAB];
    static uint8_t q[MAX_ELEMENTS];
    const uint64_t across = form == BLOCKS ? cols / BLOCK : 1;
    const uint64_t down = form == ONE ? 1 : form == ROWS ? rows : rows / BLOCK;
    const uint64_t dims[2] = {rows, cols}, scale_dims[2] = {down, across};
    char name[128];
    for (size_t i = 0; i < down * across; i++)
        scales[i] = (1 + 3 * fabsf(test_randf(&t->seed))) / 2048 / sqrtf((float)cols / EMBD);
    for (size_t i = 0; i < rows * cols; i++) {
        uint64_t row = i / cols * down / rows, col = i % cols * across / cols;
        q[i] = (uint8_t)test_rand(&t->seed);
        q[i] = (uint8_t)(q[i] ^ ((q[i] & 127) == 127)); /* no NaN */
        x[i] = e4m3(q[i]) * scales[row * across + col];
    }
    snprintf(name, sizeof name, "%s.weight", stem);
    safetensors_writer_floats(t->plain, name, "F32", 2, dims, x);
    safetensors_writer_add(t->small, name, "F8_E4M3", 2, dims, q, rows * cols);
    snprintf(name, sizeof name, form == BLOCKS ? "%s.weight_scale_inv" : "%s.weight_scale", stem);
    safetensors_writer_floats(t->small, name, "F32", form == ONE ? 0 : 2, scale_dims, scales);
}

static void add_layer(struct twins *t)
{
    static const struct {
        const char *part;
        uint64_t rows;
        int form;
    } attention[] = {{"q_proj", HEADS * HEAD, BLOCKS},
                     {"k_proj", KV_HEADS * HEAD, ONE},
                     {"v_proj", KV_HEADS * HEAD, ROWS},
                     {"o_proj", EMBD, ROWS}};
    char name[128];
    for (size_t i = 0; i < sizeof attention / sizeof *attention; i++) {
        snprintf(name, sizeof name, "model.layers.0.self_attn.%s", attention[i].part);
        add_matrix(t, name, attention[i].rows, EMBD, attention[i].form);
    }
    for (int i = 0; i < 3 * EXPERTS; i++) {
        snprintf(name, sizeof name, "model.layers.0.block_sparse_moe.experts.%d.w%d", i / 3,
                 i % 3 + 1);
        add_matrix(t, name, i % 3 == 1 ? EMBD : FF, i % 3 == 1 ? FF : EMBD, BLOCKS);
    }
    add_floats(t, "model.layers.0.block_sparse_moe.gate.weight", 2, EXPERTS, EMBD, 0, 0.5f);
    add_floats(t, "model.layers.0.input_layernorm.weight", 1, EMBD, 1, 1, 0.2f);
    add_floats(t, "model.layers.0.post_attention_layernorm.weight", 1, EMBD, 1, 1, 0.2f);
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

static struct hf_folder small, plain;

static int make_twins(void **state)
{
    struct twins t = {safetensors_writer_new(), safetensors_writer_new(), 11};
    (void)state;
    add_floats(&t, "model.embed_tokens.weight", 2, VOCAB, EMBD, 0, 1);
    add_floats(&t, "model.norm.weight", 1, EMBD, 1, 1, 0.2f);
    add_matrix(&t, "lm_head", VOCAB, EMBD, ROWS);
    add_layer(&t);
    make_folder(&small, t.small, packed);
    make_folder(&plain, t.plain, "");
    safetensors_writer_free(t.small);
    safetensors_writer_free(t.plain);
    return 0;
}

static int remove_twins(void **state)
{
    (void)state;
    hf_folder_remove(&small);
    hf_folder_remove(&plain);
    return 0;
}

/* Of `n` tokens in steps of at most `step`; type NULL: of several. */
static float *logits_in(const char *path, int32_t device, int n, int32_t step, const char *type,
                        infer_numerics numerics)
{
    struct engine e;
    infer_token tokens[64];
    infer_model_info info = {.struct_size = sizeof info};
    for (int i = 0; i < n; i++)
        tokens[i] = (infer_token)(3 + i * 11 % 270);
    engine_open(&e, path,
                &(struct engine_setup){.device = device,
                                       .n_threads = device ? 0 : 2,
                                       .step_tokens = step,
                                       .disable_prefix_cache = 1,
                                       .numerics = numerics,
                                       .kv_type = INFER_KV_F32});
    float *logits = engine_logits(&e, tokens, (size_t)n);
    assert_ok(infer_model_get_info(e.model, &info));
    if (type)
        assert_string_equal(info.weight_type, type);
    engine_close(&e);
    return logits;
}

static float *logits_of(const char *path, int32_t device, int n, int32_t step, const char *type)
{
    return logits_in(path, device, n, step, type, INFER_NUMERICS_STABLE);
}

static void compare(const char *what, float *got, float *want, double bound)
{
    double apart = 0, largest = 0;
    for (int i = 0; i < VOCAB; i++) {
        apart = fmax(apart, fabs((double)got[i] - (double)want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    print_message("%s: logits to %.2f, %.2g of that apart\n", what, largest, apart / largest);
    assert_true(apart <= bound * largest);
    free(got);
    free(want);
}

/* The folder becomes BF16, which rounds weights, and on some processors x; the file has the codes
 * themselves, and comes out of the folder and of the file alike. */
static void test_on_the_cpu(void **state)
{
    const char *file = hf_folder_path(&small, "model.gguf");
    const char *again = hf_folder_path(&small, "again.gguf");
    (void)state;
    compare("a folder", logits_of(small.path, 0, 24, 0, "BF16"),
            logits_of(plain.path, 0, 24, 0, "F32"), 5e-2);
    assert_ok(infer_convert(NULL, small.path, file, NULL));
    compare("a file", logits_of(file, 0, 24, 0, "F8_128"), logits_of(plain.path, 0, 24, 0, "F32"),
            2e-6);
    const infer_convert_options options = {.struct_size = sizeof options, .type = "f8"};
    assert_ok(infer_convert(NULL, file, again, &options));
    compare("a file of a file", logits_of(again, 0, 24, 0, "F8_128"),
            logits_of(file, 0, 24, 0, "F8_128"), 4e-2); /* embeddings become Q8_0 */
    assert_ok(infer_convert(NULL, plain.path, again, &options));
    /* Rounded by largest elements instead of by what they were: codes of 3 bits of fraction. */
    compare("rounded", logits_of(again, 0, 24, 0, "F8_128"), logits_of(plain.path, 0, 24, 0, "F32"),
            0.1);
    const infer_convert_options other = {.struct_size = sizeof other, .type = "q8_0"};
    assert_int_equal(infer_convert(NULL, file, again, &other), INFER_ERR_INVALID);
    assert_ok(infer_convert(NULL, small.path, again, &other)); /* by way of BF16, as ever */
}

/* One by one x stays F32; more rows than a few are of BF16. */
static void test_on_a_gpu(void **state)
{
    (void)state;
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for FP8\n");
        skip();
    }
    compare("rows one by one", logits_of(small.path, 1, 6, 1, "F8_128"),
            logits_of(plain.path, 0, 6, 0, "F32"), 1e-5);
    compare("rows together", logits_of(small.path, 1, 11, 0, "F8_128"),
            logits_of(plain.path, 0, 11, 0, "F32"), 2e-2);
}

/* Long prompts through cuBLASLt, where there is one: unpacked to BF16, and with FAST numerics both
 * sides as E4M3, which errs by some percent: of a length for which no other expert is chosen. */
static void test_prompts_on_a_gpu(void **state)
{
    (void)state;
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for FP8\n");
        skip();
    }
    compare("unpacked", logits_of(small.path, 1, LONG, 0, "F8_128"),
            logits_of(plain.path, 0, LONG, 0, "F32"), 2e-2);
#ifdef EMULATED
    const long unpacked = emulated_cublas_products(0);
    assert_int_equal(unpacked, 4); /* of attention: those of experts are our own */
    assert_int_equal(emulated_cublas_products(1), 0);
#endif
    compare("as E4M3", logits_in(small.path, 1, LONG, 0, "F8_128", INFER_NUMERICS_FAST),
            logits_of(plain.path, 0, LONG, 0, "F32"), 0.1);
#ifdef EMULATED
    assert_int_equal(emulated_cublas_products(1), 4);
    emulated_cublas_set_least(100); /* not for keys and values */
    compare("as E4M3 in part", logits_in(small.path, 1, LONG, 0, "F8_128", INFER_NUMERICS_FAST),
            logits_of(plain.path, 0, LONG, 0, "F32"), 0.1);
    assert_int_equal(emulated_cublas_products(1), 6);
    emulated_cublas_set_least(0);
    emulated_cublas_set_version(120805);
    compare("unpacked again", logits_in(small.path, 1, LONG, 0, "F8_128", INFER_NUMERICS_FAST),
            logits_of(small.path, 1, LONG, 0, "F8_128"), 2e-2);
    assert_int_equal(emulated_cublas_products(1), 6);
    emulated_cublas_set_version(120901);
#endif
}

/* A recurrent layer's last product, whose rows the kernel in front makes itself but as E4M3. */
static void test_states_on_a_gpu(void **state)
{
    const char *file = hf_folder_path(&small, "states.gguf");
    const infer_convert_options options = {.struct_size = sizeof options, .type = "f8"};
    char path[256];
    (void)state;
    if (infer_device_count() < 2) {
        print_message("skipped: no GPU for FP8\n");
        skip();
    }
    arch_model_path("mamba2", NULL, path, sizeof path);
    assert_ok(infer_convert(NULL, path, file, &options));
    arch_model_remove(NULL, path);
#ifdef EMULATED
    const long before = emulated_cublas_products(1);
#endif
    compare("states as E4M3", logits_in(file, 1, LONG, 0, NULL, INFER_NUMERICS_FAST),
            logits_of(file, 1, LONG, 0, NULL), 0.1);
#ifdef EMULATED
    assert_int_equal(emulated_cublas_products(1) - before, 3);
#endif
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_the_cpu), cmocka_unit_test(test_on_a_gpu),
        cmocka_unit_test(test_prompts_on_a_gpu), cmocka_unit_test(test_states_on_a_gpu)};
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("fp8", tests, make_twins, remove_twins);
}
