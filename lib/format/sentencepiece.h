/* SentencePiece's model files: Protocol Buffers, of which only what a tokenizer needs is read,
 * by a reader of our own that trusts no length. */
#ifndef FORMAT_SENTENCEPIECE_H
#define FORMAT_SENTENCEPIECE_H

#include "base/array.h"

enum {
    SENTENCEPIECE_UNIGRAM = 1,
    SENTENCEPIECE_BPE = 2,
    SENTENCEPIECE_WORD = 3,
    SENTENCEPIECE_CHAR = 4
};

struct sentencepiece_piece {
    struct base_view text; /* in the file */
    float score;
    int32_t type; /* as GGUF writes them: 1 normal ... 6 byte */
};

struct sentencepiece {
    BASE_ARRAY(struct sentencepiece_piece) pieces;
    int32_t model; /* SENTENCEPIECE_* */
    int32_t byte_fallback, space_behind;
    int32_t unk, bos, eos, pad; /* -1: none */
    struct base_view charsmap;  /* of the normaliser; in the file */
    int32_t add_prefix, squeeze, escape;
};

/* `data` must outlive the result. FORMAT with the offset, LIMIT, NO_MEMORY. */
infer_status sentencepiece_read(struct sentencepiece *out, const struct base_alloc *a,
                                struct base_view data);
void sentencepiece_release(struct sentencepiece *s, const struct base_alloc *a);

#endif
