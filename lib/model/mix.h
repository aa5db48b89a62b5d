/* Which element type each tensor of a quantised file gets. The mixes and their choices are those
 * that llama.cpp made customary, so that a name means the same file everywhere. */
#ifndef MODEL_MIX_H
#define MODEL_MIX_H

#include "format/gguf.h"

/* Where in a model a better type is used. */
enum model_mix_where {
    MODEL_MIX_NOWHERE,
    MODEL_MIX_ALL,
    MODEL_MIX_MORE,    /* the first and last eighth of the layers and every third between */
    MODEL_MIX_EIGHTH,  /* the first eighth */
    MODEL_MIX_16TH,    /* the first sixteenth */
    MODEL_MIX_FIRST_2, /* of those that have such a tensor */
    MODEL_MIX_FIRST_4,
    MODEL_MIX_GQA_4 /* four or more query heads share a key head */
};

struct model_mix_rule {
    enum model_mix_where where;
    infer_dtype type;
};

struct model_mix {
    const char *name;  /* "Q4_K_M" */
    int32_t file_type; /* general.file_type */
    infer_dtype type;  /* of what no rule concerns */
    /* The first rule that holds counts. */
    struct model_mix_rule value[2], down[2], attention_output;
    infer_dtype attention_output_8; /* of a mixture of eight experts; 0: as attention_output says */
    infer_dtype embedding;          /* 0: `type` */
    infer_dtype output;             /* 0: `type` */
    infer_dtype not_expert;         /* 0: no difference; else of all but experts */
};

/* Upper or lower case. UNSUPPORTED with the reason for types that only know what activations say,
 * INVALID with the list of names for others. */
infer_status model_mix_find(const struct model_mix **out, const char *name);

/* What the choice depends on beside the tensor's name. */
struct model_mix_model {
    int32_t n_layers, n_expert, n_gqa;
    int32_t n_value;     /* tensors of values, or fused with them */
    int32_t tied;        /* no output matrix of its own */
    int32_t *value_rank; /* n_layers: how many layers before have a tensor of values */
};

/* Reads it of a file; `value_rank` comes of the arena. */
infer_status model_mix_model_read(struct model_mix_model *out, struct base_arena *arena,
                                  const struct gguf_file *file);

/* The type of one tensor. `pure`: no rule but shapes and names. Tensors that no quantisation may
 * touch get F32 if they are floats and keep their type otherwise. */
infer_dtype model_mix_choose(const struct model_mix *mix, const struct model_mix_model *model,
                             const struct gguf_tensor *tensor, int pure);

/* Whether quantisation may touch the tensor: a matrix of weights, and none of the small ones. */
int model_mix_applies(const struct gguf_tensor *tensor);
int model_mix_is_output(const struct gguf_tensor *tensor);
int model_mix_is_embedding(const struct gguf_tensor *tensor);

/* `type`, or a type of smaller blocks where rows are not whole blocks of it. */
infer_dtype model_mix_fit(infer_dtype type, uint64_t row);

#endif
