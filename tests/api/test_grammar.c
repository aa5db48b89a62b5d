/* Constrained requests as an application makes them: whatever is drawn, the answer matches; forced
 * tokens change nothing but the time; the host's own logits callback. */
#include "support/engine.h"
#include "support/json_validator.h"

#include <math.h>
#include <pthread.h>

#define PERSON                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},"        \
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"                                \
    "\"city\":{\"enum\":[\"Rome\",\"Bern\"]},\"tags\":{\"type\":\"array\","                        \
    "\"items\":{\"type\":\"string\",\"pattern\":\"^[a-z]{1,8}$\"},\"maxItems\":3}},"               \
    "\"required\":[\"name\",\"age\",\"city\"],\"additionalProperties\":false}"
#define PAIR                                                                                       \
    "{\"anyOf\":[{\"type\":\"boolean\"},{\"type\":\"array\",\"prefixItems\":[{\"const\":\"x\"},"   \
    "{\"type\":\"number\",\"minimum\":-1,\"maximum\":1,\"multipleOf\":0.25}],"                     \
    "\"items\":false,\"minItems\":2}]}"
#define CHAIN                                                                                      \
    "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{"               \
    "\"v\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":5},"                                 \
    "\"next\":{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/t\"}]}},"                        \
    "\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}"
#define NAMES                                                                                      \
    "{\"type\":\"object\",\"patternProperties\":{\"^n_[a-z]{1,4}$\":{\"type\":\"null\"}},"         \
    "\"additionalProperties\":false,\"maxProperties\":2}"

static const char *const schemas[] = {PERSON, PAIR, CHAIN, NAMES};

static infer_grammar *make(infer_grammar_kind kind, const char *text)
{
    infer_grammar_options options = {.struct_size = sizeof options, .kind = kind, .text = text};
    infer_grammar *grammar = NULL;
    if (infer_grammar_create(&grammar, &options) != INFER_OK)
        fail_msg("%s: %s", text, infer_last_error());
    return grammar;
}

static infer_request_options request_options(const infer_grammar *grammar,
                                             const infer_sampling *sampling)
{
    return (infer_request_options){.struct_size = sizeof(infer_request_options),
                                   .prompt = "Write a JSON object about Anna.",
                                   .sampling = sampling,
                                   .grammar = grammar,
                                   .max_tokens = 150};
}

static void ask(struct engine *e, const infer_request_options *options, struct engine_answer *out)
{
    infer_request *request = NULL;
    if (infer_session_submit(&request, e->session, options) != INFER_OK)
        fail_msg("%s", infer_last_error());
    engine_collect(request, out);
}

static int accepts(const infer_grammar *grammar, const char *text)
{
    int32_t whole = -1;
    assert_int_equal(infer_grammar_accepts(&whole, grammar, text, strlen(text)), INFER_OK);
    return whole;
}

/* At temperature 2 a model says anything. */
static void test_always_valid(void **state)
{
    struct engine e;
    int whole = 0, cut = 0;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        infer_grammar *grammar = make(INFER_GRAMMAR_JSON_SCHEMA, schemas[i]);
        json_t *schema = json_loads(schemas[i], 0, NULL);
        for (uint64_t seed = 0; seed < 8; seed++) {
            infer_sampling sampling = {
                .struct_size = sizeof sampling, .temperature = 2.0f, .seed = seed};
            infer_request_options options = request_options(grammar, &sampling);
            struct engine_answer answer;
            ask(&e, &options, &answer);
            if (answer.status != INFER_OK)
                fail_msg("%s: %s", schemas[i], answer.error);
            assert_true(answer.finish == INFER_FINISH_STOP || answer.finish == INFER_FINISH_LENGTH);
            if (answer.finish == INFER_FINISH_STOP) {
                json_t *value = json_loads(answer.text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
                if (!value || !json_valid(schema, schema, value) || !accepts(grammar, answer.text))
                    fail_msg("%s gave %s", schemas[i], answer.text);
                json_decref(value);
            }
            whole += answer.finish == INFER_FINISH_STOP;
            cut += answer.finish == INFER_FINISH_LENGTH;
            engine_answer_free(&answer);
        }
        json_decref(schema);
        infer_grammar_destroy(&grammar);
    }
    print_message("# %d answers, all valid; %d cut by max_tokens\n", whole, cut);
    assert_true(whole > 20);
    engine_close(&e);
}

static uint64_t steps(struct engine *e)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    assert_int_equal(infer_session_get_stats(e->session, &stats), INFER_OK);
    return stats.n_steps;
}

static void assert_same(const struct engine_answer *x, const struct engine_answer *y)
{
    assert_int_equal(x->status, y->status);
    assert_int_equal(x->finish, y->finish);
    assert_string_equal(x->text, y->text);
    assert_int_equal(x->n, y->n);
    assert_memory_equal(x->tokens, y->tokens, x->n * sizeof *x->tokens);
}

/* With forced tokens taken at once, one by one, and in a small cache that preempts: the same. */
static void test_jump_ahead(void **state)
{
    struct engine e;
    infer_sampling greedy = {.struct_size = sizeof greedy, .frequency_penalty = 0.5f};
    struct engine_answer fast, slow;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    for (size_t i = 0; i < 3; i++) {
        infer_grammar_options how = {
            .struct_size = sizeof how, .text = schemas[i], .compact = i != 1};
        infer_grammar *grammar = NULL;
        assert_int_equal(infer_grammar_create(&grammar, &how), INFER_OK);
        infer_request_options options = request_options(grammar, &greedy);
        uint64_t before = steps(&e);
        ask(&e, &options, &fast);
        uint64_t n_fast = steps(&e) - before;
        options.disable_jump_ahead = 1;
        before = steps(&e);
        ask(&e, &options, &slow);
        uint64_t n_slow = steps(&e) - before;
        assert_same(&fast, &slow);
        print_message("# %zu tokens in %u steps, one by one in %u\n", fast.n, (unsigned)n_fast,
                      (unsigned)n_slow);
        assert_true(n_fast <= n_slow && (i != 0 || n_fast < n_slow));
        engine_answer_free(&slow);
        options.disable_jump_ahead = 0;
        options.logprobs = 1; /* every token wants its own */
        ask(&e, &options, &slow);
        assert_same(&fast, &slow);
        for (size_t k = 0; k < slow.n; k++)
            assert_true(slow.logprobs[k] < 0);
        engine_answer_free(&slow);
        engine_answer_free(&fast);
        infer_grammar_destroy(&grammar);
    }
    engine_close(&e);
}

#define N_REQUESTS 8

/* Many at once under one grammar, in a cache too small for them, are as each alone. */
static void test_together(void **state)
{
    struct engine alone, together;
    infer_grammar *grammar = make(INFER_GRAMMAR_JSON_SCHEMA, schemas[0]);
    infer_request *requests[N_REQUESTS] = {NULL};
    (void)state;
    engine_open(&alone, test_source(TINY_MODEL), &(struct engine_setup){0});
    engine_open(&together, test_source(TINY_MODEL),
                &(struct engine_setup){.kv_budget_bytes = 3 << 20, .step_tokens = 16});
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_sampling sampling = {
            .struct_size = sizeof sampling, .temperature = 1.5f, .seed = (uint64_t)i};
        infer_request_options options = request_options(grammar, &sampling);
        assert_int_equal(infer_session_submit(&requests[i], together.session, &options), INFER_OK);
    }
    for (int i = 0; i < N_REQUESTS; i++) {
        infer_sampling sampling = {
            .struct_size = sizeof sampling, .temperature = 1.5f, .seed = (uint64_t)i};
        infer_request_options options = request_options(grammar, &sampling);
        struct engine_answer x, y;
        ask(&alone, &options, &x);
        if (i == 3)
            infer_grammar_destroy(&grammar); /* requests keep it; */
        engine_collect(requests[i], &y);
        assert_same(&x, &y);
        engine_answer_free(&x);
        engine_answer_free(&y);
        if (!grammar)
            grammar = make(INFER_GRAMMAR_JSON_SCHEMA, schemas[0]); /* an equal one is as good */
    }
    infer_grammar_destroy(&grammar);
    engine_close(&alone);
    engine_close(&together);
}

#define N_THREADS 4

struct worker {
    pthread_t thread;
    infer_model *model;
    const infer_grammar *grammar;
    uint64_t seed;
    char text[4096];
    infer_status status;
};

static int32_t collect(const char *text, size_t size, void *user_data)
{
    struct worker *w = user_data;
    size_t room = sizeof w->text - 1 - strlen(w->text);
    strncat(w->text, text, size < room ? size : room);
    return 0;
}

/* A session of its own; model and grammar are everybody's. */
static void *work(void *arg)
{
    struct worker *w = arg;
    infer_session *session = NULL;
    infer_sampling sampling = {
        .struct_size = sizeof sampling, .temperature = 1.5f, .seed = w->seed};
    infer_request_options options = request_options(w->grammar, &sampling);
    w->text[0] = 0;
    w->status = infer_session_create(&session, w->model, NULL);
    if (w->status == INFER_OK)
        w->status = infer_session_generate(session, NULL, &options, collect, w);
    infer_session_destroy(&session);
    return NULL;
}

static void test_threads(void **state)
{
    static struct worker workers[N_THREADS];
    infer_model *model = NULL;
    infer_grammar *grammar = make(INFER_GRAMMAR_JSON_SCHEMA, schemas[0]);
    (void)state;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), INFER_OK);
    for (int i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){.model = model, .grammar = grammar, .seed = (uint64_t)i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        static struct worker alone;
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        alone = (struct worker){.model = model, .grammar = grammar, .seed = (uint64_t)i};
        work(&alone);
        assert_int_equal(workers[i].status, INFER_OK);
        assert_string_equal(workers[i].text, alone.text);
    }
    infer_grammar_destroy(&grammar);
    infer_model_destroy(&model);
}

static void test_ends(void **state)
{
    struct engine e;
    static const char *const stop[] = {"na"};
    static const char *const words[] = {"Anna", "Annabel", "Tom"};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_grammar *grammar = make(INFER_GRAMMAR_GBNF, "root ::= \"Anna\" [ a-z]*");
    struct engine_answer answer;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    infer_request_options options = request_options(grammar, &greedy);
    options.stop = stop;
    options.n_stop = 1;
    ask(&e, &options, &answer);
    assert_string_equal(answer.text, "An");
    assert_int_equal(answer.finish, INFER_FINISH_STOP);
    engine_answer_free(&answer);
    options.n_stop = 0;
    options.max_tokens = 3;
    ask(&e, &options, &answer);
    assert_true(strncmp(answer.text, "Anna", strlen(answer.text)) == 0 ||
                accepts(grammar, answer.text));
    engine_answer_free(&answer);
    infer_grammar_destroy(&grammar);

    infer_grammar_options how = {
        .struct_size = sizeof how, .kind = INFER_GRAMMAR_CHOICE, .choices = words, .n_choices = 3};
    assert_int_equal(infer_grammar_create(&grammar, &how), INFER_OK);
    for (int32_t ignore = 0; ignore < 2; ignore++) {
        options = request_options(grammar, &greedy);
        options.ignore_eos = ignore; /* without end tokens, "Anna" must go on */
        ask(&e, &options, &answer);
        assert_int_equal(answer.status, INFER_OK);
        assert_int_equal(answer.finish, INFER_FINISH_STOP);
        assert_true(accepts(grammar, answer.text));
        engine_answer_free(&answer);
    }
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

/* A prompt's own words are not constrained, and every byte is of the grammar, in any language. */
static void test_characters(void **state)
{
    struct engine e;
    infer_grammar *grammar =
        make(INFER_GRAMMAR_REGEX, "(\xc3\xa9|\xe6\x97\xa5|\xf0\x9f\x98\x80){3}");
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    for (uint64_t seed = 0; seed < 4; seed++) {
        infer_sampling sampling = {
            .struct_size = sizeof sampling, .temperature = 3.0f, .seed = seed};
        infer_request_options options = request_options(grammar, &sampling);
        struct engine_answer answer;
        ask(&e, &options, &answer);
        assert_int_equal(answer.finish, INFER_FINISH_STOP);
        assert_true(accepts(grammar, answer.text));
        engine_answer_free(&answer);
    }
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

struct wish {
    infer_token token;
    int left, calls;
};

static int32_t only_wished(float *logits, int32_t n, void *user_data)
{
    struct wish *wish = user_data;
    wish->calls++;
    for (int32_t i = 0; i < n; i++)
        if (i != wish->token)
            logits[i] = -INFINITY;
    return wish->left-- == 0;
}

static void test_logits_callback(void **state)
{
    struct engine e;
    struct wish wish = {.token = 300, .left = 5};
    infer_sampling greedy = {.struct_size = sizeof greedy};
    struct engine_answer answer;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    infer_request_options options = request_options(NULL, &greedy);
    options.logits_fn = only_wished;
    options.logits_user_data = &wish;
    options.max_tokens = 4;
    ask(&e, &options, &answer);
    assert_int_equal(answer.status, INFER_OK);
    assert_int_equal(answer.n, 4);
    assert_int_equal(wish.calls, 4);
    for (size_t i = 0; i < answer.n; i++)
        assert_int_equal(answer.tokens[i], 300);
    engine_answer_free(&answer);
    options.max_tokens = 20; /* the callback ends it */
    ask(&e, &options, &answer);
    assert_int_equal(answer.status, INFER_ERR_CANCELLED);
    assert_non_null(strstr(answer.error, "callback"));
    engine_answer_free(&answer);
    engine_close(&e);
}

static void assert_create(const infer_grammar_options *options, infer_status status,
                          const char *sentence)
{
    infer_grammar *grammar = NULL;
    assert_int_equal(infer_grammar_create(&grammar, options), status);
    assert_null(grammar);
    if (!strstr(infer_last_error(), sentence))
        fail_msg("\"%s\" should contain \"%s\"", infer_last_error(), sentence);
}

static void test_options(void **state)
{
    static const char *const words[] = {"a", NULL};
    infer_grammar *grammar = NULL;
    int32_t whole = 0;
    infer_grammar_options o = {.struct_size = sizeof o};
    (void)state;
    assert_int_equal(infer_grammar_create(&grammar, NULL), INFER_OK); /* any JSON object */
    assert_true(accepts(grammar, "{\"a\": [1, {\"b\": null}]}"));
    assert_false(accepts(grammar, "[1]"));
    assert_int_equal(infer_grammar_accepts(&whole, NULL, "x", 1), INFER_ERR_INVALID);
    assert_int_equal(infer_grammar_accepts(NULL, grammar, "x", 1), INFER_ERR_INVALID);
    infer_grammar_destroy(&grammar);
    infer_grammar_destroy(&grammar);
    infer_grammar_destroy(NULL);
    o.kind = 9;
    assert_create(&o, INFER_ERR_UNSUPPORTED, "infer_grammar_kind 9");
    o.kind = INFER_GRAMMAR_REGEX;
    assert_create(&o, INFER_ERR_INVALID, "NULL");
    o.kind = INFER_GRAMMAR_CHOICE;
    assert_create(&o, INFER_ERR_INVALID, "choices");
    o.choices = words;
    o.n_choices = 2;
    assert_create(&o, INFER_ERR_INVALID, "choices[1] is NULL");
    o = (infer_grammar_options){.struct_size = sizeof o, .text = "{\"type\": \"tree\"}"};
    assert_create(&o, INFER_ERR_FORMAT, "at #: no type has this name: tree");
    o.text = "{\"properties\":{\"a\":{\"not\":{}}}}";
    assert_create(&o, INFER_ERR_UNSUPPORTED,
                  "at #/properties/a: this keyword is not supported: not");
    o.text = "{\"$ref\":\"#/$defs/a\"}";
    assert_create(&o, INFER_ERR_NOT_FOUND, "#/$defs/a");
    o.text = "{\"type\":\"object\",,}";
    assert_create(&o, INFER_ERR_FORMAT, "line 1");
    o.text = "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}";
    assert_create(&o, INFER_ERR_INVALID, "no value can match");
    o.text = "{\"type\":\"string\",\"maxLength\":1000000000}"; /* counted, not written out */
    assert_int_equal(infer_grammar_create(&grammar, &o), INFER_OK);
    infer_grammar_destroy(&grammar);
}

/* A fork stands in the grammar where its source stood. */
static void test_forks(void **state)
{
    enum { SAID = 6, FORKS = 4 };
    infer_grammar *grammar = make(INFER_GRAMMAR_JSON_SCHEMA, PERSON);
    infer_sampling hot = {.struct_size = sizeof hot, .temperature = 2, .seed = 5};
    infer_request_options options = request_options(grammar, &hot);
    infer_event event = {.struct_size = sizeof event};
    infer_request *source = NULL, *forks[FORKS] = {NULL}, *late = NULL;
    char said[512] = "", text[1024];
    struct engine e;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    options.disable_jump_ahead = 1;
    assert_ok(infer_session_submit(&source, e.session, &options));
    for (int i = 0; i < SAID; i++) {
        assert_ok(infer_request_next(source, &event));
        strncat(said, event.text, event.text_size);
    }
    for (int i = 0; i < FORKS; i++)
        assert_ok(infer_request_fork(&forks[i], source, NULL));
    for (int i = 0; i < FORKS; i++) {
        struct engine_answer answer;
        engine_collect(forks[i], &answer);
        snprintf(text, sizeof text, "%s%s", said, answer.text);
        assert_int_equal(answer.status, INFER_OK);
        if (answer.finish == INFER_FINISH_STOP && !accepts(grammar, text))
            fail_msg("a fork gave %s", text);
        engine_answer_free(&answer);
    }
    while (infer_request_next(source, &event) == INFER_OK)
        continue;
    infer_request_info info = {.struct_size = sizeof info};
    assert_ok(infer_request_get_info(source, &info));
    if (info.finish == INFER_FINISH_STOP)
        assert_int_equal(infer_request_fork(&late, source, NULL), INFER_ERR_INVALID);
    infer_request_destroy(&source);
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_always_valid),
        cmocka_unit_test(test_jump_ahead),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_logits_callback),
        cmocka_unit_test(test_forks),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
