/* ERNIE 4.5, the dense ones: Llama's layer with rotary positions over pairs as they are stored. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,      {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM", NULL};
static const struct model_hf_arch hf = {.classes = classes};

const struct model_arch model_arch_ernie4_5 = {
    .name = "ernie4_5",
    .title = "ERNIE 4.5",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
