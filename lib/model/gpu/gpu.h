/* A model on an NVIDIA GPU: its weights in the memory of the card, and steps over them. The walk
 * over the layers is that of forward.c in fewer and larger pieces: kernels there are fused, work is
 * launched and not waited for, and a step of one row a sequence is replayed from a graph. */
#ifndef MODEL_GPU_GPU_H
#define MODEL_GPU_GPU_H

#include "device/cuda_device.h"
#include "kernels/cuda/cuda_kernels.h"
#include "model/model.h"
#include "model/pick.h"

struct gpu_weight {
    struct kern_cuda_matrix matrix; /* the first of n_matrices; body NULL: none */
    const float *vector;            /* or NULL */
    const float *scales;            /* of each matrix, on the card, or NULL */
    float scale; /* of a single matrix, 1 without; of a vector of one number, that */
    int32_t n_matrices;
};

/* Ways of a step that change no result but the last bits of it. What has been reasoned and not
 * measured is chosen here; benchmarks/gpu/step measures each. The first three are KERN_CUDA_FEW_*.
 */
enum {
    GPU_WAY_BESIDE = KERN_CUDA_FEW_BESIDE,
    GPU_WAY_AHEAD = KERN_CUDA_FEW_AHEAD,
    GPU_WAY_ONCE = KERN_CUDA_FEW_ONCE,
    GPU_WAYS_FEW = GPU_WAY_BESIDE | GPU_WAY_AHEAD | GPU_WAY_ONCE,
    GPU_WAY_FRONT = 8,   /* attention of one row a sequence stores the row's keys and values */
    GPU_WAY_MEGA = 16,   /* a step of one row is one launch, where its layers can be */
    GPU_WAY_WALKED = 32, /* no graphs: steps and texts are launched kernel by kernel */
    GPU_WAYS_DEFAULT = GPU_WAY_BESIDE | GPU_WAY_FRONT
};

struct model_gpu {
    uint32_t ways;               /* GPU_WAY_*; may be changed between steps */
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
    int32_t fast;       /* products of long batches may round both sides further */
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
infer_status model_gpu_head(struct model_gpu_run *run, const int32_t *rows, int32_t n,
                            struct model_pick *picks, float **logits);
/* As model_step() and model_chosen(). */
uint64_t model_gpu_step(const struct model_gpu_run *run);
infer_status model_gpu_chosen(struct model_gpu_run *run, uint64_t step,
                              struct model_choice *chosen);
infer_status model_gpu_wait(struct model_gpu_run *run);
/* As model_final_fold(). */
struct model_fold;
infer_status model_gpu_final_fold(struct model_gpu_run *run, const struct model_fold *folds,
                                  int32_t n);

/* ---------------------------------------------------------------- encoders */

struct model_encode_batch;
struct model_gpu_encoder;

infer_status model_gpu_encoder_create(struct model_gpu_encoder **out,
                                      const struct infer_model *model, int32_t max_tokens,
                                      int32_t fast, int32_t invariant);
void model_gpu_encoder_destroy(struct model_gpu_encoder **encoder); /* NULL-safe, sets NULL */
size_t model_gpu_encoder_bytes(const struct infer_model *model, int32_t max_tokens);

/* Launches the layers for texts that were checked; what follows waits. */
infer_status model_gpu_encode(struct model_gpu_encoder *encoder,
                              const struct model_encode_batch *batch);
/* The rows of the last run, on the host. */
infer_status model_gpu_encoder_rows(struct model_gpu_encoder *encoder, const float **rows);
infer_status model_gpu_encoder_fold(struct model_gpu_encoder *encoder,
                                    const struct model_fold *folds, int32_t n);
/* As model_encoder_classify(), of a batch that was checked and is not empty. */
infer_status model_gpu_encoder_classify(struct model_gpu_encoder *encoder,
                                        const struct model_encode_batch *batch, float *out);

/* ---------------------------------------------------------------- adapters */

struct infer_adapter;

/* Copies an adapter's matrices to the card, into a->card. */
infer_status model_gpu_lora_upload(struct infer_adapter *a);

/* Memory on the card for what lies between the products of adapters of ranks up to `rank`. Steps
 * with adapters are legal once they have been given it. */
size_t model_gpu_lora_bytes(const struct model_gpu_run *run, int32_t rank);
void model_gpu_lora_use(struct model_gpu_run *run, void *memory);

#endif
