/* The feed-forward half of a layer. */
#ifndef MODEL_MLP_H
#define MODEL_MLP_H

#include "model/stage.h"

/* Adds down(silu(gate(norm(x))) * up(norm(x))) to ws->x (SwiGLU; Shazeer, arXiv:2002.05202). */
void model_mlp(struct model_workspace *ws, const struct model_layer *weights, int32_t rows);

#endif
