/* Gemma 1 (arXiv:2403.08295): scaled embeddings, gated GELU. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"GemmaForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.input_layernorm", "blk.%d.attn_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.ffn_norm", MODEL_HF_PLUS_ONE, NULL},
    {"norm", "output_norm", MODEL_HF_PLUS_ONE, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_gemma = {
    .name = "gemma",
    .title = "Gemma 1",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_GELU_TANH,
    .traits = MODEL_EMBD_SQRT,
};
