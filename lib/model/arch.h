/* An architecture is data: its tensors, and which parts a layer is made of. The forward pass
 * reads this table and the sizes of the file; nothing anywhere switches on the name of a model.
 * doc/models.md describes how to add one. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/hparams.h"
#include "model/roles.h"

#define MODEL_ROLE_NAME(role, name, k, n, flags) MODEL_##role,

/* What a tensor is for. Roles from MODEL_LAYER_FIRST on exist once a layer. */
enum model_role {
    MODEL_GLOBAL_ROLES(MODEL_ROLE_NAME) MODEL_LAYER_FIRST,
    MODEL_LAYER_FIRST_LESS_ONE = MODEL_LAYER_FIRST - 1,
    MODEL_LAYER_ROLES(MODEL_ROLE_NAME) MODEL_ROLES
};

/* Sizes that tensor shapes are written in; those of heads and feed-forward are a layer's own. */
enum model_dim {
    MODEL_DIM_NONE, /* one-dimensional tensor */
    MODEL_DIM_ANY,  /* as many as the tensor has: nothing else says */
    MODEL_DIM_VOCAB,
    MODEL_DIM_CONTEXT,
    MODEL_DIM_EMBD,
    MODEL_DIM_PAIRS,  /* n_rot / 2 */
    MODEL_DIM_HEADS,  /* query heads */
    MODEL_DIM_HEAD,   /* head_dim */
    MODEL_DIM_HEAD_V, /* head_dim_v */
    MODEL_DIM_Q,      /* n_heads * head_dim */
    MODEL_DIM_Q_GATE, /* the same, twice where queries carry a gate */
    MODEL_DIM_K,      /* n_heads_kv * head_dim */
    MODEL_DIM_V,      /* n_heads_kv * head_dim_v */
    MODEL_DIM_QKV,    /* their sum */
    MODEL_DIM_ATTN,   /* n_heads * head_dim_v */
    MODEL_DIM_FF,
    MODEL_DIM_FF_TWICE,
    MODEL_DIM_EXPERTS,
    MODEL_DIM_FF_EXP,
    MODEL_DIM_FF_EXP_TWICE,
    MODEL_DIM_FF_SHARED,
    MODEL_DIM_Q_LORA,
    MODEL_DIM_KV_LORA,
    MODEL_DIM_LATENT,       /* kv_lora + n_rot: what latent attention keeps of a token */
    MODEL_DIM_NOPE,         /* head_dim - n_rot */
    MODEL_DIM_SSM_WIDTH,    /* of the convolution */
    MODEL_DIM_SSM_INNER,    /* heads * their values */
    MODEL_DIM_SSM_CHANNELS, /* inner and two vectors of state_size a group */
    MODEL_DIM_SSM_IN,       /* channels, inner, heads */
    MODEL_DIM_SSM_HEADS,
    MODEL_DIM_SSM_HEADS_TWICE,
    MODEL_DIM_SSM_HEAD, /* inner / heads */
    MODEL_DIM_SSM_GROUPS,
    MODEL_DIM_SSM_GROUP,  /* inner / groups */
    MODEL_DIM_DELTA_QKVZ, /* channels, inner */
    MODEL_DIM_INPUT,      /* what a layer gets of each token for itself */
    MODEL_DIM_INPUTS,     /* that of all layers */
    MODEL_DIMS
};

enum {
    MODEL_OPTIONAL = 1,   /* absent: the part is left out */
    MODEL_VECTOR = 2,     /* converted to F32 at load */
    MODEL_HEADWISE = 4,   /* k alone, k of each head, or n at once (norms of queries and keys) */
    MODEL_PER_EXPERT = 8, /* a matrix an expert */
    MODEL_PER_HEAD = 16,  /* a matrix a query head */
    MODEL_NOT_FIRST = 32  /* the first layer may lack it */
};

/* A tensor that the architecture has; its shape is the role's. */
struct model_tensor_row {
    enum model_role role;
    uint32_t flags; /* MODEL_OPTIONAL, MODEL_NOT_FIRST or 0 */
};

/* Runs of rows that most tables share. */
/* clang-format off */
#define MODEL_ROWS_ENDS                                                                            \
    {MODEL_TOKEN_EMBD, 0}, {MODEL_OUTPUT_NORM, 0}, {MODEL_OUTPUT, MODEL_OPTIONAL}
#define MODEL_ROWS_QKV                                                                             \
    {MODEL_ATTN_Q, 0}, {MODEL_ATTN_K, 0}, {MODEL_ATTN_V, 0}, {MODEL_ATTN_OUT, 0}
#define MODEL_ROWS_QKV_BIAS                                                                        \
    {MODEL_ATTN_Q_BIAS, 0}, {MODEL_ATTN_K_BIAS, 0}, {MODEL_ATTN_V_BIAS, 0}
#define MODEL_ROWS_SEQUENCE_HEAD                                                                   \
    {MODEL_CLS, MODEL_OPTIONAL}, {MODEL_CLS_BIAS, MODEL_OPTIONAL}, {MODEL_CLS_OUT, MODEL_OPTIONAL},\
    {MODEL_CLS_OUT_BIAS, MODEL_OPTIONAL}
#define MODEL_ROWS_QK_NORM {MODEL_ATTN_Q_NORM, 0}, {MODEL_ATTN_K_NORM, 0}
#define MODEL_ROWS_GATED_FFN {MODEL_FFN_GATE, 0}, {MODEL_FFN_UP, 0}, {MODEL_FFN_DOWN, 0}
#define MODEL_ROWS_LAYER_INPUT                                                                     \
    {MODEL_INPUT_EMBD, 0}, {MODEL_INPUT_PROJ, 0}, {MODEL_INPUT_NORM, 0}, {MODEL_LAYER_GATE, 0},    \
        {MODEL_LAYER_PROJ, 0}, {MODEL_LAYER_NORM, 0}
#define MODEL_ROWS_EXPERTS                                                                         \
    {MODEL_ROUTER, 0}, {MODEL_EXPERT_GATE, 0}, {MODEL_EXPERT_UP, 0}, {MODEL_EXPERT_DOWN, 0}
#define MODEL_ROWS_MAMBA2                                                                          \
    {MODEL_SSM_IN, 0}, {MODEL_SSM_CONV, 0}, {MODEL_SSM_CONV_BIAS, MODEL_OPTIONAL},                 \
    {MODEL_SSM_DT_BIAS, 0}, {MODEL_SSM_A, 0}, {MODEL_SSM_D, 0},                                    \
    {MODEL_SSM_NORM, MODEL_OPTIONAL}, {MODEL_SSM_OUT, 0}
#define MODEL_ROWS_DELTA                                                                           \
    {MODEL_SSM_CONV, 0}, {MODEL_SSM_DT_BIAS, 0}, {MODEL_DELTA_A, 0}, {MODEL_DELTA_NORM, 0},        \
    {MODEL_SSM_OUT, 0}
/* clang-format on */

enum model_rope_kind { MODEL_ROPE_PAIRS, MODEL_ROPE_HALVES, MODEL_ROPE_NONE };
enum model_norm_kind { MODEL_NORM_RMS, MODEL_NORM_LAYER };
enum model_act {
    MODEL_ACT_SILU,
    MODEL_ACT_GELU,
    MODEL_ACT_GELU_TANH,
    MODEL_ACT_RELU,
    MODEL_ACT_RELU2,
    MODEL_ACT_SWIGLU_OAI
};

enum model_head_act { MODEL_HEAD_TANH, MODEL_HEAD_GELU };

enum {
    MODEL_PARALLEL = 1 << 0,        /* attention and feed-forward read the same input */
    MODEL_NOPE_FULL = 1 << 1,       /* layers without a window have no positions */
    MODEL_NORM_AFTER_ROPE = 1 << 2, /* queries and keys are normalised after the rotation */
    MODEL_EMBD_SQRT = 1 << 4,       /* embeddings are scaled by sqrt(n_embd) */
    MODEL_LOGIT_DIVIDE = 1 << 5,    /* logit_scale divides */
    MODEL_WINDOW_CHUNKS = 1 << 6,   /* the window is the chunk that the position lies in */
    MODEL_WEIGHT_INPUT = 1 << 7,    /* experts: the weight multiplies the input */
    MODEL_QUERY_GATE = 1 << 8,      /* each query head is followed by a gate of its output */
    MODEL_WINDOW_ROPE = 1 << 9,     /* rotary scaling is for layers without a window only */
    MODEL_FULL_FIRST = 1 << 10,     /* of window_period layers the first sees all, not the last */
    MODEL_YARN_EXACT = 1 << 11,     /* YaRN's ramp need not begin and end at whole pairs */
    MODEL_VALUE_NORM = 1 << 12,     /* values are normalised, without weights */
    MODEL_EXPERTS_BESIDE = 1 << 13, /* experts add to the dense feed-forward of their layer */
    /* Every token sees all others of its text, or those of a window around it; the result is a
     * vector a token: no KV cache, no logits (encode.h). */
    MODEL_ENCODER = 1 << 14,
    MODEL_ALIBI = 1 << 15 /* encoders: scores fall with the distance (arXiv:2108.12409) */
};

struct model_hf_arch;
struct model_batch;
struct model_layer;
struct model_workspace;

struct model_arch {
    const char *name;               /* general.architecture */
    const char *title;              /* the models, for people */
    const struct model_hf_arch *hf; /* how Hugging Face folders name things; NULL: GGUF alone */
    const struct model_tensor_row *tensors;
    size_t n_tensors;
    enum model_rope_kind rope;
    enum model_norm_kind norm;
    enum model_act act;
    enum model_head_act head_act; /* between the matrices of a head for sequences */
    uint32_t traits;              /* MODEL_PARALLEL ... */
    /* Mixer of recurrent layers (layer.h, model_mix_fn); NULL: all layers are attention. */
    void (*recurrent)(struct model_workspace *ws, const struct model_batch *batch,
                      const struct model_layer *layer);
    struct model_hparams defaults; /* of keys that a file may lack; 0: the common default */
    /* What no row can say, after the keys were read; NULL: nothing. */
    infer_status (*shape)(struct model_hparams *hp, const struct gguf_file *file);
};

const struct model_arch *model_arch_find(struct base_view name);
const struct model_arch *model_arch_at(size_t i); /* NULL past the last */
/* "llama, ..." for the sentence of an unknown architecture. */
const char *model_arch_names(void);

#endif
