/* Fuzz target of the template language: the input is a template, rendered over a
 * fixed conversation under tight bounds, or over the JSON that follows a line "---".
 *
 * Beyond crashes it checks that a failure leaves the output alone, that a second
 * rendering gives the same, and that nothing stays allocated. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "text/chat_context.h"

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be terse.\"},"
    "{\"role\": \"user\", \"content\": \" Hi <b> \xc3\xa9\xe4\xbd\xa0 \\n\"},"
    "{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"name\": \"weather\","
    "\"arguments\": {\"city\": \"Z\xc3\xbcrich\", \"days\": 2, \"exact\": 0.5, \"none\": null}}]},"
    "{\"role\": \"tool\", \"content\": \"{\\\"t\\\": 1}\"}],"
    "\"tools\": [{\"name\": \"weather\"}], \"n\": 3, \"add_generation_prompt\": true,"
    "\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";

/* The JSON of a context with fixed time and bounds; 0 if it is refused. */
static int fill(struct text_chat_context *c, const struct base_alloc *a, struct base_view json)
{
    text_chat_context_init(c, a, NULL);
    c->now = (struct jinja_time){2025, 1, 15, 12, 0, 0};
    c->limits =
        (struct jinja_limits){.steps = 20000, .memory_bytes = 4 << 20, .output_bytes = 1 << 16};
    return text_chat_context_add_json(c, json.data, json.size) == INFER_OK;
}

static void render_twice(const struct text_chat_template *t, const struct base_alloc *a,
                         const struct text_chat_context *context)
{
    struct base_str out;
    base_str_init(&out, a, 0);
    infer_status first = text_chat_template_render(t, a, context, &out);
    size_t n = out.size;
    infer_status second = text_chat_template_render(t, a, context, &out);
    fuzz_check(first == second);
    fuzz_check(first == INFER_OK || n == 0);
    fuzz_check(out.size == 2 * n && (n == 0 || memcmp(out.data, out.data + n, n) == 0));
    base_str_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char cut[] = "\n---\n";
    struct base_view source = {(const char *)data, size};
    struct base_view json = {conversation, sizeof conversation - 1};
    const char *at = size ? memmem(data, size, cut, sizeof cut - 1) : NULL;
    if (at) {
        source.size = (size_t)(at - source.data);
        json.data = at + sizeof cut - 1;
        json.size = size - source.size - (sizeof cut - 1);
    }
    struct test_alloc a;
    test_alloc_init(&a);
    struct text_chat_template *t = NULL;
    struct text_chat_context context;
    int filled = fill(&context, &a.alloc, json);
    fuzz_check(filled || at);
    if (text_chat_template_create(&t, &a.alloc, source.data, source.size) != INFER_OK)
        fuzz_check(t == NULL);
    else if (filled)
        render_twice(t, &a.alloc, &context);
    text_chat_template_destroy(&t);
    text_chat_context_release(&context);
    fuzz_check(a.live_blocks == 0);
    return 0;
}
