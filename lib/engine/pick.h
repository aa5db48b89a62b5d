/* Which outputs a GPU may turn into tokens by itself. What it cannot know stays with the host, row
 * by row: callbacks and logits that the host wants, scores of prompts, and of drafts those whose
 * penalties or grammar hang on the drafts before them. */
#ifndef ENGINE_PICK_H
#define ENGINE_PICK_H

#include "engine/session.h"

/* Nothing on a CPU. */
infer_status pick_open(struct infer_session *s);
void pick_close(struct infer_session *s);

/* What outputs first .. first + n - 1 want of model_head(), which answers there; NULL: their
 * logits. Until the next call. */
struct model_pick *pick_rows(struct infer_session *s, int32_t first, int32_t n);

/* Whether a step can choose this token itself, without knowing the one before: it is drawn by the
 * seed and the position alone, or is the likeliest one. *pick is what is asked of it. Once that is
 * so it is so for the rest of the answer. */
int pick_by_step(const struct infer_session *s, const struct infer_request *r, int32_t position,
                 struct model_pick *pick);
/* Whether that is the highest logit and nothing else. */
int pick_is_best(const struct model_pick *pick);

/* The answers of a step that chose the tokens of all outputs itself (ws.chosen). n <=
 * ws.max_outputs; as those of pick_rows(). */
struct model_pick *pick_chosen(struct infer_session *s, int32_t first, int32_t n);

#endif
