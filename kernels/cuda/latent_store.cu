/* In front of latent attention: what the cache keeps of a row, and the rotated part of its queries.
 * A warp takes the row's latent, others a head each. */
#include "kernels/cuda/store.cuh"

#define WARPS 4

struct latent_job {
    struct kern_cuda_latent_store_args args;
    const int32_t *seq_of, *pos;
};

/* n_pairs of one vector, in double as store_rope(). */
static __device__ __forceinline__ void rotate(float *to, const float *from, const float *cs,
                                              int n_rot, int pairs)
{
    const int n_pairs = n_rot / 2;
    for (int i = threadIdx.x % KERN_WARP; i < n_pairs; i += KERN_WARP) {
        const int a = pairs ? 2 * i : i, b = pairs ? a + 1 : i + n_pairs;
        const double va = (double)from[a], vb = (double)from[b];
        const double c = (double)cs[i], s = (double)cs[n_pairs + i];
        to[a] = (float)(va * c - vb * s);
        to[b] = (float)(va * s + vb * c);
    }
}

static __device__ __forceinline__ void keep_latent(const struct latent_job &job, float *x,
                                                   size_t row, const float *cs, int sequence)
{
    const struct kern_cuda_latent_store_args &a = job.args;
    const int position = job.pos[row], tokens = a.kv.block_tokens;
    uint8_t *page = store_page_of(&a.kv, sequence, position, false);
    store_copy(x, a.latent + row * a.latent_stride, a.n_latent + a.n_rot, threadIdx.x % KERN_WARP,
               KERN_WARP);
    __syncwarp();
    store_norm_one(x, a.norm, a.n_latent, 0, a.eps);
    store_rope(x + a.n_latent, cs, a.n_rot, a.rope_pairs);
    store_narrow(page + (size_t)(position % tokens) * a.kv.k_slot, x, a.n_latent + a.n_rot,
                 a.kv.type);
}

static __global__ void __launch_bounds__(WARPS *KERN_WARP, 8)
    latent_store(const __grid_constant__ struct latent_job job)
{
    KERN_SHARED_BYTES(shared);
    const struct kern_cuda_latent_store_args &a = job.args;
    const int stored = a.latent != NULL;
    const int head = (int)blockIdx.y * WARPS + (int)threadIdx.x / KERN_WARP - stored;
    const size_t row = blockIdx.x;
    kern_release();
    kern_wait();
    const int sequence = job.seq_of[row];
    const float *cs = a.cs + row * a.cs_stride;
    if (sequence < 0 || head >= a.n_head)
        return;
    if (head < 0)
        keep_latent(job, (float *)shared, row, cs, sequence);
    else
        rotate(a.to + row * a.to_stride + (size_t)head * (a.n_latent + a.n_rot) + a.n_latent,
               a.q + row * a.q_stride + (size_t)(head + 1) * a.head_dim - a.n_rot, cs, a.n_rot,
               a.rope_pairs);
}

extern "C" int32_t kern_cuda_latent_store(const struct kern_cuda_latent_store_args *args,
                                          void *stream)
{
    struct latent_job job = {};
    job.args = *args;
    job.seq_of = args->batch->seq_of;
    job.pos = args->batch->pos;
    if (args->batch->n_rows <= 0)
        return 0;
    const int32_t vectors = args->n_head + (args->latent != NULL);
    return kern_launch(
        latent_store,
        dim3((unsigned)args->batch->n_rows, (unsigned)((vectors + WARPS - 1) / WARPS)),
        dim3(WARPS * KERN_WARP), (size_t)(args->n_latent + args->n_rot) * sizeof(float), stream,
        job);
}
