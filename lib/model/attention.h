/* The attention half of a layer: norm, Q K V, rotation, cache, attention, output. */
#ifndef MODEL_ATTENTION_H
#define MODEL_ATTENTION_H

#include "model/stage.h"

/* Adds the layer's attention output to ws->x. `layer` counts within its KV group. */
void model_attention(struct model_workspace *ws, const struct model_batch *batch,
                     const struct model_layer *weights, int32_t group, int32_t layer);

#endif
