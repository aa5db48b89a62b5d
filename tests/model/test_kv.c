/* KV types on whole models: what quantised caches cost in perplexity and tokens, that their results
 * depend on nothing but the request, and what they take. */
#include "arch_fixture.h"
#include "support/engine.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    infer_kv_type type;
} types[] = {{"F32", INFER_KV_F32}, {"F16", INFER_KV_F16}, {"BF16", INFER_KV_BF16},
             {"Q8", INFER_KV_Q8},   {"Q4", INFER_KV_Q4},   {"F8", INFER_KV_F8}};

#define N_TYPES (sizeof types / sizeof *types)

#define STORIES "llm/stories260K/stories260K.f32.gguf"
#define TINY656 "llm/TinyStories-656K/TinyStories-656K.f32.gguf"

static infer_token *encode(struct engine *e, const char *text, size_t size, size_t *n)
{
    const infer_tokenizer *tokenizer = infer_model_tokenizer(e->model);
    infer_encode_options options = {
        .struct_size = sizeof options, .disable_bos_eos = 1, .parse_special = 1};
    assert_int_equal(infer_tokenizer_encode(tokenizer, text, size, &options, NULL, n), 0);
    infer_token *tokens = calloc(*n, sizeof *tokens);
    assert_int_equal(infer_tokenizer_encode(tokenizer, text, size, &options, tokens, n), 0);
    return tokens;
}

/* ------------------------------------------------------------- perplexity */

/* Caller frees. */
static float *prompt_logprobs(struct engine *e, const infer_token *tokens, size_t n)
{
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = tokens,
                                     .n_tokens = n,
                                     .prefill_only = 1,
                                     .prompt_logprobs = 1};
    infer_request *request = NULL;
    infer_event event = {.struct_size = sizeof event};
    size_t scored;
    assert_int_equal(infer_session_submit(&request, e->session, &options), 0);
    while (infer_request_next(request, &event) == INFER_OK)
        continue;
    const float *logprobs = infer_request_prompt_logprobs(request, &scored);
    assert_int_equal(scored, n);
    float *copy = malloc(n * sizeof *copy);
    memcpy(copy, logprobs, n * sizeof *copy);
    infer_request_destroy(&request);
    return copy;
}

/* The mean negative log-likelihood over windows of a text, each token from the second on. */
static double mean_nll(const char *model, const char *text, size_t size, size_t n_windows,
                       infer_kv_type type)
{
    enum { WINDOW = 512 };
    struct engine e;
    struct engine_setup setup = {.kv_type = type};
    engine_open(&e, model, &setup);
    size_t n;
    infer_token *tokens = encode(&e, text, size, &n);
    double nll = 0;
    assert_true(n >= n_windows * WINDOW);
    for (size_t w = 0; w < n_windows; w++) {
        float *logprobs = prompt_logprobs(&e, tokens + w * WINDOW, WINDOW);
        for (size_t i = 1; i < WINDOW; i++)
            nll -= (double)logprobs[i];
        free(logprobs);
    }
    free(tokens);
    engine_close(&e);
    return nll / (double)(n_windows * (WINDOW - 1));
}

static void compare_perplexity(const char *name, const char *model, const char *text, size_t size,
                               const double *bounds)
{
    double base = mean_nll(model, text, size, 8, INFER_KV_F32);
    print_message("%s: perplexity %.3f with F32\n", name, exp(base));
    for (size_t t = 1; t < N_TYPES; t++) {
        double ratio = exp(mean_nll(model, text, size, 8, types[t].type) - base);
        print_message("%s: %s times %.5f\n", name, types[t].name, ratio);
        assert_true(ratio < bounds[t] && ratio > 2 - bounds[t]);
    }
}

/* Heads of 8 and 16 elements are the hard case: little to spread an outlier over. */
static void test_perplexity(void **state)
{
    (void)state;
    static const double stories[N_TYPES] = {1, 1.001, 1.002, 1.003, 1.12, 1.03};
    static const double tiny[N_TYPES] = {1, 1.001, 1.002, 1.003, 1.04, 1.03};
    size_t size;
    char *text = test_read(test_data("llm/perplexity-text.txt"), &size);
    compare_perplexity("stories260K", test_data(STORIES), text, size, stories);
    compare_perplexity("TinyStories-656K", test_data(TINY656), text, size, tiny);
    free(text);
}

/* Log-likelihood of an answer of the bundled model after its conversation. */
static double answer_nll(struct engine *e, const json_t *item, size_t *n_scored)
{
    char text[8192];
    size_t size = 0, n_prompt, n, i;
    json_t *message;
    json_array_foreach(json_object_get(item, "messages"), i, message)
    {
        size += (size_t)snprintf(text + size, sizeof text - size, "<|im_start|>%s\n%s<|im_end|>\n",
                                 json_string_value(json_object_get(message, "role")),
                                 json_string_value(json_object_get(message, "content")));
        assert_true(size < sizeof text);
    }
    size += (size_t)snprintf(text + size, sizeof text - size, "<|im_start|>assistant\n");
    assert_true(size < sizeof text);
    free(encode(e, text, size, &n_prompt));
    size += (size_t)snprintf(text + size, sizeof text - size, "%s<|im_end|>",
                             json_string_value(json_object_get(item, "answer")));
    assert_true(size < sizeof text);
    infer_token *tokens = encode(e, text, size, &n);
    double nll = 0;
    float *logprobs = prompt_logprobs(e, tokens, n);
    for (i = n_prompt; i < n; i++)
        nll -= (double)logprobs[i];
    *n_scored += n - n_prompt;
    free(logprobs);
    free(tokens);
    return nll;
}

static double answers_nll(infer_kv_type type)
{
    struct engine e;
    struct engine_setup setup = {.kv_type = type};
    char *text = test_read(test_source("examples/models/heldout.jsonl"), NULL), *rest = text, *line;
    double nll = 0;
    size_t n_scored = 0;
    engine_open(&e, test_source(TINY_MODEL), &setup);
    while ((line = strsep(&rest, "\n")) && n_scored < 4000) {
        json_t *item = json_loads(line, 0, NULL);
        if (json_object_get(item, "answer"))
            nll += answer_nll(&e, item, &n_scored);
        json_decref(item);
    }
    assert_true(n_scored >= 2000);
    engine_close(&e);
    free(text);
    return nll / (double)n_scored;
}

/* The bundled model's right answers to questions that it has not seen. */
static void test_bundled_perplexity(void **state)
{
    (void)state;
    static const double bounds[N_TYPES] = {1, 1.003, 1.003, 1.003, 1.02, 1.02};
    double base = answers_nll(INFER_KV_F32);
    print_message("bundled: perplexity of answers %.5f with F32\n", exp(base));
    for (size_t t = 1; t < N_TYPES; t++) {
        double ratio = exp(answers_nll(types[t].type) - base);
        print_message("bundled: %s times %.5f\n", types[t].name, ratio);
        assert_true(ratio < bounds[t] && ratio > 2 - bounds[t]);
    }
}

/* ------------------------------------------------------------------ tokens */

struct golden {
    infer_token tokens[512]; /* prompt, then the reference's greedy continuation */
    double margins[512];     /* of the continuation: first logit over the second */
    size_t n_prompt, n;
};

static void read_golden(struct golden *g, const char *folder)
{
    char relative[256];
    size_t i;
    json_t *value;
    snprintf(relative, sizeof relative, "llm/%s/golden_greedy_once.json", folder);
    json_t *root = json_load_file(test_data(relative), 0, NULL);
    assert_non_null(root);
    g->n_prompt = g->n = 0;
    json_array_foreach(json_object_get(root, "prompt_tokens"), i, value) g->tokens[g->n_prompt++] =
        (infer_token)json_integer_value(value);
    json_array_foreach(json_object_get(root, "greedy"), i, value)
    {
        assert_true(g->n_prompt + g->n < 512);
        g->margins[g->n] = json_number_value(json_array_get(json_object_get(root, "margin"), g->n));
        g->tokens[g->n_prompt + g->n++] = (infer_token)json_integer_value(value);
    }
    json_decref(root);
}

/* The largest margin of the reference at which the model picks another token after the
 * reference's own; counts those tokens. */
static double worst_flip(struct engine *e, const struct golden *g, size_t n_vocab, size_t *n_flips)
{
    double worst = 0;
    *n_flips = 0;
    for (size_t i = 0; i < g->n; i++) {
        float *logits = engine_logits(e, g->tokens, g->n_prompt + i);
        size_t best = 0;
        for (size_t j = 1; j < n_vocab; j++)
            best = logits[j] > logits[best] ? j : best;
        free(logits);
        if ((infer_token)best == g->tokens[g->n_prompt + i])
            continue;
        ++*n_flips;
        worst = fmax(worst, g->margins[i]);
    }
    return worst;
}

static void compare_tokens(const char *folder, const char *gguf, const double *bounds)
{
    struct golden g;
    read_golden(&g, folder);
    for (size_t t = 0; t < N_TYPES; t++) {
        struct engine e;
        struct engine_setup setup = {.kv_type = types[t].type};
        struct engine_answer answer;
        infer_model_info info = {.struct_size = sizeof info};
        size_t same = 0, n_flips;
        engine_open(&e, test_data(gguf), &setup);
        infer_model_get_info(e.model, &info);
        engine_greedy(&e, g.tokens, g.n_prompt, (int64_t)g.n, &answer);
        while (same < answer.n && answer.tokens[same] == g.tokens[g.n_prompt + same])
            same++;
        double worst = worst_flip(&e, &g, (size_t)info.n_vocab, &n_flips);
        print_message("%s: %s gives the first %zu of %zu greedy tokens of float64; after its "
                      "tokens, %zu others, at margins of %.3f at most\n",
                      folder, types[t].name, same, g.n, n_flips, worst);
        assert_true(worst <= bounds[t]);
        engine_answer_free(&answer);
        engine_close(&e);
    }
}

/* A type may flip only tokens that the reference hardly preferred. */
static void test_greedy(void **state)
{
    (void)state;
    static const double stories[N_TYPES] = {1e-3, 0.02, 0.2, 0.2, 5, 2};
    static const double tiny[N_TYPES] = {1e-3, 0.02, 0.2, 0.2, 1, 1};
    compare_tokens("stories260K", STORIES, stories);
    compare_tokens("TinyStories-656K", TINY656, tiny);
}

/* ------------------------------------------------------------ determinism */

enum { N_REQUESTS = 5, N_NEW = 24 };

static void run_together(const char *model, const struct engine_setup *setup, int together,
                         struct engine_answer *out)
{
    static const char *const prompts[N_REQUESTS] = {
        "The", "Once upon a time there was a little dog who had a red ball",
        "What is the capital of France? It is a city with a river and a tower and many people",
        "One two three four", "Yes"};
    infer_sampling plain = {.struct_size = sizeof plain};
    infer_request *requests[N_REQUESTS] = {NULL};
    struct engine e;
    engine_open(&e, model, setup);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        infer_request_options options = {.struct_size = sizeof options,
                                         .prompt = prompts[i],
                                         .sampling = &plain,
                                         .max_tokens = N_NEW,
                                         .ignore_eos = 1,
                                         .logprobs = 1};
        assert_int_equal(infer_session_submit(&requests[i], e.session, &options), 0);
        if (!together)
            engine_collect(requests[i], &out[i]);
    }
    for (size_t i = 0; together && i < N_REQUESTS; i++)
        engine_collect(requests[i], &out[i]);
    engine_close(&e);
}

static void check_determinism(const char *model, infer_kv_type type)
{
    static const struct {
        int32_t threads, step_tokens, block_tokens;
        uint32_t together;
    } ways[] = {{2, 0, 0, 1}, {1, 7, 32, 1}, {2, 5, 64, 0}};
    struct engine_answer alone[N_REQUESTS], other[N_REQUESTS];
    struct engine_setup setup = {.kv_type = type, .n_threads = 1};
    run_together(model, &setup, 0, alone);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        setup.n_threads = ways[w].threads;
        setup.step_tokens = ways[w].step_tokens;
        setup.block_tokens = ways[w].block_tokens;
        run_together(model, &setup, (int)ways[w].together, other);
        for (size_t i = 0; i < N_REQUESTS; i++) {
            assert_int_equal(alone[i].n, N_NEW);
            assert_int_equal(other[i].n, N_NEW);
            assert_memory_equal(alone[i].tokens, other[i].tokens, N_NEW * sizeof(infer_token));
            assert_memory_equal(alone[i].logprobs, other[i].logprobs, N_NEW * sizeof(float));
            engine_answer_free(&other[i]);
        }
    }
    for (size_t i = 0; i < N_REQUESTS; i++)
        engine_answer_free(&alone[i]);
}

static void test_determinism(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++)
        check_determinism(test_source(TINY_MODEL), types[t].type);
}

/* -------------------------------------------------------------------- sizes */

/* The bundled model: 5 layers, 2 KV heads of 64 elements, keys and values. */
static void test_sizes(void **state)
{
    (void)state;
    static const uint64_t head_bytes[N_TYPES] = {256, 128, 128, 68, 40, 64};
    for (size_t t = 0; t < N_TYPES; t++) {
        infer_model_options options = {.struct_size = sizeof options, .kv_type = types[t].type};
        infer_model_info info = {.struct_size = sizeof info};
        infer_memory_estimate estimate = {.struct_size = sizeof estimate};
        infer_kv_cache_stats stats = {.struct_size = sizeof stats};
        infer_kv_cache_options cache_options = {.struct_size = sizeof cache_options,
                                                .budget_bytes = 1 << 20};
        infer_model *model = NULL;
        infer_kv_cache *cache = NULL;
        uint64_t token = 5 * 2 * 2 * head_bytes[t];
        assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options), 0);
        infer_model_get_info(model, &info);
        assert_int_equal(info.kv_bytes_per_token, token);
        assert_int_equal(infer_model_estimate(&estimate, test_source(TINY_MODEL), 160, &options),
                         0);
        assert_int_equal(estimate.kv_bytes, 160 * token);
        assert_int_equal(infer_kv_cache_create(&cache, model, &cache_options), 0);
        infer_kv_cache_get_stats(cache, &stats);
        assert_int_equal(stats.type, types[t].type);
        assert_int_equal(stats.block_bytes, 16 * token);
        assert_int_equal(stats.n_blocks, (1 << 20) / (16 * token));
        infer_kv_cache_destroy(&cache);
        cache_options.type = types[N_TYPES - 1 - t].type; /* the cache's own word counts */
        assert_int_equal(infer_kv_cache_create(&cache, model, &cache_options), 0);
        infer_kv_cache_get_stats(cache, &stats);
        assert_int_equal(stats.type, types[N_TYPES - 1 - t].type);
        infer_kv_cache_destroy(&cache);
        infer_model_destroy(&model);
    }
}

static void test_unknown_types(void **state)
{
    (void)state;
    infer_model *model = NULL;
    infer_kv_cache *cache = NULL;
    for (infer_kv_type type = -1; type <= 7; type += 8) {
        infer_model_options options = {.struct_size = sizeof options, .kv_type = type};
        assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options),
                         INFER_ERR_UNSUPPORTED);
        assert_non_null(strstr(infer_last_error(), "infer_kv_type"));
        assert_null(model);
    }
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), 0);
    infer_kv_cache_options options = {.struct_size = sizeof options, .type = 7};
    assert_int_equal(infer_kv_cache_create(&cache, model, &options), INFER_ERR_UNSUPPORTED);
    assert_string_equal(infer_last_error(), "infer_kv_type 7 is not known");
    assert_null(cache);
    infer_model_destroy(&model);
}

/* ----------------------------------------------------------- architectures */

static void open_fixture(struct arch_fixture *f, const char *name, char *folder, size_t size)
{
    arch_fixture_open(f, name);
    arch_folder_make(folder, size);
    arch_fixture_write(f, folder, "F32");
}

static void close_fixture(struct arch_fixture *f, const char *folder)
{
    arch_folder_remove(folder);
    arch_fixture_close(f);
}

/* Random weights, heads of 8 to 24 elements and a latent of 32: every way to attend, with its
 * error from the float64 reference over the largest logit. Some of these models make a hundred of
 * one, so errors are compared with that of BF16. */
static void test_architectures(void **state)
{
    (void)state;
    static const char *const names[] = {"llama-widehead", "gemma3",     "gemma4-e2b", "gpt-oss",
                                        "deepseek-v2",    "llama4",     "cohere2",    "qwen3next",
                                        "granite-hybrid", "phi3-window"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct arch_fixture f;
        char folder[512];
        double relative[N_TYPES];
        open_fixture(&f, names[i], folder, sizeof folder);
        for (size_t t = 2; t < N_TYPES; t++) {
            struct engine e;
            struct engine_setup setup = {.kv_type = types[t].type, .step_tokens = 16};
            struct arch_error error = {0};
            engine_open(&e, folder, &setup);
            for (size_t n = 1; n <= f.n_tokens; n++) {
                float *logits = engine_logits(&e, f.tokens, n);
                arch_error_add(&error, &f, n - 1, logits);
                free(logits);
            }
            engine_close(&e);
            relative[t] = arch_error_relative(&error);
        }
        print_message("%s: error BF16 %.2g, Q8 %.2g, Q4 %.2g\n", names[i], relative[2], relative[3],
                      relative[4]);
        assert_true(relative[3] < 5 * relative[2]);
        assert_true(relative[4] < 60 * relative[3]);
        close_fixture(&f, folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_perplexity),    cmocka_unit_test(test_bundled_perplexity),
        cmocka_unit_test(test_greedy),        cmocka_unit_test(test_determinism),
        cmocka_unit_test(test_sizes),         cmocka_unit_test(test_unknown_types),
        cmocka_unit_test(test_architectures),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
