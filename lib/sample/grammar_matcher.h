/* One text under a grammar: what a constrained request keeps. */
#ifndef SAMPLE_GRAMMAR_MATCHER_H
#define SAMPLE_GRAMMAR_MATCHER_H

#include "base/str.h"
#include "sample/grammar_machine.h"

struct grammar_matcher {
    struct base_alloc alloc;
    struct infer_grammar *grammar; /* a reference */
    struct grammar_machine *machine;
    const struct text_tokenizer *tokenizer; /* borrowed; NULL: texts only */
    int32_t no_ends;                        /* end tokens are in no mask */
    uint32_t state, epoch;
    struct base_str text; /* so far, to find the state again when the machine has forgotten it */
    uint64_t *mask;       /* n_words of the tree */
    text_tokens forced;   /* tokens that must follow, those up to n_forced taken already */
    size_t n_forced;

    /* where to go back to */
    int32_t is_marked;
    uint32_t marked_state, marked_epoch;
    size_t marked_size;
    text_tokens marked_forced; /* those that were not taken yet */
};

/* Takes a reference to the grammar. The tokenizer outlives the matcher. */
infer_status grammar_matcher_init(struct grammar_matcher *m, const struct base_alloc *a,
                                  struct infer_grammar *grammar,
                                  const struct text_tokenizer *tokenizer);
void grammar_matcher_release(struct grammar_matcher *m); /* also of a zeroed one */

/* Moves on by a text: INVALID, and nothing moves, where the grammar does not allow it; LIMIT
 * where that could not be found out. */
infer_status grammar_matcher_push(struct grammar_matcher *m, const char *text, size_t size);
infer_status grammar_matcher_push_token(struct grammar_matcher *m, infer_token token);

/* Moves on by a token that was chosen here, from what mask or forced would have given: what must
 * follow then is what must have followed. */
infer_status grammar_matcher_replay(struct grammar_matcher *m, infer_token token);

/* Stands where another matcher of the same grammar and tokenizer stands. */
infer_status grammar_matcher_copy(struct grammar_matcher *m, const struct grammar_matcher *from);

/* To try what may come: remembers this place, and goes back to it, where it does nothing without a
 * mark. One place at a time. */
infer_status grammar_matcher_mark(struct grammar_matcher *m);
void grammar_matcher_back(struct grammar_matcher *m);

/* *accepts: the text may end here; *more: it may also go on. */
infer_status grammar_matcher_look(struct grammar_matcher *m, int *accepts, int *more);

/* The tokens that may follow, end tokens included where the text may end; *n is their number.
 * Borrowed until the next call. Where only one text can follow, it is that text's canonical
 * tokens, one after the other (grammar_matcher_forced). LIMIT if the vocabulary has none. */
infer_status grammar_matcher_mask(struct grammar_matcher *m, const uint64_t **mask, size_t *n);

/* The token that must follow, or -1 where there is a choice. */
infer_status grammar_matcher_forced(struct grammar_matcher *m, infer_token *token);

/* Appends the bytes that must follow, at most `limit`; *complete: the text ends behind them. */
infer_status grammar_matcher_forced_text(struct grammar_matcher *m, size_t limit,
                                         struct base_str *out, int *complete);

/* Tokens that a set in this matcher can hold. */
size_t grammar_matcher_tokens(const struct grammar_matcher *m);

#endif
