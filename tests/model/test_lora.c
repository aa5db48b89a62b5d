/* Adapters of tiny models against the same models with W + scale * B A for weights, merged in
 * float64: as PEFT folders and GGUF files, on plain and quantised weights, mixed in one batch. */
#include "lora_fixture.h"
#include "support/engine.h"
#include "support/hf_folder.h"

#include <math.h>
#include <unistd.h>

#define TOLERANCE 1e-4

static const char *const every_plain[] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
                                          "gate_proj", "up_proj", "down_proj", NULL};
static const char *const every_fused[] = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj", NULL};

/* A model of a fixture in a folder, its fixture, and folders for more. */
struct bench {
    struct arch_fixture f;
    struct hf_folder folder;
    char base[600];
};

static void bench_open(struct bench *b, const char *name)
{
    arch_fixture_open(&b->f, name);
    hf_folder_make(&b->folder);
    hf_folder_subfolder(&b->folder, "base");
    snprintf(b->base, sizeof b->base, "%s/base", b->folder.path);
    arch_fixture_write(&b->f, b->base, "F32");
}

static void bench_close(struct bench *b)
{
    hf_folder_remove(&b->folder);
    arch_fixture_close(&b->f);
}

static const char *bench_peft(struct bench *b, const char *name, const struct lora_spec *spec)
{
    hf_folder_subfolder(&b->folder, name);
    lora_write_peft(spec, &b->f, hf_folder_path(&b->folder, name));
    return hf_folder_path(&b->folder, name);
}

static const char *bench_merged(struct bench *b, const char *name, const struct lora_spec *spec,
                                double strength)
{
    hf_folder_subfolder(&b->folder, name);
    lora_write_merged(spec, &b->f, strength, hf_folder_path(&b->folder, name));
    return hf_folder_path(&b->folder, name);
}

static infer_adapter *load(struct engine *e, const char *path)
{
    infer_adapter *a = NULL;
    infer_status st = infer_adapter_load(&a, e->model, path, NULL);
    if (st != INFER_OK)
        fail_msg("%s: %d, %s", path, (int)st, infer_last_error());
    return a;
}

static infer_request *submit(struct engine *e, const infer_token *tokens, size_t n, int64_t more,
                             const infer_adapter *adapter, float scale)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = tokens,
                                     .n_tokens = n,
                                     .sampling = &greedy,
                                     .max_tokens = more,
                                     .ignore_eos = 1,
                                     .want_logits = 1,
                                     .adapter = adapter,
                                     .adapter_scale = scale};
    infer_request *request = NULL;
    if (infer_session_submit(&request, e->session, &options) != INFER_OK)
        fail_msg("%s", infer_last_error());
    return request;
}

/* Logits of all generated tokens, one row after another; the request is destroyed. */
static float *collect(infer_request *request, size_t n_rows, size_t n_vocab)
{
    float *rows = malloc(n_rows * n_vocab * sizeof *rows);
    infer_event event = {.struct_size = sizeof event};
    for (size_t i = 0; i < n_rows; i++) {
        if (infer_request_next(request, &event) != INFER_OK)
            fail_msg("%s", infer_last_error());
        assert_int_equal(event.type, INFER_EVENT_TOKEN);
        memcpy(rows + i * n_vocab, event.logits, n_vocab * sizeof *rows);
    }
    infer_request_destroy(&request);
    return rows;
}

static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double apart = fabs((double)a[i] - (double)b[i]);
        difference = apart <= difference ? difference : isnan(apart) ? INFINITY : apart;
        largest = fmax(largest, fabs((double)b[i]));
    }
    return isfinite(difference) ? difference / largest : INFINITY;
}

/* The largest relative distance of logits after some prefixes of the fixture's text. */
static double compare(struct engine *a, const infer_adapter *adapter, float scale, struct engine *b,
                      const struct arch_fixture *f)
{
    const size_t lengths[] = {1, 9, 26, f->n_tokens};
    double worst = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        float *x = collect(submit(a, f->tokens, lengths[i], 1, adapter, scale), 1, f->n_vocab);
        float *y = collect(submit(b, f->tokens, lengths[i], 1, NULL, 0), 1, f->n_vocab);
        worst = fmax(worst, distance(x, y, f->n_vocab));
        free(x);
        free(y);
    }
    return worst;
}

/* Base and adapter against the merged model, with both kernels and in chunks. */
static void check_merged(struct bench *b, const char *adapter, const char *merged, float scale)
{
    static const char *const kinds[] = {"best kernels", "reference kernels", "OpenBLAS"};
    for (int i = 0; i < 2 + infer_has("openblas"); i++) {
        struct engine_setup setup = {.n_threads = 2,
                                     .disable_cpu_features = i == 1 ? ~0u : 0,
                                     .kv_type = INFER_KV_F32,
                                     .numerics = i == 2 ? INFER_NUMERICS_FAST : 0,
                                     .step_tokens = i == 1 ? 7 : 256};
        struct engine base, other;
        engine_open(&base, b->base, &setup);
        engine_open(&other, merged, &setup);
        infer_adapter *a = load(&base, adapter);
        double effect = compare(&base, NULL, 0, &other, &b->f);
        double error = compare(&base, a, scale, &other, &b->f);
        print_message("  %s: adapter changes %.2g, error %.2g\n", kinds[i], effect, error);
        assert_true(effect > 0.02);
        assert_true(error <= TOLERANCE);
        infer_adapter_destroy(&a);
        engine_close(&base);
        engine_close(&other);
    }
}

struct merged_case {
    const char *fixture;
    struct lora_spec spec;
    float scale;
};

static void test_merged(void **state)
{
    const struct merged_case *c = *state;
    struct bench b;
    char adapter[600], merged[600];
    bench_open(&b, c->fixture);
    snprintf(adapter, sizeof adapter, "%s", bench_peft(&b, "adapter", &c->spec));
    snprintf(merged, sizeof merged, "%s",
             bench_merged(&b, "merged", &c->spec, c->scale != 0 ? (double)c->scale : 1));
    check_merged(&b, adapter, merged, c->scale);
    bench_close(&b);
}

/* ---------------------------------------------------------- the two forms */

static void check_forms(const char *fixture, const char *const *modules)
{
    struct bench b;
    struct engine e;
    const struct lora_spec spec = {.modules = modules, .seed = 5};
    struct engine_setup setup = {.n_threads = 2, .kv_type = INFER_KV_F32};
    infer_adapter_info one = {.struct_size = sizeof one}, two = {.struct_size = sizeof two};
    char path[600];
    bench_open(&b, fixture);
    snprintf(path, sizeof path, "%s", hf_folder_path(&b.folder, "adapter.gguf"));
    lora_write_gguf(&spec, &b.f, path);
    engine_open(&e, b.base, &setup);
    infer_adapter *peft = load(&e, bench_peft(&b, "adapter", &spec)), *gguf = load(&e, path);
    assert_ok(infer_adapter_get_info(peft, &one));
    assert_ok(infer_adapter_get_info(gguf, &two));
    assert_string_equal(one.name, "adapter");
    assert_string_equal(two.name, "An adapter");
    assert_true(one.digest == two.digest && one.digest != 0);
    assert_int_equal(one.n_matrices, two.n_matrices);
    assert_true(one.n_parameters == two.n_parameters && one.rank == 4 && two.rank == 4);
    assert_true(one.memory_bytes >= one.n_parameters * sizeof(float));
    float *x = collect(submit(&e, b.f.tokens, 26, 8, peft, 0), 8, b.f.n_vocab);
    float *y = collect(submit(&e, b.f.tokens, 26, 8, gguf, 0), 8, b.f.n_vocab);
    float *z = collect(submit(&e, b.f.tokens, 26, 8, NULL, 0), 8, b.f.n_vocab);
    assert_memory_equal(x, y, 8 * b.f.n_vocab * sizeof *x);
    assert_true(distance(x, z, b.f.n_vocab) > 0.02);
    free(x);
    free(y);
    free(z);
    infer_adapter_destroy(&peft);
    infer_adapter_destroy(&gguf);
    engine_close(&e);
    bench_close(&b);
}

static void test_forms(void **state)
{
    static const char *const head[] = {"lm_head", "k_proj", NULL};
    (void)state;
    check_forms("llama", every_plain);
    check_forms("llama", head);
    check_forms("qwen2", every_plain);
    check_forms("phi3", every_fused);
    check_forms("gemma3", every_plain);
}

/* ------------------------------------------------------------- one batch */

#define N_MIXED 9
#define N_MORE  9

/* Adapters of several ranks and none, some of them twice with other scales: each request's logits
 * are those that it has alone, to the bit, and without adapters those of a session that never saw
 * one. */
static void check_mixed(const struct bench *b, struct engine *alone, struct engine *together,
                        infer_adapter *const *of_alone, infer_adapter *const *of_together)
{
    static const int which[N_MIXED] = {0, -1, 1, 2, -1, 0, 2, 1, 0};
    static const float scales[N_MIXED] = {1, 0, 1, 1, 0, 0.5f, -1, 1, 2};
    static const size_t lengths[N_MIXED] = {26, 11, 3, 17, 26, 26, 5, 26, 1};
    infer_request *requests[N_MIXED];
    size_t row = b->f.n_vocab * sizeof(float);
    for (int i = 0; i < N_MIXED; i++)
        requests[i] = submit(together, b->f.tokens, lengths[i], N_MORE,
                             which[i] < 0 ? NULL : of_together[which[i]], scales[i]);
    for (int i = 0; i < N_MIXED; i++) {
        float *want = collect(submit(alone, b->f.tokens, lengths[i], N_MORE,
                                     which[i] < 0 ? NULL : of_alone[which[i]], scales[i]),
                              N_MORE, b->f.n_vocab);
        float *got = collect(requests[i], N_MORE, b->f.n_vocab);
        for (size_t k = 0; k < N_MORE; k++)
            if (memcmp(got + k * b->f.n_vocab, want + k * b->f.n_vocab, row) != 0)
                fail_msg("request %d (adapter %d), token %zu: other bits than alone", i, which[i],
                         k);
        free(got);
        free(want);
    }
}

static void load_three(struct engine *e, struct bench *b, infer_adapter **out)
{
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "a%d", i);
        out[i] = load(e, hf_folder_path(&b->folder, name));
    }
}

/* Continuations under an adapter are scored as whole prompts under it are. */
static void test_scores(void **state)
{
    const struct lora_spec spec = {.modules = every_plain, .seed = 5};
    struct bench b;
    struct engine e;
    infer_score with[2], without[2];
    infer_event event = {.struct_size = sizeof event};
    (void)state;
    bench_open(&b, "llama");
    bench_peft(&b, "a", &spec);
    engine_open(&e, b.base, &(struct engine_setup){.n_threads = 1});
    infer_adapter *a = load(&e, hf_folder_path(&b.folder, "a"));
    const infer_token tokens[] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
    infer_continuation c[2] = {{.tokens = tokens + 9, .n_tokens = 8},
                               {.tokens = tokens + 12, .n_tokens = 5}};
    infer_request_options o = {.struct_size = sizeof o, .tokens = tokens, .n_tokens = 9};
    assert_ok(infer_session_score(without, e.session, NULL, c, 2, &o));
    o.adapter = a;
    o.adapter_scale = 2;
    assert_ok(infer_session_score(with, e.session, NULL, c, 2, &o));
    assert_true(fabs(with[0].logprob - without[0].logprob) > 1e-3);
    infer_request *request = NULL;
    double sum = 0;
    o.n_tokens = 17;
    o.prefill_only = o.prompt_logprobs = 1;
    assert_ok(infer_session_submit(&request, e.session, &o));
    assert_ok(infer_request_next(request, &event));
    const float *logprobs = infer_request_prompt_logprobs(request, &(size_t){0});
    for (size_t i = 9; i < 17; i++)
        sum += (double)logprobs[i];
    assert_true(sum == with[0].logprob);
    infer_request_destroy(&request);
    infer_adapter_destroy(&a);
    engine_close(&e);
    bench_close(&b);
}

static void test_mixed(void **state)
{
    static const char *const attention[] = {"q_proj", "v_proj", NULL};
    static const char *const some[] = {"o_proj", "down_proj", "lm_head", NULL};
    const struct lora_spec specs[] = {{.modules = every_plain, .seed = 1, .rank = 4},
                                      {.modules = attention, .seed = 2, .rank = 37},
                                      {.modules = some, .seed = 3, .rank = 16, .dtype = "BF16"}};
    static const struct engine_setup setups[] = {
        {.n_threads = 1, .step_tokens = 256},
        {.n_threads = 2, .step_tokens = 13},
        {.n_threads = 2, .step_tokens = 64, .kv_budget_bytes = 128 << 10}};
    struct bench b;
    struct engine alone, together;
    infer_adapter *of_alone[3], *of_together[3];
    (void)state;
    bench_open(&b, "llama");
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "a%d", i);
        bench_peft(&b, name, &specs[i]);
    }
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        engine_open(&alone, b.base, &(struct engine_setup){.n_threads = 1});
        engine_open(&together, b.base, &setups[i]);
        load_three(&alone, &b, of_alone);
        load_three(&together, &b, of_together);
        check_mixed(&b, &alone, &together, of_alone, of_together);
        infer_session_stats stats = {.struct_size = sizeof stats};
        assert_ok(infer_session_get_stats(together.session, &stats));
        assert_true(stats.n_preempted > 0 || !setups[i].kv_budget_bytes);
        for (int k = 0; k < 3; k++) {
            infer_adapter_destroy(&of_alone[k]);
            infer_adapter_destroy(&of_together[k]);
        }
        engine_close(&alone);
        engine_close(&together);
    }
    bench_close(&b);
}

/* ---------------------------------------------------------- quantised base */

/* A quantised base and an adapter are as far from the merged F32 model as the quantised base alone
 * is from its own F32 weights: the adapter's part itself loses nothing. */
static void check_quantised(struct bench *b, const char *type, const char *adapter,
                            const char *merged)
{
    struct engine quantised, base, other;
    struct engine_setup setup = {.n_threads = 2, .kv_type = INFER_KV_F32};
    infer_convert_options options = {.struct_size = sizeof options, .type = type};
    char path[600];
    snprintf(path, sizeof path, "%s/%s.gguf", b->folder.path, type);
    assert_ok(infer_convert(NULL, b->base, path, &options));
    engine_open(&quantised, path, &setup);
    engine_open(&base, b->base, &setup);
    engine_open(&other, merged, &setup);
    infer_adapter *a = load(&quantised, adapter);
    double loss = compare(&quantised, NULL, 0, &base, &b->f);
    double with = compare(&quantised, a, 0, &other, &b->f);
    double effect = compare(&base, NULL, 0, &other, &b->f);
    print_message("  %s: loses %.2g alone, %.2g with an adapter that changes %.2g\n", type, loss,
                  with, effect);
    assert_true(with <= 2 * loss && loss > 1e-4);
    assert_true(effect > 2 * with);
    infer_adapter_destroy(&a);
    engine_close(&quantised);
    engine_close(&base);
    engine_close(&other);
}

static void test_quantised(void **state)
{
    const struct lora_spec spec = {.modules = every_plain, .seed = 7};
    struct bench b;
    char adapter[600], merged[600];
    (void)state;
    bench_open(&b, "llama");
    snprintf(adapter, sizeof adapter, "%s", bench_peft(&b, "adapter", &spec));
    snprintf(merged, sizeof merged, "%s", bench_merged(&b, "merged", &spec, 1));
    check_quantised(&b, "q8_0", adapter, merged);
    check_quantised(&b, "q4_0", adapter, merged);
    bench_close(&b);
}

/* ------------------------------------------------------------------- main */

static const char *const moe[] = {"q_proj",
                                  "k_proj",
                                  "v_proj",
                                  "o_proj",
                                  "shared_expert.gate_proj",
                                  "shared_expert.up_proj",
                                  "shared_expert.down_proj",
                                  NULL};
static const char *const latent[] = {"q_proj",      "kv_a_proj_with_mqa", "o_proj", "mlp.gate_proj",
                                     "mlp.up_proj", "mlp.down_proj",      NULL};
static const char *const latent_a[] = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", NULL};
static const char *const turned[] = {"c_attn", "c_proj", "c_fc", NULL};
static const char *const grouped[] = {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h",
                                      NULL};
static const char *const head[] = {"lm_head", "down_proj", NULL};
static const char *const keys[] = {"k_proj", NULL};

static const struct merged_case cases[] = {
    {"llama", {.modules = every_plain, .seed = 1}, 0},
    {"llama", {.modules = every_plain, .seed = 2, .rslora = 1, .alpha = 3}, 0},
    {"llama",
     {.modules = every_plain,
      .seed = 3,
      .special = "self_attn.q_proj",
      .special_rank = 9,
      .special_alpha = 31},
     0},
    {"llama", {.modules = every_plain, .seed = 4}, -0.75f},
    {"llama",
     {.modules = every_plain,
      .seed = 18,
      .special = "up_proj",
      .special_key = "layers\\\\.[0-9]+\\\\.mlp\\\\.(up|none)_proj",
      .special_rank = 3,
      .special_alpha = -5},
     0},
    {"llama",
     {.modules = every_plain,
      .seed = 19,
      .special = "model.layers.1.self_attn.k_proj",
      .special_key = "^model.layers.1.self_attn.k_proj",
      .special_rank = 7,
      .special_alpha = 2},
     0},
    {"llama", {.modules = head, .seed = 5}, 0},
    {"llama", {.modules = keys, .seed = 5, .rank = 1}, 0},
    {"llama-linear-bias", {.modules = every_plain, .seed = 6}, 0},
    {"qwen2", {.modules = every_plain, .seed = 7, .rank = 16}, 0},
    {"phi3", {.modules = every_fused, .seed = 8}, 0},
    {"gemma3", {.modules = every_plain, .seed = 9}, 0},
    {"qwen2moe", {.modules = moe, .seed = 10}, 0},
    {"deepseek-v2", {.modules = latent, .seed = 11}, 0},
    {"deepseek-v3", {.modules = latent_a, .seed = 12}, 0},
    {"gpt2", {.modules = turned, .seed = 13}, 0},
    {"falcon-40b", {.modules = grouped, .seed = 14}, 0},
    {"gptneox", {.modules = grouped, .seed = 15}, 0},
    {"gemma4-e2b", {.modules = every_plain, .seed = 16}, 0},
    {"qwen3next",
     {.modules = (const char *const[]){"self_attn.q_proj", "self_attn.o_proj", NULL}, .seed = 17},
     0},
};

#define N_CASES (sizeof cases / sizeof *cases)

int main(void)
{
    static char names[N_CASES][64];
    struct CMUnitTest tests[N_CASES + 4];
    for (size_t i = 0; i < N_CASES; i++) {
        snprintf(names[i], sizeof names[i], "merged/%s/%llu", cases[i].fixture,
                 (unsigned long long)cases[i].spec.seed);
        tests[i] =
            (struct CMUnitTest){names[i], test_merged, NULL, NULL, (void *)(uintptr_t)&cases[i]};
    }
    tests[N_CASES] = (struct CMUnitTest)cmocka_unit_test(test_forms);
    tests[N_CASES + 1] = (struct CMUnitTest)cmocka_unit_test(test_scores);
    tests[N_CASES + 2] = (struct CMUnitTest)cmocka_unit_test(test_mixed);
    tests[N_CASES + 3] = (struct CMUnitTest)cmocka_unit_test(test_quantised);
    return _cmocka_run_group_tests("lora", tests, N_CASES + 4, NULL, NULL);
}
