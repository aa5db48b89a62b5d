/* A conversation through the model's chat template. */
#ifndef LIB_RENDER_H
#define LIB_RENDER_H

#include "model/model.h"

#include <infer/model.h>

/* Messages of the host, variables as JSON, or both; the conversation is in one of them. */
struct render_chat {
    const infer_message *messages; /* may be NULL */
    size_t n_messages;
    const char *json; /* may be NULL */
    size_t json_size;
    int guard; /* control tokens in strangers' texts are marked, as in text/chat_context.h */
};

/* Appends the rendered text. What the JSON does not say: a generation prompt is added, BOS and
 * EOS are the model's. */
infer_status render_chat(const struct infer_model *model, const struct render_chat *what,
                         struct base_str *out);

#endif
