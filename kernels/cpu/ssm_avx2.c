/* Recurrent state, AVX2. */
#include "kernels/cpu/reg_avx2.h"

#include "kernels/cpu/ssm_tmpl.h"

void kern_ssm_init_avx2(struct kern_ssm *ssm)
{
    ssm->conv = conv;
    ssm->scan = scan;
    ssm->delta = delta;
}
