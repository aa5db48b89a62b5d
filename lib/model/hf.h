/* Hugging Face folders as GGUF directories: config.json becomes "<architecture>.*" keys, the
 * tensors get their GGUF names. Tables drive it: rows that most models share stand in
 * hf_config.c and hf_names.c, an architecture adds or overrides rows of its own. */
#ifndef MODEL_HF_H
#define MODEL_HF_H

#include "base/str.h"
#include "format/hf_dir.h"

enum model_hf_type { MODEL_HF_U32, MODEL_HF_F32, MODEL_HF_BOOL, MODEL_HF_STRING };

/* A key of config.json and what it becomes. The first row whose `from` is there decides about a
 * `to`: rows of the architecture come before the shared ones. Arrays become arrays. */
struct model_hf_key {
    const char *from; /* "a.b" for nested objects; NULL: nothing shall become `to` */
    const char *to;   /* without the "<architecture>." prefix */
    enum model_hf_type type;
};

enum {
    MODEL_HF_PERMUTE_Q = 1,  /* rows of each head: rotated halves become pairs (query heads) */
    MODEL_HF_PERMUTE_K = 2,  /* the same for the heads of keys */
    MODEL_HF_PLUS_ONE = 4,   /* a weight that is stored as its distance from 1 */
    MODEL_HF_NEG_EXP = 8,    /* -exp(w) */
    MODEL_HF_TRANSPOSE = 16, /* the last two dimensions change places */
    MODEL_HF_SQUEEZE = 32    /* dimensions of 1 are dropped */
};

#define MODEL_HF_PLACE_MAX 128

struct model_hf;
struct model_hf_value;

/* A tensor's name. `from` lacks the prefixes that wrap a language model ("model.",
 * "language_model.", "transformer.") and either lacks ".weight" and ".bias", which are then
 * added to `to` as well, or is a whole name for which `to` is one, too. "%d" stands for the
 * layer; a second one in `from` alone for the expert: experts become one tensor. The first row
 * that fits counts, the architecture's before the shared ones. */
struct model_hf_tensor {
    const char *from;
    const char *to; /* NULL: the tensor is left out */
    uint32_t flags; /* MODEL_HF_* */
    /* Instead of `to`: adds what the tensor becomes (model_hf_add()); `layer` is -1 for none. */
    infer_status (*make)(struct model_hf *hf, const struct model_hf_value *value, int32_t layer,
                         const char *suffix);
};

struct model_hf_arch {
    const char *const *classes; /* "LlamaForCausalLM" ..., NULL at the end */
    const struct model_hf_key *keys;
    size_t n_keys;
    const struct model_hf_tensor *tensors;
    size_t n_tensors;
    /* What no row can say; NULL: nothing. `set_keys` runs before the shared rows, so that what it
     * sets stays; `finish` after all tensors. */
    infer_status (*set_keys)(struct model_hf *hf);
    infer_status (*finish)(struct model_hf *hf);
    int32_t yarn_multiplier; /* GGUF's readers look for rope.scaling.yarn_log_multiplier */
};

/* How a checkpoint is quantised, from "quantization_config" (hf_quant.c). */
enum model_hf_method {
    MODEL_HF_NOT_QUANTIZED,
    MODEL_HF_FP8,
    MODEL_HF_AWQ,
    MODEL_HF_GPTQ,
    MODEL_HF_COMPRESSED, /* compressed-tensors */
    MODEL_HF_MXFP4,
    MODEL_HF_MODELOPT /* NVIDIA's Model Optimizer: FP8, NVFP4 */
};

struct model_hf_quant {
    enum model_hf_method method;
    int32_t bits, zero_offset;      /* of whole-number weights */
    int64_t block_rows, block_cols; /* of 8-bit floats; 0: a scale a row or a tensor */
    int32_t keep_f8;                /* MODEL_HF_KEEP_F8 was asked for */
};

/* One translation. */
struct model_hf {
    struct base_alloc alloc;
    struct gguf_draft *draft;
    const struct hf_dir *dir;
    const struct base_json *config; /* the root of config.json */
    const struct base_json *text;   /* its language model: "text_config", or the root */
    const struct model_hf_arch *arch;
    const char *name; /* of the architecture in GGUF */
    int32_t n_layers, n_heads, n_heads_kv, head_dim;
    struct model_hf_quant quant;
    int32_t whole_rows; /* the tensor that is read next is added as it is: blocks are welcome */
};

/* A member of the language model's configuration, else of the root; NULL if absent or null. */
const struct base_json *model_hf_get(const struct model_hf *hf, const char *path);
int64_t model_hf_int(const struct model_hf *hf, const char *path, int64_t missing);
double model_hf_real(const struct model_hf *hf, const char *path, double missing);
/* A whole number from `min` to `max`, else FORMAT. *out stays where there is none, which is an
 * error if `min` is above 0, and where there is a list. */
infer_status model_hf_size(const struct model_hf *hf, const char *path, int64_t min, int64_t max,
                           int64_t *out);

/* Sets "<architecture>.<key>" unless it is set already. */
infer_status model_hf_set_u32(struct model_hf *hf, const char *key, uint32_t value);
infer_status model_hf_set_f32(struct model_hf *hf, const char *key, double value);
infer_status model_hf_set_bool(struct model_hf *hf, const char *key, int32_t value);
infer_status model_hf_set_string(struct model_hf *hf, const char *key, const char *value);
infer_status model_hf_set_i32s(struct model_hf *hf, const char *key, const int32_t *values,
                               size_t n);

/* A tensor on its way: quantised checkpoints are unpacked already. dims[0] is the contiguous one,
 * as in GGUF. */
struct model_hf_value {
    struct base_view name; /* in the folder */
    infer_dtype type;
    int32_t n_dims;
    uint64_t dims[GGUF_MAX_DIMS];
    const uint8_t *data;
    float scale; /* every element is to be multiplied by it; 0: none */
};

/* The tensor `name` of the folder, unpacked; NOT_FOUND. */
infer_status model_hf_value(struct model_hf *hf, struct base_view name, struct model_hf_value *out);
/* Adds the numbers that products of the n matrices of tensor `to` are multiplied by. */
infer_status model_hf_add_scales(struct model_hf *hf, const char *to, const float *scales,
                                 uint64_t n);
/* Applies flags and adds the result under `to` ("blk.3.attn_q.weight"), with its scale. */
infer_status model_hf_add(struct model_hf *hf, const char *to, const struct model_hf_value *value,
                          uint32_t flags);
/* Rows `begin` to `end` (of the dimension next to the contiguous one) of a tensor, without a copy;
 * elements of a vector. */
infer_status model_hf_rows(const struct model_hf_value *value, uint64_t begin, uint64_t end,
                           struct model_hf_value *out);
/* Every `step`-th row from `first` on, copied (gates and values of experts that take turns). Of a
 * tensor of three dimensions, of each matrix. */
infer_status model_hf_every(struct model_hf *hf, const struct model_hf_value *value, uint64_t first,
                            uint64_t step, struct model_hf_value *out);
/* All elements as F32, in memory that lives as long as the model. */
infer_status model_hf_floats(struct model_hf *hf, const struct model_hf_value *value, float **out);

/* Beside the flags of hf_dir_open(): matrices of E4M3 numbers whose scales hold for 128 neighbours
 * at least keep their codes, as F8_128; without it they become BF16, which CPUs multiply faster. */
#define MODEL_HF_KEEP_F8 (1u << 16)

/* Opens a folder as a GGUF directory; `dir_flags` as for hf_dir_open(). Errors begin with the
 * path. */
infer_status model_hf_open(struct gguf_file **out, const struct base_alloc *a, const char *path,
                           uint32_t dir_flags);
/* The same of a folder that is open: which parts of it are read, the flags say. The result takes
 * over its tensors; the caller closes it. */
infer_status model_hf_read(struct gguf_file **out, const struct base_alloc *a, struct hf_dir *dir,
                           uint32_t dir_flags);

/* hf_config.c, hf_rope.c, hf_generation.c, hf_tensors.c: the parts of it. */
infer_status model_hf_keys(struct model_hf *hf);
infer_status model_hf_rope(struct model_hf *hf);
infer_status model_hf_generation(struct model_hf *hf);
infer_status model_hf_tensors(struct model_hf *hf);
/* Where the matrix of a module goes ("model.layers.3.mlp.up_proj"; wrappers are taken off). */
struct model_hf_place {
    const struct model_hf_tensor *row;
    int32_t layer;               /* -1: none */
    int32_t expert;              /* -1: none */
    char to[MODEL_HF_PLACE_MAX]; /* "blk.3.ffn_up.weight"; "" where row->make decides */
};
/* 0 where no row names it. */
int model_hf_place(const struct model_hf_arch *arch, struct base_view module,
                   struct model_hf_place *out);
/* Rows that architectures share; *n of them. */
const struct model_hf_tensor *model_hf_shared_names(size_t *n);

/* hf_tokenizer.c: files of the tokenizer to tokenizer.* keys. */
infer_status model_hf_tokenizer(struct gguf_draft *d, const struct hf_dir *dir);

#endif
