/* What is wanted of the rows that model_head() computes, and what came of it. A GPU can choose
 * tokens as lib/sample does, so that no logits need to come back. */
#ifndef MODEL_PICK_H
#define MODEL_PICK_H

#include "base/types.h"

struct model_pick_bias {
    int32_t token;
    float bias;
};

struct model_pick_count {
    int32_t token;
    uint32_t count; /* as struct sample_count */
};

struct model_pick_top {
    int32_t token;
    float logprob;
};

enum model_want {
    MODEL_WANT_NOTHING, /* the row is one among others */
    MODEL_WANT_LOGITS,
    MODEL_WANT_TOKEN /* or its logits, where the device does not choose */
};

/* Of one row. */
#define MODEL_PICK_TOP_MAX 64
/* Of a vocabulary whose tokens can be drawn. */
#define MODEL_PICK_VOCAB_MAX (1 << 20)

struct model_pick {
    enum model_want want;
    /* Of a token, as struct sample_params has them, resolved. What is pointed to stays until
     * model_head() is back, and names no token twice. */
    float temperature; /* 0: the highest */
    float top_p, min_p;
    int32_t top_k;
    float repetition, frequency, presence;
    uint64_t seed, sequence, position;
    const struct model_pick_bias *bias;
    const struct model_pick_count *counts;
    size_t n_bias, n_counts;
    const uint64_t *mask; /* allowed tokens, a bit each of the first n_mask; NULL: all */
    size_t n_mask;
    int32_t want_logprob, n_top;

    /* The answer. */
    int32_t token; /* -1: none; the row's logits are there, unless nothing was wanted, or a token
                      still is: of a row that has none in a step whose logits are gone */
    float logprob;
    const struct model_pick_top *top; /* n_top at most, until the next call */
    int32_t n_top_found;
};

/* What a step chose by itself, a row each. */
struct model_choice {
    const int32_t *tokens;
    const float *logprobs;            /* where picks want them */
    const struct model_pick_top *top; /* rows of MODEL_PICK_TOP_MAX, of which n_top count */
};

#endif
