/* Attention of heads of 512 elements, keys and values (attn_wide_launch.cuh): those of Gemma 4's
 * global layers. A tile of 16 or 64 query vectors of a KV head is rows by heads, as in attn.cuh. */
#include "kernels/cuda/attn_wide_launch.cuh"

size_t kern_attn_wide_scratch(bool fixed)
{
    return STATS_AT + vectors_of(fixed) * (WIDTH_V + 2) * sizeof(float);
}

int32_t kern_attn_wide(struct attn_params *p, void *stream)
{
    if (!p->a.scratch || p->a.part % ATTN_PART_GRAIN ||
        p->a.scratch_bytes < kern_attn_wide_scratch(p->a.part > 0))
        return cudaErrorInvalidConfiguration;
    return attend<ATTN_WIDE>(p, stream);
}
