/* The next step before the last token is read. A GPU takes a step of decodes while it still
 * computes the one before: its tokens are already there when it comes to it, on the card. So the
 * host reads tokens, looks for ends and writes events while the card works on, as SGLang (Zheng et
 * al., arXiv:2312.07104) and TensorRT-LLM do.
 *
 * A step in flight is a guess that is nearly always right: that each of its requests goes on.
 * Between two steps all requests look as if it had not been launched, so that whoever looks at
 * them, moves them or ends them need not know of it; who ends or gives way loses its row, and what
 * came of that is not looked at. */
#ifndef ENGINE_AHEAD_H
#define ENGINE_AHEAD_H

#include "engine/session.h"

infer_status ahead_init(struct infer_session *s);
void ahead_release(struct infer_session *s);

/* Whether the device chooses the tokens of all rows of s->batch itself, and by what: in s->batch.
 */
void ahead_choose(struct infer_session *s);

/* The step in flight is the one that is to be finished now: its requests become s->parts and
 * s->outputs. 0: there is none. Under the session's lock. */
int ahead_take(struct infer_session *s, uint64_t now);

/* Launches the step behind the one that s->outputs is of, where all that it needs is known. 0:
 * nothing was launched, and the logits of that one are still there. Takes the session's lock. */
int ahead_launch(struct infer_session *s);

/* A running request ends, or gives its blocks back. Under the session's lock. */
void ahead_forget(struct infer_session *s, struct infer_request *r);

#endif
