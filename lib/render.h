/* A conversation of public messages through the model's chat template. */
#ifndef LIB_RENDER_H
#define LIB_RENDER_H

#include "model/model.h"

#include <infer/model.h>

/* Appends the rendered text, generation prompt included. With `guard`, control
 * tokens written in messages are marked (text_tokenizer_guard), but for those of the roles
 * "system" and "assistant": the host writes these itself. */
infer_status render_chat(const struct infer_model *model, const infer_message *messages,
                         size_t n_messages, int guard, struct base_str *out);

#endif
