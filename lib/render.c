/* Chat rendering for the model and the session. */
#include "render.h"

#include "base/error.h"

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

infer_status render_chat(const struct infer_model *m, const infer_message *messages,
                         size_t n_messages, struct base_str *out)
{
    infer_status st = check_messages(messages, n_messages);
    if (st != INFER_OK)
        return st;
    if (!m->chat_source)
        return base_error(INFER_ERR_NOT_FOUND, "%s has no chat template", m->path);
    if (!m->chat)
        return base_error(m->chat_status, "%s: chat template: %s", m->path, m->chat_error);
    struct text_message *views = base_new(&m->alloc, n_messages, sizeof *views);
    if (!views)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n_messages; i++)
        views[i] = (struct text_message){
            {messages[i].role, strlen(messages[i].role)},
            {messages[i].content, strlen(messages[i].content)},
        };
    st = text_chat_template_render(m->chat, &m->alloc, views, n_messages, 1,
                                   model_vocab_bos_text(m->vocab), model_vocab_eos_text(m->vocab),
                                   out);
    base_free(&m->alloc, views);
    return st;
}
