/* Numbers of all sessions of a line, its newest given; read under no lock that a step holds. */
#ifndef LIB_METRICS_H
#define LIB_METRICS_H

#include "engine/session.h"

#include <infer/session.h>

void metrics_snapshot(const struct infer_session *session, infer_session_stats *out);
/* Prometheus text exposition format 0.0.4. */
infer_status metrics_render(const struct infer_session *session, struct base_str *out);

#endif
