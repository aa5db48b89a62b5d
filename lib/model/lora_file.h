/* Reading of adapter files: both forms hand pairs to one place that checks and keeps them. */
#ifndef MODEL_LORA_FILE_H
#define MODEL_LORA_FILE_H

#include "model/hf.h"
#include "model/lora.h"
#include "text/regex.h"

/* A pair as it lies in a file. `target` is the GGUF name of the matrix ("blk.3.attn_q.weight"). */
struct model_lora_source {
    const char *target;
    struct model_hf_value a, b; /* dims: inputs and rank; rank and outputs */
    double scale;
};

struct model_lora_loader {
    struct infer_adapter *adapter;
    uint64_t max_bytes;
};

/* Finds the place, compares the shapes, copies. Errors name the tensor. */
infer_status model_lora_add(struct model_lora_loader *l, const struct model_lora_source *source);

infer_status model_lora_read_peft(struct model_lora_loader *l, const char *path);
infer_status model_lora_read_gguf(struct model_lora_loader *l, const char *path);

/* adapter_config.json. */
struct model_lora_settings {
    struct base_arena arena;
    double alpha;
    int64_t rank;
    int32_t rslora;
    struct model_lora_pattern *ranks, *alphas; /* of modules whose names match; the first counts */
    size_t n_ranks, n_alphas, n_regexes;
    struct text_matcher matcher;
};

/* Refuses by name whatever makes an adapter more than A and B. FORMAT, UNSUPPORTED, LIMIT,
 * NO_MEMORY; release the settings in any case. */
infer_status model_lora_settings_read(struct model_lora_settings *s, const struct base_alloc *a,
                                      const char *text, size_t size);
void model_lora_settings_release(struct model_lora_settings *s);
/* What the settings say of one module ("model.layers.0.self_attn.q_proj"). */
infer_status model_lora_settings_of(struct model_lora_settings *s, struct base_view module,
                                    int64_t *rank, double *scale);

#endif
