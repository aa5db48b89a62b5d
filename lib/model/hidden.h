/* Hidden rows of feed-forward networks: two products, what joins them, and its quantisation as one
 * stage. */
#ifndef MODEL_HIDDEN_H
#define MODEL_HIDDEN_H

#include "model/stage.h"

/* Products of the same rows with two matrices of one shape; y = act(gate) * up, without a gate
 * act(up). */
struct model_hidden {
    kern_gemm_fn *run_up, *run_gate; /* run_gate NULL: no gate */
    struct kern_gemm_args up, gate;
    float *y;    /* rows of up.n; may be gate.y */
    uint8_t *q8; /* the same rows quantised, or NULL; not what the products read */
    size_t up_remainder_step, gate_remainder_step; /* model_remainder_step(), or 0 */
};

/* Of any number of networks. Threads take columns, in whole blocks of 32, of all rows. */
void model_hidden(struct model_workspace *ws, const struct model_hidden *items, int32_t n);

/* Of a dense network over rows of x, quantised as for stage_products: ws->gate, and with q8
 * ws->q8. `gate` NULL: none. */
void model_hidden_dense(struct model_workspace *ws, const struct stage_product *up,
                        const struct stage_product *gate, const float *x, int32_t rows, int q8);

#endif
