/* A conversation of public messages through the model's chat template. */
#ifndef LIB_RENDER_H
#define LIB_RENDER_H

#include "model/model.h"

#include <infer/model.h>

/* Appends the rendered text, generation prompt included. */
infer_status render_chat(const struct infer_model *model, const infer_message *messages,
                         size_t n_messages, struct base_str *out);

#endif
