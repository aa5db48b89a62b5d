/* Attention over the rows of one text, reference: one query after the other, sums in double. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

static double score(const struct kern_attn_text_args *a, int32_t i, int32_t j)
{
    const float *q = a->q + (size_t)i * a->q_stride, *k = a->k + (size_t)j * a->k_stride;
    double sum = 0.0;

    for (int32_t d = 0; d < a->head_dim; d++) {
        sum += (double)q[d] * (double)k[d];
    }
    return sum * (double)a->scale - (double)a->slope * (double)(i > j ? i - j : j - i);
}

static void attend(const struct kern_attn_text_args *a, int32_t i)
{
    const int32_t begin = a->reach > 0 ? BASE_MAX(i - a->reach, 0) : 0;
    const int32_t end = a->reach > 0 ? BASE_MIN(i + a->reach + 1, a->n) : a->n;
    double acc[KERN_ATTN_HEAD_MAX] = {0};
    double max = -INFINITY, total = 0.0;

    for (int32_t j = begin; j < end; j++) {
        const double s = score(a, i, j), seen = fmax(max, s);
        const double shrink = exp(max - seen), weight = exp(s - seen);
        const float *v = a->v + (size_t)j * a->v_stride;

        for (int32_t d = 0; d < a->head_dim; d++) {
            acc[d] = acc[d] * shrink + weight * (double)v[d];
        }
        total = total * shrink + weight;
        max = seen;
    }
    for (int32_t d = 0; d < a->head_dim; d++) {
        a->out[(size_t)i * a->out_stride + (size_t)d] = (float)(acc[d] / total);
    }
}

void kern_attn_text_ref(const struct kern_attn_text_args *args, int32_t begin, int32_t end)
{
    for (int32_t i = begin; i < end; i++) {
        attend(args, i);
    }
}
