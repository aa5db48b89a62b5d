/* What a model is and takes, found out quickly: no tokenizer is made, no weight is read. */
#ifndef MODEL_SURVEY_H
#define MODEL_SURVEY_H

#include "model/model.h"

struct model_survey {
    const char *architecture, *weight_type; /* static */
    uint64_t n_parameters;                  /* about, in quantised folders */
    uint64_t weight_bytes;                  /* in the files */
    uint64_t private_bytes;                 /* about */
    uint64_t kv_token_bytes;                /* in the KV cache's default type */
    /* Sizes and layers for whoever plans memory; it has no vocabulary and no weights, and is
     * released with model_release(). */
    struct infer_model *model;
};

/* Errors as of model_load(), as far as they show without weights; UNSUPPORTED for a vocabulary
 * alone. */
infer_status model_survey(struct model_survey *out, const char *path,
                          const struct model_load_config *config);

#endif
