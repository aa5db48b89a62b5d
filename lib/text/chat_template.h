/* A chat template as models carry it (Jinja), compiled once, rendered per conversation. */
#ifndef TEXT_CHAT_TEMPLATE_H
#define TEXT_CHAT_TEMPLATE_H

#include "text/jinja.h"

struct text_chat_context; /* text/chat_context.h */
struct text_chat_template;

/* FORMAT (with line and column) or UNSUPPORTED (naming what) for a template that cannot be used. */
infer_status text_chat_template_create(struct text_chat_template **out, const struct base_alloc *a,
                                       const char *source, size_t size);
void text_chat_template_destroy(struct text_chat_template **t);

/* Appends the rendered conversation to `out`. INVALID with the template's own words if it calls
 * raise_exception; LIMIT past the bounds on output, depth or steps. */
infer_status text_chat_template_render(const struct text_chat_template *t,
                                       const struct base_alloc *a,
                                       const struct text_chat_context *context,
                                       struct base_str *out);

#endif
