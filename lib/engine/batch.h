/* The picked requests as one flat batch. */
#ifndef ENGINE_BATCH_H
#define ENGINE_BATCH_H

#include "engine/session.h"

/* Fills s->batch and the list of rows whose logits are wanted. */
void batch_build(struct infer_session *s);

#endif
