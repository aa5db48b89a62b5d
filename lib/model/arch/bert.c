/* BERT (arXiv:1810.04805) and what shares its layers: MiniLM, BGE, E5, GTE; RoBERTa and XLM-R,
 * whose positions begin behind that of padding; DistilBERT, which has no types of tokens. */
#include "model/arch.h"
#include "model/hf_encoder.h"

static const struct model_tensor_row tensors[] = {
    {MODEL_TOKEN_EMBD, 0},
    {MODEL_POS_EMBD, 0},
    {MODEL_TYPE_EMBD, MODEL_OPTIONAL},
    {MODEL_EMBD_NORM, 0},
    {MODEL_EMBD_NORM_BIAS, 0},
    {MODEL_ATTN_QKV, MODEL_OPTIONAL},
    {MODEL_ATTN_QKV_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_Q, MODEL_OPTIONAL},
    {MODEL_ATTN_K, MODEL_OPTIONAL},
    {MODEL_ATTN_V, MODEL_OPTIONAL},
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT, 0},
    {MODEL_ATTN_OUT_BIAS, 0},
    {MODEL_ATTN_OUT_NORM, 0},
    {MODEL_ATTN_OUT_NORM_BIAS, 0},
    {MODEL_FFN_UP, 0},
    {MODEL_FFN_UP_BIAS, 0},
    {MODEL_FFN_DOWN, 0},
    {MODEL_FFN_DOWN_BIAS, 0},
    {MODEL_LAYER_OUT_NORM, 0},
    {MODEL_LAYER_OUT_NORM_BIAS, 0},
    MODEL_ROWS_SEQUENCE_HEAD,
};

const struct model_arch model_arch_bert = {
    .name = "bert",
    .title = "BERT, MiniLM, BGE, E5, GTE, RoBERTa, XLM-R, DistilBERT",
    .hf = &model_hf_bert,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_NONE,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_GELU,
    .traits = MODEL_ENCODER,
    .defaults = {.norm_eps = 1e-12f},
};
