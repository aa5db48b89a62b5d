/* The tensors of a model, found in its files and checked against its shape. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "device/device.h"
#include "model/layer.h"

struct model_weights {
    struct model_weight global[MODEL_LAYER_FIRST];
    struct model_layer *layers; /* n_layers, in the arena */
    uint64_t n_parameters, bytes;
    infer_dtype main_type; /* of most bytes */
};

/* Binds every row of the architecture's table to `layers`, which are planned already
 * (layer.h). Matrices stay in the mapped file, vectors become F32 in the arena, fused
 * matrices appear as their parts. Errors name the tensor: FORMAT for a missing one or a wrong
 * shape, UNSUPPORTED where the device has no kernel for a type. */
infer_status model_weights_bind(struct model_weights *out, struct base_arena *arena,
                                const struct model_arch *arch, const struct model_hparams *hp,
                                struct model_layer *layers, const struct gguf_file *file,
                                const struct infer_kernels *kernels);

#endif
