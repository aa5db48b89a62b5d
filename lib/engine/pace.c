/* The length of drafts. */
#include "engine/pace.h"

/* Weight of a step once the next one is there. */
#define STEP_DECAY   0.97
#define RECORD_DECAY 0.9
/* Before the first measurements. */
#define ROW_SHARE_FIRST 0.2
#define RIGHT_FIRST     1.2
#define TRIED_FIRST     2.0
/* Requests that had better not draft do so once in so many steps. */
#define IDLE_MAX 32
/* A step that takes longer than so many times what was expected was interrupted. */
#define OUTLIER 2.0
/* How much measurements must vary (in rows, squared) to count for more than the first guess: where
 * nothing is drafted, the guess comes back, and with it drafts and measurements. */
#define RIDGE 0.05

void pace_observe(struct engine_pace *p, int32_t n_rows, uint64_t ns)
{
    double x = (double)n_rows, y = (double)ns;
    if (p->n >= 3)
        y = BASE_MIN(y, OUTLIER * pace_plan_of(p, n_rows, 1).ns);
    p->n = STEP_DECAY * p->n + 1;
    p->x = STEP_DECAY * p->x + x;
    p->y = STEP_DECAY * p->y + y;
    p->xx = STEP_DECAY * p->xx + x * x;
    p->xy = STEP_DECAY * p->xy + x * y;
    double mean = p->x / p->n, mean_ns = p->y / p->n;
    double variance = BASE_MAX(p->xx / p->n - mean * mean, 0);
    double guess = ROW_SHARE_FIRST * mean_ns / (1 + ROW_SHARE_FIRST * (mean - 1));
    double row = (p->xy / p->n - mean * mean_ns + RIDGE * guess) / (variance + RIDGE);
    double one = mean_ns - row * (mean - 1);
    p->row_share = one > 0 ? BASE_MIN(BASE_MAX(row / one, 0.005), 1.0) : 1.0;
}

void pace_observe_draft(struct engine_pace *p, int32_t n_tokens, uint64_t ns)
{
    double each = (double)ns / n_tokens;
    p->draft_ns = p->draft_ns > 0 ? 0.9 * p->draft_ns + 0.1 * each : each;
}

void pace_record_add(struct pace_record *r, int32_t n_right, int32_t n_tried)
{
    r->right = RECORD_DECAY * r->right + n_right;
    r->tried = RECORD_DECAY * r->tried + n_tried;
}

struct pace_plan pace_plan_of(const struct engine_pace *p, int32_t n_rows, int32_t n_tokens)
{
    double share = p->row_share > 0 ? p->row_share : ROW_SHARE_FIRST;
    double mean_rows = p->n > 0 ? p->x / p->n : 1, mean_ns = p->n > 0 ? p->y / p->n : 1;
    double one = mean_ns / (1 + share * (mean_rows - 1));
    return (struct pace_plan){one * (1 + share * (n_rows - 1)), n_tokens, one * share};
}

int32_t pace_choose(struct pace_plan *plan, struct pace_record *r, double drafted_ns, int32_t n)
{
    double chance = (r->right + RIGHT_FIRST) / (r->tried + TRIED_FIRST), gain = 1;
    double cost = plan->row_ns + drafted_ns;
    int32_t chosen = 0;
    for (; chosen < n; chosen++) {
        gain *= chance; /* it counts if all before it are right */
        if (gain * plan->ns <= cost * plan->tokens)
            break;
        plan->ns += cost;
        plan->tokens += gain;
    }
    if (chosen || !n)
        r->n_idle = 0;
    else if (++r->n_idle >= IDLE_MAX) {
        r->n_idle = 0;
        chosen = 1;
    }
    return chosen;
}
