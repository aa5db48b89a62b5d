/* Answers in every format, cut in every way: what is read of them, and what stays text. */
#include "support/engine.h"
#include "support/test_alloc.h"

struct call_case {
    const char *name, *arguments, *id;
    int not_json;
};

struct message_case {
    infer_message_format format;
    int in_reasoning;
    const char *text, *reasoning, *content;
    struct call_case calls[3];
};

#define WEATHER  "{\"city\": \"Oslo\", \"days\": [1, 2]}"
#define DS(word) "<\xef\xbd\x9c" word "\xef\xbd\x9c>"
#define DS_BEGIN                                                                                   \
    DS("tool\xe2\x96\x81"                                                                          \
       "call\xe2\x96\x81"                                                                          \
       "begin")
#define DS_END                                                                                     \
    DS("tool\xe2\x96\x81"                                                                          \
       "call\xe2\x96\x81"                                                                          \
       "end")
#define DS_ALL                                                                                     \
    DS("tool\xe2\x96\x81"                                                                          \
       "calls\xe2\x96\x81"                                                                         \
       "begin")
#define DS_DONE                                                                                    \
    DS("tool\xe2\x96\x81"                                                                          \
       "calls\xe2\x96\x81"                                                                         \
       "end")
#define DS_SEP                                                                                     \
    DS("tool\xe2\x96\x81"                                                                          \
       "sep")

static const struct message_case cases[] = {
    {INFER_MESSAGE_PLAIN,
     0,
     " <think>a</think> [TOOL_CALLS]\n",
     "",
     "<think>a</think> [TOOL_CALLS]",
     {{0}}},
    {INFER_MESSAGE_THINK, 0, "<think>\nHm.\n</think>\n\nYes.\n", "Hm.", "Yes.", {{0}}},
    {INFER_MESSAGE_THINK, 0, "Just so.", "", "Just so.", {{0}}},
    {INFER_MESSAGE_THINK, 0, "<think>cut", "cut", "", {{0}}},
    {INFER_MESSAGE_THINK, 1, "Hm.</think>Yes <b", "Hm.", "Yes <b", {{0}}},
    {INFER_MESSAGE_THINK, 0, "Hm.</think>Yes</think>.", "Hm.", "Yes</think>.", {{0}}},
    {INFER_MESSAGE_THINK, 0, "a < b <th <think", "", "a < b <th <think", {{0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<think>\nLook.\n</think>\nI ask.\n<tool_call>\n{\"name\": \"weather\", "
     "\"arguments\": " WEATHER
     "}\n</tool_call>\n<tool_call>{\"arguments\": {}, \"name\": \"n\\u00e9\"}</tool_call>",
     "Look.",
     "I ask.",
     {{"weather", WEATHER, "", 0}, {"n\xc3\xa9", "{}", "", 0}}},
    {INFER_MESSAGE_HERMES, 0, "<tool_call>{\"name\": \"a\"}", "", "", {{"a", "{}", "", 0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>{\"name\": \"a\", \"arguments\": \"{\\\"x\\\": 1}\", \"id\": \"c7\"}</tool_call>",
     "",
     "",
     {{"a", "{\"x\": 1}", "c7", 0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": "
     "\"}\\\"{\"}}}"
     "</tool_call> done",
     "",
     "done",
     {{"f", "{\"a\": \"}\\\"{\"}", "", 0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>{\"name\": \"a\", </tool_call> oh",
     "",
     "<tool_call>{\"name\": \"a\", </tool_call> oh",
     {{0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>{\"name\": 3}</tool_call>",
     "",
     "<tool_call>{\"name\": 3}</tool_call>",
     {{0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>{\"name\": \"a\", \"arguments\": [1]}</tool_call>",
     "",
     "<tool_call>{\"name\": \"a\", \"arguments\": [1]}</tool_call>",
     {{0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>{\"name\": \"a\"}<tool_call>{\"name\": \"b\"}</tool_call>",
     "",
     "",
     {{"a", "{}", "", 0}, {"b", "{}", "", 0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call>\n<function=search>\n<parameter=query>\nred "
     "\"kite\"\n</parameter>\n<parameter=n>\n5\n"
     "</parameter>\n</function>\n</tool_call>",
     "",
     "",
     {{"search", "{\"query\": \"red \\\"kite\\\"\", \"n\": 5}", "", 0}}},
    {INFER_MESSAGE_HERMES,
     0,
     "<tool_call><function=a><parameter=b>c</tool_call>",
     "",
     "<tool_call><function=a><parameter=b>c</tool_call>",
     {{0}}},
    {INFER_MESSAGE_LLAMA3,
     0,
     "{\"name\": \"weather\", \"parameters\": " WEATHER "}",
     "",
     "",
     {{"weather", WEATHER, "", 0}}},
    {INFER_MESSAGE_LLAMA3,
     0,
     " \n{\"name\": \"a\"}; {\"name\": \"b\"}<|eom_id|>",
     "",
     "",
     {{"a", "{}", "", 0}, {"b", "{}", "", 0}}},
    {INFER_MESSAGE_LLAMA3,
     0,
     "<|python_tag|>{\"name\": \"a\", \"parameters\": {}}<|eom_id|>",
     "",
     "",
     {{"a", "{}", "", 0}}},
    {INFER_MESSAGE_LLAMA3, 0, "<|python_tag|>print(1)", "", "<|python_tag|>print(1)", {{0}}},
    {INFER_MESSAGE_LLAMA3, 0, "{\"city\": 1} is JSON", "", "{\"city\": 1} is JSON", {{0}}},
    {INFER_MESSAGE_LLAMA3, 0, "So: {\"name\": \"a\"}", "", "So: {\"name\": \"a\"}", {{0}}},
    {INFER_MESSAGE_MISTRAL,
     0,
     "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": " WEATHER
     ", \"id\": \"abcdefghi\"}, {\"name\": \"b\"}]",
     "",
     "",
     {{"weather", WEATHER, "abcdefghi", 0}, {"b", "{}", "", 0}}},
    {INFER_MESSAGE_MISTRAL,
     0,
     "[THINK]Hm.[/THINK]Well.[TOOL_CALLS]weather[ARGS]" WEATHER "[TOOL_CALLS]b[CALL_ID]x1[ARGS]{}",
     "Hm.",
     "Well.",
     {{"weather", WEATHER, "", 0}, {"b", "{}", "x1", 0}}},
    {INFER_MESSAGE_MISTRAL, 0, "[TOOL_CALLS]a[ARGS]{\"b\": ", "", "", {{"a", "{\"b\":", "", 1}}},
    {INFER_MESSAGE_MISTRAL,
     0,
     "[1] and [TOOL_CALLS] nothing",
     "",
     "[1] and [TOOL_CALLS] nothing",
     {{0}}},
    {INFER_MESSAGE_DEEPSEEK,
     0,
     "<think>Hm.</think>So." DS_ALL DS_BEGIN "function" DS_SEP "weather\n```json\n" WEATHER
     "\n```" DS_END "\n" DS_BEGIN "b" DS_SEP "{}" DS_END DS_DONE,
     "Hm.",
     "So.",
     {{"weather", WEATHER, "", 0}, {"b", "{}", "", 0}}},
    {INFER_MESSAGE_DEEPSEEK, 0, DS_BEGIN "b" DS_END, "", DS_BEGIN "b" DS_END, {{0}}},
    {INFER_MESSAGE_HARMONY,
     0,
     "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.weather <|constrain|>json<|message|>" WEATHER "<|call|>",
     "Hm.",
     "",
     {{"weather", WEATHER, "", 0}}},
    {INFER_MESSAGE_HARMONY,
     0,
     "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant "
     "to=python<|channel|>commentary"
     "<|message|>print(1)<|end|><|start|>assistant<|channel|>final<|message|> Done.",
     "",
     "I look. Done.",
     {{"python", "print(1)", "", 1}}},
    {INFER_MESSAGE_HARMONY, 0, "no marks at all", "", "no marks at all", {{0}}},
    {INFER_MESSAGE_HARMONY, 0, "<|channel|>fin", "", "", {{0}}},
};

#define N_CASES (sizeof cases / sizeof *cases)

static infer_message_options options_of(const struct message_case *c)
{
    return (infer_message_options){.struct_size = sizeof(infer_message_options),
                                   .format = c->format,
                                   .in_reasoning = c->in_reasoning};
}

static void check(infer_message_reader *m, const struct message_case *c)
{
    infer_message_parts p = {.struct_size = sizeof p};
    size_t n = 0;
    assert_ok(infer_message_reader_get(m, &p));
    if (p.reasoning_size != strlen(c->reasoning) || p.content_size != strlen(c->content) ||
        memcmp(p.reasoning, c->reasoning, p.reasoning_size) != 0 ||
        memcmp(p.content, c->content, p.content_size) != 0)
        fail_msg("%s: reasoning '%.*s', content '%.*s'", c->text, (int)p.reasoning_size,
                 p.reasoning, (int)p.content_size, p.content);
    while (n < 3 && c->calls[n].name)
        n++;
    if (p.n_tool_calls != n)
        fail_msg("%s: %zu calls", c->text, p.n_tool_calls);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(p.tool_calls[i].name, c->calls[i].name);
        assert_string_equal(p.tool_calls[i].arguments, c->calls[i].arguments);
        assert_string_equal(p.tool_calls[i].id, c->calls[i].id);
        assert_int_equal(p.tool_calls[i].arguments_size, strlen(c->calls[i].arguments));
        assert_int_equal(p.tool_calls[i].is_json, !c->calls[i].not_json);
    }
    assert_int_equal(p.format, c->format);
    infer_message_reader_destroy(&m);
    assert_null(m);
}

static void test_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        infer_message_options o = options_of(&cases[i]);
        infer_message_reader *m = NULL;
        assert_ok(infer_message_parse(&m, cases[i].text, strlen(cases[i].text), &o));
        check(m, &cases[i]);
    }
}

/* Every cut in two, and pieces of every size. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        infer_message_options o = options_of(&cases[i]);
        size_t size = strlen(cases[i].text);
        for (size_t k = 1; k < size; k++) {
            infer_message_reader *m = NULL;
            assert_ok(infer_message_reader_create(&m, &o));
            assert_ok(infer_message_reader_push(m, cases[i].text, k));
            assert_ok(infer_message_reader_push(m, cases[i].text + k, size - k));
            assert_ok(infer_message_reader_finish(m));
            check(m, &cases[i]);
            assert_ok(infer_message_reader_create(&m, &o));
            for (size_t at = 0; at < size; at += k)
                assert_ok(infer_message_reader_push(m, cases[i].text + at,
                                                    size - at < k ? size - at : k));
            assert_ok(infer_message_reader_finish(m));
            check(m, &cases[i]);
        }
    }
}

/* Texts only grow while a message comes. */
static void test_streams(void **state)
{
    const struct message_case *c = &cases[7];
    infer_message_options o = options_of(c);
    infer_message_reader *m = NULL;
    infer_message_parts p = {.struct_size = sizeof p};
    char reasoning[100] = "", content[100] = "";
    size_t n_calls = 0, n_reasoning = 0, n_content = 0, seen_call = 0;
    (void)state;
    assert_ok(infer_message_reader_create(&m, &o));
    for (size_t at = 0; c->text[at]; at++) {
        assert_ok(infer_message_reader_push(m, c->text + at, 1));
        assert_ok(infer_message_reader_get(m, &p));
        assert_true(p.reasoning_size >= n_reasoning && p.content_size >= n_content);
        assert_memory_equal(p.reasoning, reasoning, n_reasoning);
        assert_memory_equal(p.content, content, n_content);
        memcpy(reasoning, p.reasoning, n_reasoning = p.reasoning_size);
        memcpy(content, p.content, n_content = p.content_size);
        assert_true(p.n_tool_calls >= n_calls);
        n_calls = p.n_tool_calls;
        if (n_calls == 1 && !seen_call)
            seen_call = at;
    }
    assert_int_equal(n_calls, 2);
    assert_true(seen_call && seen_call < strlen(c->text) - 40); /* as soon as it was whole */
    assert_ok(infer_message_reader_finish(m));
    assert_int_equal(infer_message_reader_push(m, "a", 1), INFER_ERR_INVALID);
    assert_int_equal(infer_message_reader_finish(m), INFER_ERR_INVALID);
    infer_message_reader_destroy(&m);
    infer_message_reader_destroy(&m);
}

/* Large hostile answers: time stays near linear, memory in proportion. */
static void test_hostile(void **state)
{
    static const char *const pieces[] = {
        "<think></think>",
        "<tool_call>",
        "<tool_call>{\"name\":\"a\"}",
        "</tool_call>",
        "<",
        "{\"a\":",
        "[TOOL_CALLS]",
        "[TOOL_CALLS]a[ARGS]{",
        "[ARGS]",
        "<|channel|>",
        "<|message|>",
        "<|start|>to= ",
        DS_BEGIN,
        DS_BEGIN "a" DS_SEP,
        "<parameter=",
        "<tool_call><function=a><parameter=b>",
        " ",
        "[[[[[",
        "{\"name\":\"a\",\"arguments\":{",
    };
    const size_t size = 1 << 18;
    char *text = malloc(size + 100);
    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t n = 0;
        while (n < size) {
            memcpy(text + n, pieces[i], strlen(pieces[i]));
            n += strlen(pieces[i]);
        }
        for (infer_message_format f = 0; f <= INFER_MESSAGE_HARMONY; f++) {
            infer_message_options o = {.struct_size = sizeof o, .format = f};
            infer_message_reader *m = NULL;
            infer_message_parts p = {.struct_size = sizeof p};
            assert_ok(infer_message_parse(&m, text, n, &o));
            assert_ok(infer_message_reader_get(m, &p));
            assert_true(p.reasoning_size + p.content_size <= n);
            infer_message_reader_destroy(&m);
        }
    }
    free(text);
}

static void test_detection(void **state)
{
    static const struct {
        const char *file;
        infer_message_format format;
    } known[] = {
        {"Qwen-Qwen2.5-7B-Instruct", INFER_MESSAGE_HERMES},
        {"Qwen-Qwen3-0.6B", INFER_MESSAGE_HERMES},
        {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", INFER_MESSAGE_HERMES},
        {"minja-Qwen3-Coder-30B-A3B-Instruct", INFER_MESSAGE_HERMES},
        {"meta-llama-Llama-3.1-8B-Instruct", INFER_MESSAGE_LLAMA3},
        {"meta-llama-Llama-3.3-70B-Instruct", INFER_MESSAGE_LLAMA3},
        {"Mistral-Small-3.2-24B-Instruct-2506", INFER_MESSAGE_MISTRAL},
        {"mistralai-Ministral-3-14B-Reasoning-2512", INFER_MESSAGE_MISTRAL},
        {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", INFER_MESSAGE_DEEPSEEK},
        {"GLM-4.6", INFER_MESSAGE_THINK},
    };
    (void)state;
    assert_int_equal(infer_message_format_of(NULL), INFER_MESSAGE_PLAIN);
    assert_int_equal(infer_message_format_of("{{ messages }}"), INFER_MESSAGE_PLAIN);
    assert_int_equal(infer_message_format_of("<|start|>assistant<|channel|>final<|message|>"),
                     INFER_MESSAGE_HARMONY);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char path[200];
        size_t size;
        snprintf(path, sizeof path, "templates/templates/%s.jinja", known[i].file);
        char *text = test_read(test_data(path), &size);
        if (infer_message_format_of(text) != known[i].format)
            fail_msg("%s: format %d", known[i].file, infer_message_format_of(text));
        free(text);
    }
}

static void *fail_alloc(size_t bytes, size_t alignment, void *user_data)
{
    struct test_alloc *t = user_data;
    return t->alloc.alloc(bytes, alignment, t->alloc.user_data);
}

static void fail_free(void *p, void *user_data)
{
    struct test_alloc *t = user_data;
    t->alloc.free(p, t->alloc.user_data);
}

static void test_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        infer_status st = INFER_ERR_NO_MEMORY;
        for (size_t fail = 1; st != INFER_OK; fail++) {
            struct test_alloc t;
            test_alloc_init(&t);
            t.fail_at = fail;
            infer_allocator a = {sizeof a, fail_alloc, fail_free, &t};
            infer_message_options o = options_of(&cases[i]);
            infer_message_reader *m = NULL;
            o.allocator = &a;
            st = infer_message_parse(&m, cases[i].text, strlen(cases[i].text), &o);
            if (st == INFER_OK)
                check(m, &cases[i]);
            else
                assert_int_equal(st, INFER_ERR_NO_MEMORY);
            assert_int_equal(t.live_blocks, 0);
        }
    }
}

static void test_refusals(void **state)
{
    infer_message_options o = {.struct_size = sizeof o, .format = 7};
    infer_message_reader *m = NULL;
    infer_message_parts p = {0};
    (void)state;
    assert_int_equal(infer_message_reader_create(NULL, NULL), INFER_ERR_INVALID);
    assert_int_equal(infer_message_reader_create(&m, &o), INFER_ERR_UNSUPPORTED);
    o.format = -1;
    assert_int_equal(infer_message_parse(&m, "a", 1, &o), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_message_parse(&m, NULL, 1, NULL), INFER_ERR_INVALID);
    assert_null(m);
    assert_ok(infer_message_parse(&m, NULL, 0, NULL));
    assert_int_equal(infer_message_reader_get(m, &p), INFER_ERR_INVALID);
    infer_message_reader_destroy(&m);
}

/* Control tokens are in the text when asked for. */
static void test_show_special(void **state)
{
    struct engine e;
    infer_token control = -1;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 1});
    const infer_tokenizer *t = infer_model_tokenizer(e.model);
    for (infer_token i = 0; i < 300 && control < 0; i++) {
        char text[64];
        size_t size = sizeof text;
        assert_ok(infer_tokenizer_decode(t, &i, 1, NULL, text, &size));
        size_t named = sizeof text;
        assert_ok(infer_tokenizer_piece(t, i, text, &named));
        if (!size && named > 3 && text[0] == '<' && !infer_tokenizer_is_end(t, i))
            control = i;
    }
    assert_true(control >= 0);
    infer_logit_bias bias = {.token = control, .bias = 1000};
    infer_sampling s = {.struct_size = sizeof s, .logit_bias = &bias, .n_logit_bias = 1};
    infer_request_options o = {.struct_size = sizeof o, .prompt = "Once", .sampling = &s};
    o.max_tokens = 3;
    for (int show = 0; show < 2; show++) {
        struct engine_answer answer;
        infer_request *request = NULL;
        o.show_special = show;
        assert_ok(infer_session_submit(&request, e.session, &o));
        engine_collect(request, &answer);
        assert_int_equal(answer.tokens[0], control);
        assert_int_equal(answer.text[0] == '<', show);
        engine_answer_free(&answer);
    }
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),     cmocka_unit_test(test_cut),
        cmocka_unit_test(test_streams),   cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_detection), cmocka_unit_test(test_allocation),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_show_special),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
