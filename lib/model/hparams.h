/* The numbers that shape a model, read from its metadata. */
#ifndef MODEL_HPARAMS_H
#define MODEL_HPARAMS_H

#include "format/gguf.h"

/* How the scores of experts become weights. Values are those of expert_gating_func. */
enum { MODEL_GATING_SOFTMAX = 1, MODEL_GATING_SIGMOID = 2, MODEL_GATING_TOPK_SOFTMAX = 3 };

/* 0 means: the file and the architecture say nothing, the part is left out. */
struct model_hparams {
    int32_t n_vocab; /* rows of the embedding matrix, at least the tokens of the vocabulary */
    int32_t n_context, n_embd, n_layers;
    int32_t n_layers_mtp; /* trailing layers that predict further tokens: not run */
    int32_t n_heads, n_heads_kv, head_dim, head_dim_v, n_rot, n_ff;
    int32_t head_dim_window, head_dim_v_window, n_rot_window; /* of layers with a window */
    int32_t window, window_period; /* of each window_period layers, one sees all */
    int32_t nope_period;           /* of each nope_period layers, the last has no positions */
    int32_t n_kv_shared;           /* so many last layers read keys and values of earlier ones */
    int32_t n_input;               /* numbers of each token that a layer gets for itself */
    int32_t full_interval;         /* of each full_interval layers, the last is attention */
    int32_t qk_unit;               /* rotated queries and keys are normalised, without weights */
    int32_t act;                   /* MODEL_ACT_* */
    int32_t parallel;              /* attention and feed-forward read the same input */
    int32_t n_experts, n_experts_used, n_experts_shared, n_ff_exp, n_ff_shared;
    int32_t n_dense_lead; /* first layers without experts */
    int32_t moe_period;   /* every moe_period-th layer has experts */
    int32_t n_expert_groups, n_expert_groups_used;
    int32_t gating;             /* MODEL_GATING_* */
    int32_t expert_weights_sum; /* weights of the chosen experts are scaled to the sum 1 */
    int32_t q_lora, kv_lora, head_dim_mla, head_dim_v_mla;
    int32_t ssm_conv, ssm_inner, ssm_state, ssm_heads, ssm_groups;
    int32_t temperature_length; /* queries grow with each run of so many positions ... */
    int32_t temperature_offset; /* ... counted from this one */
    float norm_eps;
    float rope_base, rope_base_window;
    float attn_scale, attn_softcap, logit_softcap;
    float embd_scale, residual_scale, logit_scale, expert_scale, temperature_scale;
    float router_scale; /* of the router's logits */
    /* One value a layer where the file says so, else NULL; in the arena. */
    const int32_t *layer_heads, *layer_heads_kv, *layer_ff, *layer_window, *layer_recurrent;
};

struct model_arch;
struct base_arena;

/* Reads and checks every key that the file has, then fills what follows from others (head_dim
 * from n_embd / n_heads ...). Errors name the key. n_vocab is the caller's. */
infer_status model_hparams_read(struct model_hparams *out, struct base_arena *arena,
                                const struct model_arch *arch, const struct gguf_file *file,
                                int32_t n_vocab);

#endif
