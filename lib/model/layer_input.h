/* What a layer gets of each token for itself, beside the residual stream (per-layer embeddings of
 * Gemma 3n and 4), and the factor that ends a layer. */
#ifndef MODEL_LAYER_INPUT_H
#define MODEL_LAYER_INPUT_H

#include "model/forward.h"

/* ws->inputs of all layers, from the tokens and from the stream as the embedding left it. */
void model_layer_inputs(struct model_workspace *ws, const struct model_batch *batch);

/* Adds to the stream what the layer makes of the stream and its own inputs. */
void model_layer_input_add(struct model_workspace *ws, int32_t layer, int32_t rows);

/* Multiplies the stream, where the layer has a factor. */
void model_layer_scale(struct model_workspace *ws, const struct model_layer *layer, int32_t rows);

#endif
