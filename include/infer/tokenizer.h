/**
 * @file tokenizer.h
 * Text to tokens and back, by a model's own vocabulary.
 *
 * Functions that return text or arrays take the caller's buffer and `n`: on
 * entry its capacity, on success the number written. A NULL buffer asks: the
 * call succeeds and `n` is what is needed. A buffer too small gives
 * INFER_ERR_LIMIT, also with `n` set to what is needed.
 */
#ifndef INFER_TOKENIZER_H
#define INFER_TOKENIZER_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Borrowed from its model (infer_model_tokenizer); lives as long as the model. Immutable. */
typedef struct infer_tokenizer infer_tokenizer;

typedef struct infer_tokenizer_info {
    size_t struct_size;
    const char *kind; /**< "spm", "bpe", "wordpiece" or "unigram"; borrowed */
    const char *pre;  /**< name of the pre-tokenizer, or ""; borrowed */
    int32_t n_tokens;
    infer_token bos, eos, eot, unk, pad; /**< -1 where the vocabulary has none */
    int32_t add_bos, add_eos;            /**< 1 if encoding adds it by default */
} infer_tokenizer_info;

typedef struct infer_encode_options {
    size_t struct_size;
    int32_t disable_bos_eos; /**< 1: add neither BOS nor EOS, whatever the vocabulary says */
    int32_t parse_special;   /**< 1: control tokens written out in the text become their ids; only
                                  for text the host trusts */
} infer_encode_options;

typedef struct infer_decode_options {
    size_t struct_size;
    int32_t show_special; /**< 1: control tokens appear by name; 0: they give no text */
    int32_t continuing;   /**< 1: the tokens go on after other text, keep a leading space */
} infer_decode_options;

/** @return INFER_OK or INFER_ERR_INVALID. Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_tokenizer_get_info(const infer_tokenizer *tokenizer,
                                                infer_tokenizer_info *info);

/**
 * Encodes text. Invalid UTF-8 is legal and encoded byte by byte, or as U+FFFD
 * where the vocabulary has no bytes.
 * @param size    bytes of text
 * @param options NULL: BOS and EOS as the vocabulary says, control tokens are plain text
 * @param tokens  buffer of *n ids, or NULL to ask
 * @return INFER_OK, INFER_ERR_LIMIT (buffer too small), INFER_ERR_INVALID, INFER_ERR_NO_MEMORY
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_tokenizer_encode(const infer_tokenizer *tokenizer, const char *text,
                                              size_t size, const infer_encode_options *options,
                                              infer_token *tokens, size_t *n);

/**
 * Decodes ids to UTF-8; never half a character: bytes that form none become
 * U+FFFD. The text is 0-terminated if there is room; the 0 is not counted.
 * @param text  buffer of *size bytes, or NULL to ask
 * @return as infer_tokenizer_encode(); INFER_ERR_INVALID names an id out of range
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_tokenizer_decode(const infer_tokenizer *tokenizer,
                                              const infer_token *tokens, size_t n,
                                              const infer_decode_options *options, char *text,
                                              size_t *size);

/**
 * The raw bytes of one token, which may be part of a character; control
 * tokens give their name.
 * @return as infer_tokenizer_decode()
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_tokenizer_piece(const infer_tokenizer *tokenizer, infer_token token,
                                             char *bytes, size_t *size);

/** @return 1 if generation ends with this token (EOS, end of turn), else 0.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API int32_t infer_tokenizer_is_end(const infer_tokenizer *tokenizer, infer_token token);

#ifdef __cplusplus
}
#endif

#endif
