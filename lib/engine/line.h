/* The sessions behind one handle: the newest, which takes requests, and older ones, whose model was
 * swapped for another, as long as they have any. They share a lock and whoever steps, and take
 * turns in steps. */
#ifndef ENGINE_LINE_H
#define ENGINE_LINE_H

#include "base/alloc.h"
#include "engine/stats.h"

#include <pthread.h>

struct infer_session;

struct session_line {
    _Atomic int32_t refs; /* sessions that use it */
    struct base_alloc alloc;
    pthread_mutex_t lock;
    pthread_cond_t changed;     /* events, finished steps, new work, restored weights */
    const void *stepping;       /* whose step a thread is in, or who occupies the line; NULL:
                                   nobody */
    struct infer_session *turn; /* whose step was the last one */
    int32_t occupied;           /* by line_occupy() */
    int32_t closing;
    int32_t n_visitors; /* threads that look at requests between two steps */
    int32_t has_worker;
    pthread_t worker;
    uint64_t next_serial;     /* of requests */
    _Atomic uint64_t n_steps; /* of all of them */

    /* Read under this lock alone, which no step holds; changed under both. */
    pthread_mutex_t list_lock;
    struct infer_session *newest; /* others follow by `older`; each is a reference */
    struct engine_stats past;     /* of sessions that left */
};

infer_status line_create(struct session_line **out, const struct base_alloc *a);
void line_release(struct session_line *line);

/* The session is the newest from now on. */
void line_join(struct session_line *line, struct infer_session *session);
/* A thread of the library steps from now on. */
infer_status line_start_worker(struct session_line *line);
/* Ends all requests as cancelled, the worker, and the sessions; waits for a running step. */
void line_close(struct session_line *line);

/* What follows is called under the lock. */

/* One step of the session whose turn it is, of those that can compute. INFER_AGAIN: none can. */
infer_status line_step(struct session_line *line);
/* After INFER_AGAIN: ends what is over in sessions whose model is evicted. How many. */
int32_t line_reap(struct session_line *line);
/* The same, then sleeps until something changes, no longer than to a deadline or, where another
 * session holds the blocks, a moment. */
void line_rest(struct session_line *line);
/* A session that has left gets work again: a fork of what it has done. */
void line_rejoin(struct session_line *line, struct infer_session *session);
int line_has_work(const struct session_line *line);
/* Lets go of the lock, then of older sessions that have nothing left to do. */
void line_unlock(struct session_line *line);

/* The newest session; the caller releases it. Under no lock that a step holds. */
struct infer_session *line_newest(struct session_line *line);
/* As if a step ran: nobody steps, looks at requests or closes until line_vacate(). Waits for the
 * step that runs. Under no lock of the line; `who` is not NULL. */
void line_occupy(struct session_line *line, const void *who);
void line_vacate(struct session_line *line);
/* Sums of all sessions, past and present. */
struct line_totals {
    struct engine_stats stats;
    uint64_t workspace_bytes;
    int32_t n_sessions;
};
void line_sum(struct session_line *line, struct line_totals *out);
int32_t line_waiting(struct session_line *line);

#endif
