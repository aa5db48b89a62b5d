/* Folders of Gemma 4: what config.json says of layers, as keys with a value a layer. */
#ifndef MODEL_HF_GEMMA4_H
#define MODEL_HF_GEMMA4_H

#include "model/hf.h"

/* Layers that see everything have other heads than those with a window, to which config.json
 * gives the plain names; those that share keys and values may have twice the feed-forward. */
infer_status model_hf_gemma4_keys(struct model_hf *hf);

#endif
