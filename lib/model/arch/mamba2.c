/* Mamba 2 (Dao and Gu, arXiv:2405.21060): no attention, no positions, no feed-forward. */
#include "model/arch.h"
#include "model/hf_recurrent.h"
#include "model/mamba.h"
#include "model/recurrent.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_MAMBA2,
};

/* The models have no longest text; a number is wanted, and GGUF files have this one. */
static infer_status set_keys(struct model_hf *hf)
{
    int64_t heads = 0; /* their elements were read and checked: head_dim */
    infer_status st = model_hf_size(hf, "num_heads", 1, 1 << 14, &heads);
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "context_length", 1 << 20);
    return st == INFER_OK ? model_hf_set_u32(hf, "ssm.inner_size", (uint32_t)(heads * hf->head_dim))
                          : st;
}

static const char *const classes[] = {"Mamba2ForCausalLM", NULL};
static const struct model_hf_key keys[] = {
    {"layer_norm_epsilon", "attention.layer_norm_rms_epsilon", MODEL_HF_F32},
    {"num_heads", "ssm.time_step_rank", MODEL_HF_U32},
    {"n_groups", "ssm.group_count", MODEL_HF_U32},
    {NULL, "attention.key_length", MODEL_HF_U32},
    {NULL, "attention.value_length", MODEL_HF_U32},
    {NULL, "feed_forward_length", MODEL_HF_U32},
};
static const struct model_hf_tensor names[] = {
    {"layers.%d.norm", "blk.%d.attn_norm", 0, NULL},
    MODEL_HF_ROWS_MAMBA("mixer"),
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    hp->n_rot = hp->n_rot_window = 0;
    return model_recurrent_check(hp, file);
}

const struct model_arch model_arch_mamba2 = {
    .name = "mamba2",
    .title = "Mamba 2",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_NONE,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .recurrent = model_mamba2,
    .shape = shape,
};
