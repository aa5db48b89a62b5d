/* Products of float weights on NEON. */
#include "kernels/cpu/vec_neon.h"

#define TILES(X)        X(2, 3) X(1, 4)
#define PACKED_TILES(X) X(6, 1) X(3, 2) X(1, 4)

#include "kernels/cpu/gemm_float_tmpl.h"

void kern_gemm_float_init_neon(struct kern_gemm *gemm)
{
    gemm_float_init(gemm);
}
