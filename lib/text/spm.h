/* SentencePiece BPE (Kudo and Richardson 2018), as Llama 2 uses it: characters
 * merge into tokens, best score first; spaces are written as U+2581; characters
 * without a token become byte tokens. */
#ifndef TEXT_SPM_H
#define TEXT_SPM_H

#include "base/map.h"
#include "text/call.h"
#include "text/pieces.h"

#define TEXT_SPM_MAX_LINES 32

struct text_spm {
    /* Pairs of symbols, and single characters as (TEXT_SYMBOL_NONE, code point). */
    struct text_pairs pairs;
    uint32_t ascii[128];     /* symbol of a character, found without hashing */
    infer_token bytes[256];  /* -1: no token */
    infer_token unk;         /* -1 only where every byte has a token */
    int32_t keeps_unknowns;  /* a run of unknown characters is as many unknown tokens */
    int32_t splits_at_space; /* no token goes on after a word: words are independent */
    int32_t splits_lines;    /* words end where line ends begin or cease */
    infer_token lines[TEXT_SPM_MAX_LINES]; /* tokens of so many line ends (less one), or -1 */
};

/* `ids` maps the texts of the normal tokens. */
infer_status text_spm_init(struct text_spm *spm, const struct base_alloc *a,
                           const struct text_vocab *vocab, const struct base_map *ids);
void text_spm_release(struct text_spm *spm);
size_t text_spm_bytes(const struct text_spm *spm);

/* `prefix`: the text is taken to begin with one more space. */
infer_status text_spm_encode(const struct text_spm *spm, struct text_call *call, int prefix,
                             const char *text, size_t size);

/* Bytes of the spaces at the front and of what follows them, up to the next space. */
size_t text_spm_word_length(const char *text, size_t size);
/* Whether a space follows something else inside the token. */
int text_spm_crosses_space(struct base_view text);

#endif
