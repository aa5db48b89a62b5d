/* Texts as vectors: encoders (BERT and kin), and what a model's files say of pooling. */
#ifndef MODEL_ENCODE_H
#define MODEL_ENCODE_H

#include "model/model.h"
#include "model/pooling.h"

/* ---------------------------------------------------------------- tokens */

/* What stands around a text and between the two of a pair, as the tokenizer's files say:
 *   before, a, after          all of type 0
 *   before, a, between ..., b, after      b and what is behind it of `second_type` */
struct model_frame {
    infer_token before, after; /* -1: none */
    infer_token between[MODEL_BETWEEN_MAX];
    int32_t n_between;
    int32_t second_type; /* 0 or 1 */
};

struct model_frame model_frame_of(const struct infer_model *model);
/* Special tokens that one text, or a pair, gets. */
int32_t model_frame_tokens(const struct model_frame *frame, int pair);

/* Appends a text whose plain tokens (text_tokenizer_encode() without TEXT_ENCODE_ADD) are a, or a
 * pair where `b` is not NULL. `types` (NULL: not wanted) grows alike. */
typedef BASE_ARRAY(uint8_t) model_types;
infer_status model_frame_add(const struct model_frame *frame, const struct base_alloc *alloc,
                             const text_tokens *a, const text_tokens *b, text_tokens *out,
                             model_types *types);

/* ------------------------------------------------------------------ runs */

/* Texts one behind the other: tokens of text i are offsets[i] .. offsets[i + 1] - 1. */
struct model_encode_batch {
    const infer_token *tokens;
    const uint8_t *types; /* token types (0, 1) of pairs; NULL: all 0 */
    const int32_t *offsets;
    int32_t n_texts;
};

struct model_encoder; /* memory for runs of up to so many tokens */

int model_is_encoder(const struct infer_model *model);
/* `fast`, `invariant`: numerics as infer_numerics says. UNSUPPORTED for a model that is no encoder.
 * One run at a time; weights are read between model_enter() and model_leave(). */
infer_status model_encoder_open(struct model_encoder **out, const struct base_alloc *a,
                                const struct infer_model *model, int32_t max_tokens, int32_t fast,
                                int32_t invariant);
void model_encoder_close(struct model_encoder **encoder); /* NULL-safe, sets NULL */
/* Bytes on the device that such a one takes. */
size_t model_encoder_bytes(const struct infer_model *model, int32_t max_tokens);
/* The last layer's rows, n_embd floats a token, until the next run. INVALID: tokens out of range;
 * LIMIT: more than max_tokens, or a text, by its index, longer than the model's context. Rows of a
 * text do not depend on the others of the batch, but on a GPU without `invariant`: in their last
 * bits. */
infer_status model_encoder_run(struct model_encoder *encoder,
                               const struct model_encode_batch *batch, const float **rows);
/* One vector a text from the rows of any model: n_texts rows of n_embd, normalised if asked for.
 * `skip` (NULL: 0): leading tokens of each text that a mean leaves out. A text without tokens
 * gives zeros. */
void model_pool(float *out, const float *rows, const struct model_encode_batch *batch,
                int32_t n_embd, enum model_pooling_kind kind, int32_t normalize,
                const int32_t *skip);
/* Successive rows that join a vector of n_embd: added to it (MEAN), its largest elements (MAX, once
 * it has `begun`), or the last of them in its place (others). */
struct model_fold {
    float *vector;
    int32_t row, n_rows;
    int32_t begun;
    enum model_pooling_kind kind;
};
void model_fold_rows(const struct infer_model *model, const float *rows,
                     const struct model_fold *folds, int32_t n);
/* model_encoder_run(), and of its rows what is wanted: a GPU does it where they are. Sums are added
 * up row by row on the CPU, in an order of its own on a GPU. */
infer_status model_encoder_fold(struct model_encoder *encoder,
                                const struct model_encode_batch *batch,
                                const struct model_fold *folds, int32_t n);
/* Outputs of a head for sequences (rerankers, classifiers): n_labels a text, as the head gives
 * them, without sigmoid or softmax. 0 labels: none. */
int32_t model_head_labels(const struct infer_model *model);
infer_status model_encoder_classify(struct model_encoder *encoder,
                                    const struct model_encode_batch *batch, float *out);

#endif
