/* What quantising takes from the coarsest block of a row. */
#include "model/remainder.h"

#include "format/quant_layout.h"

#define BLOCK 32
/* How many times the squared error of all other blocks that of the coarsest must be: then it makes
 * up nearly all. With less than half as many, rows of common words would have one. */
#define COARSE 8

_Static_assert(BLOCK + BLOCK / 32 * 4 + BLOCK / 16 * 2 <= BASE_CACHE_LINE, "a row of one block");

/* -1: none is that coarse. The error of a block is by its scale. */
static int32_t coarsest(const float *d, int32_t n)
{
    double all = 0, most = 0;
    int32_t block = -1;
    for (int32_t i = 0; i < n; i++) {
        const double square = (double)d[i] * (double)d[i];
        all += square;
        if (square > most) {
            most = square;
            block = i;
        }
    }
    return most > COARSE * (all - most) ? block : -1;
}

void model_remainder_make(struct model_remainder *out, const struct kern_quant *quant,
                          const uint8_t *q8, const float *x, int32_t k)
{
    const float *d = (const float *)(const void *)(q8 + k);
    float left[BLOCK];
    out->block = coarsest(d, k / BLOCK);
    if (out->block < 0)
        return;
    const size_t at = (size_t)out->block * BLOCK;
    for (size_t i = 0; i < BLOCK; i++)
        left[i] = x[at + i] - d[out->block] * (float)(int8_t)q8[at + i];
    quant->act_q8(out->q8, left, BLOCK);
}

size_t model_remainder_step(const struct model_workspace *ws, const struct model_weight *w)
{
    const struct quant_layout *layout = quant_layout_of(w->type);
    if (!ws->remainders || ws->remainders_of != ws->q8 || layout->block_elements != BLOCK)
        return 0;
    if (!w->packed)
        return (size_t)layout->block_bytes;
    /* Rows behind the last whole group are not packed: their blocks lie elsewhere. */
    return w->n % KERN_PACK_ROWS ? 0 : (size_t)layout->block_bytes * KERN_PACK_ROWS;
}

void model_remainder_add(const struct model_workspace *ws, kern_gemm_fn *run,
                         const struct kern_gemm_args *args, size_t step, int32_t begin, int32_t end)
{
    for (int32_t i = 0; step && i < args->m; i++) {
        const struct model_remainder *r = &ws->remainders[i];
        if (r->block < 0)
            continue;
        struct kern_gemm_args part = *args;
        part.w = (const uint8_t *)args->w + (size_t)r->block * step;
        part.x = r->q8;
        part.x_stride = sizeof r->q8;
        part.y = args->y + (size_t)i * args->y_stride;
        part.bias = NULL;
        part.m = 1;
        part.k = BLOCK;
        part.accumulate = 1;
        run(&part, begin, end);
    }
}
