/* Normalisation, AVX2. */
#include "kernels/cpu/reg_avx2.h"

#include "kernels/cpu/norm_tmpl.h"

void kern_norm_init_avx2(struct kern_norm *norm)
{
    norm->rms = rms;
    norm->layer = layer;
}
