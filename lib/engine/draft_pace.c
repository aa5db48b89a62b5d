/* The length of drafts. */
#include "engine/draft_pace.h"

/* Weight of a measurement once the next one is there. */
#define STEP_DECAY   0.93
#define RECORD_DECAY 0.9
/* Before the first measurements: one more row against a step of one, and against the mean row of
 * steps of more; drafts that are right. */
#define SHARE_FIRST 0.2
#define SLOPE_FIRST 0.3
#define RIGHT_FIRST 1.2
#define TRIED_FIRST 2.0
/* How much rows must vary (squared) to count for more than the first guess of the slope. */
#define RIDGE 0.1
/* A step that takes longer than so many times what was expected was interrupted. */
#define OUTLIER 2.0
/* Requests that had better not draft try at first, and once in so many steps, with enough tokens to
 * learn from. */
#define IDLE_MAX 48
#define TRIAL    4

double draft_pace_step_ns(const struct draft_pace *p, int32_t n_rows)
{
    if (n_rows == 1 && p->one_ns > 0)
        return p->one_ns;
    if (p->n > 0)
        return p->base_ns + p->row_ns * n_rows;
    return (p->one_ns > 0 ? p->one_ns : 1) * (1 + SHARE_FIRST * (n_rows - 1));
}

static void fit(struct draft_pace *p)
{
    double rows = p->x / p->n, ns = p->y / p->n, each = ns / rows;
    double variance = BASE_MAX(p->xx / p->n - rows * rows, 0);
    double row = (p->xy / p->n - rows * ns + RIDGE * SLOPE_FIRST * each) / (variance + RIDGE);
    p->row_ns = BASE_MIN(BASE_MAX(row, 0.01 * each), each);
    p->base_ns = ns - p->row_ns * rows;
}

void draft_pace_observe(struct draft_pace *p, int32_t n_rows, uint64_t ns)
{
    double x = (double)n_rows, y = BASE_MAX((double)ns, 1);
    if (n_rows == 1) {
        y = p->one_ns > 0 ? BASE_MIN(y, OUTLIER * p->one_ns) : y;
        p->one_ns = p->one_ns > 0 ? STEP_DECAY * p->one_ns + (1 - STEP_DECAY) * y : y;
        return;
    }
    if (p->n > 2)
        y = BASE_MIN(y, OUTLIER * draft_pace_step_ns(p, n_rows));
    p->n = STEP_DECAY * p->n + 1;
    p->x = STEP_DECAY * p->x + x;
    p->y = STEP_DECAY * p->y + y;
    p->xx = STEP_DECAY * p->xx + x * x;
    p->xy = STEP_DECAY * p->xy + x * y;
    fit(p);
}

void draft_pace_observe_draft(struct draft_pace *p, int32_t n_tokens, uint64_t ns)
{
    double each = (double)ns / n_tokens;
    p->draft_ns = p->draft_ns > 0 ? 0.9 * p->draft_ns + 0.1 * each : each;
}

void draft_pace_record_add(struct draft_pace_record *r, int32_t n_right, int32_t n_tried)
{
    r->right = RECORD_DECAY * r->right + n_right;
    r->tried = RECORD_DECAY * r->tried + n_tried;
}

/* The most tokens a second over all lengths, for one draft may not pay where many do. */
static int32_t best(struct draft_pace_plan *plan, double chance, double draft_ns, int32_t n)
{
    double ns = draft_pace_step_ns(plan->pace, plan->n_rows) + plan->drafted_ns;
    double tokens = plan->tokens, gain = 1, speed = tokens / ns, sum = tokens;
    int32_t chosen = 0;
    for (int32_t i = 1; i <= n; i++) {
        gain *= chance; /* it counts if all before it are right */
        sum += gain;
        ns = draft_pace_step_ns(plan->pace, plan->n_rows + i) + plan->drafted_ns + draft_ns * i;
        if (sum / ns <= speed)
            continue;
        speed = sum / ns;
        tokens = sum;
        chosen = i;
    }
    plan->tokens = tokens;
    return chosen;
}

int32_t draft_pace_choose(struct draft_pace_plan *plan, struct draft_pace_record *r,
                          double draft_ns, int32_t n)
{
    double chance = (r->right + RIGHT_FIRST) / (r->tried + TRIED_FIRST);
    int32_t chosen = best(plan, chance, draft_ns, n);
    if (chosen || !n)
        r->n_idle = 0;
    else if (!(r->tried > 0) || ++r->n_idle >= IDLE_MAX) {
        r->n_idle = 0;
        chosen = BASE_MIN(n, TRIAL);
    }
    plan->n_rows += chosen;
    plan->drafted_ns += draft_ns * chosen;
    return chosen;
}
