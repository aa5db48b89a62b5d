/* What a request need not compute: blocks kept in the prefix cache, or shared with the request
 * it was forked from. All functions are the stepping thread's. */
#ifndef ENGINE_PREFIX_H
#define ENGINE_PREFIX_H

#include "engine/session.h"

/* Whether the request it was forked from is just computing what it shall share. */
int prefix_must_wait(const struct infer_request *r);

/* How many of the next n positions a step computes. A recurrent state is of one position only, so
 * steps end where it is wanted: where forks begin, and where others may go on. */
int32_t prefix_chunk(const struct infer_request *r, int32_t n);

/* Finds what is there, takes blocks for all other known tokens. INFER_ERR_NO_MEMORY: there are
 * not enough, and it holds none. Under the session's lock. */
infer_status prefix_begin(struct infer_session *s, struct infer_request *r);

/* Before it is queued, on its host's thread: brings blocks back that the file tier has. It
 * waits with them. */
void prefix_fetch(struct infer_request *r);

/* Before a step computes: copies what forks write into. */
void prefix_copy(struct infer_session *s);

/* When a step has computed: its full blocks can be found from now on. */
void prefix_keep(struct infer_session *s);
void prefix_keep_of(struct infer_request *r);

/* It has no blocks any more; what it knows is computed again when it begins. */
void prefix_give_back(struct infer_request *r);

/* It shares nothing with its source any more, or never will. */
void prefix_leave_source(struct infer_request *r);

#endif
