/* Normalisation, NEON. */
#include "kernels/cpu/reg_neon.h"

#include "kernels/cpu/norm_tmpl.h"

void kern_norm_init_neon(struct kern_norm *norm)
{
    norm->rms = rms;
    norm->layer = layer;
}
