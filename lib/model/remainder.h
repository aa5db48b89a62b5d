/* What quantising takes from the coarsest block of a row, multiplied as well.
 *
 * A block of Q8 activations is as coarse as its largest element is large. Encoders have rows, those
 * of special tokens above all, one element of which is a hundred times the others: its block then
 * loses more than all others together, and texts of few tokens have no mean in which that gets
 * lost. Such a block is quantised twice: what the first time left, a second time (as the sum of two
 * numbers of eight bits). One row in fifty has one, so that products hardly take longer. */
#ifndef MODEL_REMAINDER_H
#define MODEL_REMAINDER_H

#include "model/forward.h"

struct model_remainder {
    _Alignas(BASE_CACHE_LINE) uint8_t q8[BASE_CACHE_LINE]; /* a Q8 row of one block */
    int32_t block;                                         /* which one of the row; -1: none */
};

/* Of the row x of k floats, which `q8` holds quantised. By its own numbers alone. */
void model_remainder_make(struct model_remainder *out, const struct kern_quant *quant,
                          const uint8_t *q8, const float *x, int32_t k);

/* Bytes between blocks of w's rows, where products of ws->q8 with it get the remainders; else 0. */
size_t model_remainder_step(const struct model_workspace *ws, const struct model_weight *w);

/* Adds them to columns begin .. end - 1 of a product that was just computed. */
void model_remainder_add(const struct model_workspace *ws, kern_gemm_fn *run,
                         const struct kern_gemm_args *args, size_t step, int32_t begin,
                         int32_t end);

#endif
