/* Attention over latents (cuda_latent.h): the cache holds one vector a token, which is the key of
 * all heads, and whose first 512 elements are their value. So a block of threads takes the query
 * vectors of many heads and reads each latent once, for scores and for sums (the absorbed form of
 * DeepSeek-V2, arXiv:2405.04434, section 2.1.2; attn_wide_launch.cuh). */
#include "kernels/cuda/attn_wide_launch.cuh"

#define WIDTH KERN_CUDA_LATENT_KEY
static_assert(KERN_CUDA_LATENT_VALUE == WIDTH_V, "columns of the sums");

extern "C" size_t kern_cuda_latent_scratch(int32_t head_dim_v, int32_t n_vectors, int32_t fixed)
{
    return fixed ? kern_cuda_attn_scratch_fixed(1, head_dim_v, n_vectors)
                 : kern_cuda_attn_scratch(1, head_dim_v, 1, n_vectors);
}

/* Multiples of 16 bytes wherever the kernel reads, and what it knows. */
static bool is_fast(const struct kern_cuda_attn_args *a)
{
    const struct kern_cuda_kv *kv = &a->kv;
    const uintptr_t at =
        (uintptr_t)a->q | (uintptr_t)kv->k | kv->block_stride | a->q_stride * sizeof(float);
    const bool plain = kv->type == INFER_DTYPE_F16 || kv->type == INFER_DTYPE_BF16;
    const bool slots = plain ? kv->k_slot % 16 == 0 : kv->k_slot == kern_kv_bytes(kv->type, WIDTH);
    return kv->type != INFER_DTYPE_F32 && at % 16 == 0 && slots && a->head_dim == WIDTH &&
           a->head_dim_v == WIDTH_V && a->window == 0 && a->chunk == 0;
}

extern "C" int32_t kern_cuda_latent_attend(const struct kern_cuda_attn_args *args, void *stream)
{
    const struct kern_cuda_batch *batch = args->batch;
    struct attn_params p;
    if (batch->n_rows <= 0 || batch->n_seqs <= 0)
        return 0;
    if (args->n_head_kv != 1 || args->kv.v != args->kv.k || args->store ||
        args->part % ATTN_PART_GRAIN || !args->scratch ||
        args->scratch_bytes < kern_cuda_latent_scratch(
                                  args->head_dim_v, args->n_head * batch->n_rows, args->part > 0))
        return cudaErrorInvalidConfiguration;
    if (!is_fast(args))
        return kern_cuda_attn_paged(args, stream);
    (void)kern_attn_params(&p, args);
    const int32_t error = attend<WIDTH>(&p, stream);
    return error == cudaErrorInvalidValue ? kern_cuda_attn_paged(args, stream) : error;
}
