/* Unpacking of quantised checkpoints (hf_quant.h), by kind of number. */
#ifndef MODEL_HF_UNPACK_H
#define MODEL_HF_UNPACK_H

#include "model/hf_quant.h"

/* The tensor whose name has `part` in place of the `ending` of `stored`, or NULL. */
const struct safetensors_tensor *model_hf_part(const struct model_hf *hf, struct base_view stored,
                                               const char *ending, const char *part);

/* Whole numbers with scales for groups of inputs: to Q4_0 or Q8_0, whose blocks hold the same
 * numbers, or to F16 where the order of inputs or a range does not fit them. */
infer_status model_hf_unpack_int(struct model_hf *hf, const struct safetensors_tensor *t,
                                 struct model_hf_value *out);
/* 8-bit floats with scales for blocks, rows or all: to BF16, or to F8_128, whose blocks hold the
 * same codes and scales, where that is asked for and fits. */
infer_status model_hf_unpack_fp8(struct model_hf *hf, const struct safetensors_tensor *t,
                                 struct model_hf_value *out);
/* 4-bit floats with 8-bit exponents: to MXFP4, whose blocks hold the same bits. */
infer_status model_hf_unpack_mxfp4(struct model_hf *hf, const struct safetensors_tensor *t,
                                   struct model_hf_value *out);
/* Matrices of bytes with two 4-bit floats each, and scales: to MXFP4 or NVFP4, the same bits. */
infer_status model_hf_unpack_fp4(struct model_hf *hf, const struct safetensors_tensor *t,
                                 struct model_hf_value *out);

#endif
