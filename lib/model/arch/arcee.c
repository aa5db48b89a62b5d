/* Arcee's AFM (arXiv:2307.09288 with the squared ReLU of arXiv:2109.08668): Llama with a
 * feed-forward that has no gate. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,      {MODEL_ROPE_FREQS, MODEL_OPTIONAL},
    {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0},  {MODEL_FFN_UP, 0},
    {MODEL_FFN_DOWN, 0},
};

static const char *const classes[] = {"ArceeForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_arcee = {
    .name = "arcee",
    .title = "Arcee AFM",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_RELU2,
};
