/* Every architecture: a tiny model with random weights against an independent float64
 * evaluation, as a Hugging Face folder and as the GGUF file that comes of it, in one piece, in
 * chunks, token by token and while generating.
 *
 *     test_arch [PATTERN]    only the cases whose name matches, as 'gemma*'
 *
 * INFER_ARCH_KEEP=FOLDER keeps the models, for arch/check_llama_cpp.py.
 * INFER_ARCH_GGUF=FOLDER adds a form: FOLDER/<name>.gguf, made by somebody else's converter. */
#include "arch_fixture.h"
#include "support/engine.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOLERANCE 1e-4

struct arch_case {
    const char *fixture;
    const char *form;
};

static const struct {
    const char *name;
    uint32_t disabled, every; /* every: the reference is slow, a part of the prefixes will do */
} levels[] = {{"best", 0, 1}, {"reference", ~0u, 4}};

/* Ways through the same tokens. A prompt token by token goes through those of all shorter ones. */
static const struct {
    const char *name;
    int32_t step_tokens, block_tokens, every, disable_prefix_cache;
} ways[] = {{"whole", 256, 64, 1, 1},
            {"chunks of 7", 7, 16, 1, 1},
            {"one by one", 1, 32, 8, 1},
            {"cached", 256, 16, 1, 0}};

#define N_LEVELS (sizeof levels / sizeof *levels)
#define N_WAYS   (sizeof ways / sizeof *ways)

static void report(const char *level, const char *way, const struct arch_error *error)
{
    double relative = arch_error_relative(error);
    print_message("  %-9s %-11s %zu rows, %zu logits, relative error %.2g\n", level, way,
                  error->rows, error->numbers, relative);
    assert_true(relative <= TOLERANCE);
}

/* The logits after the longest prefix and, `every` tokens less, shorter ones. */
static void check_prompts(struct engine *e, const struct arch_fixture *f, size_t every,
                          struct arch_error *error)
{
    every = TEST_SANITIZED ? 8 : every;
    for (size_t i = (f->n_tokens - 1) % every; i < f->n_tokens; i += every) {
        float *logits = engine_logits(e, f->tokens, i + 1);
        arch_error_add(error, f, i, logits);
        free(logits);
    }
}

/* Generates greedily, which must take the reference's way, and looks at each step's logits. */
static void check_decode(struct engine *e, const struct arch_fixture *f, struct arch_error *error)
{
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options,
                                     .tokens = f->tokens,
                                     .n_tokens = f->n_prompt,
                                     .sampling = &greedy,
                                     .max_tokens = (int64_t)(f->n_tokens - f->n_prompt),
                                     .ignore_eos = 1,
                                     .want_logits = 1};
    infer_request *request = NULL;
    infer_event event = {.struct_size = sizeof event};
    assert_ok(infer_session_submit(&request, e->session, &options));
    for (size_t i = f->n_prompt; i < f->n_tokens; i++) {
        assert_ok(infer_request_next(request, &event));
        assert_int_equal(event.type, INFER_EVENT_TOKEN);
        assert_int_equal(event.n_logits, f->n_vocab);
        arch_error_add(error, f, i - 1, event.logits);
        assert_int_equal(event.token, f->tokens[i]);
    }
    infer_request_destroy(&request);
}

static void check_way(const char *path, const struct arch_fixture *f, size_t level, size_t way)
{
    struct engine e;
    struct engine_setup setup = {.n_threads = way == 0 ? 2 : 1,
                                 .disable_cpu_features = levels[level].disabled,
                                 .kv_type = INFER_KV_F32,
                                 .step_tokens = ways[way].step_tokens,
                                 .block_tokens = ways[way].block_tokens,
                                 .disable_prefix_cache = ways[way].disable_prefix_cache};
    struct arch_error prompts = {0}, decode = {0};
    engine_open(&e, path, &setup);
    check_prompts(&e, f, (size_t)ways[way].every * levels[level].every, &prompts);
    report(levels[level].name, ways[way].name, &prompts);
    check_decode(&e, f, &decode);
    report(levels[level].name, "decode", &decode);
    engine_close(&e);
}

static void check_model(const char *path, const struct arch_fixture *f)
{
    for (size_t level = 0; level < N_LEVELS; level++)
        for (size_t way = 0; way < N_WAYS; way++)
            check_way(path, f, level, way);
}

/* A folder of this case alone, which is removed afterwards. */
static void make_folder(char *path, size_t size, const char *name)
{
    const char *keep = getenv("INFER_ARCH_KEEP");
    if (keep) {
        snprintf(path, size, "%s/%s", keep, name);
        mkdir(path, 0777);
        return;
    }
    arch_folder_make(path, size);
}

static void remove_folder(const char *path)
{
    if (!getenv("INFER_ARCH_KEEP"))
        arch_folder_remove(path);
}

static void test_folder(void **state)
{
    const struct arch_case *c = *state;
    struct arch_fixture f;
    char folder[512];
    arch_fixture_open(&f, c->fixture);
    make_folder(folder, sizeof folder, c->fixture);
    arch_fixture_write(&f, folder, "F32");
    check_model(folder, &f);
    remove_folder(folder);
    arch_fixture_close(&f);
}

/* The same tensors take the same ways: one prompt and one generation show that the file has them.
 */
static void test_gguf(void **state)
{
    const struct arch_case *c = *state;
    struct arch_fixture f;
    char folder[512], path[600];
    arch_fixture_open(&f, c->fixture);
    make_folder(folder, sizeof folder, c->fixture);
    arch_fixture_write(&f, folder, "F32");
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    assert_ok(infer_convert(NULL, folder, path, NULL));
    check_way(path, &f, 0, 0);
    remove_folder(folder);
    arch_fixture_close(&f);
}

static void test_foreign(void **state)
{
    const struct arch_case *c = *state;
    struct arch_fixture f;
    char path[512];
    snprintf(path, sizeof path, "%s/%s.gguf", getenv("INFER_ARCH_GGUF"), c->fixture);
    if (access(path, R_OK) != 0)
        skip();
    arch_fixture_open(&f, c->fixture);
    check_model(path, &f);
    arch_fixture_close(&f);
}

static const struct {
    const char *name;
    void (*run)(void **state);
} forms[] = {{"folder", test_folder}, {"gguf", test_gguf}, {"foreign", test_foreign}};

#define N_FORMS (sizeof forms / sizeof *forms)

int main(int argc, char **argv)
{
    char **names;
    size_t n_names = arch_fixture_names(&names), n = 0;
    struct arch_case *cases = calloc(n_names * N_FORMS + 1, sizeof *cases);
    struct CMUnitTest *tests = calloc(n_names * N_FORMS + 1, sizeof *tests);
    for (size_t i = 0; i < n_names; i++)
        for (size_t k = 0; k < N_FORMS; k++) {
            char name[128];
            if (forms[k].run == test_foreign && !getenv("INFER_ARCH_GGUF"))
                continue;
            snprintf(name, sizeof name, "%s/%s", names[i], forms[k].name);
            cases[n] = (struct arch_case){names[i], forms[k].name};
            tests[n] = (struct CMUnitTest){strdup(name), forms[k].run, NULL, NULL, &cases[n]};
            n++;
        }
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    int failed = _cmocka_run_group_tests("arch", tests, n, NULL, NULL);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)tests[i].name);
    for (size_t i = 0; i < n_names; i++)
        free(names[i]);
    free(names);
    free(tests);
    free(cases);
    return failed != 0;
}
