/* Quantised checkpoints: which tensors belong together, and what they become. */
#ifndef MODEL_HF_QUANT_H
#define MODEL_HF_QUANT_H

#include "model/hf.h"

/* Reads "quantization_config"; UNSUPPORTED names a method that nothing here unpacks. */
infer_status model_hf_quant_read(struct model_hf *hf);

/* What a stored tensor is: *packed is 0 for a plain one, 1 for the main part of a packed one, -1
 * for its scales, zeros and the like. `plain` (512 bytes, or NULL) gets the name that a packed
 * one would have unpacked. */
infer_status model_hf_quant_find(struct model_hf *hf, struct base_view stored, int *packed,
                                 char *plain);
/* The main part of the packed tensor `plain`, or NULL. */
const struct safetensors_tensor *model_hf_quant_stored(const struct model_hf *hf,
                                                       struct base_view plain);
/* Unpacks: exactly into blocks of GGUF where the numbers fit them, else to F32 or BF16. */
infer_status model_hf_quant_value(struct model_hf *hf, const struct safetensors_tensor *t,
                                  struct model_hf_value *out);

/* hf_value.c: a tensor as it is, and changes in place of a value. */
infer_status model_hf_plain(struct model_hf *hf, const struct safetensors_tensor *t,
                            struct model_hf_value *out);
infer_status model_hf_change(struct model_hf *hf, struct model_hf_value *v, uint32_t flags);

#endif
