/* Recurrent state, NEON. */
#include "kernels/cpu/reg_neon.h"

#include "kernels/cpu/ssm_tmpl.h"

void kern_ssm_init_neon(struct kern_ssm *ssm)
{
    ssm->conv = conv;
    ssm->scan = scan;
    ssm->delta = delta;
}
