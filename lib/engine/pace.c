/* Step cost as a line through recent steps. */
#include "engine/pace.h"

/* A step counts half as much after some 14 more. */
#define PACE_FORGET 0.95
/* What is aimed at, so that ordinary steps stay below the target. */
#define PACE_AIM 0.9

void pace_learn(struct engine_pace *p, int32_t n_tokens, uint64_t ns)
{
    double x = n_tokens, y = (double)ns;
    p->n = p->n * PACE_FORGET + 1;
    p->x = p->x * PACE_FORGET + x;
    p->y = p->y * PACE_FORGET + y;
    p->xx = p->xx * PACE_FORGET + x * x;
    p->xy = p->xy * PACE_FORGET + x * y;
}

int32_t pace_tokens(const struct engine_pace *p, uint64_t target_ns)
{
    if (!(p->n > 0) || !(p->y > 0) || !(p->x > 0))
        return INT32_MAX;
    double spread = p->n * p->xx - p->x * p->x, rise = p->n * p->xy - p->x * p->y;
    /* Steps that were all alike show no line: then all the cost counts for the tokens, which
     * errs on the side of small steps, and their difference shows the line. */
    double slope = p->y / p->x, base = 0;
    if (spread > 1e-3 * p->n * p->xx && rise > 0) {
        slope = rise / spread;
        base = (p->y - slope * p->x) / p->n;
        if (base < 0) {
            base = 0;
            slope = p->y / p->x;
        }
    }
    double tokens = ((double)target_ns * PACE_AIM - base) / slope;
    return tokens <= 0 ? 0 : tokens >= INT32_MAX ? INT32_MAX : (int32_t)tokens;
}
