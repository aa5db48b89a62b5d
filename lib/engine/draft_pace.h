/* How many tokens to draft: what rows of a step cost, as measured, against how many drafts of a
 * request were right. */
#ifndef ENGINE_DRAFT_PACE_H
#define ENGINE_DRAFT_PACE_H

#include "base/types.h"

/* Time of a step by its rows. Steps of one row are a case of their own: products with a vector
 * have other kernels. Steps of more lie on a line (least squares, older steps count less). One a
 * session. */
struct draft_pace {
    double one_ns;          /* of a step of one row; 0: not seen yet */
    double n, x, y, xx, xy; /* weighted sums over steps of more: steps, rows, ns ... */
    double base_ns, row_ns; /* the line */
    double draft_ns;        /* of the draft model, for one token; 0: not seen yet */
};

/* A step that is being planned. */
struct draft_pace_plan {
    const struct draft_pace *pace;
    int32_t n_rows;
    double tokens;     /* expected */
    double drafted_ns; /* for making drafts */
};

/* How many drafts of one request were right, lately. */
struct draft_pace_record {
    double right, tried;
    int32_t n_idle; /* chances since it last drafted */
};

void draft_pace_observe(struct draft_pace *pace, int32_t n_rows, uint64_t ns);
void draft_pace_observe_draft(struct draft_pace *pace, int32_t n_tokens, uint64_t ns);
void draft_pace_record_add(struct draft_pace_record *record, int32_t n_right, int32_t n_tried);

/* Expected time of a step. */
double draft_pace_step_ns(const struct draft_pace *pace, int32_t n_rows);

/* How many drafts, n at most, make the planned step give most tokens a second; adds them to the
 * plan. `draft_ns` is what a draft costs to make. Where that is none it is a few at times all the
 * same, for texts change. */
int32_t draft_pace_choose(struct draft_pace_plan *plan, struct draft_pace_record *record,
                          double draft_ns, int32_t n);

#endif
