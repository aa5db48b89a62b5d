/* Adapters of a model on a GPU against the same on the CPU: requests with different ones and with
 * none side by side, in steps that are walked, captured and replayed. */
#include "model/lora_fixture.h"
#include "support/engine.h"
#include "support/hf_folder.h"

#include <math.h>

/* Weights and adapters stay as they are, and sums differ in their order alone; but with F16
 * weights the card rounds rows to BF16. */
#define TOLERANCE     1e-4
#define TOLERANCE_F16 2e-2

#define N_ADAPTERS  3
#define N_REQUESTS  5
#define STEP_TOKENS 11

static void need_gpu(void)
{
    if (infer_device_count() > 1)
        return;
    print_message("skipped: no GPU for adapters\n");
    skip();
}

struct bench {
    struct arch_fixture f;
    struct hf_folder folder;
    char base[600];
    size_t n_next; /* of an answer at most */
    char adapters[N_ADAPTERS][600];
};

static void bench_open(struct bench *b, const char *name, const char *dtype,
                       const struct lora_spec *specs)
{
    arch_fixture_open(&b->f, name);
    hf_folder_make(&b->folder);
    hf_folder_subfolder(&b->folder, "base");
    snprintf(b->base, sizeof b->base, "%s", hf_folder_path(&b->folder, "base"));
    arch_fixture_write(&b->f, b->base, dtype);
    for (int i = 0; i < N_ADAPTERS; i++) {
        char adapter[16];
        snprintf(adapter, sizeof adapter, "a%d", i);
        hf_folder_subfolder(&b->folder, adapter);
        snprintf(b->adapters[i], sizeof b->adapters[i], "%s", hf_folder_path(&b->folder, adapter));
        lora_write_peft(&specs[i], &b->f, b->adapters[i]);
    }
}

static void bench_close(struct bench *b)
{
    hf_folder_remove(&b->folder);
    arch_fixture_close(&b->f);
}

/* Adapter -1 is none. Prompts and answers are of unlike lengths, so that steps have other adapters
 * from one to the next. */
static const struct {
    int adapter;
    float scale;
    size_t prompt, next;
} requests[N_REQUESTS] = {
    {0, 1, 9, 5}, {-1, 0, 2, 3}, {1, 2, 1, 4}, {0, 0.5f, 3, 2}, {2, -1.5f, 4, 4}};

static size_t next_of(const struct bench *b, int i)
{
    return BASE_MIN(requests[i].next, b->n_next);
}

static infer_request *submit(struct engine *e, const struct bench *b, infer_adapter *const *loaded,
                             int i)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = b->f.tokens,
                                     .n_tokens = requests[i].prompt,
                                     .sampling = &greedy,
                                     .max_tokens = (int64_t)next_of(b, i),
                                     .ignore_eos = 1,
                                     .want_logits = 1,
                                     .adapter_scale = requests[i].scale};
    infer_request *request = NULL;
    if (requests[i].adapter >= 0)
        options.adapter = loaded[requests[i].adapter];
    assert_ok(infer_session_submit(&request, e->session, &options));
    return request;
}

/* Logits of all requests' tokens; the caller frees each. `info` is the first adapter's. */
static void answer(const struct bench *b, int32_t device, float *out[N_REQUESTS],
                   infer_adapter_info *info)
{
    struct engine e;
    infer_adapter *loaded[N_ADAPTERS] = {NULL};
    infer_request *running[N_REQUESTS];
    infer_event event = {.struct_size = sizeof event};
    engine_open(&e, b->base,
                &(struct engine_setup){.device = device,
                                       .n_threads = 1,
                                       .kv_type = INFER_KV_F32,
                                       .step_tokens = STEP_TOKENS,
                                       .max_requests = N_REQUESTS});
    for (int i = 0; i < N_ADAPTERS; i++)
        assert_ok(infer_adapter_load(&loaded[i], e.model, b->adapters[i], NULL));
    assert_ok(infer_adapter_get_info(loaded[0], info));
    for (int i = 0; i < N_REQUESTS; i++)
        running[i] = submit(&e, b, loaded, i);
    for (int i = 0; i < N_ADAPTERS; i++) /* requests keep what they use */
        infer_adapter_destroy(&loaded[i]);
    for (int i = 0; i < N_REQUESTS; i++) {
        out[i] = malloc(next_of(b, i) * b->f.n_vocab * sizeof **out);
        for (size_t k = 0; k < next_of(b, i); k++) {
            if (infer_request_next(running[i], &event) != INFER_OK)
                fail_msg("request %d: %s", i, infer_last_error());
            memcpy(out[i] + k * b->f.n_vocab, event.logits, b->f.n_vocab * sizeof **out);
        }
        infer_request_destroy(&running[i]);
    }
    engine_close(&e);
}

static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double apart = fabs((double)a[i] - (double)b[i]);
        difference = apart <= difference ? difference : isnan(apart) ? INFINITY : apart;
        largest = fmax(largest, fabs((double)b[i]));
    }
    return difference / largest;
}

static void check(const char *fixture, const char *dtype, const struct lora_spec *specs,
                  size_t n_next)
{
    struct bench b;
    float *gpu[N_REQUESTS], *cpu[N_REQUESTS];
    infer_adapter_info on_gpu = {.struct_size = sizeof on_gpu}, on_cpu = on_gpu;
    need_gpu();
    bench_open(&b, fixture, dtype, specs);
    b.n_next = n_next;
    answer(&b, 1, gpu, &on_gpu);
    answer(&b, 0, cpu, &on_cpu);
    assert_true(on_gpu.digest == on_cpu.digest && on_gpu.memory_bytes > 0);
    double worst = 0;
    for (int i = 0; i < N_REQUESTS; i++) {
        double apart = distance(gpu[i], cpu[i], next_of(&b, i) * b.f.n_vocab);
        worst = apart <= worst ? worst : apart;
        free(gpu[i]);
        free(cpu[i]);
    }
    print_message("  %s: relative error %.2g\n", fixture, worst);
    assert_true(worst <= (strcmp(dtype, "F32") == 0 ? TOLERANCE : TOLERANCE_F16));
    bench_close(&b);
}

static const char *const every[] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
                                    "gate_proj", "up_proj", "down_proj", NULL};
static const char *const attention[] = {"q_proj", "v_proj", NULL};
static const char *const some[] = {"o_proj", "down_proj", "lm_head", NULL};

static void plain_matrices_and_the_head(void **state)
{
    const struct lora_spec specs[] = {{.modules = every, .seed = 1, .rank = 4},
                                      {.modules = attention, .seed = 2, .rank = 37},
                                      {.modules = some, .seed = 3, .rank = 16, .dtype = "BF16"}};
    (void)state;
    check("llama", "F32", specs, 6);
}

static void fused_matrices(void **state)
{
    static const char *const fused[] = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj", NULL};
    static const char *const two[] = {"qkv_proj", "gate_up_proj", NULL};
    const struct lora_spec specs[] = {{.modules = fused, .seed = 4, .dtype = "F16"},
                                      {.modules = two, .seed = 5, .rank = 9},
                                      {.modules = fused + 1, .seed = 6, .rank = 24}};
    (void)state;
    check("phi3", "F16", specs, 2);
}

static void layer_norms_and_no_gate(void **state)
{
    static const char *const turned[] = {"c_attn", "c_proj", "c_fc", NULL};
    const struct lora_spec specs[] = {{.modules = turned, .seed = 7},
                                      {.modules = turned + 1, .seed = 8, .rank = 11},
                                      {.modules = turned + 2, .seed = 9}};
    (void)state;
    check("gpt2", "F32", specs, 2);
}

/* Whose hidden rows are gated before an adapter reads them. */
static void shared_experts_with_a_gate(void **state)
{
    static const char *const shared[] = {"q_proj",
                                         "k_proj",
                                         "v_proj",
                                         "o_proj",
                                         "shared_expert.gate_proj",
                                         "shared_expert.up_proj",
                                         "shared_expert.down_proj",
                                         NULL};
    const struct lora_spec specs[] = {{.modules = shared, .seed = 10},
                                      {.modules = shared + 4, .seed = 11, .rank = 7},
                                      {.modules = shared + 6, .seed = 12}};
    (void)state;
    check("qwen2moe", "F32", specs, 2);
}

static void compressed_queries_and_keys(void **state)
{
    static const char *const latent[] = {"o_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa",
                                         NULL};
    const struct lora_spec specs[] = {{.modules = latent, .seed = 13},
                                      {.modules = latent + 2, .seed = 14, .rank = 7},
                                      {.modules = latent + 3, .seed = 15}};
    (void)state;
    check("deepseek-v3", "F32", specs, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_matrices_and_the_head), cmocka_unit_test(fused_matrices),
        cmocka_unit_test(layer_norms_and_no_gate),     cmocka_unit_test(shared_experts_with_a_gate),
        cmocka_unit_test(compressed_queries_and_keys),
    };
    return cmocka_run_group_tests_name("adapters of models on a GPU", tests, NULL, NULL);
}
