/* WordPiece (Schuster and Nakajima 2012) as BERT uses it: a text is cleaned and cut into words
 * and signs, and of each the longest token at its front is taken until nothing is left. */
#ifndef TEXT_WORDPIECE_H
#define TEXT_WORDPIECE_H

#include "text/call.h"
#include "text/trie.h"

struct text_wordpiece {
    struct text_trie trie; /* root 0: tokens that begin a word, root 1: that go on */
    infer_token unk;
    uint32_t max_chars; /* longer words are unknown; 0: none are */
    uint32_t keep;      /* TEXT_BERT_KEEP_* */
};

infer_status text_wordpiece_init(struct text_wordpiece *w, const struct base_alloc *a,
                                 const struct text_vocab *vocab);
void text_wordpiece_release(struct text_wordpiece *w);
size_t text_wordpiece_bytes(const struct text_wordpiece *w);

infer_status text_wordpiece_encode(const struct text_wordpiece *w, struct text_call *call,
                                   const char *text, size_t size);

/* Whether tokens that go on inside a word are written with "##"; else those that begin one have
 * U+2581 in front, as GGUF writes them. */
int text_wordpiece_has_hashes(const struct text_vocab *vocab);

#endif
