/* Parallel stages of the forward pass: each ends in one barrier. */
#ifndef MODEL_STAGE_H
#define MODEL_STAGE_H

#include "model/forward.h"

/* y[rows][w->n] = x . w^T (+ bias) (+ y). Several products over the same rows
 * run as one stage, so that small matrices share a barrier. */
struct stage_product {
    const struct model_weight *w;
    const struct model_weight *bias; /* data NULL: none */
    float *y;
    int32_t accumulate;
};

/* x: rows of w->k floats; ws->q8 holds the same rows quantised where any of the
 * products wants that (stage_wants_q8). */
void stage_products(struct model_workspace *ws, const struct stage_product *products,
                    int32_t n_products, const float *x, int32_t rows);

int stage_wants_q8(const struct model_workspace *ws, const struct model_weight *const *weights,
                   int32_t n);

/* y = rms(x) * w for each row; y may be x. With q8, ws->q8 gets y quantised. */
void stage_norm(struct model_workspace *ws, float *y, const float *x, const struct model_weight *w,
                int32_t rows, int q8);

/* ws->q8 gets the rows of x (k floats each) quantised. */
void stage_quantize(struct model_workspace *ws, const float *x, int32_t k, int32_t rows);

#endif
