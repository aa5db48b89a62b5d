/* Chat templates: the template language over the variables of a conversation. */
#include "text/chat_template.h"

#include "text/chat_context.h"

struct text_chat_template {
    struct base_alloc alloc;
    struct jinja_template *jinja;
};

infer_status text_chat_template_create(struct text_chat_template **out, const struct base_alloc *a,
                                       const char *source, size_t size)
{
    struct text_chat_template *t = base_new(a, 1, sizeof *t);
    if (!t)
        return INFER_ERR_NO_MEMORY;
    t->alloc = *a;
    infer_status st = jinja_template_create(&t->jinja, a, source, size);
    if (st != INFER_OK)
        text_chat_template_destroy(&t);
    else
        *out = t;
    return st;
}

void text_chat_template_destroy(struct text_chat_template **t)
{
    if (!t || !*t)
        return;
    struct base_alloc a = (*t)->alloc;
    jinja_template_destroy(&(*t)->jinja);
    base_free(&a, *t);
    *t = NULL;
}

infer_status text_chat_template_render(const struct text_chat_template *t,
                                       const struct base_alloc *a,
                                       const struct text_chat_context *context,
                                       struct base_str *out)
{
    if (context->heap.status != INFER_OK)
        return context->heap.status;
    struct jinja_options options = {.now = context->has_now ? &context->now : NULL,
                                    .limits = context->limits};
    return jinja_template_render(t->jinja, a, context->variables, &options, out);
}
