/* Between floats and stored types on NEON. */
#include "kernels/cpu/vec_neon.h"

#include "kernels/cpu/pack_tmpl.h"
#include "kernels/cpu/quant_tmpl.h"

void kern_quant_init_neon(struct kern_quant *quant)
{
    quant_init(quant);
    quant->pack = pack;
}
