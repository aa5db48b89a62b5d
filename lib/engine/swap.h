/* Requests that give their blocks to others, and what they find when they run again. Under the
 * session's lock, which is given back while bytes move; the stepping thread's, as nobody else
 * changes the lists meanwhile. */
#ifndef ENGINE_SWAP_H
#define ENGINE_SWAP_H

#include "engine/session.h"

/* Takes its blocks away: what it has computed goes to the swap store where that is expected to cost
 * less than computing it again. */
void swap_give_way(struct infer_session *s, struct infer_request *r);

/* Its table has blocks for all it knows, and n_found positions of them were found: brings what the
 * store has of it, which has nothing of it any more then. Gives back how many positions are there.
 */
int32_t swap_return(struct infer_session *s, struct infer_request *r, int32_t n_found);

/* It has ended. */
void swap_forget(struct infer_session *s, struct infer_request *r);

#endif
