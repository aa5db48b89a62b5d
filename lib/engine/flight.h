/* Many requests of one call: as many are in flight as run at once, and as many again wait. What
 * they have in common is computed once, by a request that keeps its blocks for them. */
#ifndef ENGINE_FLIGHT_H
#define ENGINE_FLIGHT_H

#include "engine/session.h"

struct flight {
    struct infer_session *session;
    const struct request_config *base; /* what all of them are */
    const char *what;                  /* such as "scoring", for sentences */
    size_t n;
    int32_t n_shared; /* leading tokens that all have; 0: none */
    void *data;
    /* Makes request i of a copy of `base`; the session copies the tokens. */
    void (*fill)(void *data, size_t i, struct request_config *config);
    /* Takes the results of request i, which has ended well. In order. */
    infer_status (*collect)(void *data, size_t i, const struct infer_request *r);
};

/* Waits for the results as session_next() does. base->deadline_ns is that of the whole call. The
 * first failure is returned. */
infer_status flight_run(const struct flight *flight);

#endif
