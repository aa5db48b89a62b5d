/* Two real models, one of them in two forms, against recorded references: greedy tokens of an
 * independent engine, logits of a float64 NumPy model, perplexity over a text. Every CPU level is
 * checked on its own. */
#include "support/engine.h"

#include <jansson.h>
#include <math.h>

struct reference {
    const char *folder, *model; /* of the references; what is loaded */
};

static const struct reference models[] = {
    {"llm/stories260K", "llm/stories260K/stories260K.f32.gguf"},
    {"llm/TinyStories-656K", "llm/TinyStories-656K/TinyStories-656K.f32.gguf"},
    {"llm/TinyStories-656K", "llm/TinyStories-656K"}, /* the Hugging Face folder */
};

/* CPU levels, strongest first; 0 disables nothing. */
static const struct {
    const char *name;
    uint32_t disabled;
} levels[] = {
    {"all", 0},
    {"avx512", INFER_CPU_AVX512VNNI | INFER_CPU_AVX512BF16},
    {"avx2", INFER_CPU_AVX512 | INFER_CPU_AVX512VNNI | INFER_CPU_AVX512BF16},
    {"ref", ~0u},
};

#define N_LEVELS (sizeof levels / sizeof *levels)

static json_t *load_json(const char *folder, const char *name)
{
    char relative[256];
    json_error_t error;
    snprintf(relative, sizeof relative, "%s/%s", folder, name);
    json_t *root = json_load_file(test_data(relative), 0, &error);
    if (!root)
        fail_msg("%s: %s", relative, error.text);
    return root;
}

static size_t load_ints(const json_t *array, infer_token **out)
{
    size_t n = json_array_size(array);
    *out = calloc(n, sizeof **out);
    for (size_t i = 0; i < n; i++)
        (*out)[i] = (infer_token)json_integer_value(json_array_get(array, i));
    return n;
}

/* A first difference is legal only where the reference itself hardly knew. */
#define MARGIN_MIN 1e-3

static void check_greedy(const struct reference *m, struct engine *e, const char *level)
{
    json_t *golden = load_json(m->folder, "golden_greedy_once.json");
    const json_t *margins = json_object_get(golden, "margin");
    infer_token *prompt, *expected;
    size_t n_prompt = load_ints(json_object_get(golden, "prompt_tokens"), &prompt);
    size_t n = load_ints(json_object_get(golden, "greedy"), &expected);
    struct engine_answer answer;
    engine_greedy(e, prompt, n_prompt, (int64_t)n, &answer);
    assert_int_equal(answer.n, n);
    size_t same = 0;
    while (same < n && answer.tokens[same] == expected[same])
        same++;
    if (same < n) {
        double margin = json_number_value(json_array_get(margins, same));
        print_message("%s %s: first difference at %zu, recorded margin %g\n", m->model, level, same,
                      margin);
        assert_true(margin < MARGIN_MIN);
    }
    if (same == n)
        assert_string_equal(answer.text, json_string_value(json_object_get(golden, "text")));
    engine_answer_free(&answer);
    free(prompt);
    free(expected);
    json_decref(golden);
}

#define LOGIT_TOLERANCE 1e-4

static void check_logits(const struct reference *m, struct engine *e, const char *level)
{
    json_t *golden = load_json(m->folder, "ref_logits.json");
    const json_t *shape = json_object_get(golden, "logits_shape");
    size_t n_rows = (size_t)json_integer_value(json_array_get(shape, 0));
    size_t n_vocab = (size_t)json_integer_value(json_array_get(shape, 1));
    infer_token *tokens;
    load_ints(json_object_get(golden, "tokens"), &tokens);
    char relative[256];
    snprintf(relative, sizeof relative, "%s/ref_logits_f32.bin", m->folder);
    size_t size;
    char *file = test_read(test_data(relative), &size);
    assert_int_equal(size, n_rows * n_vocab * sizeof(float));
    double worst = 0;
    for (size_t i = 0; i < n_rows; i++) {
        float *logits = engine_logits(e, tokens, i + 1);
        for (size_t j = 0; j < n_vocab; j++) {
            float expected;
            memcpy(&expected, file + (i * n_vocab + j) * sizeof expected, sizeof expected);
            worst = fmax(worst, fabs((double)logits[j] - (double)expected));
        }
        free(logits);
    }
    print_message("%s %s: %zu x %zu logits, largest difference %.2g\n", m->model, level, n_rows,
                  n_vocab, worst);
    assert_true(worst <= LOGIT_TOLERANCE);
    free(file);
    free(tokens);
    json_decref(golden);
}

static infer_token *encode(struct engine *e, const char *text, size_t size, size_t *n)
{
    const infer_tokenizer *tokenizer = infer_model_tokenizer(e->model);
    infer_encode_options plain = {.struct_size = sizeof plain, .disable_bos_eos = 1};
    assert_int_equal(infer_tokenizer_encode(tokenizer, text, size, &plain, NULL, n), 0);
    infer_token *tokens = calloc(*n, sizeof *tokens);
    assert_int_equal(infer_tokenizer_encode(tokenizer, text, size, &plain, tokens, n), 0);
    return tokens;
}

/* Sum of -log p of one window: BOS, then window - 1 tokens of the text. */
static double window_nll(struct engine *e, infer_token *window, size_t n)
{
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = window,
                                     .n_tokens = n,
                                     .prefill_only = 1,
                                     .prompt_logprobs = 1};
    infer_request *request = NULL;
    infer_event event = {.struct_size = sizeof event};
    double nll = 0;
    assert_int_equal(infer_session_submit(&request, e->session, &options), 0);
    while (infer_request_next(request, &event) == INFER_OK)
        continue;
    size_t scored;
    const float *logprobs = infer_request_prompt_logprobs(request, &scored);
    assert_int_equal(scored, n);
    for (size_t i = 1; i < n; i++)
        nll -= (double)logprobs[i];
    infer_request_destroy(&request);
    return nll;
}

static void check_perplexity(const struct reference *m, struct engine *e, const char *level)
{
    json_t *golden = load_json(m->folder, "golden_perplexity.json");
    size_t window = (size_t)json_integer_value(json_object_get(golden, "window"));
    size_t wanted = (size_t)json_integer_value(json_object_get(golden, "scored_tokens"));
    double expected = json_number_value(json_object_get(golden, "perplexity"));
    size_t size, n, scored = 0;
    char *text = test_read(test_data("llm/perplexity-text.txt"), &size);
    infer_token *tokens = encode(e, text, size, &n);
    infer_tokenizer_info info = {.struct_size = sizeof info};
    infer_tokenizer_get_info(infer_model_tokenizer(e->model), &info);
    infer_token *buffer = calloc(window, sizeof *buffer);
    double nll = 0;
    for (; scored < wanted; scored += window - 1) {
        buffer[0] = info.bos;
        memcpy(buffer + 1, tokens + scored, (window - 1) * sizeof *buffer);
        nll += window_nll(e, buffer, window);
    }
    double perplexity = exp(nll / (double)scored);
    print_message("%s %s: perplexity %.4f, recorded %.4f\n", m->model, level, perplexity, expected);
    assert_true(fabs(perplexity / expected - 1) < 1e-3);
    free(buffer);
    free(tokens);
    free(text);
    json_decref(golden);
}

/* The throughput mode rounds otherwise but computes the same. */
static void test_fast_numerics(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct engine e;
        struct engine_setup setup = {.numerics = INFER_NUMERICS_FAST};
        if (!infer_has("openblas"))
            skip();
        engine_open(&e, test_data(models[i].model), &setup);
        check_logits(&models[i], &e, "fast");
        engine_close(&e);
    }
}

static void run_all(void (*check)(const struct reference *, struct engine *, const char *),
                    size_t n_levels)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (size_t l = 0; l < n_levels; l++) {
            struct engine e;
            struct engine_setup setup = {.disable_cpu_features = levels[l].disabled};
            engine_open(&e, test_data(models[i].model), &setup);
            check(&models[i], &e, levels[l].name);
            engine_close(&e);
        }
}

static void test_greedy(void **state)
{
    (void)state;
    run_all(check_greedy, N_LEVELS);
}

static void test_logits(void **state)
{
    (void)state;
    run_all(check_logits, N_LEVELS);
}

static void test_perplexity(void **state)
{
    (void)state;
    run_all(check_perplexity, 1); /* long: the strongest level stands for all */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_fast_numerics),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
