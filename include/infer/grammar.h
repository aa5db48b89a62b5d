/**
 * @file grammar.h
 * What a generated text may look like: a JSON Schema, a GBNF grammar, a regular expression or a
 * list of choices. A request with a grammar generates nothing else (infer_request_options).
 */
#ifndef INFER_GRAMMAR_H
#define INFER_GRAMMAR_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Immutable; any number of requests of any sessions and models may share one. */
typedef struct infer_grammar infer_grammar;

typedef int32_t infer_grammar_kind;

enum {
    INFER_GRAMMAR_JSON_SCHEMA = 0, /**< draft 2020-12, the part that doc/grammars.md lists */
    INFER_GRAMMAR_GBNF = 1,        /**< the language of llama.cpp's grammars */
    INFER_GRAMMAR_REGEX = 2,       /**< the whole text matches the expression */
    INFER_GRAMMAR_CHOICE = 3       /**< the text is one of `choices` */
};

typedef struct infer_grammar_options {
    size_t struct_size;
    infer_grammar_kind kind;
    int32_t compact;  /**< JSON Schema: 1: no white space between tokens; 0: as writers use it, a
                           space, or a line end and the next line's indent */
    const char *text; /**< UTF-8; NULL with JSON_SCHEMA: any JSON object */
    size_t text_size; /**< bytes; 0: up to the terminating 0 */
    const char *root; /**< GBNF: the rule to begin with; NULL: "root" */
    const char *const *choices; /**< with CHOICE */
    size_t n_choices;
    const infer_allocator *allocator; /**< NULL: the C library's */
} infer_grammar_options;

/**
 * Compiles a grammar.
 * @param out      receives the grammar; the caller owns it
 * @param options  NULL: any JSON object
 * @return INFER_OK, INFER_ERR_FORMAT (the place in the text), INFER_ERR_UNSUPPORTED (naming the
 *         keyword or construct), INFER_ERR_NOT_FOUND (a rule or reference), INFER_ERR_INVALID
 *         (no text could match), INFER_ERR_LIMIT (too large), INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_grammar_create(infer_grammar **out,
                                            const infer_grammar_options *options);

/** Drops the handle and sets *grammar to NULL; requests that use it keep it alive. NULL-safe.
 *  Thread-safety: once per handle. Since: 0.1 */
INFER_API void infer_grammar_destroy(infer_grammar **grammar);

/**
 * Whether a text matches.
 * @param out  receives 1 where the whole text matches, else 0
 * @return INFER_OK, INFER_ERR_INVALID, INFER_ERR_LIMIT (the grammar is too ambiguous to say),
 *         INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_grammar_accepts(int32_t *out, const infer_grammar *grammar,
                                             const char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
