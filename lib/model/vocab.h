/* The vocabulary of a GGUF file: its keys checked and turned into a tokenizer. */
#ifndef MODEL_VOCAB_H
#define MODEL_VOCAB_H

#include "format/gguf.h"
#include "text/tokenizer.h"

struct model_vocab;

/* Tokens between the texts of a pair, at most. */
#define MODEL_BETWEEN_MAX 4

/* `file` must outlive the result: token texts stay in the mapping. Errors name the
 * key, and the element where there is one: NOT_FOUND (no tokens), FORMAT,
 * UNSUPPORTED (tokenizer model or pre-tokenizer, by name), LIMIT, NO_MEMORY. */
infer_status model_vocab_load(struct model_vocab **out, const struct base_alloc *a,
                              const struct gguf_file *file);
void model_vocab_destroy(struct model_vocab **vocab); /* NULL-safe, sets NULL */

const struct text_tokenizer *model_vocab_tokenizer(const struct model_vocab *vocab);
const struct text_vocab *model_vocab_text(const struct model_vocab *vocab);
/* Source of the chat template, or an empty view with data NULL where the file has none. */
struct base_view model_vocab_chat_template(const struct model_vocab *vocab);
/* The allocator it was made with. */
const struct base_alloc *model_vocab_alloc(const struct model_vocab *vocab);
/* 0-terminated; "" where there is none. */
const char *model_vocab_pre(const struct model_vocab *vocab);
const char *model_vocab_bos_text(const struct model_vocab *vocab);
const char *model_vocab_eos_text(const struct model_vocab *vocab);
/* Tokens between the two texts of a pair; *n of them, at most MODEL_BETWEEN_MAX. */
const infer_token *model_vocab_between(const struct model_vocab *vocab, int32_t *n);
/* Token type of a pair's second text: 0 or 1. */
int32_t model_vocab_second_type(const struct model_vocab *vocab);
size_t model_vocab_memory_bytes(const struct model_vocab *vocab);

#endif
