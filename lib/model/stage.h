/* Parallel stages of the forward pass: each ends in one barrier. */
#ifndef MODEL_STAGE_H
#define MODEL_STAGE_H

#include "base/thread.h"
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

/* How a product is computed: from floats or Q8 rows as its kernel wants, from rows in BF16, from
 * rows for rounded products, or by SGEMM. The last two in FAST numerics alone. */
enum stage_way { STAGE_PLAIN, STAGE_BF16, STAGE_ROUNDED, STAGE_SGEMM };

enum stage_way stage_way_of(const struct model_workspace *ws, const struct model_weight *w,
                            int32_t rows);

/* Whether two products of the same rows are computed in the same way, and by their kernels alone:
 * no adapter adds. `b` NULL: one. */
int stage_is_fusable(const struct model_workspace *ws, const struct model_weight *a,
                     const struct model_weight *b, int32_t rows);

/* Rows of x (k floats each) as products of that way want them, where it is not floats or Q8. */
void stage_make_rows(struct model_workspace *ws, enum stage_way way, const float *x, int32_t k,
                     int32_t rows);

/* The kernel of p->w's type, and what it is given. Not for SGEMM. */
kern_gemm_fn *stage_kernel(const struct model_workspace *ws, enum stage_way way, infer_dtype type);
struct kern_gemm_args stage_product_args(const struct model_workspace *ws, enum stage_way way,
                                         const struct stage_product *p, const float *x,
                                         int32_t rows);

/* Whether any step may want rows in BF16, or for rounded products. */
int stage_may_narrow(const struct model_workspace *ws);
int stage_may_round(const struct model_workspace *ws);

/* Bytes between rows of k numbers in ws->bf16. */
size_t stage_bf16_bytes(int32_t k);

/* Any number of products of unlike rows, as one stage: runs[i] computes args[i]. */
void stage_gemms(struct model_workspace *ws, kern_gemm_fn *const *runs,
                 const struct kern_gemm_args *args, int32_t n);

/* Whether some, or all, of the matrices are multiplied with quantised rows, if there are so many.
 */
int stage_wants_q8(const struct model_workspace *ws, const struct model_weight *const *weights,
                   int32_t n, int32_t rows);
int stage_all_want_q8(const struct model_workspace *ws, const struct model_weight *const *weights,
                      int32_t n);

/* Something for each row that touches about `width` floats. A few short rows are the caller's
 * alone: a barrier would take longer than they do. */
void stage_rows(struct model_workspace *ws, base_pool_fn fn, void *arg, int32_t rows, size_t width);

/* y = norm(x) * w + b for each row of w->k, as the architecture normalises; y may be x. With
 * q8, ws->q8 gets y quantised. Without weights y must be x: only quantises. */
void stage_norm(struct model_workspace *ws, float *y, const float *x, const struct model_weight *w,
                const struct model_weight *bias, int32_t rows, int q8);

/* Normalises the residual stream itself, where the layer has such a norm (data NULL: it has not).
 */
void stage_norm_stream(struct model_workspace *ws, const struct model_weight *w,
                       const struct model_weight *bias, int32_t rows);

/* ws->q8 gets the rows of x (k floats each) quantised. */
void stage_quantize(struct model_workspace *ws, const float *x, int32_t k, int32_t rows);

/* y = act(gate) * up for rows of k (up NULL: act alone); y may be gate; with q8 ws->q8 gets y. */
void stage_gate(struct model_workspace *ws, kern_gate_fn *act, float *y, const float *gate,
                const float *up, int32_t k, int32_t rows, int q8);

/* The activation function of the model. */
kern_gate_fn *stage_act(const struct model_workspace *ws);

/* y += a * x for rows of n_embd. */
void stage_add(struct model_workspace *ws, float *y, float a, const float *x, int32_t rows);

/* The last product of a mixer or feed-forward: x (w->k floats a row; ws->q8 holds them
 * quantised where w wants that) times w joins the residual stream, through the norm that follows
 * (data NULL: none) and the model's residual scale. */
void stage_join(struct model_workspace *ws, const struct model_weight *w,
                const struct model_weight *bias, const struct model_weight *post_norm,
                const float *x, int32_t rows);

/* The same for a result that is in ws->branch already, and for one row of it within a stage. */
void stage_join_branch(struct model_workspace *ws, const struct model_weight *post_norm,
                       int32_t rows);
void stage_join_row(const struct model_workspace *ws, const struct model_weight *post_norm,
                    int32_t row);

#endif
