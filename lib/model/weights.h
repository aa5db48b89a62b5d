/* The tensors of a model, found in its files and checked against its shape. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "device/device.h"
#include "model/arch.h"

struct model_weight {
    const void *data; /* NULL: the model has none */
    size_t row_bytes;
    infer_dtype type;
    int32_t k, n; /* inputs (contiguous) and outputs */
};

struct model_layer {
    struct model_weight w[MODEL_ROLES - MODEL_LAYER_FIRST];
};

struct model_weights {
    struct model_weight global[MODEL_LAYER_FIRST];
    struct model_layer *layers; /* n_layers, in the arena */
    uint64_t n_parameters, bytes;
    infer_dtype main_type; /* of most bytes */
};

/* A layer's tensor by role. */
static inline const struct model_weight *model_layer_weight(const struct model_layer *layer,
                                                            enum model_role role)
{
    return &layer->w[role - MODEL_LAYER_FIRST];
}

/* Binds every row of the architecture's table. Matrices stay in the mapped file,
 * vectors become F32 in the arena. Errors name the tensor: FORMAT for a missing
 * one or a wrong shape, UNSUPPORTED where the device has no kernel for a type. */
infer_status model_weights_bind(struct model_weights *out, struct base_arena *arena,
                                const struct model_arch *arch, const struct model_hparams *hp,
                                const struct gguf_file *file, const struct infer_kernels *kernels);

#endif
