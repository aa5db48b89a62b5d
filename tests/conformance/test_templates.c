/* Templates of published models against recorded renderings of Jinja2 3.1.6:
 * every text byte for byte, every error an error. */
#include "support/test.h"

#include "base/error.h"
#include "support/jinja_json.h"
#include "text/chat_template.h"

#define MAX_REPORTED 20

struct count {
    int outputs, errors, failed;
};

static json_t *load(const char *relative)
{
    json_error_t error;
    const char *path = test_data(relative);
    json_t *json = json_load_file(path, 0, &error);
    if (!json)
        fail_msg("%s: %s", path, error.text);
    return json;
}

static void report(struct count *count, const char *name, const char *what, const char *why)
{
    if (count->failed++ < MAX_REPORTED)
        print_error("%s %s: %s\n", name, what, why);
}

/* `expected` NULL: the rendering must fail. */
static void check(struct count *count, const char *name, const char *what, const char *source,
                  size_t size, const json_t *variables, const char *expected)
{
    static const struct jinja_time recorded_at = {2025, 1, 15, 12, 0, 0};
    struct jinja_options options = {.now = &recorded_at};
    struct text_chat_template *t = NULL;
    struct jinja_heap heap;
    struct base_str out;
    jinja_heap_init(&heap, &base_alloc_default, 0);
    base_str_init(&out, &base_alloc_default, 0);
    struct jinja_value context = jinja_from_json(&heap, variables);
    assert_ok(heap.status);
    infer_status st = text_chat_template_create(&t, &base_alloc_default, source, size);
    if (st == INFER_OK)
        st = text_chat_template_render_context(t, &base_alloc_default, context, &options, &out);
    if (expected)
        count->outputs++;
    else
        count->errors++;
    if (expected && st != INFER_OK)
        report(count, name, what, base_error_text());
    else if (expected && strcmp(out.data, expected) != 0)
        report(count, name, what, "another text");
    else if (!expected && st == INFER_OK)
        report(count, name, what, "rendered where the original fails");
    text_chat_template_destroy(&t);
    jinja_heap_release(&heap);
    base_str_release(&out);
}

static void finish(const struct count *count, const char *what, int outputs, int errors)
{
    print_message("%s: %d texts and %d errors, %d differ\n", what, count->outputs, count->errors,
                  count->failed);
    assert_int_equal(count->failed, 0);
    assert_int_equal(count->outputs, outputs);
    assert_int_equal(count->errors, errors);
}

/* The same through the plain interface, where that is enough: messages of a role and
 * a text, no other variables, no time. */
static void check_conversation(struct count *count, const char *name, const char *what,
                               const char *source, size_t size, const json_t *variables,
                               const char *expected)
{
    struct text_message messages[8];
    struct text_chat_template *t = NULL;
    struct base_str out;
    const json_t *list = json_object_get(variables, "messages");
    size_t n = json_array_size(list);
    if (json_object_size(variables) != 4 || strstr(source, "strftime_now"))
        return;
    assert_true(n <= BASE_COUNT(messages));
    for (size_t i = 0; i < n; i++) {
        const json_t *role = json_object_get(json_array_get(list, i), "role");
        const json_t *content = json_object_get(json_array_get(list, i), "content");
        if (json_object_size(json_array_get(list, i)) != 2)
            return;
        messages[i].role = (struct base_view){json_string_value(role), json_string_length(role)};
        messages[i].content =
            (struct base_view){json_string_value(content), json_string_length(content)};
    }
    base_str_init(&out, &base_alloc_default, 0);
    infer_status st = text_chat_template_create(&t, &base_alloc_default, source, size);
    if (st == INFER_OK)
        st = text_chat_template_render(
            t, &base_alloc_default, messages, n,
            json_is_true(json_object_get(variables, "add_generation_prompt")),
            json_string_value(json_object_get(variables, "bos_token")),
            json_string_value(json_object_get(variables, "eos_token")), &out);
    count->outputs += expected != NULL;
    count->errors += expected == NULL;
    if ((st == INFER_OK) != (expected != NULL) || (expected && strcmp(out.data, expected) != 0))
        report(count, name, what, st == INFER_OK ? "another text" : base_error_text());
    text_chat_template_destroy(&t);
    base_str_release(&out);
}

static void test_recorded_renderings(void **state)
{
    (void)state;
    struct count count = {0}, plain = {0};
    json_t *renders = load("templates/golden_renders.json");
    json_t *file = load("templates/golden_contexts.json");
    const json_t *contexts = json_object_get(file, "contexts");
    for (void *t = json_object_iter(renders); t; t = json_object_iter_next(renders, t)) {
        char path[512];
        size_t size;
        const char *name = json_object_iter_key(t);
        json_t *of_template = json_object_iter_value(t);
        snprintf(path, sizeof path, "templates/templates/%s", name);
        char *source = test_read(test_data(path), &size);
        for (void *c = json_object_iter(of_template); c;
             c = json_object_iter_next(of_template, c)) {
            const char *which = json_object_iter_key(c);
            const char *expected =
                json_string_value(json_object_get(json_object_iter_value(c), "output"));
            const json_t *variables = json_object_get(contexts, which);
            check(&count, name, which, source, size, variables, expected);
            check_conversation(&plain, name, which, source, size, variables, expected);
        }
        free(source);
    }
    json_decref(renders);
    json_decref(file);
    finish(&count, "recorded renderings", 564, 16);
    finish(&plain, "plain conversations", 318, 6);
}

/* Templates that another engine is tested with; the reference is Jinja2's own result. */
static void test_collected_cases(void **state)
{
    (void)state;
    struct count count = {0};
    json_t *cases = load("templates/llamacpp_chat_template_cases.json");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *source = json_object_get(c, "template");
        const json_t *reference = json_object_get(c, "jinja2_reference");
        const char *expected = json_string_value(
            json_is_object(reference) ? json_object_get(reference, "output") : reference);
        check(&count, json_string_value(json_object_get(c, "name")), "", json_string_value(source),
              json_string_length(source), json_object_get(c, "context"), expected);
    }
    json_decref(cases);
    finish(&count, "collected cases", 33, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_renderings),
        cmocka_unit_test(test_collected_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
