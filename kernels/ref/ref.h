/* The plain C reference of each family: what an entry means. Every init stores
 * all entries of its family. */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include "kernels/kernels.h"

void kern_quant_init_ref(struct kern_quant *quant);
void kern_quant_init_ref_plain(struct kern_quant *quant); /* parts of kern_quant_init_ref() */
void kern_quant_init_ref_k(struct kern_quant *quant);
void kern_quant_init_ref_iq(struct kern_quant *quant);
void kern_quantize_init_ref_plain(struct kern_quant *quant);
void kern_quantize_init_ref_k(struct kern_quant *quant);
void kern_narrow_init_ref_kv(struct kern_quant *quant);
void kern_pack_init_ref(struct kern_quant *quant);
void kern_gemm_init_ref(struct kern_gemm *gemm);
void kern_norm_init_ref(struct kern_norm *norm);
void kern_rope_init_ref(struct kern_rope *rope);
void kern_attn_init_ref(struct kern_attn *attn);
void kern_ssm_init_ref(struct kern_ssm *ssm);
void kern_unary_init_ref(struct kern_unary *unary);
void kern_vector_init_ref(struct kern_vector *vector);
void kern_vector_code_init_ref(struct kern_vector *vector);

/* Shared by all levels. */
kern_rotate_fn kern_rotate_ref;
kern_vector_normalize_fn kern_vector_normalize_ref;

#endif
