/* OLMo 2 (arXiv:2501.00656) and OLMo 3: norms stand behind attention and feed-forward, queries and
 * keys are normalised over all heads at once. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,           MODEL_ROWS_QKV,       MODEL_ROWS_QK_NORM,
    {MODEL_ATTN_POST_NORM, 0}, MODEL_ROWS_GATED_FFN, {MODEL_FFN_POST_NORM, 0},
};

static const char *const classes[] = {"Olmo2ForCausalLM", "Olmo3ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", 0, NULL},
    {"layers.%d.post_feedforward_layernorm", "blk.%d.post_ffw_norm", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_olmo2 = {
    .name = "olmo2",
    .title = "OLMo 2, OLMo 3",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_WINDOW_ROPE,
    .defaults = {.window_period = 4},
};
