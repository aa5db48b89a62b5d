/* Attention of a few rows of each sequence as a kernel of its own (attn_decode.cuh). */
#include "kernels/cuda/attn_decode.cuh"

#include <cuda_runtime_api.h>

/* Ahead of the wait are read: what describes the step, and keys and values of earlier steps. A step
 * begins with a copy of its description, or with a kernel that brings it in (step.cu); behind that
 * its first kernel of the layers waits for all that was before, and lets no other start until it
 * has waited (product.rows, of the embedding). So no later kernel of the step starts ahead of that;
 * none writes the description, and its own rows, from first_pos on, are all that it stores in the
 * cache.
 */
template <attn_kind kind, int d, bool few>
static __global__ void __launch_bounds__(ATTN_THREADS, 2) decode(struct attn_params p, int stages)
{
    KERN_SHARED_BYTES(shared);
    struct attn_work w;
    struct attn_tiles t;
    kern_release();
    if (!attn_work_of(p, few ? 8 : 16, ATTN_WARPS * ATTN_KEYS, &w)) {
        kern_wait();
        return;
    }
    const int fetched = attn_begin<kind, d, few>(p, w, shared, stages, t);
    kern_wait();
    attn_finish<kind, d, few, ATTN_THREADS>(p, w, shared, t, fetched);
}

/* Fewer tiles on their way where a card has too little shared memory. */
template <attn_kind kind, int d, bool few>
static int32_t launch(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    const dim3 grid(p->n_tiles * p->n_splits, p->a.n_head_kv, n_seqs);
    int32_t error = 0;
    for (int stages = attn_stages(d); stages >= 2; stages--) {
        error = kern_launch(decode<kind, d, few>, grid, dim3(ATTN_THREADS),
                            attn_shared<kind, d, few>(stages), stream, *p, stages);
        if (error != cudaErrorInvalidValue)
            break;
    }
    return error;
}

template <attn_kind kind, bool few>
static int32_t launch_kind(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    switch (p->a.head_dim) {
    case 64:
        return launch<kind, 64, few>(p, n_seqs, stream);
    case 96:
        return launch<kind, 96, few>(p, n_seqs, stream);
    case 128:
        return launch<kind, 128, few>(p, n_seqs, stream);
    default:
        return launch<kind, 256, few>(p, n_seqs, stream);
    }
}

template <bool few>
static int32_t launch_type(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    switch (p->a.kv.type) {
    case INFER_DTYPE_BF16:
        return launch_kind<ATTN_BF16, few>(p, n_seqs, stream);
    case INFER_DTYPE_F16:
        return launch_kind<ATTN_F16, few>(p, n_seqs, stream);
    case INFER_DTYPE_F8_E4M3:
        return launch_kind<ATTN_F8, few>(p, n_seqs, stream);
    case INFER_DTYPE_Q8_0:
        return launch_kind<ATTN_Q8, few>(p, n_seqs, stream);
    default:
        return launch_kind<ATTN_Q4, few>(p, n_seqs, stream);
    }
}

int32_t kern_attn_decode_few(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    return launch_type<true>(p, n_seqs, stream);
}

int32_t kern_attn_decode(const struct attn_params *p, int32_t n_seqs, void *stream)
{
    return launch_type<false>(p, n_seqs, stream);
}
