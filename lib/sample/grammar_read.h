/* The front ends: texts to expressions. Each defines rules in the builder and gives the root;
 * errors name the place. */
#ifndef SAMPLE_GRAMMAR_READ_H
#define SAMPLE_GRAMMAR_READ_H

#include "sample/grammar_expr.h"

#define GRAMMAR_TEXT_MAX ((size_t)8 << 20) /* longer texts are refused (LIMIT) */

/* GBNF, as llama.cpp writes it. `root` names the first rule. FORMAT with line and column,
 * NOT_FOUND (a rule that is called and nowhere defined), UNSUPPORTED (tokens by number or name). */
infer_status grammar_read_gbnf(struct grammar_builder *b, struct base_view text, const char *root,
                               uint32_t *rule);

/* A regular expression that the whole text matches. As regex_parse() and LIMIT. */
infer_status grammar_read_regex(struct grammar_builder *b, struct base_view text, uint32_t *rule);

/* One of n texts. */
infer_status grammar_read_choices(struct grammar_builder *b, const char *const *choices, size_t n,
                                  uint32_t *rule);

/* JSON Schema, draft 2020-12; data NULL: any object. `compact`: no white space. Errors name the
 * place in the schema: FORMAT, UNSUPPORTED (the keyword), NOT_FOUND (a reference), INVALID (no
 * value matches), LIMIT. */
infer_status grammar_read_json_schema(struct grammar_builder *b, struct base_view text, int compact,
                                      uint32_t *rule);

#endif
