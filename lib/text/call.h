/* What one call of text_tokenizer_encode() works with: the output, scratch of the
 * merge loop, and a memory of the words it has already encoded. */
#ifndef TEXT_CALL_H
#define TEXT_CALL_H

#include "text/merge.h"
#include "text/tokenizer.h"

/* A word seen before: its tokens stand in the output already. */
struct text_seen {
    const char *word;
    size_t at; /* in out->data */
    uint32_t size, n;
    uint64_t hash;
};

struct text_call {
    const struct base_alloc *a;
    text_tokens *out;
    size_t start; /* size of the output before the call */
    struct text_merge_work work;
    struct text_seen *seen; /* direct-mapped: a newer word displaces an older one */
    size_t n_seen;          /* power of two */
};

/* `text_bytes` sizes the memory of words. */
infer_status text_call_init(struct text_call *c, const struct base_alloc *a, text_tokens *out,
                            size_t text_bytes);
void text_call_release(struct text_call *c);

/* If `word` was encoded before, appends its tokens again and gives INFER_DONE.
 * Else gives INFER_OK and the place for text_call_remember(), or NULL for a word
 * that is too long to be worth it. */
infer_status text_call_recall(struct text_call *c, struct base_view word, struct text_seen **slot);
/* The tokens from `at` to the end of the output are those of the word. */
void text_call_remember(const struct text_call *c, struct text_seen *slot, size_t at);
/* The words are borrowed from the text: before that goes while the call goes on. */
void text_call_forget(struct text_call *c);

#endif
