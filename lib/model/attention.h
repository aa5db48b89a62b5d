/* Attention over paged keys and values. */
#ifndef MODEL_ATTENTION_H
#define MODEL_ATTENTION_H

#include "model/forward.h"

/* Adds the attention of one layer to the residual stream; stores its keys and values. */
void model_attention(struct model_workspace *ws, const struct model_batch *batch,
                     const struct model_layer *layer);

/* The paged part alone, for mixers that make queries, keys and values in their own way. Query
 * row i at q + i * q_stride; out rows of n_heads * head_dim_v. */
struct model_attend {
    const struct model_layer *layer;
    const float *q;
    size_t q_stride; /* floats */
    float *out;
    const float *gates; /* of the output's elements, or NULL */
    uint8_t *q8;        /* out quantised, or NULL; heads are whole blocks */
    const float *sinks;
    int32_t n_heads, n_heads_kv, head_dim, head_dim_v;
    int32_t shared; /* values are the first head_dim_v elements of their keys */
};

void model_attend(struct model_workspace *ws, const struct model_batch *batch,
                  const struct model_attend *attend);

/* The slot of a position under one KV head: keys, or values (is_v). */
uint8_t *model_kv_slot(const struct model_kv_view *kv, const struct model_batch_seq *seq,
                       const struct model_layer *layer, int32_t position, int32_t head, int is_v);

/* What reads the stream in front of a mixer: its norm (or none), quantised with q8. Leaves the
 * feed-forward's input in ws->parallel where both read the same stream. */
const float *model_mix_input(struct model_workspace *ws, const struct model_layer *layer,
                             int32_t rows, int q8);

#endif
