/* One step of the engine: start reading here. */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "engine/session.h"

/* Runs the requests that can run. Called by the one thread that holds
 * `stepping`, without the lock. INFER_OK, or INFER_AGAIN if nothing could run. */
infer_status engine_step(struct infer_session *session);

#endif
