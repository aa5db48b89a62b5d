/* Files of every type that infer_convert() writes: how well they answer the bundled model's
 * held-out questions, against files of llama.cpp's quantiser and against float64.
 *
 *     test_quantized                 the test: quantized.json has what others make of it
 *     test_quantized --score FILE    prints the perplexity of the answers
 *     test_quantized --tokens FILE   prints prompts and answers as ids, one JSON array a line */
#include "support/engine.h"

#include <jansson.h>
#include <math.h>
#include <unistd.h>

#define EVERY     3 /* of the held-out conversations */
#define IN_FLIGHT 16

struct item {
    infer_token *ids;
    size_t n_prompt, n;
};

struct items {
    struct item list[512];
    size_t n;
};

static infer_token *encode(const infer_model *model, const char *text, infer_token *ids, size_t *n)
{
    infer_encode_options options = {
        .struct_size = sizeof options, .parse_special = 1, .disable_bos_eos = 1};
    const infer_tokenizer *tokenizer = infer_model_tokenizer(model);
    size_t more = 0;
    assert_ok(infer_tokenizer_encode(tokenizer, text, strlen(text), &options, NULL, &more));
    ids = realloc(ids, (*n + more) * sizeof *ids);
    assert_ok(infer_tokenizer_encode(tokenizer, text, strlen(text), &options, ids + *n, &more));
    *n += more;
    return ids;
}

/* A prompt as the template writes it, and the right answer with its end. */
static void add_item(struct items *items, const infer_model *model, const json_t *line)
{
    infer_message messages[16] = {{0}};
    const json_t *list = json_object_get(line, "messages");
    struct item *item = &items->list[items->n++];
    char prompt[8192], answer[1024];
    size_t size = sizeof prompt, n = json_array_size(list);
    assert_true(n <= 16 && items->n <= sizeof items->list / sizeof items->list[0]);
    *item = (struct item){0};
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(list, i);
        messages[i].role = json_string_value(json_object_get(message, "role"));
        messages[i].content = json_string_value(json_object_get(message, "content"));
    }
    assert_ok(infer_model_render_chat(model, messages, n, prompt, &size));
    item->ids = encode(model, prompt, NULL, &item->n_prompt);
    item->n = item->n_prompt;
    snprintf(answer, sizeof answer, "%s<|im_end|>",
             json_string_value(json_object_get(line, "answer")));
    item->ids = encode(model, answer, item->ids, &item->n);
}

static void read_items(struct items *items, const infer_model *model)
{
    size_t size;
    char *text = test_read(test_source("examples/models/heldout.jsonl"), &size), *line = text;
    items->n = 0;
    for (size_t i = 0; *line; i++) {
        char *end = strchr(line, '\n');
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(json);
        if (i % EVERY == 0 && json_object_get(json, "answer"))
            add_item(items, model, json);
        json_decref(json);
        line = end + 1;
    }
    free(text);
    assert_true(items->n > 50);
}

static void free_items(struct items *items)
{
    for (size_t i = 0; i < items->n; i++)
        free(items->list[i].ids);
}

static double collect_item(infer_request *request, const struct item *item)
{
    infer_event event = {.struct_size = sizeof event};
    infer_status status;
    double nll = 0;
    size_t n = 0;
    do
        status = infer_request_next(request, &event);
    while (status == INFER_OK);
    assert_int_equal(status, INFER_DONE);
    const float *logprobs = infer_request_prompt_logprobs(request, &n);
    assert_int_equal(n, item->n);
    for (size_t i = item->n_prompt; i < n; i++)
        nll -= (double)logprobs[i];
    infer_request_destroy(&request);
    return nll;
}

static double perplexity(const char *path, infer_numerics numerics)
{
    static struct items items;
    infer_request *requests[IN_FLIGHT];
    struct engine e;
    double nll = 0;
    size_t scored = 0;
    engine_open(&e, path, &(struct engine_setup){.max_requests = IN_FLIGHT, .numerics = numerics});
    read_items(&items, e.model);
    for (size_t i = 0; i < items.n + IN_FLIGHT; i++) {
        if (i >= IN_FLIGHT && i - IN_FLIGHT < items.n)
            nll += collect_item(requests[i % IN_FLIGHT], &items.list[i - IN_FLIGHT]);
        if (i >= items.n)
            continue;
        const struct item *item = &items.list[i];
        infer_request_options options = {.struct_size = sizeof options,
                                         .tokens = item->ids,
                                         .n_tokens = item->n,
                                         .prefill_only = 1,
                                         .prompt_logprobs = 1};
        assert_ok(infer_session_submit(&requests[i % IN_FLIGHT], e.session, &options));
        scored += item->n - item->n_prompt;
    }
    free_items(&items);
    engine_close(&e);
    return exp(nll / (double)scored);
}

static void print_tokens(const char *path)
{
    static struct items items;
    infer_model *model = NULL;
    assert_ok(infer_model_load(&model, path, NULL));
    read_items(&items, model);
    for (size_t i = 0; i < items.n; i++) {
        printf("[%zu", items.list[i].n_prompt);
        for (size_t j = 0; j < items.list[i].n; j++)
            printf(",%d", (int)items.list[i].ids[j]);
        printf("]\n");
    }
    free_items(&items);
    infer_model_destroy(&model);
}

/* ------------------------------------------------------------------- test */

static infer_convert_info convert(const char *from, const char *to, const char *type, int32_t pure)
{
    infer_convert_info info = {.struct_size = sizeof info};
    infer_convert_options options = {.struct_size = sizeof options, .type = type, .pure = pure};
    assert_ok(infer_convert(&info, from, to, &options));
    return info;
}

/* Each type made anew: of the expected size, at most 1 % worse than what llama.cpp's quantiser
 * makes of the same weights, and as good as float64 says that it is, to half a percent. FAST
 * numerics change it by less than that. */
static void test_types(void **state)
{
    (void)state;
    char folder[] = "/tmp/infer_quantized.XXXXXX", f32[64], out[64];
    json_t *golden = json_load_file(test_source("tests/model/quantized.json"), 0, NULL);
    size_t i, failures = 0;
    json_t *row;
    assert_non_null(golden);
    assert_non_null(mkdtemp(folder));
    snprintf(f32, sizeof f32, "%s/f32.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    convert(test_source(TINY_MODEL), f32, "F32", 0);
    json_array_foreach(json_object_get(golden, "types"), i, row)
    {
        const char *type = json_string_value(json_object_get(row, "type"));
        int pure = json_is_true(json_object_get(row, "pure"));
        double theirs = json_number_value(json_object_get(row, "llama.cpp"));
        double exact = json_number_value(json_object_get(row, "float64"));
        uint64_t bytes = convert(f32, out, type, pure).bytes;
        double got = perplexity(out, INFER_NUMERICS_STABLE);
        double fast = pure ? got : perplexity(out, INFER_NUMERICS_FAST); /* types come again */
        int good = bytes == (uint64_t)json_integer_value(json_object_get(row, "bytes")) &&
                   (theirs == 0 || got <= 1.01 * theirs) && fabs(got / exact - 1) <= 0.005 &&
                   fabs(fast / got - 1) <= 0.005;
        print_message(
            "%-10s%s %llu bytes, perplexity %.5f, FAST %+.3f %%, llama.cpp %.5f, float64 %.5f%s\n",
            type, pure ? " pure" : "", (unsigned long long)bytes, got, 100 * (fast / got - 1),
            theirs, exact, good ? "" : ": NOT EQUAL ENOUGH");
        failures += !good;
    }
    assert_true(i > 20);
    unlink(f32);
    unlink(out);
    rmdir(folder);
    json_decref(golden);
    assert_int_equal(failures, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_types)};
    if (argc == 3 && strcmp(argv[1], "--score") == 0) {
        printf("%.6f\n", perplexity(argv[2], INFER_NUMERICS_STABLE));
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--tokens") == 0) {
        print_tokens(argv[2]);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
