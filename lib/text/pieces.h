/* The bytes each token stands for, decoded once when the tokenizer is made. */
#ifndef TEXT_PIECES_H
#define TEXT_PIECES_H

#include "text/tokenizer.h"

struct text_pieces {
    uint32_t *offsets; /* n_tokens + 1 */
    char *bytes;
    size_t n_tokens;
};

/* NORMAL tokens lose their escapes: U+2581 becomes a space (SPM), the byte-level
 * alphabet becomes bytes (BPE). BYTE tokens become their byte. All others,
 * which are matched in the text as they are written, stay as they are written. */
infer_status text_pieces_init(struct text_pieces *p, const struct base_alloc *a,
                              const struct text_vocab *vocab);
void text_pieces_release(struct text_pieces *p, const struct base_alloc *a);

static inline struct base_view text_pieces_get(const struct text_pieces *p, infer_token token)
{
    return (struct base_view){p->bytes + p->offsets[token],
                              p->offsets[token + 1] - p->offsets[token]};
}

/* TEXT_TOKEN_* of a token. A vocabulary without types has normal tokens, and in
 * SentencePiece's case byte tokens, which are known by their "<0xXX>". */
int32_t text_vocab_type(const struct text_vocab *vocab, size_t token);

/* The byte of "<0xXX>", or -1. */
int text_vocab_byte(struct base_view text);

/* The byte-level alphabet of GPT-2 writes byte b as one printable character: its
 * code point, and the byte back (-1 where the character stands for none). */
uint32_t text_alphabet_char(uint8_t byte);
int text_alphabet_byte(uint32_t cp);

#endif
