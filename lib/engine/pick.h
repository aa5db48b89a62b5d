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

#endif
