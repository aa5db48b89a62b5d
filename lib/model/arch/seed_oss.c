/* Seed-OSS: Llama's layer with biases of queries, keys and values, and heads wider than the
 * embedding divides. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0},     MODEL_ROWS_QKV,
    MODEL_ROWS_QKV_BIAS, {MODEL_FFN_NORM_POST, 0}, MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"SeedOssForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_seed_oss = {
    .name = "seed_oss",
    .title = "Seed-OSS",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
