/* Command R7B and A: Command R with windows; layers that see all have no positions. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"Cohere2ForCausalLM", NULL};
static const struct model_hf_arch hf = {
    .classes = classes,
};

const struct model_arch model_arch_cohere2 = {
    .name = "cohere2",
    .title = "Command R7B, Command A",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_PARALLEL | MODEL_NOPE_FULL,
    .defaults = {.window_period = 4},
};
