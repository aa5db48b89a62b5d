/* Tokens to text, one at a time, never half a character: bytes of an unfinished
 * UTF-8 sequence wait for the next token; bytes that can no longer become a
 * character come out as U+FFFD. */
#ifndef TEXT_STREAM_DECODE_H
#define TEXT_STREAM_DECODE_H

#include "base/str.h"
#include "text/tokenizer.h"

struct text_decoder {
    const struct text_tokenizer *tokenizer;
    int special;        /* print control tokens by name */
    int at_start;       /* a SentencePiece leading space is dropped here */
    uint8_t pending[4]; /* bytes of an unfinished character */
    int32_t n_pending;
};

/* `continuing`: the text goes on after a prompt, so a leading space is kept. */
void text_decoder_init(struct text_decoder *d, const struct text_tokenizer *tokenizer, int special,
                       int continuing);
/* Appends what became complete. */
infer_status text_decoder_push(struct text_decoder *d, infer_token token, struct base_str *out);
/* Appends U+FFFD for what stayed unfinished at the end. */
infer_status text_decoder_finish(struct text_decoder *d, struct base_str *out);

#endif
