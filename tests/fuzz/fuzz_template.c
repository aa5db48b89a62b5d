/* Fuzz target of the template language: the input is a template, rendered over a
 * fixed conversation under tight bounds.
 *
 * Beyond crashes it checks that a failure leaves the output alone, that a second
 * rendering gives the same, and that nothing stays allocated. */
#include "fuzz.h"
#include "support/test_alloc.h"

#include "text/chat_template.h"

static void set(struct jinja_heap *h, struct jinja_value dict, const char *name,
                struct jinja_value value)
{
    jinja_dict_set(h, dict, jinja_string(name, strlen(name)), value);
}

static struct jinja_value text(const char *s)
{
    return jinja_string(s, strlen(s));
}

static struct jinja_value conversation(struct jinja_heap *h)
{
    static const char *const turns[][2] = {{"system", "Be terse."},
                                           {"user", " Hi <b> \xc3\xa9\xe4\xbd\xa0 \xff\n"},
                                           {"assistant", ""},
                                           {"tool", "{\"t\": 1}"}};
    struct jinja_value context = jinja_dict(h), messages = jinja_list(h), call = jinja_dict(h);
    struct jinja_value arguments = jinja_dict(h), calls = jinja_list(h), tools = jinja_list(h);
    set(h, arguments, "city", text("Z\xc3\xbcrich"));
    set(h, arguments, "days", jinja_int(2));
    set(h, arguments, "exact", jinja_float(0.5));
    set(h, arguments, "none", jinja_none());
    set(h, call, "name", text("weather"));
    set(h, call, "arguments", arguments);
    jinja_list_push(h, calls, call);
    jinja_list_push(h, tools, call);
    for (size_t i = 0; i < BASE_COUNT(turns); i++) {
        struct jinja_value message = jinja_dict(h);
        set(h, message, "role", text(turns[i][0]));
        set(h, message, "content", text(turns[i][1]));
        if (i == 2)
            set(h, message, "tool_calls", calls);
        jinja_list_push(h, messages, message);
    }
    set(h, context, "messages", messages);
    set(h, context, "tools", tools);
    set(h, context, "add_generation_prompt", jinja_bool(1));
    set(h, context, "bos_token", text("<s>"));
    set(h, context, "eos_token", text("</s>"));
    set(h, context, "n", jinja_int(3));
    return context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct jinja_time noon = {2025, 1, 15, 12, 0, 0};
    const struct jinja_options options = {
        .now = &noon, .limits = {.steps = 20000, .memory_bytes = 4 << 20, .output_bytes = 1 << 16}};
    struct test_alloc a;
    test_alloc_init(&a);
    struct text_chat_template *t = NULL;
    struct jinja_heap heap;
    struct base_str out;
    base_str_init(&out, &a.alloc, 0);
    jinja_heap_init(&heap, &a.alloc, 0);
    if (text_chat_template_create(&t, &a.alloc, (const char *)data, size) == INFER_OK) {
        struct jinja_value context = conversation(&heap);
        fuzz_check(heap.status == INFER_OK);
        infer_status first =
            text_chat_template_render_context(t, &a.alloc, context, &options, &out);
        size_t n = out.size;
        infer_status second =
            text_chat_template_render_context(t, &a.alloc, context, &options, &out);
        fuzz_check(first == second);
        fuzz_check(first == INFER_OK || n == 0);
        fuzz_check(out.size == 2 * n && (n == 0 || memcmp(out.data, out.data + n, n) == 0));
    } else {
        fuzz_check(t == NULL);
    }
    text_chat_template_destroy(&t);
    jinja_heap_release(&heap);
    base_str_release(&out);
    fuzz_check(a.live_blocks == 0);
    return 0;
}
