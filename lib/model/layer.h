/* One layer as the forward pass sees it: what it is made of, its sizes, its weights. Planned
 * once at load from the architecture's table and the file's numbers. */
#ifndef MODEL_LAYER_H
#define MODEL_LAYER_H

#include "kernels/kernels.h"
#include "model/arch.h"
#include "model/batch.h"

struct model_weight {
    const void *data; /* NULL: the model has none */
    size_t row_bytes;
    infer_dtype type;
    int32_t k, n;                /* inputs (contiguous) and outputs of one matrix */
    int32_t n_matrices;          /* experts or heads; 1 for a plain one */
    const void *const *matrices; /* n_matrices pointers, NULL for a plain one */
    const float *scales;         /* one for each matrix, or NULL: products are not scaled */
    int32_t packed;              /* sixteen rows side by side (kernels.h, kern_pack_fn) */
};

/* Row number `row` of a matrix, as floats. */
void model_weight_row(const struct infer_kernels *kernels, const struct model_weight *w,
                      int32_t row, float *out);

struct model_layer;
struct model_workspace;

/* Reads the residual stream, mixes tokens of a sequence, adds its result to the stream. */
typedef void model_mix_fn(struct model_workspace *ws, const struct model_batch *batch,
                          const struct model_layer *layer);
/* Reads the stream (or ws->parallel, where attention and feed-forward share an input), works
 * on each row alone, adds its result. */
typedef void model_ffn_fn(struct model_workspace *ws, const struct model_layer *layer,
                          int32_t n_rows);

enum { MODEL_ROPE_MAIN, MODEL_ROPE_WINDOW, MODEL_ROPES };

struct model_layer {
    struct model_weight w[MODEL_ROLES - MODEL_LAYER_FIRST];
    model_mix_fn *mix; /* NULL: none */
    model_ffn_fn *ffn; /* NULL: none */
    int32_t n_heads, n_heads_kv, head_dim, head_dim_v, n_rot, n_ff;
    int32_t window, chunk;             /* positions seen; 0: all */
    int32_t rope;                      /* MODEL_ROPE_MAIN or _WINDOW, -1: no positions */
    int32_t kv_group, kv_at;           /* where its keys and values lie: layer kv_at of the group */
    int32_t recurrent, experts, dense; /* dense: has a feed-forward that every row takes */
    int32_t reads_kv; /* kv_at is an earlier layer's: has no keys and values of its own */
    int32_t grows;    /* queries grow with the position */
    float attn_scale;
};

/* A layer's tensor by role. */
static inline const struct model_weight *model_layer_weight(const struct model_layer *layer,
                                                            enum model_role role)
{
    return &layer->w[role - MODEL_LAYER_FIRST];
}

/* Kinds of KV blocks. Layers of one kind and size form a group with block tables of its own, so
 * that a sliding window can free what it no longer sees. */
enum { MODEL_KV_FULL, MODEL_KV_WINDOW, MODEL_KV_LATENT, MODEL_KV_CROSS, MODEL_KV_STATE };

struct model_kv_group {
    int32_t kind; /* MODEL_KV_* */
    int32_t n_layers, n_heads, head_dim, head_dim_v;
    int32_t window;     /* 0: all positions are kept */
    size_t state_bytes; /* of one layer of a MODEL_KV_STATE group */
};

#define MODEL_KV_GROUPS_MAX 8

/* Fills sizes, parts and KV groups of hp->n_layers layers. LIMIT: more kinds of layers than KV
 * groups; FORMAT and UNSUPPORTED name the layer. */
infer_status model_layers_plan(struct model_layer *layers, struct model_kv_group *groups,
                               int32_t *n_groups, const struct model_arch *arch,
                               const struct model_hparams *hp);

/* Bytes that a recurrent layer keeps of a sequence (0 without such layers). */
size_t model_state_bytes(const struct model_hparams *hp);

#endif
