/* Low-rank adapters (LoRA; Hu et al., arXiv:2106.09685): y = W x + scale * B (A x) for some of a
 * model's matrices. The handle behind infer_adapter: immutable, shared, for one loaded model. */
#ifndef MODEL_LORA_H
#define MODEL_LORA_H

#include "model/model.h"

/* Ranks beyond this are no low ranks; memory of a step is planned by them. */
#define MODEL_LORA_RANK_MAX 4096

/* Targets of a layer are bits in the order of lora.c; the head's is this. */
#define MODEL_LORA_HEAD (UINT32_C(1) << 31)

/* Of one matrix of the model. A pair that a file gives for a fused matrix stands here once for
 * each part: the parts share A. */
struct model_lora_pair {
    struct model_weight a, b; /* a: inputs to rank, b: rank to outputs; data NULL: none */
    float scale;
};

struct infer_adapter {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    struct infer_model *model; /* a reference */
    struct base_arena arena;
    struct base_arena matrices; /* copied out of the file; empty on a GPU */
    struct device_buffer card;  /* on a GPU: a table of the pairs and their matrices */
    struct model_lora_pair *pairs;
    int32_t n_pairs;       /* places for them: see model_lora_find() */
    int32_t n_matrices;    /* pairs that the file had */
    int32_t max_rank;      /* of all of them */
    uint32_t targets;      /* kinds of matrices that it adds to */
    uint64_t n_parameters; /* elements of A and B */
    uint64_t digest;       /* of all that changes results: equal adapters have equal ones */
    const char *path, *name;
};

struct model_lora_config {
    const struct base_alloc *alloc;
    uint64_t max_bytes; /* 0: what the file needs */
};

/* `path` is a folder of PEFT's (adapter_config.json, adapter_model.safetensors) or a GGUF file of
 * llama.cpp's convert_lora_to_gguf. Nothing stays open. Errors begin with the path and name the
 * tensor or key: NOT_FOUND, FORMAT (damaged, or made for another model), UNSUPPORTED (what is
 * more than a low-rank addition, and matrices that take none), LIMIT, IO, NO_MEMORY. */
infer_status model_lora_load(struct infer_adapter **out, struct infer_model *model,
                             const char *path, const struct model_lora_config *config);
struct infer_adapter *model_lora_retain(struct infer_adapter *adapter);
void model_lora_release(struct infer_adapter **adapter); /* NULL-safe, sets NULL */

/* Keys and values depend on tokens and on this: who shares them must have the same one. Not 0. */
uint64_t model_lora_key(const struct infer_adapter *adapter, float scale);

/* What the adapter adds to a product with this matrix of its model, or NULL. */
const struct model_lora_pair *model_lora_find(const struct infer_adapter *adapter,
                                              const struct model_weight *w);

/* The bit of a weight among targets, 0: none can have a pair; and where its pair is. */
uint32_t model_lora_target(int32_t n_layers, int32_t layer, enum model_role role, int32_t *place);

/* ------------------------------------------------------------- in a step */

struct stage_product;
struct model_lora_item;

/* Of a workspace: the rows of the step and their adapters, and memory for A x. */
struct model_lora_scratch {
    const struct model_batch_run *runs; /* of the rows that products work on now */
    int32_t n_runs;                     /* 0: no row has an adapter */
    const float *scales;                /* of each of these rows */
    const struct model_batch *batch;
    struct model_batch_run *head_runs; /* the same of rows that were picked for the head */
    float *head_scales;
    int32_t max_runs, max_outputs;
    float *t;                            /* A x: rows of a rank */
    struct model_lora_item *down, *up;   /* products of the stage that runs */
    int32_t n_items, n_down, down_width; /* of `up`, of `down`; columns of `down` */
    int32_t up_width;
};

/* Bytes for steps of that many rows under that many runs, with ranks up to `rank`. With memory of
 * that size (aligned to BASE_CACHE_LINE) also takes the arrays from it. */
size_t model_lora_scratch_init(struct model_lora_scratch *s, int32_t max_rows, int32_t max_outputs,
                               int32_t max_runs, int32_t rank, void *memory);

/* The rows of the products that follow are those of the batch, or rows of the batch picked in
 * order. */
void model_lora_begin(struct model_lora_scratch *s, const struct model_batch *batch);
void model_lora_pick(struct model_lora_scratch *s, const int32_t *rows, int32_t n);

/* Plans what adapters add to products over rows of x. Returns the columns of the products with A
 * (0: nothing to add), which model_lora_down() computes in ranges beside the products
 * themselves; model_lora_up() adds afterwards, over s->up_width columns. Ranges are of whole
 * MODEL_LORA_GRAIN. */
#define MODEL_LORA_GRAIN 16
int32_t model_lora_plan(struct model_lora_scratch *s, const struct infer_kernels *kernels,
                        const struct stage_product *products, int32_t n_products, const float *x);
void model_lora_down(const struct model_lora_scratch *s, int32_t begin, int32_t end);
void model_lora_up(const struct model_lora_scratch *s, int32_t begin, int32_t end);

#endif
