/* Public: <infer/template.h>. */
#include "handle.h"
#include "text/chat_context.h"

#include <infer/template.h>

static infer_status render(struct base_str *out, const struct base_alloc *a,
                           const struct text_chat_template *t, const char *json, size_t size)
{
    struct text_chat_context c;
    text_chat_context_init(&c, a, NULL);
    infer_status st = text_chat_context_add_json(&c, json, size);
    if (st != INFER_OK)
        base_error_prefix(st, "context");
    else
        st = text_chat_template_render(t, a, &c, out);
    text_chat_context_release(&c);
    return st;
}

infer_status infer_template_render(const char *source, size_t source_size, const char *context,
                                   size_t context_size, const infer_template_options *options,
                                   char *text, size_t *size)
{
    REQUIRE(source);
    REQUIRE(context);
    REQUIRE(size);
    infer_template_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_template_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &base_alloc_default);
    if (st != INFER_OK)
        return st;
    struct text_chat_template *t = NULL;
    struct base_str out;
    base_str_init(&out, &alloc, 0);
    st = text_chat_template_create(&t, &alloc, source, source_size);
    if (st == INFER_OK)
        st = render(&out, &alloc, t, context, context_size);
    if (st == INFER_OK)
        st = handle_fill_text(text, size, out.data, out.size);
    text_chat_template_destroy(&t);
    base_str_release(&out);
    return st;
}
