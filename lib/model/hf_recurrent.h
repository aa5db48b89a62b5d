/* Tensors of recurrent layers in Hugging Face folders, as GGUF has them. */
#ifndef MODEL_HF_RECURRENT_H
#define MODEL_HF_RECURRENT_H

#include "model/hf.h"

/* model_hf_tensor.make of Mamba 2: one value a head becomes a column, the norm a row a group. */
infer_status model_hf_make_mamba(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *suffix);

/* clang-format off */
/* Rows of its tensors under `at` ("mamba" or "mixer"). */
#define MODEL_HF_ROWS_MAMBA(at)                                                                    \
    {"layers.%d." at ".in_proj", "blk.%d.ssm_in", 0, NULL},                                        \
    {"layers.%d." at ".conv1d", "blk.%d.ssm_conv1d", MODEL_HF_SQUEEZE, NULL},                      \
    {"layers.%d." at ".dt_bias", "blk.%d.ssm_dt.bias", 0, NULL},                                   \
    {"layers.%d." at ".A_log", NULL, 0, model_hf_make_mamba},                                      \
    {"layers.%d." at ".D", NULL, 0, model_hf_make_mamba},                                          \
    {"layers.%d." at ".norm", NULL, 0, model_hf_make_mamba},                                       \
    {"layers.%d." at ".out_proj", "blk.%d.ssm_out", 0, NULL}
/* clang-format on */

/* Sizes of delta networks: what the rows MODEL_HF_KEYS_DELTA leave. */
infer_status model_hf_delta_keys(struct model_hf *hf);

/* Their fused projection, which folders have key head by key head, as "attn_qkv" and
 * "attn_gate". */
infer_status model_hf_make_qkvz(struct model_hf *hf, const struct model_hf_value *value,
                                int32_t layer, const char *suffix);

/* Tensors of theirs in which value heads stand by key head, and stand in GGUF in turns: the first
 * of every key head, then the second of every key head. */
infer_status model_hf_make_tiled(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *suffix);

/* clang-format off */
#define MODEL_HF_KEYS_DELTA                                                                        \
    {"linear_key_head_dim", "ssm.state_size", MODEL_HF_U32},                                       \
    {"linear_num_key_heads", "ssm.group_count", MODEL_HF_U32},                                     \
    {"linear_num_value_heads", "ssm.time_step_rank", MODEL_HF_U32}
/* Norms around zero, all but that of the recurrent layers' result. */
#define MODEL_HF_ROWS_NORMS_PLUS_ONE                                                               \
    {"norm", "output_norm", MODEL_HF_PLUS_ONE, NULL},                                              \
    {"layers.%d.input_layernorm", "blk.%d.attn_norm", MODEL_HF_PLUS_ONE, NULL},                    \
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", MODEL_HF_PLUS_ONE, NULL}, \
    {"layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm", MODEL_HF_PLUS_ONE, NULL},                 \
    {"layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm", MODEL_HF_PLUS_ONE, NULL}
#define MODEL_HF_ROWS_TILED                                                                        \
    {"layers.%d.linear_attn.in_proj_qkv", NULL, 0, model_hf_make_tiled},                           \
    {"layers.%d.linear_attn.in_proj_z", NULL, 0, model_hf_make_tiled},                             \
    {"layers.%d.linear_attn.in_proj_b", NULL, 0, model_hf_make_tiled},                             \
    {"layers.%d.linear_attn.in_proj_a", NULL, 0, model_hf_make_tiled},                             \
    {"layers.%d.linear_attn.conv1d", NULL, 0, model_hf_make_tiled},                                \
    {"layers.%d.linear_attn.dt_bias", NULL, 0, model_hf_make_tiled},                               \
    {"layers.%d.linear_attn.A_log", NULL, 0, model_hf_make_tiled},                                 \
    {"layers.%d.linear_attn.norm", "blk.%d.ssm_norm", 0, NULL},                                    \
    {"layers.%d.linear_attn.out_proj", NULL, 0, model_hf_make_tiled}
/* clang-format on */

#endif
