/* One init a family and instruction set: each overwrites the entries it has a
 * better version of. kernels/cpu/init.c calls them weakest first. */
#ifndef KERNELS_CPU_INIT_H
#define KERNELS_CPU_INIT_H

#include "kernels/kernels.h"

/* AVX2, FMA, F16C */
void kern_quant_init_avx2(struct kern_quant *quant);
void kern_gemm_float_init_avx2(struct kern_gemm *gemm);
void kern_gemm_quant_init_avx2(struct kern_gemm *gemm);
void kern_norm_init_avx2(struct kern_norm *norm);
void kern_rope_init_avx2(struct kern_rope *rope);
void kern_attn_init_avx2(struct kern_attn *attn);
void kern_attn_text_init_avx2(struct kern_attn *attn);
void kern_ssm_init_avx2(struct kern_ssm *ssm);
void kern_unary_init_avx2(struct kern_unary *unary);
void kern_vector_code_init_avx2(struct kern_vector *vector);
void kern_vector_init_avx2(struct kern_vector *vector);

/* AVX-512 F, BW, DQ, VL */
void kern_quant_init_avx512(struct kern_quant *quant);
void kern_gemm_float_init_avx512(struct kern_gemm *gemm);
void kern_gemm_quant_init_avx512(struct kern_gemm *gemm);
void kern_norm_init_avx512(struct kern_norm *norm);
void kern_rope_init_avx512(struct kern_rope *rope);
void kern_attn_init_avx512(struct kern_attn *attn);
void kern_attn_text_init_avx512(struct kern_attn *attn);
void kern_ssm_init_avx512(struct kern_ssm *ssm);
void kern_unary_init_avx512(struct kern_unary *unary);
void kern_vector_init_avx512(struct kern_vector *vector);

/* AVX-512 with VNNI */
void kern_gemm_quant_init_avx512vnni(struct kern_gemm *gemm);
void kern_gemm_fast_init_avx512vnni(struct kern_gemm *gemm);
void kern_vector_code_init_avx512vnni(struct kern_vector *vector);
void kern_vector_init_avx512vnni(struct kern_vector *vector);

/* AVX-512 with VNNI and BF16 */
void kern_gemm_bf16_init_avx512bf16(struct kern_gemm *gemm);

/* AVX-512 with VNNI and BF16, AMX */
void kern_gemm_quant_init_avx512amx(struct kern_gemm *gemm);
void kern_gemm_bf16_init_avx512amx(struct kern_gemm *gemm);
void kern_vector_init_avx512amx(struct kern_vector *vector);

/* NEON, which every 64-bit Arm processor has */
void kern_quant_init_neon(struct kern_quant *quant);
void kern_gemm_float_init_neon(struct kern_gemm *gemm);
void kern_gemm_quant_init_neon(struct kern_gemm *gemm);
void kern_norm_init_neon(struct kern_norm *norm);
void kern_rope_init_neon(struct kern_rope *rope);
void kern_attn_init_neon(struct kern_attn *attn);
void kern_attn_text_init_neon(struct kern_attn *attn);
void kern_ssm_init_neon(struct kern_ssm *ssm);
void kern_unary_init_neon(struct kern_unary *unary);
void kern_vector_code_init_neon(struct kern_vector *vector);
void kern_vector_init_neon(struct kern_vector *vector);

/* NEON with dot products of bytes */
void kern_gemm_quant_init_neon_dotprod(struct kern_gemm *gemm);
void kern_vector_code_init_neon_dotprod(struct kern_vector *vector);
void kern_vector_init_neon_dotprod(struct kern_vector *vector);

/* NEON with those, and products of small matrices of bytes */
void kern_gemm_quant_init_neon_i8mm(struct kern_gemm *gemm);

#endif
