/* Where the last tokens of a sequence were before, and what followed: prompt lookup (Saxena,
 * "Prompt Lookup Decoding", 2023), found by chains of hashes as LZ77 compressors find matches. */
#ifndef ENGINE_NGRAM_H
#define ENGINE_NGRAM_H

#include "base/alloc.h"

#define NGRAM_MAX 16

typedef infer_token ngram_token_fn(const void *sequence, int32_t position);

struct ngram_index {
    int32_t min, max;
    int32_t window; /* positions looked back on; a power of two */
    int32_t *head;  /* by hash: 1 + the last position where such a run of `min` tokens ends */
    int32_t *prev;  /* by position in the window: the same of the run before it */
    int32_t n_indexed;
};

/* For runs of min to max tokens (1 .. NGRAM_MAX) in a sequence of at most n_tokens. */
infer_status ngram_init(struct ngram_index *index, const struct base_alloc *a, int32_t min,
                        int32_t max, int32_t n_tokens);
void ngram_release(struct ngram_index *index, const struct base_alloc *a);

/* Writes at most n tokens that followed where the longest run of last tokens was before, the
 * latest of equals; gives back how many, 0 without a match. The sequence, n_tokens long, goes on
 * from what it was in the last call. */
int32_t ngram_draft(struct ngram_index *index, const void *sequence, ngram_token_fn *get,
                    int32_t n_tokens, infer_token *out, int32_t n);

#endif
