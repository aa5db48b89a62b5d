/* What folders of encoders have in common. */
#ifndef MODEL_HF_ENCODER_H
#define MODEL_HF_ENCODER_H

#include "model/hf.h"

/* Of BERT, RoBERTa, XLM-R, DistilBERT. */
extern const struct model_hf_arch model_hf_bert;

/* A model_hf_tensor.make: what is part of a head for sequences in classes that have one, and of
 * something else, which is left out, in others. "cls". */
infer_status model_hf_make_cls(struct model_hf *hf, const struct model_hf_value *value,
                               int32_t layer, const char *suffix);
/* The same of its norm: "cls.norm". */
infer_status model_hf_make_cls_norm(struct model_hf *hf, const struct model_hf_value *value,
                                    int32_t layer, const char *suffix);

/* Whether the folder's class has a head for sequences. */
int model_hf_has_sequence_head(const struct model_hf *hf);

/* Embeddings, their norm and attention of BERT; names of norms as older files have them, too. */
/* clang-format off */
#define MODEL_HF_BERT_LAYERS                                                                       \
    {"embeddings.word_embeddings", "token_embd", 0, NULL},                                         \
    {"embeddings.token_type_embeddings", "token_types", 0, NULL},                                  \
    {"embeddings.LayerNorm", "token_embd_norm", 0, NULL},                                          \
    {"embeddings.LayerNorm.gamma", "token_embd_norm.weight", 0, NULL},                             \
    {"embeddings.LayerNorm.beta", "token_embd_norm.bias", 0, NULL},                                \
    {"encoder.layer.%d.attention.self.query", "blk.%d.attn_q", 0, NULL},                           \
    {"encoder.layer.%d.attention.self.key", "blk.%d.attn_k", 0, NULL},                             \
    {"encoder.layer.%d.attention.self.value", "blk.%d.attn_v", 0, NULL},                           \
    {"encoder.layer.%d.attention.output.dense", "blk.%d.attn_output", 0, NULL},                    \
    {"encoder.layer.%d.attention.output.LayerNorm", "blk.%d.attn_output_norm", 0, NULL},           \
    {"encoder.layer.%d.attention.output.LayerNorm.gamma", "blk.%d.attn_output_norm.weight", 0, NULL},\
    {"encoder.layer.%d.attention.output.LayerNorm.beta", "blk.%d.attn_output_norm.bias", 0, NULL}
/* clang-format on */

/* Heads of classes for sequences; those that predict tokens are left out. */
/* clang-format off */
#define MODEL_HF_BERT_HEADS                                                                        \
    {"pooler.dense", NULL, 0, model_hf_make_cls},                                                  \
    {"classifier", "cls.output", 0, NULL},                                                         \
    {"classifier.dense", "cls", 0, NULL},                                                          \
    {"classifier.out_proj", "cls.output", 0, NULL},                                                \
    {"embeddings.position_ids", NULL, 0, NULL},                                                    \
    {"embeddings.token_type_ids", NULL, 0, NULL},                                                  \
    {"cls.predictions", NULL, 0, NULL},                                                            \
    {"cls.predictions.decoder", NULL, 0, NULL},                                                    \
    {"cls.predictions.transform.dense", NULL, 0, NULL},                                            \
    {"cls.predictions.transform.LayerNorm", NULL, 0, NULL},                                        \
    {"cls.predictions.transform.LayerNorm.gamma", NULL, 0, NULL},                                  \
    {"cls.predictions.transform.LayerNorm.beta", NULL, 0, NULL},                                   \
    {"cls.predictions.transform.layer_norm", NULL, 0, NULL},                                       \
    {"cls.seq_relationship", NULL, 0, NULL},                                                       \
    {"lm_head", NULL, 0, NULL},                                                                    \
    {"lm_head.dense", NULL, 0, NULL},                                                              \
    {"lm_head.layer_norm", NULL, 0, NULL},                                                         \
    {"lm_head.decoder", NULL, 0, NULL},                                                            \
    {"vocab_transform", NULL, 0, NULL},                                                            \
    {"vocab_layer_norm", NULL, 0, NULL},                                                           \
    {"vocab_projector", NULL, 0, NULL}
/* clang-format on */

/* Keys "<arch>.pooling_type" and "infer.embedding.*" from the files of Sentence Transformers, of
 * any model; and the pooling of the head. */
infer_status model_hf_sentence(struct model_hf *hf);

#endif
