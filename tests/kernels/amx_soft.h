/* The kernels for AMX over tiles in software, for processors with AVX-512 VNNI and BF16. */
#ifndef TESTS_KERNELS_AMX_SOFT_H
#define TESTS_KERNELS_AMX_SOFT_H

#include "check.h"

void amx_soft_init_quant(struct kern_gemm *gemm);
void amx_soft_init_bf16(struct kern_gemm *gemm);
void amx_soft_init_vector(struct kern_vector *vector);
void amx_soft_init(struct infer_kernels *kernels); /* all */

/* With c->ref the level below and c->dut its table with these kernels: */
void check_amx_plants(struct check *c); /* mistakes planted in the words on tiles are found */
void check_amx_traps(struct check *c);  /* as compiled for AMX, they compute the same bits */

#endif
