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

static int is_trusted(const char *role)
{
    return strcmp(role, "system") == 0 || strcmp(role, "assistant") == 0;
}

/* Views of the messages; guarded contents go into the arena. */
static infer_status make_views(struct text_message *views, struct base_arena *arena,
                               const struct infer_model *m, const infer_message *messages, size_t n,
                               int guard)
{
    infer_status st = INFER_OK;
    struct base_str text;
    base_str_init(&text, &m->alloc, 0);
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        struct base_view content = {messages[i].content, strlen(messages[i].content)};
        if (guard && !is_trusted(messages[i].role)) {
            base_str_clear(&text);
            st = text_tokenizer_guard(model_vocab_tokenizer(m->vocab), content.data, content.size,
                                      &text);
            content.data = base_arena_strdup(arena, text.data, text.size);
            content.size = text.size;
            if (!content.data)
                st = INFER_ERR_NO_MEMORY;
        }
        views[i] = (struct text_message){{messages[i].role, strlen(messages[i].role)}, content};
    }
    base_str_release(&text);
    return st;
}

infer_status render_chat(const struct infer_model *m, const infer_message *messages,
                         size_t n_messages, int guard, struct base_str *out)
{
    infer_status st = check_messages(messages, n_messages);
    if (st != INFER_OK)
        return st;
    if (!m->chat_source)
        return base_error(INFER_ERR_NOT_FOUND, "%s has no chat template", m->path);
    if (!m->chat)
        return base_error(m->chat_status, "%s: chat template: %s", m->path, m->chat_error);
    struct base_arena arena;
    base_arena_init(&arena, &m->alloc);
    struct text_message *views = base_arena_new(&arena, n_messages, sizeof *views);
    st = views ? make_views(views, &arena, m, messages, n_messages, guard) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK)
        st = text_chat_template_render(m->chat, &m->alloc, views, n_messages, 1,
                                       model_vocab_bos_text(m->vocab),
                                       model_vocab_eos_text(m->vocab), out);
    base_arena_release(&arena);
    return st;
}
