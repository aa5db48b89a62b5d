/* JSON Schema as grammars, against the JSON-Schema-Test-Suite: what compiles accepts every valid
 * instance and no other; what does not is refused by name. */
#include "support/test.h"

#include "unit/grammar_run.h"
#include "unit/json_text.h"

#include <dirent.h>
#include <jansson.h>

struct counts {
    int schemas, compiled, refused, valid, invalid, wrong;
};

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *v = json_load_file(path, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!v)
        fail_msg("%s: %s", path, error.text);
    return v;
}

static void check_instance(struct infer_grammar *g, const json_t *schema, const json_t *test,
                           const char *where, struct counts *c)
{
    static struct json_text t;
    int valid = json_is_true(json_object_get(test, "valid"));
    const json_t *data = json_object_get(test, "data");
    for (int spaces = 0; spaces < 3; spaces++) {
        t.size = t.n_names = 0;
        t.spaces = spaces;
        json_text_names(&t, schema, 0);
        json_text_names(&t, schema, 1);
        json_text_value(&t, data);
        int takes = grammar_takes(g, t.data) == 1;
        if (takes != valid) {
            print_message("# WRONG: %s: %s: %s -> %d\n", where,
                          json_string_value(json_object_get(test, "description")), t.data, takes);
            c->wrong++;
            return;
        }
    }
    c->valid += valid;
    c->invalid += !valid;
}

static void check_group(const json_t *group, const char *file, struct counts *c)
{
    char where[512];
    size_t i;
    json_t *test;
    struct infer_grammar *g = NULL;
    const json_t *schema = json_object_get(group, "schema");
    char *text = json_dumps(schema, JSON_ENCODE_ANY);
    infer_status st = grammar_make(&g, READ_SCHEMA, text);
    snprintf(where, sizeof where, "%s: %s", file,
             json_string_value(json_object_get(group, "description")));
    c->schemas++;
    if (st != INFER_OK) {
        print_message("# refused %d: %s: %s\n", st, where, base_error_text());
        c->refused++;
    } else {
        c->compiled++;
        json_array_foreach(json_object_get(group, "tests"), i, test)
            check_instance(g, schema, test, where, c);
    }
    grammar_release(&g);
    free(text);
}

static void check_folder(const char *folder, struct counts *c)
{
    char path[1024];
    struct dirent *entry;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        const char *end = strrchr(entry->d_name, '.');
        size_t i;
        json_t *group;
        if (!end || strcmp(end, ".json") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        json_t *groups = load(path);
        json_array_foreach(groups, i, group) check_group(group, entry->d_name, c);
        json_decref(groups);
    }
    closedir(dir);
}

static void test_suite(void **state)
{
    struct counts c = {0};
    (void)state;
    check_folder(test_data("json/JSON-Schema-Test-Suite/tests/draft2020-12"), &c);
    print_message("# %d schemas: %d compiled, %d refused; %d valid and %d invalid instances as "
                  "they should be, %d not\n",
                  c.schemas, c.compiled, c.refused, c.valid, c.invalid, c.wrong);
    assert_int_equal(c.wrong, 0);
}

static void test_formats(void **state)
{
    struct counts c = {0};
    (void)state;
    check_folder(test_data("json/JSON-Schema-Test-Suite/tests/draft2020-12/optional/format"), &c);
    print_message("# %d schemas: %d compiled, %d refused; %d valid and %d invalid instances as "
                  "they should be, %d not\n",
                  c.schemas, c.compiled, c.refused, c.valid, c.invalid, c.wrong);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
