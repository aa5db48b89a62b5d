/* What a request has that ends behind its prompt with a vector. */
#ifndef ENGINE_REQUEST_EMBED_H
#define ENGINE_REQUEST_EMBED_H

#include "model/pooling.h"

struct request_embed {
    enum model_pooling_kind pooling; /* NONE, and no labels: it is no such request */
    int32_t n_labels;                /* not 0: the outputs of the model's head instead */
    int32_t from;                    /* tokens before are no part of a mean or maximum */
    int32_t second;                  /* tokens from here on are of type 1; 0: none */
    float *vector;                   /* the request's: n_labels numbers, or n_embd */
    int32_t next;                    /* rows of tokens before this one are in it, or not wanted */
};

static inline int request_embed_is(const struct request_embed *e)
{
    return e->pooling != MODEL_POOLING_NONE || e->n_labels;
}

#endif
