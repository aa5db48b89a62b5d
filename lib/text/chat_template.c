/* Chat templates: a conversation as the variables that templates expect. */
#include "text/chat_template.h"

#include "text/jinja.h"

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

static void set(struct jinja_heap *h, struct jinja_value dict, const char *name,
                struct jinja_value value)
{
    jinja_dict_set(h, dict, jinja_string(name, strlen(name)), value);
}

static struct jinja_value view(struct base_view text)
{
    return jinja_string(text.data ? text.data : "", text.size);
}

static struct jinja_value make_messages(struct jinja_heap *h, const struct text_message *messages,
                                        size_t n)
{
    struct jinja_value list = jinja_list(h);
    for (size_t i = 0; i < n && h->status == INFER_OK; i++) {
        struct jinja_value message = jinja_dict(h);
        set(h, message, "role", view(messages[i].role));
        set(h, message, "content", view(messages[i].content));
        jinja_list_push(h, list, message);
    }
    return list;
}

infer_status text_chat_template_render(const struct text_chat_template *t,
                                       const struct base_alloc *a,
                                       const struct text_message *messages, size_t n_messages,
                                       int add_generation_prompt, const char *bos, const char *eos,
                                       struct base_str *out)
{
    struct jinja_heap heap;
    jinja_heap_init(&heap, a, 0);
    struct jinja_value context = jinja_dict(&heap);
    set(&heap, context, "messages", make_messages(&heap, messages, n_messages));
    set(&heap, context, "add_generation_prompt", jinja_bool(add_generation_prompt));
    set(&heap, context, "bos_token", jinja_string(bos, strlen(bos)));
    set(&heap, context, "eos_token", jinja_string(eos, strlen(eos)));
    infer_status st = heap.status;
    if (st == INFER_OK)
        st = text_chat_template_render_context(t, a, context, NULL, out);
    jinja_heap_release(&heap);
    return st;
}

infer_status text_chat_template_render_context(const struct text_chat_template *t,
                                               const struct base_alloc *a,
                                               struct jinja_value context,
                                               const struct jinja_options *options,
                                               struct base_str *out)
{
    return jinja_template_render(t->jinja, a, context, options, out);
}
