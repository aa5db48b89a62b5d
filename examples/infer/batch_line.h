/* One line of a batch: a JSON object that becomes the options of a request. */
#ifndef INFER_BATCH_LINE_H
#define INFER_BATCH_LINE_H

#include "buffer.h"
#include "grammar_cache.h"
#include "json_in.h"

#include <infer/infer.h>

/* What holds where a line says nothing. */
struct batch_defaults {
    infer_sampling sampling;
    int64_t max_tokens;
    infer_grammar *grammar;
    infer_adapter *adapter;
    float adapter_scale;
};

struct batch_texts { /* strings one behind the other, each with its 0 */
    struct buffer all;
    const char **items;
    size_t n;
};

struct batch_line {
    infer_request_options options; /* points at what follows */
    infer_sampling sampling;
    struct buffer id; /* as JSON, the same for each way to write it; empty where there is none */
    struct buffer prompt, context, name_space, tenant, grammar_text;
    struct json_value messages, tools, variables, prompt_ids, logit_bias;
    struct json_value schema, grammar, regex, choice; /* size 0: not given */
    infer_token *ids;
    infer_logit_bias *biases;
    struct batch_texts stop, choices;
    int32_t compact;
    char error[768]; /* why the line is no request */
};

/* Reads `text`, which a 0 byte follows and which stays until the request is submitted. Returns 0,
 * or -1 with `error` set, and `id` where one could be found. */
int batch_line_read(struct batch_line *line, const struct batch_defaults *defaults,
                    struct grammar_cache *grammars, const char *text, size_t size);

/* A string or number as batches write it into their results. Returns 0, or -1 for other kinds. */
int batch_line_id(struct buffer *out, const struct json_value *value);

void batch_line_free(struct batch_line *line);

#endif
