/* Byte-level BPE (Radford et al. 2019): every byte is a token, so any text has
 * an encoding and none is lost. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include "base/map.h"
#include "text/call.h"
#include "text/pieces.h"
#include "text/pretokenize.h"

struct text_bpe {
    struct base_alloc alloc;
    struct text_pretokenizer *pre;
    struct text_pairs pairs;
    struct base_map words;     /* whole words that are tokens; empty unless those come first */
    infer_token bytes[256];    /* -1: no token */
    infer_token substitute[3]; /* for bytes without a token */
    int32_t n_substitute;
};

/* `ids` maps the texts of the normal tokens, `pieces` must outlive the result. */
infer_status text_bpe_init(struct text_bpe *bpe, const struct base_alloc *a,
                           const struct text_vocab *vocab, const struct base_map *ids,
                           const struct text_pieces *pieces);
void text_bpe_release(struct text_bpe *bpe);
size_t text_bpe_bytes(const struct text_bpe *bpe);

infer_status text_bpe_encode(const struct text_bpe *bpe, struct text_call *call,
                             struct text_splitter *splitter, const char *text, size_t size);

#endif
