/* Estimates from codes of few bits, NEON with dot products. */
#include "kernels/cpu/vector_code_neon.h"

void kern_vector_code_init_neon_dotprod(struct kern_vector *vector)
{
    vector->estimate2 = estimate2;
    vector->estimate4 = estimate4;
    vector->estimate8 = estimate8;
}
