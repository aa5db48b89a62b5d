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

/* Whether of these outputs nothing but the highest logit of each is wanted. */
int pick_takes_best(const struct infer_session *s, int32_t first, int32_t n);

/* The answers of a step that chose the tokens of all outputs itself: tokens[i] is output i's, -1
 * where it has none. n <= ws.max_outputs; as those of pick_rows(). */
struct model_pick *pick_chosen(struct infer_session *s, const int32_t *tokens, int32_t first,
                               int32_t n);

#endif
