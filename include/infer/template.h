/**
 * @file template.h
 * Chat templates that belong to no model. A model renders its own with
 * infer_model_render_chat() and infer_model_render_context().
 */
#ifndef INFER_TEMPLATE_H
#define INFER_TEMPLATE_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_template_options {
    size_t struct_size;
    const infer_allocator *allocator; /**< NULL: the C library's */
} infer_template_options;

/**
 * Renders a template (Jinja, with the settings and additions of Hugging Face's libraries).
 *
 * The context is a JSON object whose members are the template's variables: messages, tools,
 * documents, add_generation_prompt, bos_token, eos_token and whatever else the template knows.
 * "strftime_now" fixes the time that templates ask for: seconds since 1970, "2025-01-15",
 * "2025-01-15T12:00:00", or null for none; without it, it is the present one in UTC.
 * @param source   the template's text
 * @param context  JSON, UTF-8
 * @param text     buffer of *size bytes, or NULL to ask; 0-terminated if there is room
 * @return INFER_OK, INFER_ERR_LIMIT (buffer too small, or a bound on time and memory),
 *         INFER_ERR_FORMAT (template or JSON, with line and column), INFER_ERR_INVALID (with the
 *         template's own words, if it refuses), INFER_ERR_UNSUPPORTED (naming what),
 *         INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_template_render(const char *source, size_t source_size,
                                             const char *context, size_t context_size,
                                             const infer_template_options *options, char *text,
                                             size_t *size);

#ifdef __cplusplus
}
#endif

#endif
