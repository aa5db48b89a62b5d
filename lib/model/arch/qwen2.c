/* Qwen 2 and 2.5 (arXiv:2407.10671): Llama with biases on queries, keys and values. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"Qwen2ForCausalLM", NULL};
static const struct model_hf_arch hf = {
    .classes = classes,
};

const struct model_arch model_arch_qwen2 = {
    .name = "qwen2",
    .title = "Qwen 2, Qwen 2.5",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
