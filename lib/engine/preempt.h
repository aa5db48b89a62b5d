/* The running requests, and which of them gives its blocks back when others need them. Under the
 * session's lock, by the stepping thread. */
#ifndef ENGINE_PREEMPT_H
#define ENGINE_PREEMPT_H

#include "engine/session.h"

/* Running requests stand by rank and age: the first one never gives way, so it ends, and after it
 * the next. */
void running_insert(struct infer_session *s, struct infer_request *r);
int32_t running_find(const struct infer_session *s, const struct infer_request *r);
void running_remove(struct infer_session *s, int32_t at);

/* Takes the blocks that decodes need in this step; who is in the way waits again. */
void preempt_for_decodes(struct infer_session *s, uint64_t now);

/* Whether the running requests that give way to this waiting one hold enough for it. */
int preempt_can_help(const struct infer_session *s, const struct infer_request *r);
/* One of them gives way. 0: there is none. */
int preempt_for(struct infer_session *s, const struct infer_request *r, uint64_t now);

/* Requests that were restored, or fetched from a tier, hold blocks while they wait: the last of
 * them, but for `keep`, gives its own to who needs them now. 0: there is none. */
int preempt_waiting(struct infer_session *s, const struct infer_request *keep);
/* All of them give way, those that wait too; keepers end. */
void preempt_all(struct infer_session *s, uint64_t now);
/* Ends the newest request that only keeps blocks for others, which then find in the prefix cache
 * what is still there. Its place among the running ones, or -1. */
int32_t preempt_keeper(struct infer_session *s);

#endif
