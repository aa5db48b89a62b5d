/* Texts as vectors: encoders (BERT and kin), and what a model's files say of pooling. */
#ifndef MODEL_ENCODE_H
#define MODEL_ENCODE_H

#include "model/model.h"

enum model_pooling_kind {
    MODEL_POOLING_NONE, /* the files name none */
    MODEL_POOLING_MEAN,
    MODEL_POOLING_CLS,
    MODEL_POOLING_LAST,
    MODEL_POOLING_MAX
};

/* Of a Sentence Transformers folder (modules.json, 1_Pooling, prompts) or of GGUF's keys; in
 * infer_model.pooling. */
struct model_pooling {
    enum model_pooling_kind kind;
    int32_t normalize;
    int32_t include_prompt;                     /* the prompt's tokens take part in the mean */
    int32_t max_tokens;                         /* of a text; 0: the context */
    const char *query_prompt, *document_prompt; /* "" where there is none; in the model's arena */
};

/* Texts one behind the other: tokens of text i are offsets[i] .. offsets[i + 1] - 1. */
struct model_encode_batch {
    const infer_token *tokens;
    const uint8_t *types; /* token types (0, 1) of pairs; NULL: all 0 */
    const int32_t *offsets;
    int32_t n_texts;
};

struct model_encoder; /* memory for runs of up to so many tokens */

int model_is_encoder(const struct infer_model *model);
infer_status model_encoder_open(struct model_encoder **out, const struct base_alloc *a,
                                const struct infer_model *model, int32_t max_tokens);
void model_encoder_close(struct model_encoder **encoder);
/* The last layer's rows, n_embd floats a token, until the next run. */
infer_status model_encoder_run(struct model_encoder *encoder,
                               const struct model_encode_batch *batch, const float **rows);
/* One vector a text from the rows of any model: n_texts rows of n_embd, normalised if asked for.
 * `skip` (NULL: 0): leading tokens of each text that a mean leaves out. */
void model_pool(float *out, const float *rows, const struct model_encode_batch *batch,
                int32_t n_embd, enum model_pooling_kind kind, int32_t normalize,
                const int32_t *skip);
/* Outputs of a head for sequences (rerankers, classifiers): n_labels a text. 0 labels: none. */
int32_t model_head_labels(const struct infer_model *model);
infer_status model_encoder_classify(struct model_encoder *encoder,
                                    const struct model_encode_batch *batch, float *out);

#endif
