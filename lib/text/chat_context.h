/* The variables of a chat template: a conversation, tools, documents and settings, from
 * messages of the host and from JSON, with the texts of strangers guarded on their way. */
#ifndef TEXT_CHAT_CONTEXT_H
#define TEXT_CHAT_CONTEXT_H

#include "text/chat_template.h"
#include "text/tokenizer.h"

struct text_message {
    struct base_view role;
    struct base_view content;
};

struct text_chat_context {
    struct jinja_heap heap; /* also holds the JSON's texts */
    struct jinja_value variables;
    const struct text_tokenizer *guard;
    struct jinja_time now;
    int has_now; /* 0: strftime_now is not defined */
    struct jinja_limits limits;
};

/* `guard` NULL leaves all texts as they are. Else text_tokenizer_guard() is applied to every
 * text inside messages, tools, documents and any other list or object; not to messages of
 * the roles "system" and "assistant" nor to variables that are plain texts: these the host
 * writes itself. The time is the present one, in UTC. */
void text_chat_context_init(struct text_chat_context *c, const struct base_alloc *a,
                            const struct text_tokenizer *guard);
void text_chat_context_release(struct text_chat_context *c);

/* The members of a JSON object become variables. "strftime_now" is no variable but sets the
 * time: seconds since 1970, a date, a date and time, or null for a template that shall not
 * have any. FORMAT with line and column where the text is no JSON, INVALID where it is no
 * object or `messages` no list of objects. Afterwards the text may go. */
infer_status text_chat_context_add_json(struct text_chat_context *c, const char *json, size_t size);

/* Borrows texts that need no guard. INVALID if there are messages already. */
infer_status text_chat_context_add_messages(struct text_chat_context *c,
                                            const struct text_message *messages, size_t n);

/* Sets a variable that is not there yet. */
infer_status text_chat_context_default(struct text_chat_context *c, const char *name,
                                       struct jinja_value value);
int text_chat_context_has(const struct text_chat_context *c, const char *name);

#endif
