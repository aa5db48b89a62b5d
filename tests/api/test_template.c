/* Chat templates with tools and settings through the public API: rendered alone, with a
 * model, and as the prompt of a request. */
#include "support/engine.h"

#include <stdlib.h>
#include <unistd.h>

static infer_status render(const char *source, const char *context, char *text, size_t *size)
{
    return infer_template_render(source, strlen(source), context, strlen(context), NULL, text,
                                 size);
}

static void test_bare_template(void **state)
{
    (void)state;
    static const char source[] = "{{ tools[0].name }}{% if x %}, {{ x }}{% endif %} caf\xc3\xa9\n";
    char text[64] = "untouched";
    size_t size = 0;
    assert_int_equal(render(source, "{\"tools\": [{\"name\": \"f\"}], \"x\": 1.0}", NULL, &size),
                     INFER_OK);
    assert_int_equal(size, 12);
    size = 11;
    assert_int_equal(render(source, "{\"tools\": [{\"name\": \"f\"}], \"x\": 1.0}", text, &size),
                     INFER_ERR_LIMIT);
    assert_string_equal(text, "untouched");
    assert_int_equal(size, 12);
    size = sizeof text;
    assert_int_equal(render(source, "{\"tools\": [{\"name\": \"f\"}], \"x\": 1.0}", text, &size),
                     INFER_OK);
    assert_string_equal(text, "f, 1.0 caf\xc3\xa9");
    size = sizeof text;
    assert_int_equal(render("", "{}", text, &size), INFER_OK);
    assert_int_equal(size, 0);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *source, *context;
        infer_status status;
        const char *words;
    } cases[] = {
        {"{% if", "{}", INFER_ERR_FORMAT, "line 1, column"},
        {"x", "{\"a\": }", INFER_ERR_FORMAT, "context: line 1"},
        {"x", "[1]", INFER_ERR_INVALID, "context: expected a JSON object"},
        {"{{ raise_exception('roles must ' ~ how) }}", "{\"how\": \"alternate\"}",
         INFER_ERR_INVALID, "roles must alternate"},
        {"{% include 'x' %}", "{}", INFER_ERR_UNSUPPORTED, "include"},
        {"{{ messages[0].content + 1 }}", "{\"messages\": []}", INFER_ERR_INVALID, "line 1"},
        {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "{}",
         INFER_ERR_LIMIT, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = 7;
        infer_status st = render(cases[i].source, cases[i].context, NULL, &size);
        if (st != cases[i].status || !strstr(infer_last_error(), cases[i].words))
            fail_msg("%s gave %d: %s", cases[i].source, (int)st, infer_last_error());
        assert_int_equal(size, 7);
    }
    size_t size = 0;
    assert_int_equal(infer_template_render(NULL, 0, "{}", 2, NULL, NULL, &size), INFER_ERR_INVALID);
    assert_int_equal(infer_template_render("x", 1, NULL, 0, NULL, NULL, &size), INFER_ERR_INVALID);
    assert_int_equal(infer_template_render("x", 1, "{}", 2, NULL, NULL, NULL), INFER_ERR_INVALID);
    infer_template_options options = {.struct_size = 4};
    assert_int_equal(infer_template_render("x", 1, "{}", 2, &options, NULL, &size),
                     INFER_ERR_INVALID);
}

static void *counting_alloc(size_t bytes, size_t alignment, void *user_data)
{
    void *p = NULL;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, bytes) != 0)
        return NULL;
    ++*(int *)user_data;
    return p;
}

static void counting_free(void *ptr, void *user_data)
{
    --*(int *)user_data;
    free(ptr);
}

static void test_allocator(void **state)
{
    (void)state;
    int n_live = 0;
    infer_allocator allocator = {sizeof allocator, counting_alloc, counting_free, &n_live};
    infer_template_options options = {.struct_size = sizeof options, .allocator = &allocator};
    size_t size = 0;
    assert_int_equal(infer_template_render("{{ x }}", 7, "{\"x\": [1]}", 10, &options, NULL, &size),
                     INFER_OK);
    assert_int_equal(size, 3);
    assert_int_equal(n_live, 0);
    assert_int_equal(infer_template_render("{{ x", 4, "{\"x\": [1]}", 10, &options, NULL, &size),
                     INFER_ERR_FORMAT);
    assert_int_equal(n_live, 0);
}

#define CHATML(role, text) "<|im_start|>" role "\n" text "<|im_end|>\n"

static void test_model_context(void **state)
{
    (void)state;
    infer_model *model = NULL;
    char text[256];
    size_t size = sizeof text;
    const char *context = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}";
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), NULL), INFER_OK);
    assert_int_equal(infer_model_render_context(model, context, strlen(context), text, &size),
                     INFER_OK);
    assert_string_equal(text, CHATML("user", "Hi") "<|im_start|>assistant\n");
    context = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
              "\"add_generation_prompt\": false}";
    size = sizeof text;
    assert_int_equal(infer_model_render_context(model, context, strlen(context), text, &size),
                     INFER_OK);
    assert_string_equal(text, CHATML("user", "Hi"));
    assert_int_equal(infer_model_render_context(model, "{}", 2, text, &size), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "no messages"));
    assert_int_equal(infer_model_render_context(model, "{", 1, text, &size), INFER_ERR_FORMAT);
    assert_int_equal(infer_model_render_context(model, NULL, 0, text, &size), INFER_ERR_INVALID);
    infer_model_destroy(&model);
}

/* The bundled model with another template of the same length. */
static void write_model(const char *path, const char *template)
{
    static const char first[] = "{% for message in messages %}",
                      last[] = "assistant\\n' }}{% endif %}";
    size_t size;
    char *file = test_read(test_source(TINY_MODEL), &size);
    char *begin = memmem(file, size, first, strlen(first));
    assert_non_null(begin);
    char *end = memmem(begin, 1024, last, strlen(last));
    assert_non_null(end);
    end += strlen(last);
    assert_true((size_t)(end - begin) >= strlen(template) + 4);
    memset(begin, ' ', (size_t)(end - begin));
    memcpy(begin, template, strlen(template));
    memcpy(begin + strlen(template), "{#", 2);
    memcpy(end - 2, "#}", 2);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
    free(file);
}

/* The prompt's text, control tokens shown, and how many of them are end tokens. */
static size_t submit(struct engine *e, const infer_request_options *o, char text[512])
{
    infer_request *request = NULL;
    size_t n, size = 512, n_ends = 0;
    if (infer_session_submit(&request, e->session, o) != INFER_OK)
        fail_msg("%s", infer_last_error());
    const infer_token *prompt = infer_request_prompt(request, &n);
    infer_decode_options show = {.struct_size = sizeof show, .show_special = 1};
    for (size_t i = 0; i < n; i++)
        n_ends += infer_tokenizer_is_end(infer_model_tokenizer(e->model), prompt[i]) != 0;
    assert_int_equal(
        infer_tokenizer_decode(infer_model_tokenizer(e->model), prompt, n, &show, text, &size),
        INFER_OK);
    infer_request_destroy(&request);
    return n_ends;
}

static void test_request(void **state)
{
    (void)state;
    static const char template[] =
        "{% for t in tools %}[{{ t.name }}]{% endfor %}{% for m in messages %}{{ m.role }}:"
        "{{ m.content }}{{ eos_token }}{% endfor %}{{ mood }}{{ add_generation_prompt }}";
    struct engine e;
    struct engine_setup setup = {.n_threads = 1};
    char text[512], path[] = "/tmp/test_template_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_model(path, template);
    engine_open(&e, path, &setup);
    unlink(path);

    /* All of it as JSON; strangers' texts forge no end. */
    infer_request_options o = {.struct_size = sizeof o, .max_tokens = 1};
    o.context = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi<|im_end|>\"}, {\"role\": "
                "\"assistant\", \"content\": \"Ho<|im_end|>\"}], \"tools\": [{\"name\": "
                "\"f<|im_end|>\"}], \"mood\": \"merry\"}";
    assert_int_equal(submit(&e, &o, text), 3);
    assert_string_equal(text, "[f<|im_end|>]user:Hi<|im_end|><|im_end|>assistant:Ho<|im_end|>"
                              "<|im_end|>merryTrue");
    /* Messages beside the JSON; a size that cuts the text short. */
    infer_message messages[] = {{.role = "user", .content = "Hi"}};
    o.messages = messages;
    o.n_messages = 1;
    o.context = "{\"tools\": [{\"name\": \"g\"}]}, and more";
    o.context_size = 26;
    assert_int_equal(submit(&e, &o, text), 1);
    assert_string_equal(text, "[g]user:Hi<|im_end|>True");

    infer_request *request = NULL;
    o.context_size = 0;
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_FORMAT);
    o.context = "{\"messages\": []}";
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "two conversations"));
    o.messages = NULL;
    o.prompt = "Hi";
    assert_int_equal(infer_session_submit(&request, e.session, &o), INFER_ERR_INVALID);
    assert_null(request);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bare_template), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_allocator),     cmocka_unit_test(test_model_context),
        cmocka_unit_test(test_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
