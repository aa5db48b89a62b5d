/* The unigram language model (Kudo 2018, arXiv:1804.10959): of all ways to cut a text into
 * tokens the one with the highest sum of scores, found by Viterbi's algorithm. */
#ifndef TEXT_UNIGRAM_H
#define TEXT_UNIGRAM_H

#include "text/call.h"
#include "text/trie.h"

struct text_unigram {
    struct text_trie trie; /* root 0 */
    const float *scores;   /* of the vocabulary */
    float unk_score;
    infer_token unk;
    infer_token bytes[256];            /* -1: no token */
    infer_token first_byte, last_byte; /* all of `bytes` lie between them */
    int32_t has_all_bytes;
    int32_t float_scores;    /* sums are rounded to floats, over the whole text */
    int32_t splits_at_space; /* no token goes on after a word: words are independent */
};

infer_status text_unigram_init(struct text_unigram *u, const struct base_alloc *a,
                               const struct text_vocab *vocab);
void text_unigram_release(struct text_unigram *u);
size_t text_unigram_bytes(const struct text_unigram *u);

/* Spaces are already written as the vocabulary writes them; `text` lives as long as the call. */
infer_status text_unigram_encode(const struct text_unigram *u, struct text_call *call,
                                 const char *text, size_t size);

#endif
