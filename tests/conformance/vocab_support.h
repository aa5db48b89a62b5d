/* Published encodings of texts, and how a tokenizer is held against them. */
#ifndef TESTS_CONFORMANCE_VOCAB_SUPPORT_H
#define TESTS_CONFORMANCE_VOCAB_SUPPORT_H

#include "support/test.h"

#include "text/tokenizer.h"

#include <jansson.h>

/* Fails the test with both lists of ids unless `text` encodes to `expected`. */
void vocab_expect(const struct text_tokenizer *tokenizer, const char *label, struct base_view text,
                  uint32_t flags, const infer_token *expected, size_t n);

/* Encodes, decodes with the stream decoder, and expects the same bytes. */
void vocab_expect_round_trip(const struct text_tokenizer *tokenizer, const char *label,
                             struct base_view text);

/* llamacpp_vocab/ggml-vocab-<name>.gguf.inp and .out; the number of texts. */
size_t vocab_check_inp_out(const struct text_tokenizer *tokenizer, const char *name);

/* `key` ("ids", "ids_special") of one model of goldens_hf_tokenizers.json or
 * goldens_sentencepiece.json. */
size_t vocab_check_goldens(const struct text_tokenizer *tokenizer, const char *file,
                           const char *model, const char *key, uint32_t flags);

/* One text of swift_transformers/<file>, whose ids are those of the original library. */
void vocab_check_swift(const struct text_tokenizer *tokenizer, const char *file, uint32_t flags);

/* The questions of swift_transformers with the ids of BERT's original library. */
size_t vocab_check_questions(const struct text_tokenizer *tokenizer);

/* Texts of one model of swift_transformers/tokenizer_tests.json. */
size_t vocab_check_cases(const struct text_tokenizer *tokenizer, const char *model);

/* Texts of one encoding of tiktoken/TestPlans.txt. */
size_t vocab_check_test_plans(const struct text_tokenizer *tokenizer, const char *encoding);

size_t vocab_put_utf8(uint32_t cp, char out[4]);

/* The first megabyte of several books and collections; the number of bytes. */
size_t vocab_check_texts(const struct text_tokenizer *tokenizer, const char *label);

/* Reads a JSON file of the test data; the caller drops the reference. */
json_t *vocab_read_json(const char *relative);

#endif
