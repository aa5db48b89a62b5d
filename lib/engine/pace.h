/* How many tokens to draft: what rows of a step cost, as measured, against how many drafts of a
 * request were right. */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include "base/types.h"

/* Time of a step over its rows, as a line through the last steps (least squares, older steps
 * count less). One a session. */
struct engine_pace {
    double n, x, y, xx, xy; /* weighted sums: steps, rows, ns ... */
    double row_share;       /* of one more row, where a step of one row is 1; 0: not known yet */
    double draft_ns;        /* of the draft model, for one token; 0: drafts cost nothing */
};

/* A step that is being planned. */
struct pace_plan {
    double ns, tokens; /* expected time, expected tokens */
    double row_ns;     /* of one more row */
};

/* How many drafts of one request were right, lately. */
struct pace_record {
    double right, tried;
    int32_t n_idle; /* chances since it last drafted */
};

void pace_observe(struct engine_pace *pace, int32_t n_rows, uint64_t ns);
void pace_observe_draft(struct engine_pace *pace, int32_t n_tokens, uint64_t ns);
void pace_record_add(struct pace_record *record, int32_t n_right, int32_t n_tried);

/* A step of so many rows that gives so many tokens without drafts. */
struct pace_plan pace_plan_of(const struct engine_pace *pace, int32_t n_rows, int32_t n_tokens);

/* How many drafts, n at most, make the planned step give more tokens a second; adds them to the
 * plan. `drafted_ns` is what a draft costs to make. Where that is none it is one at times all the
 * same, for texts change. */
int32_t pace_choose(struct pace_plan *plan, struct pace_record *record, double drafted_ns,
                    int32_t n);

#endif
