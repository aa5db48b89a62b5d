/* The forward pass: an imperative walk over the layers, driven by the
 * architecture's table. One forward at a time per workspace. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "device/workspace.h"
#include "model/batch.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/moe.h"
#include "model/pick.h"

/* Activations of one step. Made once per session, large enough for max_rows. */
struct model_workspace {
    const struct infer_model *model;
    struct model_gpu_run *gpu;       /* on a GPU: what does the steps; all but `logits` is unused */
    struct device_workspace scratch; /* what the arrays lie in */
    struct base_pool *pool;          /* the device's threads */
    int32_t fast;                    /* 0: batch-invariant arithmetic only (on the CPU) */
    device_sgemm_fn *sgemm;          /* where FAST has it and kernels do not outdo it */
    int32_t max_rows, max_outputs;
    float *x;                 /* residual stream: rows of n_embd */
    float *xn;                /* normalised */
    float *parallel;          /* input of a feed-forward that runs beside attention, or NULL */
    float *branch;            /* what a mixer or feed-forward adds, where it cannot add at once */
    float *q, *k, *v, *attn;  /* rows of the widest layer's heads */
    float *inputs;            /* rows of all layers' own inputs (layer_input.h) */
    float *q_gate;            /* gates of attention's output */
    float *gate, *up;         /* rows of n_ff; mixers may use them too */
    float *rope[MODEL_ROPES]; /* rows of n_rot: cosines, sines */
    float *gathered;          /* rows picked for the head, normalised in place */
    uint8_t *q8;              /* rows of the widest quantised activation */
    uint8_t *q8_next;         /* the same, for stages that read q8 and write what takes its place */
    /* Of encoders: what quantising took from the rows in remainders_of (remainder.h); else NULL. */
    struct model_remainder *remainders;
    const uint8_t *remainders_of;
    float *sgemm_scratch;
    float *text; /* encoders: scratch of attention, text_floats a thread; not of `scratch` */
    size_t text_floats;
    uint8_t *bf16; /* rows of the widest activation in BF16, or NULL where no product wants them */
    uint8_t *rounded; /* the same for rounded products of quantised weights */
    struct model_moe_scratch moe;
    uint8_t *mixer;             /* max_rows times model_mixer_row_bytes() */
    float *logits;              /* what model_head() gives */
    struct model_choice chosen; /* what model_chosen() gives */
    /* Made apart, when the first adapter comes: memory is by its rank (model_lora_scratch_init). */
    struct model_lora_scratch lora;
};

/* Scratch that latent and recurrent mixers need for each row. */
size_t model_mixer_row_bytes(const struct model_hparams *hp);

struct model_workspace_config {
    int32_t max_rows, max_outputs, max_seqs;
    int32_t max_tokens; /* of a sequence */
    int32_t invariant;  /* on a GPU too */
    int32_t fast;       /* on a GPU: products of long batches may round further */
};

/* Memory for steps of up to so many rows. The caller sets fast and sgemm beforehand. On a failure
 * there is nothing to close, and closing is legal. */
infer_status model_workspace_open(struct model_workspace *ws, const struct infer_model *model,
                                  const struct model_workspace_config *config);
void model_workspace_close(struct model_workspace *ws);
/* Bytes on the device that such a workspace has, or this one. */
size_t model_workspace_held(const struct model_workspace *ws);
size_t model_workspace_bytes(const struct infer_model *model,
                             const struct model_workspace_config *config);

/* Bytes needed on the CPU; with scratch memory of that size also takes the arrays from it. */
size_t model_workspace_init(struct model_workspace *ws, const struct infer_model *model,
                            int32_t max_rows, int32_t max_outputs,
                            struct device_workspace *scratch);

/* Bytes that steps under at most max_runs adapters of ranks up to `rank` need beside that, in the
 * device's memory; such memory (aligned to BASE_CACHE_LINE) is given between steps. */
size_t model_workspace_adapt_bytes(const struct model_workspace *ws, int32_t max_runs,
                                   int32_t rank);
void model_workspace_adapt(struct model_workspace *ws, int32_t max_runs, int32_t rank,
                           void *memory);

/* Runs all layers for the batch: writes its keys and values, leaves the hidden
 * states in the workspace. Tokens are in range, blocks cover all positions. Fails on a GPU alone;
 * what it should have written then means nothing. */
infer_status model_forward(struct model_workspace *ws, const struct model_batch *batch);

/* A GPU works on behind model_forward(), and takes the next step before this one is done. What a
 * step with `chooses` chose for its rows, in ws->chosen: what batch->picks asked for, or else the
 * first of the highest logits; -1 where a row has none that is a number. `step` is what
 * model_step() said right behind its forward; of the last two steps. Waits for it, and for nothing
 * behind it. */
uint64_t model_step(const struct model_workspace *ws);
infer_status model_chosen(struct model_workspace *ws, uint64_t step);

/* Some rows of the last forward, n <= max_outputs: what `picks` asks of each, or, NULL, its logits.
 * Logits are rows of n_vocab in ws->logits, until the next call. */
infer_status model_head(struct model_workspace *ws, const int32_t *rows, int32_t n,
                        struct model_pick *picks);

/* Rows of the last forward behind the final norm, joined to vectors (encode.h): on a GPU these
 * alone come back. Before model_head(). */
struct model_fold;
infer_status model_final_fold(struct model_workspace *ws, const struct model_fold *folds,
                              int32_t n);

/* What was begun is done; a GPU works on behind model_forward(). */
infer_status model_finish(struct model_workspace *ws);

#endif
