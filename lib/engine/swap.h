/* Requests that give their blocks to others, and what they find when they run again. Under the
 * session's lock, which is given back while bytes move; the stepping thread's, as nobody else
 * changes the lists meanwhile. */
#ifndef ENGINE_SWAP_H
#define ENGINE_SWAP_H

#include "engine/session.h"

/* Takes its blocks away: what it has computed goes to the swap store where that is expected to cost
 * less than computing it again. */
void swap_give_way(struct infer_session *s, struct infer_request *r);

/* How many positions the store would bring where n_found are found; 0: none beyond those. */
int32_t swap_waiting(const struct infer_request *r, int32_t n_found);
/* Its table has leapt to those: brings what the store has of it, which has nothing of it any more
 * then. *n_found becomes how many positions are there. On an error what lies behind them in the
 * table means nothing. */
infer_status swap_return(struct infer_session *s, struct infer_request *r, int32_t *n_found);

/* It has ended. */
void swap_forget(struct infer_session *s, struct infer_request *r);

#endif
