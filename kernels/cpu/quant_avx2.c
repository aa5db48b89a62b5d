/* Between floats and stored types on AVX2, FMA and F16C. */
#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/pack_tmpl.h"
#include "kernels/cpu/quant_tmpl.h"

void kern_quant_init_avx2(struct kern_quant *quant)
{
    quant_init(quant);
    quant->pack = pack;
}
