/* Mamba 2 (Dao and Gu, arXiv:2405.21060). */
#ifndef MODEL_MAMBA_H
#define MODEL_MAMBA_H

#include "model/forward.h"

/* A model_mix_fn. */
void model_mamba2(struct model_workspace *ws, const struct model_batch *batch,
                  const struct model_layer *layer);

#endif
