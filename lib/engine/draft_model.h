/* The small model that drafts: its memory, its cache, kept in step with the session's. */
#ifndef ENGINE_DRAFT_MODEL_H
#define ENGINE_DRAFT_MODEL_H

#include "engine/session.h"

/* Whether the one model can draft for the other; a sentence says why not. */
infer_status draft_model_check(const struct infer_model *model, const struct infer_model *draft);

/* For a session whose sizes and cache are set. */
infer_status draft_model_create(struct draft_model **out, const struct infer_session *s,
                                struct infer_model *model);
void draft_model_destroy(struct draft_model **model); /* NULL-safe, sets NULL */

/* Bytes that its steps compute in; NULL: 0. */
uint64_t draft_model_bytes(const struct draft_model *model);

/* Gives a request its table in the draft model's cache. */
infer_status draft_model_join(struct infer_request *r, const struct request_config *config);

/* Computes what the model has not seen of requests that want drafts (draft.wanted), within the
 * tokens of a step, and drafts for those it has caught up with. */
void draft_model_run(struct infer_session *s);

#endif
