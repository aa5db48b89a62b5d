/* Requests that end behind their prompt with a vector: of an encoder, whose texts are computed
 * whole and side by side, or of a decoder, where they share steps and prefixes with all others. */
#ifndef ENGINE_EMBED_H
#define ENGINE_EMBED_H

#include "engine/session.h"

/* Memory for the steps of an encoder. */
infer_status embed_open(struct infer_session *s);
void embed_close(struct infer_session *s);

/* In request_create(): what such a request has. */
infer_status embed_init(struct infer_request *r, const struct request_embed *given);
void embed_release(struct infer_request *r);

/* In a step, behind batch_build(): an encoder's forward pass, and what its requests take of it. */
infer_status embed_encode(struct infer_session *s);
/* Behind a decoder's forward pass: rows that requests want. */
infer_status embed_take(struct infer_session *s);

struct embed_item {
    const infer_token *tokens;
    int32_t n_tokens;
    int32_t from, second; /* as in struct request_embed */
};

struct embed_how {
    enum model_pooling_kind pooling;
    int32_t n_labels;  /* not 0: outputs of the head, as they are */
    int32_t dims;      /* leading elements that are wanted */
    int32_t normalize; /* to length 1 */
};

/* One row of `dims`, or of n_labels numbers, for each item. `base` says all but the tokens: name
 * space, tenant, priority, deadline. Waits as session_next() does; the first failure is returned,
 * and what then is in `out` means nothing. */
infer_status embed_run(struct infer_session *s, const struct request_config *base,
                       const struct embed_how *how, const struct embed_item *items, size_t n,
                       float *out);

#endif
