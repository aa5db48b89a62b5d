/* Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434). */
#ifndef MODEL_LATENT_H
#define MODEL_LATENT_H

#include "model/forward.h"

void model_latent_attention(struct model_workspace *ws, const struct model_batch *batch,
                            const struct model_layer *layer);

/* Bytes of ws->mixer that one row takes. */
size_t model_latent_row_bytes(const struct model_hparams *hp);

#endif
