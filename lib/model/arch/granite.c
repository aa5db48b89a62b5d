/* Granite 3 and dense Granite 4: Llama with scales on embeddings, scores, residuals and logits. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"GraniteForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_granite = {
    .name = "granite",
    .title = "Granite 3",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_LOGIT_DIVIDE,
};
