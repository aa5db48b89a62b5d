/* What a step costs, learnt from the steps so far: a part for itself and a part for each token.
 * Least squares over the recent past. */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include "base/types.h"

struct engine_pace {
    double n, x, y, xx, xy;      /* sums over steps, of which older ones count less and less */
    double bulk_tokens, bulk_ns; /* of large steps, which forget by tokens */
};

/* A step of so many tokens took so long. */
void pace_learn(struct engine_pace *pace, int32_t n_tokens, uint64_t ns);

/* How many tokens a step may have to take target_ns at most; INT32_MAX before anything is known. */
int32_t pace_tokens(const struct engine_pace *pace, uint64_t target_ns);

/* What a token costs where many are computed at once, as in prompts; 0 before anything is known. */
double pace_token_ns(const struct engine_pace *pace);

#endif
