/* Qwen 3.5, dense: of four layers three are gated delta networks, the fourth attends with gated
 * output. Text alone: where all three positions of a token are the same, its rotary sections are
 * one. */
#include "model/arch.h"
#include "model/deltanet.h"
#include "model/hf_recurrent.h"
#include "model/recurrent.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,          {MODEL_ATTN_NORM, 0},  MODEL_ROWS_QKV,         MODEL_ROWS_QK_NORM,
    {MODEL_FFN_NORM_POST, 0}, MODEL_ROWS_GATED_FFN,  MODEL_ROWS_DELTA,       {MODEL_DELTA_QKV, 0},
    {MODEL_DELTA_Z, 0},       {MODEL_DELTA_BETA, 0}, {MODEL_DELTA_ALPHA, 0},
};

static const char *const classes[] = {"Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM",
                                      NULL};
static const struct model_hf_key keys[] = {MODEL_HF_KEYS_DELTA};
static const struct model_hf_tensor names[] = {MODEL_HF_ROWS_NORMS_PLUS_ONE, MODEL_HF_ROWS_TILED};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = model_hf_delta_keys,
};

const struct model_arch model_arch_qwen35 = {
    .name = "qwen35",
    .title = "Qwen 3.5",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_QUERY_GATE,
    .recurrent = model_deltanet_tiled,
    .defaults = {.full_interval = 4},
    .shape = model_recurrent_check,
};
