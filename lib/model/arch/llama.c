/* Llama 1, 2, 3 and what shares their shape: RMS norm, rotary positions over
 * pairs, grouped-query attention, SwiGLU (Touvron et al., arXiv:2302.13971,
 * arXiv:2307.09288; Llama 3, arXiv:2407.21783). */
#include "model/arch.h"

#define INT(key, field, required, min, max)                                                        \
    {                                                                                              \
        key, offsetof(struct model_hparams, field), 0, required, min, max                          \
    }
#define FLOAT(key, field, required, min, max)                                                      \
    {                                                                                              \
        key, offsetof(struct model_hparams, field), 1, required, min, max                          \
    }

static const struct model_hparam_row hparams[] = {
    INT("block_count", n_layers, 1, 1, 1024),
    INT("context_length", n_context, 1, 1, 1 << 28),
    INT("embedding_length", n_embd, 1, 1, 1 << 20),
    INT("feed_forward_length", n_ff, 1, 1, 1 << 22),
    INT("attention.head_count", n_heads, 1, 1, 4096),
    INT("attention.head_count_kv", n_heads_kv, 0, 1, 4096),
    INT("attention.key_length", head_dim, 0, 2, 512),
    INT("rope.dimension_count", n_rot, 0, 2, 512),
    INT("expert_count", n_experts, 0, 0, 1 << 16),
    FLOAT("attention.layer_norm_rms_epsilon", rms_eps, 1, 0, 1),
    FLOAT("rope.freq_base", rope_base, 0, 1, 1e12),
};

static const struct model_tensor_row tensors[] = {
    {MODEL_TOKEN_EMBD, "token_embd.weight", MODEL_DIM_EMBD, MODEL_DIM_VOCAB, 0},
    {MODEL_OUTPUT_NORM, "output_norm.weight", MODEL_DIM_EMBD, MODEL_DIM_NONE, MODEL_VECTOR},
    {MODEL_OUTPUT, "output.weight", MODEL_DIM_EMBD, MODEL_DIM_VOCAB, MODEL_OPTIONAL},
    {MODEL_ROPE_FREQS, "rope_freqs.weight", MODEL_DIM_PAIRS, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_ATTN_NORM, "blk.%d.attn_norm.weight", MODEL_DIM_EMBD, MODEL_DIM_NONE, MODEL_VECTOR},
    {MODEL_ATTN_Q, "blk.%d.attn_q.weight", MODEL_DIM_EMBD, MODEL_DIM_Q, 0},
    {MODEL_ATTN_K, "blk.%d.attn_k.weight", MODEL_DIM_EMBD, MODEL_DIM_KV, 0},
    {MODEL_ATTN_V, "blk.%d.attn_v.weight", MODEL_DIM_EMBD, MODEL_DIM_KV, 0},
    {MODEL_ATTN_OUT, "blk.%d.attn_output.weight", MODEL_DIM_Q, MODEL_DIM_EMBD, 0},
    {MODEL_ATTN_Q_BIAS, "blk.%d.attn_q.bias", MODEL_DIM_Q, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_ATTN_K_BIAS, "blk.%d.attn_k.bias", MODEL_DIM_KV, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_ATTN_V_BIAS, "blk.%d.attn_v.bias", MODEL_DIM_KV, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_ATTN_OUT_BIAS, "blk.%d.attn_output.bias", MODEL_DIM_EMBD, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_FFN_NORM, "blk.%d.ffn_norm.weight", MODEL_DIM_EMBD, MODEL_DIM_NONE, MODEL_VECTOR},
    {MODEL_FFN_GATE, "blk.%d.ffn_gate.weight", MODEL_DIM_EMBD, MODEL_DIM_FF, 0},
    {MODEL_FFN_UP, "blk.%d.ffn_up.weight", MODEL_DIM_EMBD, MODEL_DIM_FF, 0},
    {MODEL_FFN_DOWN, "blk.%d.ffn_down.weight", MODEL_DIM_FF, MODEL_DIM_EMBD, 0},
    {MODEL_FFN_GATE_BIAS, "blk.%d.ffn_gate.bias", MODEL_DIM_FF, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_FFN_UP_BIAS, "blk.%d.ffn_up.bias", MODEL_DIM_FF, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
    {MODEL_FFN_DOWN_BIAS, "blk.%d.ffn_down.bias", MODEL_DIM_EMBD, MODEL_DIM_NONE,
     MODEL_OPTIONAL | MODEL_VECTOR},
};

const struct model_arch model_arch_llama = {
    .name = "llama",
    .hparams = hparams,
    .n_hparams = BASE_COUNT(hparams),
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
};
