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
/* With a window, the first max_window_layers layers see all. */
static infer_status set_keys(struct model_hf *hf)
{
    enum { MAX_LAYERS = 1024 };
    int32_t windowed[MAX_LAYERS], uses = 0;
    int64_t layers = model_hf_int(hf, "num_hidden_layers", 0);
    base_json_bool(model_hf_get(hf, "use_sliding_window"), &uses);
    if (!uses || model_hf_get(hf, "layer_types") || layers < 1 || layers > MAX_LAYERS)
        return INFER_OK;
    for (int64_t i = 0; i < layers; i++)
        windowed[i] = i >= model_hf_int(hf, "max_window_layers", 0);
    return model_hf_set_i32s(hf, "attention.sliding_window_pattern", windowed, (size_t)layers);
}

static const struct model_hf_arch hf = {
    .classes = classes,
    .set_keys = set_keys,
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
