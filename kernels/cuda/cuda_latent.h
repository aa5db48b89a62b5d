/* Latent attention on the card (DeepSeek-V2, arXiv:2405.04434, section 2.1): all query heads of a
 * row share one vector a token, whose first elements are its value. Part of cuda_kernels.h, which
 * says what launchers are. */
#ifndef KERNELS_CUDA_CUDA_LATENT_H
#define KERNELS_CUDA_CUDA_LATENT_H

/* Vectors that go through tensor cores: those of every published model. All others go through the
 * plain kernel of paged attention, which is slow. */
#define KERN_CUDA_LATENT_KEY   576
#define KERN_CUDA_LATENT_VALUE 512

/* Between the products and attention, for each row: the latent normed, its last n_rot elements
 * rotated, and all of it narrowed into the cache; the last n_rot elements of each head's query,
 * rotated, behind the absorbed part of it. */
struct kern_cuda_latent_store_args {
    struct kern_cuda_kv kv;
    const float *latent;  /* rows of n_latent + n_rot; NULL: nothing is stored */
    size_t latent_stride; /* floats, as all below */
    const float *norm;    /* n_latent weights of an RMS norm */
    float eps;
    const float *q; /* rows of n_head vectors of head_dim, from the first head of these on */
    size_t q_stride;
    float *to; /* rows of n_head vectors of n_latent + n_rot */
    size_t to_stride;
    const float *cs; /* rows of n_rot (kern_cuda_rope_fn) */
    size_t cs_stride;
    int32_t rope_pairs; /* pairs (2i, 2i + 1), else halves */
    int32_t n_head, head_dim, n_latent, n_rot;
    const struct kern_cuda_batch *batch;
};
typedef int32_t kern_cuda_latent_store_fn(const struct kern_cuda_latent_store_args *args,
                                          void *stream);

/* Attention as kern_cuda_attn_fn has it, where n_head_kv is 1, kv.v is kv.k and v_slot is k_slot.
 * `store` is NULL, scratch of latent_scratch() bytes. */

/* For steps of up to n_vectors query vectors; `fixed`: with parts at fixed places. */
size_t kern_cuda_latent_scratch(int32_t head_dim_v, int32_t n_vectors, int32_t fixed);

struct kern_cuda_latent {
    size_t (*scratch)(int32_t head_dim_v, int32_t n_vectors, int32_t fixed);
    kern_cuda_latent_store_fn *store;
    kern_cuda_attn_fn *attend;
};

kern_cuda_latent_store_fn kern_cuda_latent_store;
kern_cuda_attn_fn kern_cuda_latent_attend;

#endif
