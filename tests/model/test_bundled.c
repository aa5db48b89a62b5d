/* The model that comes with the library: its held-out accuracy per skill, and
 * exact tokens of an independent float64 evaluation of the same file. */
#include "support/engine.h"

#include <jansson.h>
#include <math.h>

#define FOLDER    "examples/models/"
#define MAX_REPLY 120

static json_t *load_json(const char *name)
{
    char path[128];
    json_error_t error;
    snprintf(path, sizeof path, FOLDER "%s", name);
    json_t *root = json_load_file(test_source(path), 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static const char *field(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

#define MESSAGES_MAX 16

static size_t read_messages(const json_t *item, infer_message *out)
{
    const json_t *list = json_object_get(item, "messages");
    size_t n = json_array_size(list);
    assert_in_range(n, 1, MESSAGES_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(list, i);
        out[i] = (infer_message){.role = field(m, "role"), .content = field(m, "content")};
    }
    return n;
}

static infer_request *ask(struct engine *e, const json_t *item)
{
    infer_message messages[MESSAGES_MAX];
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = {.struct_size = sizeof o,
                               .messages = messages,
                               .sampling = &greedy,
                               .max_tokens = MAX_REPLY};
    infer_request *request = NULL;
    o.n_messages = read_messages(item, messages);
    if (infer_session_submit(&request, e->session, &o) != INFER_OK)
        fail_msg("%s", infer_last_error());
    return request;
}

/* As evaluate.py judges: the whole answer, or every word that was asked for. */
static int is_right(const json_t *item, const char *reply)
{
    const char *answer = field(item, "answer");
    if (answer)
        return strcmp(answer, reply) == 0;
    const json_t *words = json_object_get(item, "contains");
    for (size_t i = 0; i < json_array_size(words); i++)
        if (!strstr(reply, json_string_value(json_array_get(words, i))))
            return 0;
    return 1;
}

#define ITEMS_MAX 2048

static size_t read_items(json_t **items)
{
    size_t n = 0;
    char *text = test_read(test_source(FOLDER "heldout.jsonl"), NULL), *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        if (!*line)
            continue;
        assert_true(n < ITEMS_MAX);
        items[n] = json_loads(line, 0, NULL);
        assert_non_null(items[n++]);
    }
    free(text);
    return n;
}

/* The record is float64's; quantised activations round otherwise, and items that the
 * model hardly knows flip both ways. In sum the flips must nearly cancel. */
#define TOTAL_TOLERANCE 12

static void compare_counts(const json_t *expected, json_t *counts)
{
    long tolerance = (long)json_integer_value(json_object_get(expected, "tolerance"));
    long surplus = 0;
    const char *skill;
    json_t *want;
    assert_in_range(tolerance, 0, 6);
    json_object_foreach(json_object_get(expected, "skills"), skill, want)
    {
        long right = (long)json_integer_value(json_object_get(counts, skill));
        long recorded = (long)json_integer_value(json_object_get(want, "correct"));
        long n = (long)json_integer_value(json_object_get(want, "n"));
        print_message("%s: %ld of %ld right, recorded %ld\n", skill, right, n, recorded);
        assert_true(labs(right - recorded) <= tolerance);
        surplus += right - recorded;
    }
    assert_true(labs(surplus) <= TOTAL_TOLERANCE);
}

static void test_heldout_accuracy(void **state)
{
    (void)state;
    static json_t *items[ITEMS_MAX];
    static infer_request *requests[ITEMS_MAX];
    struct engine e;
    struct engine_setup setup = {0};
    engine_open(&e, test_source(TINY_MODEL), &setup);
    size_t n = read_items(items);
    assert_true(n >= 200);
    for (size_t i = 0; i < n; i++)
        requests[i] = ask(&e, items[i]);
    json_t *counts = json_object();
    for (size_t i = 0; i < n; i++) {
        struct engine_answer answer;
        const char *skill = field(items[i], "skill");
        engine_collect(requests[i], &answer);
        assert_int_equal(answer.status, INFER_OK);
        json_int_t before = json_integer_value(json_object_get(counts, skill));
        json_object_set_new(counts, skill, json_integer(before + is_right(items[i], answer.text)));
        engine_answer_free(&answer);
        json_decref(items[i]);
    }
    json_t *expected = load_json("expected.json");
    compare_counts(expected, counts);
    json_decref(expected);
    json_decref(counts);
    engine_close(&e);
}

/* Quantised activations move logits by about this much. */
#define LOGIT_NOISE 0.3

static void check_prompt(struct engine *e, const json_t *golden, infer_request *request)
{
    infer_message messages[MESSAGES_MAX];
    char text[8192];
    size_t size = sizeof text, n;
    const json_t *ids = json_object_get(golden, "prompt_ids");
    size_t n_messages = read_messages(golden, messages);
    assert_int_equal(infer_model_render_chat(e->model, messages, n_messages, text, &size), 0);
    assert_string_equal(text, field(golden, "prompt"));
    const infer_token *prompt = infer_request_prompt(request, &n);
    assert_int_equal(n, json_array_size(ids));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(prompt[i], json_integer_value(json_array_get(ids, i)));
}

static void check_reply(const json_t *golden, const struct engine_answer *answer)
{
    const json_t *ids = json_object_get(golden, "reply_ids");
    const json_t *margins = json_object_get(golden, "margins");
    for (size_t i = 0; i < answer->n; i++) {
        if (answer->tokens[i] == json_integer_value(json_array_get(ids, i)))
            continue;
        double margin = json_number_value(json_array_get(margins, i));
        print_message("\"%s\": token %zu differs, recorded margin %g\n", field(golden, "reply"), i,
                      margin);
        assert_true(margin < LOGIT_NOISE);
        return;
    }
    assert_int_equal(answer->finish, INFER_FINISH_STOP);
    assert_string_equal(answer->text, field(golden, "reply"));
}

static void check_first_logits(struct engine *e, const json_t *golden)
{
    const json_t *ids = json_object_get(golden, "prompt_ids");
    const json_t *top = json_object_get(golden, "first_top5");
    infer_token prompt[512];
    size_t n = json_array_size(ids);
    assert_in_range(n, 1, 512);
    for (size_t i = 0; i < n; i++)
        prompt[i] = (infer_token)json_integer_value(json_array_get(ids, i));
    float *logits = engine_logits(e, prompt, n);
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        json_int_t id = json_integer_value(json_array_get(pair, 0));
        double expected = json_number_value(json_array_get(pair, 1));
        assert_true(fabs((double)logits[id] - expected) < LOGIT_NOISE);
    }
    free(logits);
}

static void test_golden_replies(void **state)
{
    (void)state;
    struct engine e;
    struct engine_setup setup = {0};
    json_t *list = load_json("golden.json"), *golden;
    size_t i;
    engine_open(&e, test_source(TINY_MODEL), &setup);
    assert_true(json_array_size(list) >= 8);
    json_array_foreach(list, i, golden)
    {
        struct engine_answer answer;
        infer_request *request = ask(&e, golden);
        check_prompt(&e, golden, request);
        engine_collect(request, &answer);
        check_reply(golden, &answer);
        engine_answer_free(&answer);
        check_first_logits(&e, golden);
    }
    json_decref(list);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heldout_accuracy),
        cmocka_unit_test(test_golden_replies),
    };
    return cmocka_run_group_tests_name("bundled", tests, NULL, NULL);
}
