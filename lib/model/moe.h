/* Mixture of experts: a router picks a few feed-forward networks for each row. */
#ifndef MODEL_MOE_H
#define MODEL_MOE_H

#include "kernels/kernels.h"
#include "model/layer.h"

struct model_hidden;

/* Activations of one step. A slot is one expert's work on one row; slots are ordered by expert,
 * so that each expert's matrices are read once. */
struct model_moe_scratch {
    float *scores;    /* rows of n_experts */
    int32_t *chosen;  /* rows of n_experts_used, best first */
    float *weights;   /* the same shape */
    int32_t *slot_of; /* the same shape: where the work lies */
    int32_t *row_of;  /* by slot */
    float *scale_of;  /* by slot: what multiplies the input */
    int32_t *first;   /* n_experts + 1: slots of an expert */
    float *in, *gate, *up, *out;
    uint8_t *q8, *q8_hidden;     /* `in` and `gate`, quantised */
    struct model_hidden *hidden; /* n_experts, and so are the next two */
    kern_gemm_fn **runs;
    struct kern_gemm_args *args;
};

/* Adds the experts, and the shared expert where the model has one. */
void model_moe(struct model_workspace *ws, const struct model_layer *layer, int32_t rows);

#endif
