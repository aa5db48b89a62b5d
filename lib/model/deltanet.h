/* Gated delta networks (Yang et al., arXiv:2412.06464), as Qwen 3 Next and Qwen 3.5 have them. */
#ifndef MODEL_DELTANET_H
#define MODEL_DELTANET_H

#include "model/forward.h"

#define MODEL_DELTA_EPS 1e-6f /* of the length of queries and keys, in all published models */

/* Model_mix_fns: value heads that share a key head stand side by side, or (tiled) one in each
 * run of as many heads as there are keys. */
void model_deltanet(struct model_workspace *ws, const struct model_batch *batch,
                    const struct model_layer *layer);
void model_deltanet_tiled(struct model_workspace *ws, const struct model_batch *batch,
                          const struct model_layer *layer);

#endif
