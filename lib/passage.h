/* Texts as tokens, alone or in pairs with a query: prompts, special tokens, lengths. */
#ifndef LIB_PASSAGE_H
#define LIB_PASSAGE_H

#include "engine/embed.h"
#include "model/encode.h"

struct passage_how {
    const char *prompt;   /* before each text; "": none */
    const char *query;    /* NULL: texts alone */
    int32_t skips_prompt; /* its rows are no part of a mean or maximum */
    int32_t limit;        /* tokens that a text, or a pair, may have */
    int32_t truncate;
};

struct passage_set {
    struct base_alloc alloc;
    struct embed_item *items; /* their tokens are in `tokens` */
    size_t n;
    text_tokens tokens;
    uint64_t n_cut_texts, n_cut_tokens;
};

/* On a failure there is nothing to release, and releasing is legal. */
infer_status passage_encode(struct passage_set *set, const infer_session *s,
                            const struct passage_how *how, const char *const *texts,
                            const size_t *sizes, size_t n);
void passage_release(struct passage_set *set);

#endif
