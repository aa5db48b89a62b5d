/* What recurrent mixers share: the state of a sequence, and work on it. */
#ifndef MODEL_RECURRENT_H
#define MODEL_RECURRENT_H

#include "model/forward.h"

/* The state of one sequence in one layer: the last inputs of the convolution, then a matrix a
 * head. */
struct model_state {
    float *conv; /* [ssm_conv - 1][channels] */
    float *scan; /* ssm_inner * ssm_state */
};

struct model_recurrent {
    struct model_workspace *ws;
    const struct model_batch *batch;
    const struct model_layer *layer;
    /* Units begin .. end - 1 of one sequence, whose rows are computed in order. */
    void (*run)(const struct model_recurrent *r, const struct model_batch_seq *seq,
                struct model_state state, int32_t begin, int32_t end);
    int32_t n_units; /* of each sequence: heads, or runs of channels */
    const void *job; /* of the mixer */
};

/* Runs all units of all sequences, as one stage. */
void model_recurrent_run(const struct model_recurrent *r);

/* The causal convolution, in place: channels of row i at x + i * stride. Begins from nothing
 * where the sequence does. */
void model_recurrent_conv(struct model_workspace *ws, const struct model_batch *batch,
                          const struct model_layer *layer, float *x, size_t stride);

/* Channels that pass through the convolution. */
int32_t model_recurrent_channels(const struct model_hparams *hp);

/* Bytes of ws->mixer that one row of a recurrent layer takes. */
size_t model_recurrent_row_bytes(const struct model_hparams *hp);

/* An architecture's `shape`: the sizes are there and fit each other and the kernels. */
infer_status model_recurrent_check(struct model_hparams *hp, const struct gguf_file *file);

#endif
