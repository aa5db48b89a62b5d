/* Step cost as a line through recent steps. */
#include "engine/pace.h"

/* A step counts half as much after some 14 more. */
#define PACE_FORGET 0.95
/* What is aimed at, so that ordinary steps stay below the target. */
#define PACE_AIM 0.9
/* Steps from so many tokens on tell what a token of a prompt costs; the last thousand of them count
 * for most of it. */
#define PACE_BULK        16
#define PACE_BULK_TOKENS 1024.0

void pace_learn(struct engine_pace *p, int32_t n_tokens, uint64_t ns)
{
    double x = n_tokens, y = (double)ns;
    p->n = p->n * PACE_FORGET + 1;
    p->x = p->x * PACE_FORGET + x;
    p->y = p->y * PACE_FORGET + y;
    p->xx = p->xx * PACE_FORGET + x * x;
    p->xy = p->xy * PACE_FORGET + x * y;
    if (n_tokens < PACE_BULK)
        return;
    double keep = PACE_BULK_TOKENS / (PACE_BULK_TOKENS + x);
    p->bulk_tokens = p->bulk_tokens * keep + x;
    p->bulk_ns = p->bulk_ns * keep + y;
}

/* 0: nothing is known. */
static int find_line(const struct engine_pace *p, double *base, double *slope)
{
    if (!(p->n > 0) || !(p->y > 0) || !(p->x > 0))
        return 0;
    double spread = p->n * p->xx - p->x * p->x, rise = p->n * p->xy - p->x * p->y;
    /* Steps that were all alike show no line: then all the cost counts for the tokens, which
     * errs on the side of small steps, and their difference shows the line. */
    *slope = p->y / p->x;
    *base = 0;
    if (spread > 1e-3 * p->n * p->xx && rise > 0) {
        *slope = rise / spread;
        *base = (p->y - *slope * p->x) / p->n;
        if (*base < 0) {
            *base = 0;
            *slope = p->y / p->x;
        }
    }
    return 1;
}

int32_t pace_tokens(const struct engine_pace *p, uint64_t target_ns)
{
    double base, slope;
    if (!find_line(p, &base, &slope))
        return INT32_MAX;
    double tokens = ((double)target_ns * PACE_AIM - base) / slope;
    return tokens <= 0 ? 0 : tokens >= INT32_MAX ? INT32_MAX : (int32_t)tokens;
}

double pace_token_ns(const struct engine_pace *p)
{
    double base, slope;
    if (p->bulk_tokens > 0)
        return p->bulk_ns / p->bulk_tokens;
    return find_line(p, &base, &slope) ? slope : 0;
}
