/* Beam search: the most likely answers, by forks that share what their tokens have in common. */
#ifndef ENGINE_BEAM_H
#define ENGINE_BEAM_H

#include "engine/session.h"

/* When enough answers are there; values of infer_early_stopping. */
enum {
    BEAM_STOP_HEURISTIC = 0, /* none that runs is better at its present length */
    BEAM_STOP_FIRST = 1,     /* at once */
    BEAM_STOP_NEVER = 2      /* none that runs can become better */
};

#define BEAM_WIDTH_MAX 64

struct beam_config {
    const struct request_config *base; /* adapter, name space, grammar */
    const infer_token *prompt;
    int32_t n_prompt, width;
    int64_t min_tokens, max_tokens; /* 0: no limit of its own */
    int32_t ignore_eos, early_stopping;
    double length_penalty; /* the sum is divided by the length to this power */
};

struct beam_answer {
    infer_token *tokens; /* without the end token; freed by the caller */
    int32_t n_tokens;
    infer_finish finish;
    double logprob, score; /* with the end token */
};

/* At most `width` answers, best first; *n of them. */
infer_status beam_run(struct infer_session *s, const struct beam_config *config,
                      struct beam_answer *out, size_t *n);

#endif
