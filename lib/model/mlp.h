/* Feed-forward network: gated, or plain where the model has no gate. */
#ifndef MODEL_MLP_H
#define MODEL_MLP_H

#include "model/forward.h"

void model_mlp(struct model_workspace *ws, const struct model_layer *layer, int32_t rows);

/* The hidden rows of it: ws->gate, quantised where the last product wants that. */
void model_mlp_hidden(struct model_workspace *ws, const struct model_layer *layer, int32_t rows);

/* The rows that a feed-forward reads: the layer's norm of the stream, or what attention read as
 * well; with q8 quantised into ws->q8. */
const float *model_ffn_input(struct model_workspace *ws, const struct model_layer *layer,
                             int32_t rows, int q8);

#endif
