/* Templates of published models against recorded renderings of Jinja2 3.1.6:
 * every text byte for byte, every error an error. Through the public function. */
#include "support/test.h"

#include <infer/infer.h>
#include <jansson.h>

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

/* Asks for the size, then for the text. `*text` is the caller's to free. */
static infer_status render(const char *source, size_t source_size, const char *context, char **text)
{
    size_t size = 0;
    infer_status st =
        infer_template_render(source, source_size, context, strlen(context), NULL, NULL, &size);
    if (st != INFER_OK)
        return st;
    *text = malloc(size + 1);
    assert_non_null(*text);
    size++;
    return infer_template_render(source, source_size, context, strlen(context), NULL, *text, &size);
}

/* `expected` NULL: the rendering must fail. */
static void check(struct count *count, const char *name, const char *what, const char *source,
                  size_t size, json_t *variables, const char *expected)
{
    char *text = NULL;
    json_object_set_new(variables, "strftime_now", json_string("2025-01-15T12:00:00"));
    char *context = json_dumps(variables, JSON_REAL_PRECISION(17));
    assert_non_null(context);
    infer_status st = render(source, size, context, &text);
    if (expected)
        count->outputs++;
    else
        count->errors++;
    if (expected && st != INFER_OK)
        report(count, name, what, infer_last_error());
    else if (expected && strcmp(text, expected) != 0)
        report(count, name, what, "another text");
    else if (!expected && st == INFER_OK)
        report(count, name, what, "rendered where the original fails");
    else if (!expected && !*infer_last_error())
        report(count, name, what, "failed without a word");
    free(text);
    free(context);
}

static void finish(const struct count *count, const char *what, int outputs, int errors)
{
    print_message("%s: %d texts and %d errors, %d differ\n", what, count->outputs, count->errors,
                  count->failed);
    assert_int_equal(count->failed, 0);
    assert_int_equal(count->outputs, outputs);
    assert_int_equal(count->errors, errors);
}

static void test_recorded_renderings(void **state)
{
    (void)state;
    struct count count = {0};
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
            json_t *variables = json_object_get(contexts, which);
            check(&count, name, which, source, size, variables, expected);
        }
        free(source);
    }
    json_decref(renders);
    json_decref(file);
    finish(&count, "recorded renderings", 564, 16);
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
