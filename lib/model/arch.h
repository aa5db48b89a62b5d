/* An architecture is data: metadata keys, tensors, and which parts a layer is
 * made of. The forward pass reads this table; nothing anywhere switches on the
 * name of a model. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/hparams.h"

/* What a tensor is for. Roles from MODEL_LAYER_FIRST on exist once a layer. */
enum model_role {
    MODEL_TOKEN_EMBD,
    MODEL_OUTPUT_NORM,
    MODEL_OUTPUT,
    MODEL_ROPE_FREQS,
    MODEL_LAYER_FIRST,
    MODEL_ATTN_NORM = MODEL_LAYER_FIRST,
    MODEL_ATTN_Q,
    MODEL_ATTN_K,
    MODEL_ATTN_V,
    MODEL_ATTN_OUT,
    MODEL_ATTN_Q_BIAS,
    MODEL_ATTN_K_BIAS,
    MODEL_ATTN_V_BIAS,
    MODEL_ATTN_OUT_BIAS,
    MODEL_FFN_NORM,
    MODEL_FFN_GATE,
    MODEL_FFN_UP,
    MODEL_FFN_DOWN,
    MODEL_FFN_GATE_BIAS,
    MODEL_FFN_UP_BIAS,
    MODEL_FFN_DOWN_BIAS,
    MODEL_ROLES
};

/* Sizes that tensor shapes are written in. */
enum model_dim {
    MODEL_DIM_NONE, /* one-dimensional tensor */
    MODEL_DIM_VOCAB,
    MODEL_DIM_EMBD,
    MODEL_DIM_Q,  /* n_heads * head_dim */
    MODEL_DIM_KV, /* n_heads_kv * head_dim */
    MODEL_DIM_FF,
    MODEL_DIM_PAIRS /* n_rot / 2 */
};

enum {
    MODEL_OPTIONAL = 1, /* absent: the part is left out */
    MODEL_VECTOR = 2    /* converted to F32 at load */
};

struct model_tensor_row {
    enum model_role role;
    const char *name;    /* "%d" stands for the layer */
    enum model_dim k, n; /* inputs (contiguous) and outputs */
    uint32_t flags;
};

enum model_rope_kind { MODEL_ROPE_PAIRS, MODEL_ROPE_HALVES };

struct model_arch {
    const char *name; /* general.architecture */
    const struct model_hparam_row *hparams;
    size_t n_hparams;
    const struct model_tensor_row *tensors;
    size_t n_tensors;
    enum model_rope_kind rope;
};

const struct model_arch *model_arch_find(struct base_view name);
/* "llama, ..." for the sentence of an unknown architecture. */
const char *model_arch_names(void);

#endif
