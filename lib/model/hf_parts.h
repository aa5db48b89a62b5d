/* Tensors of Hugging Face folders that are cut or turned differently from GGUF's: what several
 * architectures need of it. */
#ifndef MODEL_HF_PARTS_H
#define MODEL_HF_PARTS_H

#include "model/hf.h"

/* A model_hf_tensor.make: queries, keys and values fused by KV head (the group's query heads,
 * its key head, its value head, then the next group) become "blk.N.attn_qkv": all queries, all
 * keys, all values. */
infer_status model_hf_make_qkv(struct model_hf *hf, const struct model_hf_value *value,
                               int32_t layer, const char *suffix);

/* The rows of such a matrix in that order; in memory of the model. */
infer_status model_hf_part_qkv(struct model_hf *hf, const struct model_hf_value *value,
                               struct model_hf_value *out);

/* Every `step`-th column from `first` on, n of them, of each matrix of `value`; turned into rows
 * with `turn`. Added as `to`. */
struct model_hf_columns {
    uint64_t first, step, n;
    int32_t turn;
};
infer_status model_hf_add_columns(struct model_hf *hf, const char *to,
                                  const struct model_hf_value *value,
                                  const struct model_hf_columns *columns);

/* Rows begin .. end - 1 of each matrix of a three-dimensional tensor, without a copy. */
infer_status model_hf_add_rows(struct model_hf *hf, const char *to,
                               const struct model_hf_value *value, uint64_t begin, uint64_t end);

/* The same rows, each matrix turned; in memory of the model. */
infer_status model_hf_add_turned_rows(struct model_hf *hf, const char *to,
                                      const struct model_hf_value *value, uint64_t begin,
                                      uint64_t end);

/* A model_hf_tensor.make: gates and ups of all experts in one tensor, the gates first. */
infer_status model_hf_make_gate_up_exps(struct model_hf *hf, const struct model_hf_value *value,
                                        int32_t layer, const char *suffix);

/* The same of one matrix, under the two names of the layer. */
infer_status model_hf_add_halves(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *first, const char *second);

/* The first of config.json's "architectures", or an empty view. */
struct base_view model_hf_class(const struct model_hf *hf);

/* A number of config.json that a layer may have for itself ("per_layer_config"). */
int64_t model_hf_layer_int(const struct model_hf *hf, int32_t layer, const char *key,
                           int64_t missing);

/* Whether "layer_types" says that the layer is of that type. */
int model_hf_layer_is(const struct model_hf *hf, int32_t layer, const char *type);

/* "blk.<layer>.<part>" in `out` of GGUF_NAME_MAX + 1. */
const char *model_hf_block(char *out, int32_t layer, const char *part);

/* A folder's name of a layer's tensor, "model.layers.<layer>.<part>", and its value. NOT_FOUND is
 * silent. */
infer_status model_hf_layer_value(struct model_hf *hf, int32_t layer, const char *part,
                                  struct model_hf_value *out);

#endif
