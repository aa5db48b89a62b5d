/* What a model's files say of making one vector of a text. */
#ifndef MODEL_POOLING_H
#define MODEL_POOLING_H

#include "format/gguf.h"

enum model_pooling_kind {
    MODEL_POOLING_NONE, /* the files name none */
    MODEL_POOLING_MEAN,
    MODEL_POOLING_CLS,
    MODEL_POOLING_LAST,
    MODEL_POOLING_MAX
};

/* Of a Sentence Transformers folder (modules.json, 1_Pooling, prompts) or of GGUF's keys; in
 * infer_model.pooling. */
struct model_pooling {
    enum model_pooling_kind kind;
    enum model_pooling_kind head; /* what a head for sequences reads: CLS or MEAN */
    int32_t normalize;
    int32_t include_prompt;                     /* the prompt's tokens take part in the mean */
    int32_t max_tokens;                         /* of a text, special ones too; 0: the context */
    const char *query_prompt, *document_prompt; /* "" where there is none; in the model's arena */
    const char *question; /* of a decoder that reranks: the template named "rerank", or "" */
};

struct base_arena;

/* Reads "<arch_name>.pooling_type" and the keys "infer.embedding.*" (doc/models.md). FORMAT errors
 * name the key. */
infer_status model_pooling_read(struct model_pooling *out, struct base_arena *arena,
                                const char *arch_name, const struct gguf_file *file);

#endif
