/* Adapter files that must be refused, memory that runs out, and lives that end early. */
#include "lora_fixture.h"
#include "support/engine.h"
#include "support/gguf_builder.h"
#include "support/hf_folder.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

static const char *const modules[] = {"q_proj", "up_proj", NULL};
static const struct lora_spec plain = {.modules = modules, .seed = 1};

/* A model, and a place for adapters. */
struct bench {
    struct arch_fixture f;
    struct hf_folder folder;
    struct engine e;
    char base[600];
};

static int open_bench(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    arch_fixture_open(&b->f, "llama");
    hf_folder_make(&b->folder);
    hf_folder_subfolder(&b->folder, "base");
    hf_folder_subfolder(&b->folder, "adapter");
    snprintf(b->base, sizeof b->base, "%s/base", b->folder.path);
    arch_fixture_write(&b->f, b->base, "F32");
    engine_open(&b->e, b->base, &(struct engine_setup){.n_threads = 2});
    *state = b;
    return 0;
}

static int close_bench(void **state)
{
    struct bench *b = *state;
    engine_close(&b->e);
    hf_folder_remove(&b->folder);
    arch_fixture_close(&b->f);
    free(b);
    return 0;
}

static const char *adapter_path(const struct bench *b)
{
    return hf_folder_path(&b->folder, "adapter");
}

/* Loading fails so, with these words, and leaves the handle alone. */
static void refuse(const struct bench *b, const char *path, infer_status status, const char *words)
{
    infer_adapter *a = (infer_adapter *)(uintptr_t)b;
    infer_status st = infer_adapter_load(&a, b->e.model, path, NULL);
    if (st != status || !strstr(infer_last_error(), words))
        fail_msg("gave %d (%s), expected %d and \"%s\"", (int)st, st ? infer_last_error() : "ok",
                 (int)status, words);
    assert_ptr_equal(a, b);
}

/* ----------------------------------------------------------------- config */

static void test_config(void **state)
{
    static const struct {
        const char *text;
        infer_status status;
        const char *words;
    } cases[] = {
        {"", INFER_ERR_FORMAT, "adapter_config.json"},
        {"[]", INFER_ERR_FORMAT, "no JSON object"},
        {"{\"r\":4}", INFER_ERR_FORMAT, "peft_type is missing"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":NaN}", INFER_ERR_FORMAT, "line 1"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1e400}", INFER_ERR_FORMAT, ""},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1e30}", INFER_ERR_FORMAT, "lora_alpha"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":\"8\"}", INFER_ERR_FORMAT, "lora_alpha"},
        {"{\"peft_type\":\"LORA\",\"r\":9e85}", INFER_ERR_FORMAT, "r is no number"},
        {"{\"peft_type\":\"LORA\",\"r\":0}", INFER_ERR_FORMAT, "r is no number"},
        {"{\"peft_type\":\"LORA\",\"r\":-4}", INFER_ERR_FORMAT, "r is no number"},
        {"{\"peft_type\":\"LORA\",\"r\":5}", INFER_ERR_FORMAT, "lora_A"},
        {"{\"peft_type\":\"LORA\",\"r\":1000000000}", INFER_ERR_FORMAT, "rank"},
        {"{\"peft_type\":\"IA3\"}", INFER_ERR_UNSUPPORTED, "IA3"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"use_dora\":true}", INFER_ERR_UNSUPPORTED, "use_dora"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"use_future\":true}", INFER_ERR_UNSUPPORTED,
         "use_future"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"bias\":\"all\"}", INFER_ERR_UNSUPPORTED, "bias"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_bias\":true}", INFER_ERR_UNSUPPORTED, "lora_bias"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"modules_to_save\":[\"lm_head\"]}",
         INFER_ERR_UNSUPPORTED, "modules_to_save"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"layer_replication\":[[0,2]]}", INFER_ERR_UNSUPPORTED,
         "layer_replication"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"init_lora_weights\":\"pissa_niter_4\"}",
         INFER_ERR_UNSUPPORTED, "pissa"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"rank_pattern\":[1]}", INFER_ERR_FORMAT, "rank_pattern"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"rank_pattern\":{\"q_proj\":\"x\"}}", INFER_ERR_FORMAT,
         "rank_pattern"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"alpha_pattern\":{\"(q_proj\":1}}", INFER_ERR_FORMAT,
         "pattern"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"alpha_pattern\":{\"q_proj\":null}}", INFER_ERR_FORMAT,
         "alpha_pattern"},
    };
    struct bench *b = *state;
    lora_write_peft(&plain, &b->f, adapter_path(b));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hf_folder_text(&b->folder, "adapter/adapter_config.json", cases[i].text);
        refuse(b, adapter_path(b), cases[i].status, cases[i].words);
    }
    /* What says nothing changes nothing. */
    hf_folder_text(&b->folder, "adapter/adapter_config.json",
                   "{\"peft_type\":\"LORA\",\"r\":4,\"bias\":\"none\",\"use_dora\":false,"
                   "\"modules_to_save\":null,\"layer_replication\":null,\"rank_pattern\":{},"
                   "\"init_lora_weights\":\"gaussian\",\"fan_in_fan_out\":true,\"lora_alpha\":8}");
    infer_adapter *a = NULL;
    assert_int_equal(infer_adapter_load(&a, b->e.model, adapter_path(b), NULL), INFER_OK);
    infer_adapter_destroy(&a);
}

/* ---------------------------------------------------------------- tensors */

#define PRE "base_model.model.model.layers."

static float zeros[64 * 64], bad[64 * 4], huge[64 * 4100];

static const struct {
    struct hf_tensor tensors[3];
    size_t n;
    infer_status status;
    const char *words;
} tensor_cases[] = {
#define T(name, n, k, data)                                                                        \
    {                                                                                              \
        name, "F32", {n, k, -1}, data, (n) * (k) * sizeof(float)                                   \
    }
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 64, zeros)},
     1,
     INFER_ERR_FORMAT,
     "no other half"},
    {{T(PRE "0.self_attn.q_proj.lora_B.weight", 64, 4, zeros)},
     1,
     INFER_ERR_FORMAT,
     "no other half"},
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 60, zeros),
      T(PRE "0.self_attn.q_proj.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_FORMAT,
     "60 inputs"},
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 64, zeros),
      T(PRE "0.self_attn.q_proj.lora_B.weight", 32, 4, zeros)},
     2,
     INFER_ERR_FORMAT,
     "q_proj"},
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 64, zeros),
      T(PRE "0.self_attn.q_proj.lora_B.weight", 64, 3, zeros)},
     2,
     INFER_ERR_FORMAT,
     "rank 4"},
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 64, zeros),
      T(PRE "0.self_attn.q_proj.lora_B.weight", 4, 64, zeros)},
     2,
     INFER_ERR_FORMAT,
     "q_proj"},
    {{T(PRE "7.self_attn.q_proj.lora_A.weight", 4, 64, zeros),
      T(PRE "7.self_attn.q_proj.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_FORMAT,
     "layer 7"},
    {{T(PRE "0.self_attn.z_proj.lora_A.weight", 4, 64, zeros),
      T(PRE "0.self_attn.z_proj.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_UNSUPPORTED,
     "z_proj"},
    {{T(PRE "0.input_layernorm.lora_A.weight", 4, 64, zeros),
      T(PRE "0.input_layernorm.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_UNSUPPORTED,
     "input_layernorm"},
    {{T(PRE "0.block_sparse_moe.experts.1.w1.lora_A.weight", 4, 64, zeros),
      T(PRE "0.block_sparse_moe.experts.1.w1.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_UNSUPPORTED,
     "experts.1"},
    {{T("base_model.model.model.embed_tokens.lora_embedding_A", 4, 64, zeros)},
     1,
     INFER_ERR_UNSUPPORTED,
     "embed_tokens"},
    {{T("base_model.model.lm_head.weight", 4, 64, zeros)}, 1, INFER_ERR_UNSUPPORTED, "lm_head"},
    {{T(PRE "0.self_attn.q_proj.lora_magnitude_vector", 4, 1, zeros)},
     1,
     INFER_ERR_UNSUPPORTED,
     "magnitude"},
    {{T("base_model.model.vision_model.layers.0.self_attn.q_proj.lora_A.weight", 4, 64, zeros),
      T("base_model.model.vision_model.layers.0.self_attn.q_proj.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_UNSUPPORTED,
     "vision_model"},
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 64, bad),
      T(PRE "0.self_attn.q_proj.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_FORMAT,
     "nan in row 2, column 5"},
    {{{PRE "0.self_attn.q_proj.lora_A.weight", "I32", {4, 64, -1}, zeros, 1024},
      T(PRE "0.self_attn.q_proj.lora_B.weight", 64, 4, zeros)},
     2,
     INFER_ERR_UNSUPPORTED,
     "q_proj"},
    {{T(PRE "0.self_attn.q_proj.lora_A.weight", 4, 64, zeros),
      T(PRE "0.self_attn.q_proj.lora_A.default.weight", 4, 64, zeros)},
     2,
     INFER_ERR_FORMAT,
     "no other half"},
    {{{0}}, 0, INFER_ERR_FORMAT, "no matrices"},
#undef T
};

static void test_tensors(void **state)
{
    struct bench *b = *state;
    bad[2 * 64 + 5] = NAN;
    lora_write_peft(&plain, &b->f, adapter_path(b));
    for (size_t i = 0; i < sizeof tensor_cases / sizeof *tensor_cases; i++) {
        hf_folder_tensors(&b->folder, "adapter/adapter_model.safetensors", tensor_cases[i].tensors,
                          tensor_cases[i].n);
        refuse(b, adapter_path(b), tensor_cases[i].status, tensor_cases[i].words);
    }
    hf_folder_text(&b->folder, "adapter/adapter_config.json",
                   "{\"peft_type\":\"LORA\",\"r\":4100}");
    const struct hf_tensor wide[] = {
        {PRE "0.self_attn.q_proj.lora_A.weight", "F32", {4100, 64, -1}, huge, sizeof huge},
        {PRE "0.self_attn.q_proj.lora_B.weight", "F32", {64, 4100, -1}, huge, sizeof huge}};
    hf_folder_tensors(&b->folder, "adapter/adapter_model.safetensors", wide, 2);
    refuse(b, adapter_path(b), INFER_ERR_LIMIT, "rank 4100");
}

/* ------------------------------------------------------------------ files */

static void test_files(void **state)
{
    struct bench *b = *state;
    infer_adapter *a = NULL;
    infer_adapter_options tight = {.struct_size = sizeof tight, .max_bytes = 4096};
    refuse(b, hf_folder_path(&b->folder, "nothing"), INFER_ERR_NOT_FOUND, "nothing");
    refuse(b, b->base, INFER_ERR_NOT_FOUND, "adapter_config.json");
    refuse(b, hf_folder_path(&b->folder, "base/config.json"), INFER_ERR_FORMAT, "config.json");
    lora_write_peft(&plain, &b->f, adapter_path(b));
    assert_int_equal(infer_adapter_load(&a, b->e.model, adapter_path(b), &tight), INFER_ERR_LIMIT);
    remove(hf_folder_path(&b->folder, "adapter/adapter_model.safetensors"));
    refuse(b, adapter_path(b), INFER_ERR_NOT_FOUND, "adapter_model.safetensors");
    hf_folder_text(&b->folder, "adapter/adapter_model.bin", "pickled");
    refuse(b, adapter_path(b), INFER_ERR_UNSUPPORTED, "may hold code");
    remove(hf_folder_path(&b->folder, "adapter/adapter_model.bin"));
    assert_int_equal(infer_adapter_load(NULL, b->e.model, b->base, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_adapter_load(&a, NULL, b->base, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_adapter_load(&a, b->e.model, NULL, NULL), INFER_ERR_INVALID);
    infer_adapter_destroy(NULL);
    infer_adapter_destroy(&a);
}

/* Every prefix of a file is refused, and so is one with any byte of its head changed to what no
 * reader expects, or it still loads. */
static void cut_file(const struct bench *b, const char *path, const char *name)
{
    size_t size, n_refused = 0;
    char *whole = test_read(hf_folder_path(&b->folder, name), &size);
    for (size_t n = 0; n < size; n += n < 3000 ? 7 : 997) {
        infer_adapter *a = NULL;
        hf_folder_bytes(&b->folder, name, whole, n);
        infer_status st = infer_adapter_load(&a, b->e.model, path, NULL);
        if (st >= 0 || !infer_last_error()[0])
            fail_msg("%s cut to %zu of %zu bytes gave %d", name, n, size, (int)st);
    }
    for (size_t i = 0; i < 4000 && i < size; i++) {
        infer_adapter *a = NULL;
        char was = whole[i];
        whole[i] = (char)(was ^ (i % 3 == 0 ? 0x80 : i % 3 == 1 ? 1 : 0xff));
        hf_folder_bytes(&b->folder, name, whole, size);
        n_refused += infer_adapter_load(&a, b->e.model, path, NULL) < 0;
        infer_adapter_destroy(&a);
        whole[i] = was;
    }
    print_message("  %s: %zu of 4000 changed bytes refused\n", name, n_refused);
    free(whole);
}

static void test_cut(void **state)
{
    struct bench *b = *state;
    char path[600];
    snprintf(path, sizeof path, "%s", adapter_path(b));
    lora_write_peft(&plain, &b->f, path);
    cut_file(b, path, "adapter/adapter_model.safetensors");
    lora_write_peft(&plain, &b->f, path);
    snprintf(path, sizeof path, "%s", hf_folder_path(&b->folder, "a.gguf"));
    lora_write_gguf(&plain, &b->f, path);
    cut_file(b, path, "a.gguf");
}

/* ------------------------------------------------------------------- GGUF */

struct gguf_case {
    const char *general, *architecture, *type; /* NULL: the key is missing */
    double alpha;
    const char *a, *b; /* names of the tensors */
    uint64_t rank, inputs;
    infer_status status;
    const char *words;
};

static void write_case(const struct gguf_case *c, const char *path)
{
    struct gguf_builder *g = gguf_builder_new();
    if (c->architecture)
        gguf_builder_string(g, "general.architecture", c->architecture);
    if (c->general)
        gguf_builder_string(g, "general.type", c->general);
    if (c->type)
        gguf_builder_string(g, "adapter.type", c->type);
    gguf_builder_float(g, "adapter.lora.alpha", GGUF_F32, c->alpha);
    if (c->a)
        gguf_builder_tensor(g, c->a, INFER_DTYPE_F32, 2, (uint64_t[]){c->inputs, c->rank}, zeros,
                            c->inputs * c->rank * 4);
    if (c->b)
        gguf_builder_tensor(g, c->b, INFER_DTYPE_F32, 2, (uint64_t[]){4, 64}, zeros, 1024);
    gguf_builder_write(g, path);
    gguf_builder_free(g);
}

static void test_gguf(void **state)
{
#define Q_A "blk.1.attn_q.weight.lora_a"
#define Q_B "blk.1.attn_q.weight.lora_b"
    static const struct gguf_case cases[] = {
        {"adapter", "llama", "lora", 8, Q_A, Q_B, 4, 64, INFER_OK, ""},
        {"model", "llama", "lora", 8, Q_A, Q_B, 4, 64, INFER_ERR_FORMAT, "general.type"},
        {NULL, "llama", "lora", 8, Q_A, Q_B, 4, 64, INFER_ERR_FORMAT, "general.type"},
        {"adapter", "qwen2", "lora", 8, Q_A, Q_B, 4, 64, INFER_ERR_FORMAT, "\"qwen2\""},
        {"adapter", "llama", "control", 8, Q_A, Q_B, 4, 64, INFER_ERR_UNSUPPORTED, "control"},
        {"adapter", "llama", "lora", (double)NAN, Q_A, Q_B, 4, 64, INFER_ERR_FORMAT, "alpha"},
        {"adapter", "llama", "lora", (double)INFINITY, Q_A, Q_B, 4, 64, INFER_ERR_FORMAT, "alpha"},
        {"adapter", "llama", "lora", 8, Q_A, NULL, 4, 64, INFER_ERR_FORMAT, "lora_b is missing"},
        {"adapter", "llama", "lora", 8, NULL, Q_B, 4, 64, INFER_ERR_FORMAT, "lora_a is missing"},
        {"adapter", "llama", "lora", 8, Q_A, Q_B, 3, 64, INFER_ERR_FORMAT, "ranks 3 and 4"},
        {"adapter", "llama", "lora", 8, Q_A, Q_B, 4, 32, INFER_ERR_FORMAT, "32 inputs"},
        {"adapter", "llama", "lora", 8, "blk.9.attn_q.weight.lora_a", "blk.9.attn_q.weight.lora_b",
         4, 64, INFER_ERR_FORMAT, "blk.9"},
        {"adapter", "llama", "lora", 8, "token_embd.weight.lora_a", "token_embd.weight.lora_b", 4,
         64, INFER_ERR_UNSUPPORTED, "token_embd"},
        {"adapter", "llama", "lora", 8, "blk.0.ffn_gate_exps.weight.lora_a",
         "blk.0.ffn_gate_exps.weight.lora_b", 4, 64, INFER_ERR_UNSUPPORTED, "ffn_gate_exps"},
        {"adapter", "llama", "lora", 8, "blk.0.attn_norm.weight", NULL, 4, 64,
         INFER_ERR_UNSUPPORTED, "attn_norm"},
        {"adapter", "llama", "lora", 8, NULL, NULL, 4, 64, INFER_ERR_FORMAT, "no matrices"},
    };
    struct bench *b = *state;
    char path[600];
    snprintf(path, sizeof path, "%s", hf_folder_path(&b->folder, "case.gguf"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        infer_adapter *a = NULL;
        write_case(&cases[i], path);
        if (cases[i].status != INFER_OK) {
            refuse(b, path, cases[i].status, cases[i].words);
            continue;
        }
        assert_int_equal(infer_adapter_load(&a, b->e.model, path, NULL), INFER_OK);
        infer_adapter_destroy(&a);
    }
}

/* ------------------------------------------------------------------ lives */

static infer_request_options request_of(const struct arch_fixture *f, const infer_adapter *adapter,
                                        float scale)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    return (infer_request_options){.struct_size = sizeof(infer_request_options),
                                   .tokens = f->tokens,
                                   .n_tokens = 9,
                                   .sampling = &greedy,
                                   .max_tokens = 8,
                                   .ignore_eos = 1,
                                   .adapter = adapter,
                                   .adapter_scale = scale};
}

static infer_status submit(infer_request **out, infer_session *session,
                           const struct arch_fixture *f, const infer_adapter *adapter, float scale)
{
    infer_request_options options = request_of(f, adapter, scale);
    return infer_session_submit(out, session, &options);
}

/* A request keeps its adapter, an adapter its model; adapters fit their own model only. */
static void test_lives(void **state)
{
    struct bench *b = *state;
    struct engine other;
    struct engine_answer want, got;
    infer_adapter *a = NULL;
    infer_request *request = NULL;
    lora_write_peft(&plain, &b->f, adapter_path(b));
    engine_open(&other, b->base, &(struct engine_setup){.n_threads = 2});
    assert_int_equal(infer_adapter_load(&a, other.model, adapter_path(b), NULL), INFER_OK);
    assert_int_equal(submit(&request, b->e.session, &b->f, a, 0), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "another model"));
    assert_int_equal(submit(&request, other.session, &b->f, a, NAN), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "adapter_scale"));
    assert_int_equal(submit(&request, other.session, &b->f, a, 0), INFER_OK);
    engine_collect(request, &want);
    assert_int_equal(submit(&request, other.session, &b->f, a, 1), INFER_OK);
    infer_adapter_destroy(&a);
    assert_null(a);
    engine_collect(request, &got);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.tokens, want.tokens, want.n * sizeof *want.tokens);
    engine_answer_free(&got);
    engine_answer_free(&want);
    assert_int_equal(infer_adapter_load(&a, other.model, adapter_path(b), NULL), INFER_OK);
    engine_close(&other);
    infer_adapter_info info = {.struct_size = sizeof info};
    assert_int_equal(infer_adapter_get_info(a, &info), INFER_OK);
    assert_int_equal(info.n_matrices, 6);
    infer_adapter_destroy(&a);
}

/* ------------------------------------------------------------ allocations */

struct counter {
    _Atomic long n_calls, live;
    long fail_at; /* 0: never */
};

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct counter *c = user_data;
    void *p = NULL;
    if (atomic_fetch_add(&c->n_calls, 1) + 1 == c->fail_at)
        return NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    atomic_fetch_add(&c->live, 1);
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    atomic_fetch_sub(&((struct counter *)user_data)->live, 1);
    free(ptr);
}

/* The device, and all that is made from it, allocates here; from the adapter on, calls count. */
static infer_status load_and_run(const struct bench *b, const char *path, struct counter *c,
                                 long fail_at, long *n_before)
{
    infer_allocator allocator = {sizeof allocator, counting_alloc, counting_free, c};
    struct engine e;
    infer_adapter *a = NULL;
    engine_open(&e, b->base,
                &(struct engine_setup){
                    .n_threads = 1, .allocator = &allocator, .kv_budget_bytes = 1 << 20});
    *n_before = c->n_calls;
    c->fail_at = fail_at ? c->n_calls + fail_at : 0;
    infer_status st = infer_adapter_load(&a, e.model, path, NULL);
    infer_request_options options = request_of(&b->f, a, 0);
    if (st == INFER_OK)
        st = infer_session_generate(e.session, NULL, &options, NULL, NULL);
    infer_adapter_destroy(&a);
    engine_close(&e);
    return st;
}

static void fail_each(const struct bench *b, const char *path)
{
    struct counter c = {0};
    long before, n, n_spared = 0;
    assert_int_equal(load_and_run(b, path, &c, 0, &before), INFER_OK);
    n = c.n_calls - before;
    for (long i = 1; i <= n; i++) {
        c = (struct counter){0};
        infer_status st = load_and_run(b, path, &c, i, &before);
        if (st == INFER_OK)
            n_spared++; /* PCRE2 works without its machine code, too */
        else if (st != INFER_ERR_NO_MEMORY || !strstr(infer_last_error(), "memory"))
            fail_msg("allocation %ld of %ld: %d (%s)", i, n, (int)st, infer_last_error());
        if (c.live)
            fail_msg("allocation %ld of %ld: %ld blocks leak", i, n, (long)c.live);
    }
    print_message("  %ld allocations, each failed once; %ld were not needed\n", n, n_spared);
    assert_true(n > 20 && n_spared <= n / 5);
}

static void test_memory(void **state)
{
    const struct lora_spec spec = {.modules = modules,
                                   .seed = 2,
                                   .special = "q_proj",
                                   .special_key = "(self_attn|none).q_proj",
                                   .special_rank = 20,
                                   .special_alpha = 1};
    struct bench *b = *state;
    char path[600];
    snprintf(path, sizeof path, "%s", adapter_path(b));
    lora_write_peft(&spec, &b->f, path);
    fail_each(b, path);
    snprintf(path, sizeof path, "%s", hf_folder_path(&b->folder, "memory.gguf"));
    lora_write_gguf(&spec, &b->f, path);
    fail_each(b, path);
}

/* ---------------------------------------------------------------- threads */

#define N_THREADS 4
#define N_ROUNDS  12

struct worker {
    struct bench *b;
    struct engine *e;
    char path[600];
    const struct engine_answer *want;
};

/* Loads, submits, drops before the end: all at once, while the session's thread steps. */
static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        infer_adapter *a = NULL;
        infer_request *request = NULL;
        struct engine_answer got;
        if (infer_adapter_load(&a, w->e->model, w->path, NULL) != INFER_OK ||
            submit(&request, w->e->session, &w->b->f, a, 0) != INFER_OK)
            return arg;
        infer_adapter_destroy(&a);
        engine_collect(request, &got);
        int same = got.n == w->want->n &&
                   memcmp(got.tokens, w->want->tokens, got.n * sizeof *got.tokens) == 0;
        engine_answer_free(&got);
        if (!same)
            return arg;
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct bench *b = *state;
    struct engine e;
    struct worker workers[N_THREADS];
    struct engine_answer want[N_THREADS];
    pthread_t threads[N_THREADS];
    engine_open(&e, b->base,
                &(struct engine_setup){.n_threads = 2, .worker_thread = 1, .step_tokens = 16});
    for (int i = 0; i < N_THREADS; i++) {
        char name[16];
        struct lora_spec spec = {.modules = modules, .seed = (uint64_t)i + 1, .rank = 4 + 13 * i};
        infer_adapter *a = NULL;
        infer_request *request = NULL;
        snprintf(name, sizeof name, "t%d", i);
        hf_folder_subfolder(&b->folder, name);
        workers[i] = (struct worker){.b = b, .e = &e, .want = &want[i]};
        snprintf(workers[i].path, sizeof workers[i].path, "%s/%s", b->folder.path, name);
        lora_write_peft(&spec, &b->f, workers[i].path);
        assert_int_equal(infer_adapter_load(&a, b->e.model, workers[i].path, NULL), INFER_OK);
        assert_int_equal(submit(&request, b->e.session, &b->f, a, 0), INFER_OK);
        engine_collect(request, &want[i]);
        infer_adapter_destroy(&a);
    }
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < N_THREADS; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
        engine_answer_free(&want[i]);
    }
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_tensors, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_files, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_cut, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_gguf, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_lives, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_memory, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(test_threads, open_bench, close_bench),
    };
    return cmocka_run_group_tests_name("lora_errors", tests, NULL, NULL);
}
