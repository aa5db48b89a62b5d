/* Elementwise functions and softmax, NEON. */
#include "kernels/cpu/reg_neon.h"

#include "kernels/cpu/unary_tmpl.h"

void kern_unary_init_neon(struct kern_unary *unary)
{
    unary->silu_mul = silu_mul;
    unary->gelu_mul = gelu_mul;
    unary->gelu_tanh_mul = gelu_tanh_mul;
    unary->relu_mul = relu_mul;
    unary->relu2_mul = relu2_mul;
    unary->sigmoid_mul = sigmoid_mul;
    unary->swiglu_oai = swiglu_oai;
    unary->axpy = axpy;
    unary->softcap = softcap;
    unary->add = add;
    unary->softmax = softmax;
}
