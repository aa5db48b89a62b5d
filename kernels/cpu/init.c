/* Fills the table: the reference first, then what processor and mask allow. */
#include "kernels/cpu/init.h"
#include "kernels/ref/ref.h"

#include <string.h>

static void init_ref(struct infer_kernels *k)
{
    kern_quant_init_ref(&k->quant);
    kern_gemm_init_ref(&k->gemm);
    kern_norm_init_ref(&k->norm);
    kern_rope_init_ref(&k->rope);
    kern_attn_init_ref(&k->attn);
    kern_ssm_init_ref(&k->ssm);
    kern_unary_init_ref(&k->unary);
    kern_vector_init_ref(&k->vector);
    kern_vector_code_init_ref(&k->vector);
    k->name = "ref";
}

#if defined(__x86_64__)

static void init_avx2(struct infer_kernels *k)
{
    kern_quant_init_avx2(&k->quant);
    kern_gemm_float_init_avx2(&k->gemm);
    kern_gemm_quant_init_avx2(&k->gemm);
    kern_norm_init_avx2(&k->norm);
    kern_rope_init_avx2(&k->rope);
    kern_attn_init_avx2(&k->attn);
    kern_attn_text_init_avx2(&k->attn);
    kern_ssm_init_avx2(&k->ssm);
    kern_unary_init_avx2(&k->unary);
    kern_vector_code_init_avx2(&k->vector);
    kern_vector_init_avx2(&k->vector);
    k->name = "avx2";
}

static void init_avx512(struct infer_kernels *k)
{
    kern_quant_init_avx512(&k->quant);
    kern_gemm_float_init_avx512(&k->gemm);
    kern_gemm_quant_init_avx512(&k->gemm);
    kern_norm_init_avx512(&k->norm);
    kern_rope_init_avx512(&k->rope);
    kern_attn_init_avx512(&k->attn);
    kern_attn_text_init_avx512(&k->attn);
    kern_ssm_init_avx512(&k->ssm);
    kern_unary_init_avx512(&k->unary);
    kern_vector_init_avx512(&k->vector);
    k->name = "avx512";
}

static void init_avx512vnni(struct infer_kernels *k)
{
    kern_gemm_quant_init_avx512vnni(&k->gemm);
    kern_gemm_fast_init_avx512vnni(&k->gemm);
    kern_vector_code_init_avx512vnni(&k->vector);
    kern_vector_init_avx512vnni(&k->vector);
    k->name = "avx512vnni";
}

static void init_avx512bf16(struct infer_kernels *k)
{
    kern_gemm_bf16_init_avx512bf16(&k->gemm);
    k->name = "avx512bf16";
}

static void init_avx512amx(struct infer_kernels *k)
{
    kern_gemm_quant_init_avx512amx(&k->gemm);
    kern_gemm_bf16_init_avx512amx(&k->gemm);
    kern_vector_init_avx512amx(&k->vector);
    k->name = "avx512amx";
}

/* A level builds on those below it: one bit missing from the mask ends the climb. */
static void init_x86(struct infer_kernels *k, uint32_t flags)
{
    if (!(flags & KERN_CPU_AVX2)) {
        return;
    }
    init_avx2(k);
    if (!(flags & KERN_CPU_AVX512)) {
        return;
    }
    init_avx512(k);
    if (!(flags & KERN_CPU_AVX512VNNI)) {
        return;
    }
    init_avx512vnni(k);
    if (!(flags & KERN_CPU_AVX512BF16)) {
        return;
    }
    init_avx512bf16(k);
    if (flags & KERN_CPU_AMX && kern_cpu_ask_for_tiles()) {
        init_avx512amx(k);
    }
}

#elif defined(__aarch64__)

static void init_neon(struct infer_kernels *k)
{
    kern_quant_init_neon(&k->quant);
    kern_gemm_float_init_neon(&k->gemm);
    kern_gemm_quant_init_neon(&k->gemm);
    kern_norm_init_neon(&k->norm);
    kern_rope_init_neon(&k->rope);
    kern_attn_init_neon(&k->attn);
    kern_attn_text_init_neon(&k->attn);
    kern_ssm_init_neon(&k->ssm);
    kern_unary_init_neon(&k->unary);
    kern_vector_code_init_neon(&k->vector);
    kern_vector_init_neon(&k->vector);
    k->name = "neon";
}

static void init_neon_dotprod(struct infer_kernels *k)
{
    kern_gemm_quant_init_neon_dotprod(&k->gemm);
    kern_vector_code_init_neon_dotprod(&k->vector);
    kern_vector_init_neon_dotprod(&k->vector);
    k->name = "neon_dotprod";
}

static void init_neon_i8mm(struct infer_kernels *k)
{
    kern_gemm_quant_init_neon_i8mm(&k->gemm);
    k->name = "neon_i8mm";
}

static void init_arm(struct infer_kernels *k, uint32_t flags)
{
    if (!(flags & KERN_CPU_NEON)) {
        return;
    }
    init_neon(k);
    if (!(flags & KERN_CPU_NEON_DOTPROD)) {
        return;
    }
    init_neon_dotprod(k);
    if (flags & KERN_CPU_NEON_I8MM) {
        init_neon_i8mm(k);
    }
}

#endif

void kern_init_cpu(struct infer_kernels *kernels, uint32_t flags)
{
    memset(kernels, 0, sizeof(*kernels));
    init_ref(kernels);
#if defined(__x86_64__)
    init_x86(kernels, flags & kern_cpu_flags());
#elif defined(__aarch64__)
    init_arm(kernels, flags & kern_cpu_flags());
#else
    (void)flags;
#endif
}
