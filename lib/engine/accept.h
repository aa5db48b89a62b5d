/* How far drafts were right, and back to the state of plain decoding. */
#ifndef ENGINE_ACCEPT_H
#define ENGINE_ACCEPT_H

#include "engine/session.h"

/* A row has given the request's last n tokens, one that was chosen and those that it forced:
 * whether all were drafted, so that the last one's row, if there is one, is of the same sequence.
 */
int accept_next(struct infer_request *r, size_t n);

/* No more rows of this step will be looked at: keeps the blocks of what was right, gives back the
 * rest. Nothing to do without drafts. */
void accept_settle(struct infer_request *r);

#endif
