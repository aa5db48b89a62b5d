/* What the parts of a step share. */
#ifndef MODEL_GPU_RUN_H
#define MODEL_GPU_RUN_H

#include "device/cublas.h"
#include "model/gpu/gpu.h"

#define GPU_GRAPHS_MAX 48

#define GPU_ANSWERS 3 /* pieces of what a step answers */

/* How a step chooses the tokens of its rows: each does what those before it do as well. */
enum gpu_choice {
    GPU_CHOOSE_NOTHING,
    GPU_CHOOSE_BEST,
    GPU_CHOOSE_DRAWN,
    GPU_CHOOSE_LOGPROBS, /* and says how likely they were */
    GPU_CHOOSE_TOP       /* and which others were */
};

/* Products of E4M3 are made for a multiple of so many rows: all that has rows has room for them. */
#define GPU_ROWS_UNIT 4

/* A step of a shape, captured. A run has steps of sequences or batches of texts, never both. */
struct gpu_graph {
    int32_t n_seqs, length; /* both rounded up to what the graph is for; n_seqs 0: texts, or none */
    int32_t n_rows, n_tiles; /* of texts, both rounded up; n_rows 0: sequences, or none */
    enum gpu_choice chooses; /* the head that is part of it */
    uint64_t used;           /* number of the step that used it last */
    const void *weights, *first_kv, *last_kv;
    /* Of adapters; segments 0: none. */
    int32_t segments, segment_rows, rank;
    uint32_t targets;
    const void *lora;
    uint32_t ways;
    void *exec; /* NULL: the shape was seen, and is captured when it comes again */
};

/* A step of one row as one launch (mega.c). */
struct gpu_mega {
    const void *weights, *first_kv, *last_kv; /* that the plan is for; NULL: there is none */
    uint32_t ways;
    struct device_buffer memory;
    struct kern_cuda_mega launch; /* n_ops 0: these layers go the usual way */
    int32_t layer_ops;            /* those of the layers alone, ahead of the head's */
};

/* What is uploaded for a step, in pinned memory and in the same order on the card. */
struct gpu_batch_memory {
    int32_t *tokens, *seq_of, *pos; /* max_rows each */
    struct kern_cuda_seq *seqs;     /* max_seqs */
    int32_t *outputs;               /* max_outputs */
    int32_t *source;                /* max_rows: whose chosen token a row's is; -1: its own */
    void **answer_to;               /* where the host looks for what the step chose: tokens,
                                       log-probabilities, likely tokens */
    /* Only of steps with adapters. */
    struct kern_cuda_lora_segment *segments, *head_segments;
    float *scales, *head_scales;
    int32_t *tables; /* of each KV group max_seqs rows of table_stride */
};

/* Adapters of the rows that products work on now. */
struct gpu_lora {
    const struct kern_cuda_lora_segment *segments;
    const float *scales;
    int32_t n_segments, segment_rows, rank; /* rounded up, as graphs are for them */
    uint32_t targets;                       /* what they add to together; 0: no adapters */
    const struct model_batch *batch;
    float *t; /* made apart, when the first adapter comes */
};

/* How rows of a head become tokens. */
enum gpu_pick_way { GPU_PICK_NONE, GPU_PICK_BEST, GPU_PICK_SAMPLE };

/* What rows ask for (uploaded) and are answered (the card writes it by itself). */
struct gpu_picks {
    struct kern_cuda_sample_row *rows, *card_rows; /* max_outputs, the pool behind them */
    uint64_t *pool, *card_pool;
    size_t pool_words, used;
    float *saved;                     /* on the card: pool_words */
    struct kern_cuda_sample_top *top; /* max_outputs rows of KERN_CUDA_SAMPLE_TOP_MAX */
    float *logprobs;                  /* max_outputs */
    enum gpu_pick_way way;            /* of this head */
};

enum gpu_slot_state {
    GPU_SLOT_FREE,
    GPU_SLOT_USED,  /* and no event tells when it will be done with */
    GPU_SLOT_MARKED /* an event tells */
};

/* The host's side of a step, in pinned memory, which the card reads and writes as it comes to it.
 * Two take turns: while the card computes one step, the next is written down. */
struct gpu_slot {
    struct gpu_batch_memory batch;
    struct kern_cuda_sample_row *samples; /* max_seqs, as what is chosen by them */
    int32_t *chosen;
    float *logprobs;
    struct kern_cuda_sample_top *top; /* rows of KERN_CUDA_SAMPLE_TOP_MAX */
    void *event;
    enum gpu_slot_state state;
};

/* Activations of latent attention (latent.c), on the card. */
struct gpu_latent {
    float *q_a;      /* compressed queries */
    float *kv;       /* latents and their rotated parts, as the product leaves them */
    float *absorbed; /* n_vectors queries in the space of the latents, */
    float *mixed;    /* weighted latents, */
    void *form;      /* and the same as products read them */
    int32_t *heads;  /* 0, 1, 2 ... */
    int32_t n_vectors;
};

struct model_gpu_run {
    const struct infer_model *model;
    const struct model_gpu *gpu;
    struct infer_device *device;
    const struct kern_cuda *kernels;
    struct base_alloc alloc;
    struct device_buffer memory;
    void *pinned;
    void *stream;                 /* while a step is launched */
    struct device_cublas *cublas; /* NULL: not asked for yet, or absent */
    int32_t cublas_asked;
    int32_t max_rows, max_outputs, max_seqs, table_stride;
    int32_t
        invariant; /* a row's bits depend on the row alone: one kernel for all numbers of rows */
    infer_status status; /* the first error of this step */
    uint64_t n_steps;

    struct gpu_slot slots[2];      /* by the step's number */
    struct gpu_batch_memory *host; /* of the running step's */
    struct gpu_batch_memory card;
    size_t batch_bytes; /* of all but the tables and adapters */
    size_t lora_bytes, head_lora_bytes;
    int32_t max_segments;
    struct gpu_lora lora;
    struct kern_cuda_batch batch;
    const struct model_kv_view *kv; /* of this step */
    int32_t longest;                /* sequence of this step, not rounded up */
    enum gpu_choice chooses;        /* the head that belongs to this step */
    /* On the card, max_seqs: what the last step that chose chose, and by what. */
    struct kern_cuda_sample_row *samples;
    int32_t *next_tokens;
    float *next_logprobs;
    struct kern_cuda_sample_top *next_top;

    float *x, *branch, *parallel, *attn, *q_gate, *gathered;
    float *qkv;    /* rows of queries (and their gates), keys and values side by side */
    float *hidden; /* rows of gate and up side by side */
    float *rope[MODEL_ROPES];
    void *forms[KERN_CUDA_ROWS_FORMS]; /* by KERN_CUDA_ROWS_*: rows of the widest activation; F32
                                          after a norm */
    void *unpacked;                    /* a part of a matrix in BF16, for cuBLAS */
    size_t unpacked_bytes;
    void *many_scratch, *attn_scratch;
    size_t attn_scratch_bytes;
    float *logits, *host_logits;
    int32_t *host_picked; /* rows that the head shall read */
    int32_t picked;       /* in this step: others than the first ones in order */
    int32_t *host_best;   /* the card writes it by itself: no copy is waited for */
    struct gpu_picks picks;
    /* Recurrent layers: rows as the projections give them (recurrent.c), and what is read from
     * their states. */
    float *recur, *recur_y;
    /* Experts. */
    float *scores, *weights, *expert_gate, *expert_up, *expert_out;
    float *shared_gate; /* a number a row */
    int32_t *chosen, *first, *from, *slot_of;
    float *inputs; /* of each layer, rows of n_input * n_layers; or NULL */
    float
        join_factor; /* what the part of a layer that is launched now multiplies the stream by when
                        it has joined it: the layer's scale where it is its last part, else 1 */

    struct gpu_latent latent;

    struct gpu_folds *folds; /* pinned; NULL: nobody has asked for vectors yet */
    int32_t fast; /* for long batches F32 matrices of encoders may become BF16, and rows before
                     F8_128 E4M3 */

    struct gpu_graph graphs[GPU_GRAPHS_MAX];
    struct gpu_mega mega;
};

static inline const struct gpu_weight *gpu_weight_of(const struct model_gpu *gpu, int32_t layer,
                                                     enum model_role role)
{
    return &gpu->layers[layer][role - MODEL_LAYER_FIRST];
}

/* Keeps the first error of a step; what follows it is launched all the same, and means nothing. */
void gpu_launched(struct model_gpu_run *run, int32_t launched, const char *what);

/* ------------------------------------------------------------- activations */

enum gpu_rows_kind { GPU_ROWS_PLAIN, GPU_ROWS_NORM, GPU_ROWS_GATE };

/* Rows that products read, made in the form that each of them wants when the first one asks. */
struct gpu_rows {
    enum gpu_rows_kind kind;
    const float *x;
    const float *w, *b; /* NORM: weights and bias, or NULL */
    const float *up;    /* GATE: act(x) * up, or NULL: act(x) */
    size_t stride;      /* GATE: floats from a row of x to the next */
    size_t up_stride;   /* of up */
    int32_t act;        /* GATE: KERN_CUDA_ACT_* */
    int32_t k, n_rows;
    int32_t x_div;       /* NORM and PLAIN: so many rows are one of x; 0: 1 */
    const float *factor; /* on the card: a number that each row is multiplied by, or NULL */
    uint32_t made;       /* bit of each KERN_CUDA_ROWS_* that is in run->forms */
};

struct gpu_rows gpu_rows_plain(const float *x, int32_t k, int32_t n_rows);
struct gpu_rows gpu_rows_norm(const struct model_gpu_run *run, const float *x,
                              const struct gpu_weight *w, const struct gpu_weight *b,
                              int32_t n_rows);

/* Whether the norm in front is the own work of kernels that read F32 rows: they are given x and w.
 */
int gpu_rows_fuse(const struct model_gpu_run *run, const struct gpu_rows *rows);

/* The rows in one form, and the bytes from one to the next. */
const void *gpu_rows_as(struct model_gpu_run *run, struct gpu_rows *rows, int32_t form,
                        size_t *stride);
size_t gpu_row_bytes(int32_t form, int32_t k);

/* ---------------------------------------------------------------- products */

struct gpu_product {
    const struct gpu_weight *w, *bias; /* bias NULL or without a vector: none */
    float *y;
    size_t y_stride; /* floats; 0: w's n */
};

/* y = rows . w^T (+ bias) (+ y with accumulate) of 1 to 3 products over the same rows. */
void gpu_products(struct model_gpu_run *run, struct gpu_rows *rows,
                  const struct gpu_product *products, int32_t n, int32_t accumulate);

/* Hidden rows act(gate) * up, or act(up) without a gate, as rows for the product behind them, each
 * multiplied by its number of `factor` (on the card; NULL: 1). They use run->hidden; y of the
 * products is not looked at. */
struct gpu_rows gpu_hidden(struct model_gpu_run *run, struct gpu_rows *rows,
                           const struct gpu_product *gate, const struct gpu_product *up,
                           const float *factor);

/* The same of a gate alone and of an up that is there, up_stride floats from row to row. */
struct gpu_rows gpu_hidden_by(struct model_gpu_run *run, struct gpu_rows *rows,
                              const struct gpu_weight *gate, const float *up, size_t up_stride);

float gpu_residual_scale(const struct model_gpu_run *run);

/* The product joins the residual stream through the norm that follows (or none) and the model's
 * scale, as stage_join(); then run->join_factor multiplies the stream. */
void gpu_join(struct model_gpu_run *run, struct gpu_rows *rows, const struct gpu_weight *w,
              const struct gpu_weight *bias, const struct gpu_weight *post_norm);
void gpu_join_branch(struct model_gpu_run *run, const struct gpu_weight *post_norm, int32_t n_rows);

/* The form in which a product of so many rows reads them. */
int32_t gpu_product_form(struct model_gpu_run *run, const struct gpu_weight *w, int32_t n_rows);

int32_t gpu_act(const struct infer_model *model);

/* ---------------------------------------------------------------- adapters */

/* What a step has of them, from its batch; and of rows that were picked for the head. */
void gpu_lora_begin(struct model_gpu_run *run, const struct model_batch *batch);
infer_status gpu_lora_pick(struct model_gpu_run *run, const int32_t *rows, int32_t n);

/* Whether one of this step's adapters adds to products with the matrix. */
int gpu_lora_touches(const struct model_gpu_run *run, const struct gpu_weight *w);

/* y += what adapters add, for products of these rows that were launched. */
void gpu_lora_add(struct model_gpu_run *run, struct gpu_rows *rows,
                  const struct gpu_product *products, int32_t n);

/* Segments that a step can have. */
int32_t gpu_lora_segments(int32_t max_rows, int32_t max_outputs, int32_t max_seqs);

/* ------------------------------------------------------------------ tokens */

size_t gpu_pick_words(int32_t n_vocab, int32_t max_outputs);
size_t gpu_picks_card_bytes(const struct gpu_picks *p, int32_t max_outputs);
size_t gpu_picks_host_bytes(const struct gpu_picks *p, int32_t max_outputs);
/* Into so many bytes of pinned memory and of the card; pool_words is set. */
void gpu_picks_place(struct gpu_picks *p, void *host, void *card, int32_t max_outputs);

/* Before the head, behind it within enter and leave, and when all is launched: then every pick has
 * its answer. `picks` NULL: all rows want logits. */
infer_status gpu_pick_stage(struct model_gpu_run *run, struct model_pick *picks, int32_t n);
void gpu_pick_launch(struct model_gpu_run *run, int32_t n);
infer_status gpu_pick_fetch(struct model_gpu_run *run, struct model_pick *picks, int32_t n);

/* ------------------------------------------------------------------ layers */

/* Keys that are summed up together where a row's bits may depend on nothing but the row. */
#define GPU_INVARIANT_PART 256

/* What attention or its like reads, and, where the feed-forward reads the same stream, what that
 * reads. */
struct gpu_rows gpu_mix_input(struct model_gpu_run *run, int32_t layer);
struct gpu_rows gpu_ffn_input(struct model_gpu_run *run, int32_t layer);
struct kern_cuda_kv gpu_kv_of(const struct model_gpu_run *run, const struct model_layer *layer);

/* What a decoder's layer mixes its rows by, as a model_mix_fn is for the host; NULL: the card has
 * no kernels for it. */
typedef void gpu_mix_fn(struct model_gpu_run *run, int32_t layer);
gpu_mix_fn *gpu_mix_of(const struct model_layer *layer);
gpu_mix_fn gpu_attention, gpu_latent_attention, gpu_mamba2, gpu_deltanet;

size_t gpu_recurrent_row(const struct infer_model *model); /* floats of run->recur */
void gpu_feed_forward(struct model_gpu_run *run, int32_t layer);
void gpu_moe(struct model_gpu_run *run, int32_t layer);

/* What each layer of the batch gets of its tokens (layer_input.h), and its sum with the stream. */
void gpu_layer_inputs(struct model_gpu_run *run);
void gpu_layer_input_add(struct model_gpu_run *run, int32_t layer);

/* Query vectors of latent attention that there is room for, and what does not change from step to
 * step. */
int32_t gpu_latent_vectors(const struct model_hparams *hp, int32_t max_rows);
infer_status gpu_latent_begin(struct model_gpu_run *run);

/* Work was launched for this step that nobody has waited for; it has been waited for; and the
 * first with an event, behind what was launched so far, so that nothing later is waited for. */
void gpu_used(struct model_gpu_run *run);
void gpu_done(struct model_gpu_run *run);
infer_status gpu_mark(struct model_gpu_run *run);

/* Rows of n_embd floats joined to vectors of the host; waits. */
infer_status gpu_fold(struct model_gpu_run *run, const float *rows, const struct model_fold *folds,
                      int32_t n);

/* Rows of the embedding and rotations of the batch that is on the card. */
void gpu_embed(struct model_gpu_run *run);

/* The layers behind them. */
void gpu_walk_each(struct model_gpu_run *run);

/* Both, and the head where the step chooses. Enters the device. */
infer_status gpu_walk_layers(struct model_gpu_run *run);

/* What a row asks for, without its lists. */
struct kern_cuda_sample_row gpu_pick_row(const struct model_pick *pick, int32_t n_vocab);

/* The head of a step that chooses, of all its rows. */
void gpu_choose(struct model_gpu_run *run);

/* Whether the step that is on the card can be one launch, and shall be; and that launch, with the
 * head behind it where the step chooses. Where run->status is an error then, the step failed. */
int gpu_mega_takes(struct model_gpu_run *run);
infer_status gpu_mega_run(struct model_gpu_run *run);
void gpu_mega_free(struct model_gpu_run *run);

/* Walks, or replays the walk of a shape that was seen before. What the walk launches depends on the
 * shape alone; what it returns is run->status. */
typedef infer_status gpu_walk_fn(void *of);
infer_status gpu_graph_replay(struct model_gpu_run *run, const struct gpu_graph *shape,
                              gpu_walk_fn *walk, void *of);
/* The same of the step that is on the card. */
infer_status gpu_graph_run(struct model_gpu_run *run);
void gpu_graphs_free(struct model_gpu_run *run);

#endif
