/* Chat rendering for the model and the session. */
#include "render.h"

#include "base/error.h"
#include "text/chat_context.h"

#include <string.h>

static infer_status check_messages(const infer_message *messages, size_t n)
{
    if (!messages || !n)
        return base_error(INFER_ERR_INVALID, "the conversation has no messages");
    for (size_t i = 0; i < n; i++) {
        if (!messages[i].role || !messages[i].content)
            return base_error(INFER_ERR_INVALID, "messages[%zu] has no %s", i,
                              messages[i].role ? "content" : "role");
        if (messages[i].reserved[0] || messages[i].reserved[1])
            return base_error(INFER_ERR_UNSUPPORTED,
                              "messages[%zu].reserved is not 0: this version of the library does "
                              "not know what it means",
                              i);
    }
    return INFER_OK;
}

static infer_status add_messages(struct text_chat_context *c, const infer_message *messages,
                                 size_t n)
{
    infer_status st = check_messages(messages, n);
    if (st != INFER_OK)
        return st;
    struct text_message *views = base_arena_new(&c->heap.arena, n, sizeof *views);
    if (!views)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        views[i].role = (struct base_view){messages[i].role, strlen(messages[i].role)};
        views[i].content = (struct base_view){messages[i].content, strlen(messages[i].content)};
    }
    return text_chat_context_add_messages(c, views, n);
}

static infer_status add_defaults(struct text_chat_context *c, const struct infer_model *m)
{
    const char *bos = model_vocab_bos_text(m->vocab), *eos = model_vocab_eos_text(m->vocab);
    text_chat_context_default(c, "add_generation_prompt", jinja_bool(1));
    text_chat_context_default(c, "bos_token", jinja_string(bos, strlen(bos)));
    return text_chat_context_default(c, "eos_token", jinja_string(eos, strlen(eos)));
}

static infer_status collect(struct text_chat_context *c, const struct infer_model *m,
                            const struct render_chat *what)
{
    infer_status st = INFER_OK;
    if (what->json) {
        st = text_chat_context_add_json(c, what->json, what->json_size);
        if (st != INFER_OK)
            return base_error_prefix(st, "context");
    }
    if (what->messages || !text_chat_context_has(c, "messages"))
        st = add_messages(c, what->messages, what->n_messages);
    return st == INFER_OK ? add_defaults(c, m) : st;
}

infer_status render_chat(const struct infer_model *m, const struct render_chat *what,
                         struct base_str *out)
{
    struct text_chat_context c;
    text_chat_context_init(&c, &m->alloc, what->guard ? model_vocab_tokenizer(m->vocab) : NULL);
    infer_status st = collect(&c, m, what);
    if (st == INFER_OK && !m->chat_source)
        st = base_error(INFER_ERR_NOT_FOUND, "%s has no chat template", m->path);
    else if (st == INFER_OK && !m->chat)
        st = base_error(m->chat_status, "%s: chat template: %s", m->path, m->chat_error);
    if (st == INFER_OK)
        st = text_chat_template_render(m->chat, &m->alloc, &c, out);
    text_chat_context_release(&c);
    return st;
}
