/* A model on an NVIDIA GPU: its weights in the memory of the card, and steps over them. The walk
 * over the layers is that of forward.c in fewer and larger pieces: kernels there are fused, work is
 * launched and not waited for, and a step of one row a sequence is replayed from a graph. */
#ifndef MODEL_GPU_GPU_H
#define MODEL_GPU_GPU_H

#include "device/cuda_device.h"
#include "kernels/cuda/cuda_kernels.h"
#include "model/model.h"

struct gpu_weight {
    struct kern_cuda_matrix matrix; /* the first of n_matrices; body NULL: none */
    const float *vector;            /* or NULL */
    const float *scales;            /* of each matrix, on the card, or NULL */
    float scale;                    /* of a single matrix, 1 without */
    int32_t n_matrices;
};

struct model_gpu {
    struct infer_device *device; /* not a reference */
    struct base_alloc alloc;
    struct device_buffer memory;
    struct gpu_weight global[MODEL_LAYER_FIRST];
    struct gpu_weight (*layers)[MODEL_ROLES - MODEL_LAYER_FIRST];
    const double *frequency[MODEL_ROPES], *far[MODEL_ROPES];
};

/* Weights that a model has are copied to the card. */
struct model_gpu_config {
    const struct infer_model *model;
    const struct model_weights *weights; /* of the host, not necessarily the model's own yet */
    const struct gguf_file *file;        /* whose pages are let go behind the copy */
    /* Called between matrices with 0 to 1; another status than INFER_OK ends the copying with it.
     */
    infer_status (*report)(void *arg, double fraction);
    void *report_arg;
};

/* UNSUPPORTED names what the card has no kernel for. */
infer_status model_gpu_create(struct model_gpu **out, const struct model_gpu_config *config);
void model_gpu_destroy(struct model_gpu **gpu); /* NULL-safe, sets NULL */

/* ------------------------------------------------------------------- steps */

struct model_workspace;
struct model_gpu_run;

struct model_gpu_run_config {
    int32_t max_rows, max_outputs, max_seqs;
    int32_t max_tokens; /* of a sequence */
    int32_t invariant;  /* logits do not depend on what else is in a step */
};

/* Memory on the card and pinned memory of the host for steps of one session. */
infer_status model_gpu_run_create(struct model_gpu_run **out, const struct infer_model *model,
                                  const struct model_gpu_run_config *config);
void model_gpu_run_destroy(struct model_gpu_run **run); /* NULL-safe, sets NULL */
size_t model_gpu_run_bytes(const struct infer_model *model,
                           const struct model_gpu_run_config *config);

size_t model_gpu_run_held(const struct model_gpu_run *run);

/* As model_forward() and model_head(); forward launches and does not wait. */
infer_status model_gpu_forward(struct model_gpu_run *run, const struct model_batch *batch);
struct model_gpu_answer {
    float **logits;
    const int32_t **best; /* NULL where there are logits */
};
infer_status model_gpu_head(struct model_gpu_run *run, const int32_t *rows, int32_t n,
                            int best_will_do, const struct model_gpu_answer *out);
/* As model_step() and model_chosen(). */
uint64_t model_gpu_step(const struct model_gpu_run *run);
infer_status model_gpu_chosen(struct model_gpu_run *run, uint64_t step, const int32_t **chosen);
infer_status model_gpu_wait(struct model_gpu_run *run);

/* ---------------------------------------------------------------- adapters */

struct infer_adapter;

/* Copies an adapter's matrices to the card, into a->card. */
infer_status model_gpu_lora_upload(struct infer_adapter *a);

/* Memory on the card for what lies between the products of adapters of ranks up to `rank`. Steps
 * with adapters are legal once they have been given it. */
size_t model_gpu_lora_bytes(const struct model_gpu_run *run, int32_t rank);
void model_gpu_lora_use(struct model_gpu_run *run, void *memory);

#endif
