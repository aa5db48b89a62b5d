/* A chat template as models carry it (Jinja), compiled once, rendered per conversation. */
#ifndef TEXT_CHAT_TEMPLATE_H
#define TEXT_CHAT_TEMPLATE_H

#include "text/jinja.h"

struct text_message {
    struct base_view role;
    struct base_view content;
};

struct text_chat_template;

/* FORMAT (with line and column) or UNSUPPORTED (naming what) for a template that cannot be used. */
infer_status text_chat_template_create(struct text_chat_template **out, const struct base_alloc *a,
                                       const char *source, size_t size);
void text_chat_template_destroy(struct text_chat_template **t);

/* Renders the conversation. The variables are messages, add_generation_prompt,
 * bos_token and eos_token; tools, documents and the time are not defined, which
 * templates understand as a plain conversation. bos and eos are the texts of those tokens ("" if
 * none). Errors: INVALID with the template's own words if it calls raise_exception; LIMIT past the
 * bounds on output, depth or steps. */
infer_status text_chat_template_render(const struct text_chat_template *t,
                                       const struct base_alloc *a,
                                       const struct text_message *messages, size_t n_messages,
                                       int add_generation_prompt, const char *bos, const char *eos,
                                       struct base_str *out);

/* The same with every variable of the template given by the host: messages with
 * tool calls, tools, documents, settings. `options` (NULL: defaults) holds the
 * time for strftime_now and the bounds. The text is appended to `out`. */
infer_status text_chat_template_render_context(const struct text_chat_template *t,
                                               const struct base_alloc *a,
                                               struct jinja_value context,
                                               const struct jinja_options *options,
                                               struct base_str *out);

#endif
