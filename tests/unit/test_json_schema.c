/* JSON Schema as grammars, against the JSON-Schema-Test-Suite: what compiles accepts every valid
 * instance and no other; what does not is refused by name. */
#include "support/test.h"

#include "support/json_validator.h"
#include "unit/grammar_run.h"
#include "unit/json_text.h"

#include <dirent.h>
#include <jansson.h>

struct counts {
    int schemas, compiled, refused, impossible, valid, invalid;
    int too_strict, too_loose; /* instances that are judged otherwise */
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
        if (takes == valid)
            continue;
        print_message("# %s: %s: %s: %d\n", where,
                      json_string_value(json_object_get(test, "description")), t.data, takes);
        c->too_strict += valid;
        c->too_loose += !valid;
        return;
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
    c->compiled += st == INFER_OK;
    c->refused += st == INFER_ERR_UNSUPPORTED;
    c->impossible += st == INFER_ERR_INVALID;
    if (st == INFER_ERR_UNSUPPORTED)
        assert_non_null(strstr(base_error_text(), "schema, at #"));
    json_array_foreach(json_object_get(group, "tests"), i, test)
    {
        if (st == INFER_OK)
            check_instance(g, schema, test, where, c);
        if (st == INFER_ERR_INVALID) /* nothing matches: the suite must think so too */
            assert_true(json_is_false(json_object_get(test, "valid")));
    }
    grammar_release(&g);
    free(text);
}

static void print_counts(const struct counts *c)
{
    print_message(
        "# %d schemas: %d compiled, %d refused by name, %d that nothing matches; "
        "%d valid and %d invalid instances judged right, %d too strictly, %d too loosely\n",
        c->schemas, c->compiled, c->refused, c->impossible, c->valid, c->invalid, c->too_strict,
        c->too_loose);
    assert_int_equal(c->schemas, c->compiled + c->refused + c->impossible);
    assert_int_equal(c->too_loose, 0);
}

/* "format" is an assertion here, so the file of its default, an annotation, is left out. */
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
        if (!end || strcmp(end, ".json") != 0 || strcmp(entry->d_name, "format.json") == 0)
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
    print_counts(&c);
    assert_int_equal(c.too_strict, 0);
    assert_true(c.compiled >= 158);
}

static void test_formats(void **state)
{
    struct counts c = {0};
    (void)state;
    check_folder(test_data("json/JSON-Schema-Test-Suite/tests/draft2020-12/optional/format"), &c);
    print_counts(&c);
    assert_true(c.valid >=
                200); /* rare forms are left out: leap seconds, quoted names in e-mail ... */
}

/* ------------------------------------------------------------------- walks */

/* A byte that may follow: any at first, later rather those that close. */
static int pick_byte(struct grammar_machine *m, uint32_t state, size_t n, uint64_t *seed)
{
    static const char closing[] = "\"}]";
    uint8_t alive[256];
    uint32_t n_alive = 0;
    for (size_t i = 0; n > 60 && i < 3; i++)
        if (grammar_machine_step(m, state, (uint8_t)closing[i]) != GRAMMAR_DEAD)
            return (uint8_t)closing[i];
    for (int byte = 0; byte < 256; byte++)
        if (byte && grammar_machine_step(m, state, (uint8_t)byte) != GRAMMAR_DEAD)
            alive[n_alive++] = (uint8_t)byte;
    assert_true(n_alive > 0); /* a dead end */
    /* Half of the time one that JSON or letters are made of: others are many. */
    uint32_t at = test_rand(seed) % n_alive;
    for (int i = 0; i < 4 && (alive[at] >= 0x80 || alive[at] == '\\'); i++)
        at = test_rand(seed) % n_alive;
    return alive[at];
}

/* A random text; 0 where it became too long. */
static int make_text(struct infer_grammar *g, char *text, size_t size, uint64_t *seed)
{
    struct grammar_matcher m;
    size_t n = 0;
    int whole = 0;
    assert_ok(grammar_matcher_init(&m, &base_alloc_default, g, NULL));
    while (n + 1 < size && !whole) {
        int accepts, more;
        assert_ok(grammar_matcher_look(&m, &accepts, &more));
        whole = accepts && (!more || n > 60 || test_rand(seed) % 4 == 0);
        if (whole)
            break;
        text[n] = (char)pick_byte(m.machine, m.state, n, seed);
        assert_ok(grammar_matcher_push(&m, text + n, 1));
        n++;
    }
    text[n] = 0;
    grammar_matcher_release(&m);
    return whole;
}

static void walk_group(const json_t *group, uint64_t *seed, struct counts *c)
{
    struct infer_grammar *g = NULL;
    json_error_t error;
    char text[4096];
    const json_t *schema = json_object_get(group, "schema");
    char *dumped = json_dumps(schema, JSON_ENCODE_ANY);
    for (int i = 0;
         i < 40 && grammar_make(&g, i % 2 ? READ_SCHEMA : READ_SCHEMA_COMPACT, dumped) == 0; i++) {
        if (make_text(g, text, sizeof text, seed)) {
            json_t *v = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
            if (!v && !strstr(error.text, "too big") && !strstr(error.text, "overflow"))
                fail_msg("%s: %s is no JSON: %s", dumped, text, error.text);
            if (v && !json_valid(schema, schema, v))
                fail_msg("%s: %s is not valid", dumped, text);
            c->valid += v != NULL;
            json_decref(v);
        }
        grammar_release(&g);
        c->compiled++;
    }
    free(dumped);
}

/* Texts that the automaton makes are valid, by a validator that knows nothing of it. */
static void test_walks(void **state)
{
    char path[1024];
    struct dirent *entry;
    struct counts c = {0};
    uint64_t seed = 1;
    (void)state;
    const char *folder = test_data("json/JSON-Schema-Test-Suite/tests/draft2020-12");
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        size_t i;
        json_t *group;
        if (!strstr(entry->d_name, ".json"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        json_t *groups = load(path);
        json_array_foreach(groups, i, group) walk_group(group, &seed, &c);
        json_decref(groups);
    }
    closedir(dir);
    print_message("# %d walks, %d texts, all valid\n", c.compiled, c.valid);
    assert_true(c.valid > 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_walks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
