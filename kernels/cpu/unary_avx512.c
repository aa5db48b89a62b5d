/* Elementwise functions and softmax, AVX-512. */
#include "kernels/cpu/reg_avx512.h"

#include "kernels/cpu/unary_tmpl.h"

void kern_unary_init_avx512(struct kern_unary *unary)
{
    unary->silu_mul = silu_mul;
    unary->add = add;
    unary->softmax = softmax;
}
