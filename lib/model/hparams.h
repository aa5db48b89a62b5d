/* The numbers that shape a model, read from its metadata by a table. */
#ifndef MODEL_HPARAMS_H
#define MODEL_HPARAMS_H

#include "format/gguf.h"

struct model_hparams {
    int32_t n_vocab; /* tokens of the vocabulary */
    int32_t n_context, n_embd, n_layers, n_heads, n_heads_kv, head_dim, n_rot, n_ff;
    int32_t n_experts;
    float rms_eps;
    float rope_base;
};

/* One metadata key of an architecture. `key` lacks the "<architecture>." prefix. */
struct model_hparam_row {
    const char *key;
    size_t offset; /* in struct model_hparams: int32_t, or float where is_float */
    int32_t is_float;
    int32_t required;
    double min, max; /* inclusive */
};

struct model_arch;

/* Reads and checks all rows, then fills what follows from others (head_dim from
 * n_embd / n_heads ...). Errors name the key. n_vocab is the caller's. */
infer_status model_hparams_read(struct model_hparams *out, const struct model_arch *arch,
                                const struct gguf_file *file, int32_t n_vocab);

#endif
