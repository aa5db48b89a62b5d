/* Between floats and stored types on AVX-512. */
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/pack_tmpl.h"
#include "kernels/cpu/quant_tmpl.h"

void kern_quant_init_avx512(struct kern_quant *quant)
{
    quant_init(quant);
    quant->pack = pack;
}
