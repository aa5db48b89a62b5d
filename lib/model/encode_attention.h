/* Attention of encoders: every row of a text sees the others of its text. */
#ifndef MODEL_ENCODE_ATTENTION_H
#define MODEL_ENCODE_ATTENTION_H

#include "model/forward.h"

/* A model_mix_fn without a KV cache: sequences of the batch are whole texts. */
void model_encode_attention(struct model_workspace *ws, const struct model_batch *batch,
                            const struct model_layer *layer);

/* Floats of scratch memory that a thread needs for texts of up to so many rows. */
size_t model_encode_attention_floats(const struct infer_model *model, int32_t max_rows);

#endif
