/* What one step computes: rows of many sequences in one flat batch. Beside the
 * logits it is the only object that crosses between engine and model. */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include "base/types.h"

/* Consecutive rows of one sequence: positions first_pos .. first_pos + n_rows - 1. */
struct model_batch_seq {
    const int32_t *const *blocks; /* block table of each KV group of the model */
    int32_t first_pos;
    int32_t row, n_rows;
};

/* Where the KV blocks of one group lie; all layers of a group share block ids. In a group of
 * recurrent state the first id is the sequence's block: F32, of any content before position 0. */
struct model_kv_view {
    uint8_t *base;
    size_t block_stride; /* bytes from a block to the next */
    size_t layer_stride; /* bytes from a layer of the group to the next, inside a block */
    size_t v_offset;     /* from a layer's keys to its values; 0: they are in the keys */
    size_t k_slot;       /* bytes from the keys of a head at a position to those at the next */
    size_t v_slot;       /* the same of values */
    int32_t block_tokens;
    infer_dtype type;
    int32_t rotated; /* keys are rotated before they are stored, and so are queries */
};

struct infer_adapter;

/* Consecutive rows, of one sequence or several, under one adapter (lora.h). */
struct model_batch_run {
    const struct infer_adapter *adapter;
    int32_t row, n_rows;
};

struct model_pick;

struct model_batch {
    int32_t n_rows, n_seqs;
    const infer_token *tokens; /* n_rows */
    const struct model_batch_seq *seqs;
    const struct model_kv_view *kv;     /* one per KV group of the model */
    const struct model_batch_run *runs; /* in order of rows; rows of no run have no adapter */
    int32_t n_runs;
    const float *scales; /* of each row's adapter; NULL without runs */

    /* On a GPU, with one row a sequence. */
    int32_t chooses; /* the step chooses each row's token itself, for model_chosen() */
    /* With `chooses`: what is asked of each row's token, without lists and masks; NULL: of all rows
     * the highest logit. Read before model_forward() is back. */
    const struct model_pick *picks;
    /* NULL: all tokens are known. Else those of rows with source[i] >= 0 are what the last step
     * with `chooses` chooses for its row source[i]: it need not be done yet. */
    const int32_t *source;
};

#endif
