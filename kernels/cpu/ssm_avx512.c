/* Recurrent state, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

#include "kernels/cpu/ssm_tmpl.h"

void kern_ssm_init_avx512(struct kern_ssm *ssm)
{
    ssm->conv = conv;
    ssm->scan = scan;
    ssm->delta = delta;
}
