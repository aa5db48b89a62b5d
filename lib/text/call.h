/* What one call of text_tokenizer_encode() works with: the output, scratch of the
 * merge loop, and a memory of the words it has already encoded. */
#ifndef TEXT_CALL_H
#define TEXT_CALL_H

#include "base/str.h"
#include "text/merge.h"
#include "text/normalize.h"
#include "text/tokenizer.h"

/* A word seen before: its tokens stand in the output already. */
struct text_seen {
    const char *word;
    size_t at; /* in out->data */
    uint32_t size, n;
    uint64_t hash;
    double gap; /* of the closest decision in it (unigram) */
};

/* Best way to a place of a word (unigram). */
struct text_cell {
    double score;
    double gap;    /* to the second best */
    uint32_t from; /* where the last token begins */
    infer_token token;
};

struct text_call {
    const struct base_alloc *a;
    text_tokens *out;
    size_t start; /* size of the output before the call */
    struct text_merge_work work;
    struct text_normal_work normal;
    BASE_ARRAY(struct text_cell) cells;
    struct base_str word;     /* being spelled (WordPiece) */
    struct base_arena copies; /* of texts that were changed: words are borrowed from them */
    struct text_seen *seen;   /* direct-mapped: a newer word displaces an older one */
    size_t n_seen;            /* power of two */
};

/* `text_bytes` sizes the memory of words. */
infer_status text_call_init(struct text_call *c, const struct base_alloc *a, text_tokens *out,
                            size_t text_bytes);
void text_call_release(struct text_call *c);

/* If `word` was encoded before, appends its tokens again and gives INFER_DONE and
 * its place. Else gives INFER_OK and the place for text_call_remember(), or NULL
 * for a word that is too long to be worth it. */
infer_status text_call_recall(struct text_call *c, struct base_view word, struct text_seen **slot);
/* The tokens from `at` to the end of the output are those of the word. */
void text_call_remember(const struct text_call *c, struct text_seen *slot, size_t at);
/* A copy that lives as long as the call, as borrowed words need it. */
infer_status text_call_keep(struct text_call *c, struct base_view *text);

#endif
