/* Normalisation, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

#include "kernels/cpu/norm_tmpl.h"

void kern_norm_init_avx512(struct kern_norm *norm)
{
    norm->rms = rms;
    norm->layer = layer;
}
