/* Launchers of what experts need beside products; the rules are those of cuda_kernels.h, which
 * includes this. */
#ifndef KERNELS_CUDA_CUDA_MOE_H
#define KERNELS_CUDA_CUDA_MOE_H

/* Choice of experts as model_moe_choose() defines it, for rows of n_experts scores, 512 at most. */
struct kern_cuda_route_args {
    const float *scores;     /* products of the router */
    const float *correction; /* n_experts, or NULL */
    int32_t *chosen;         /* rows of n_used, best first */
    float *weights;          /* the same shape */
    int32_t n_rows, n_experts, n_used, n_groups, n_groups_used;
    int32_t sigmoid, topk_softmax, sum; /* gating; weights divided by their sum */
    float router_scale, expert_scale;
    /* The gate of a shared expert, by a block of its own: gate[i] = sigmoid(norm(x) . gate_w) for
     * row i of x, rows of n; the norm is RMS, its weights NULL: x as it is. gate NULL: none. */
    float *gate;
    const float *gate_w, *x, *norm;
    size_t x_stride; /* floats */
    int32_t n;
    float eps;
};
typedef int32_t kern_cuda_route_fn(const struct kern_cuda_route_args *args, void *stream);

/* Counting sort of n_rows * n_used slots by expert: first[n_experts + 1]; of sorted slot s the row
 * from[s] and of (row, use) the sorted slot at slot_of[]. Rows of one expert keep their order. */
typedef int32_t kern_cuda_sort_fn(int32_t *first, int32_t *from, int32_t *slot_of,
                                  const int32_t *chosen, int32_t n_rows, int32_t n_used,
                                  int32_t n_experts, void *stream);

/* What the experts' layer adds to the stream: x = (x + scale * norm(sum + beside)) * factor, where
 * row i of sum is norm(sum over uses u in order of weights[i][u] * experts[slot]),
 * slot = slot_of ? slot_of[i][u] : i * n_used + u, and beside is normed as well. Norms are RMS,
 * each left out where it has no weights. A row without any is shared by blocks; else it has one
 * block, which keeps two rows in shared memory (cudaErrorInvalidValue where they have no room). */
struct kern_cuda_combine_args {
    float *x;
    const float *experts;
    const float *weights; /* NULL: 1 */
    const int32_t *slot_of;
    const float *beside;             /* rows of n, or NULL: nothing */
    const float *norm;               /* of the sum of both */
    const float *sum_norm, *by_norm; /* of the experts' sum, and of beside */
    float eps, scale, factor;
    int32_t n_rows, n_used, n;
};
typedef int32_t kern_cuda_combine_fn(const struct kern_cuda_combine_args *args, void *stream);

kern_cuda_route_fn kern_cuda_moe_route;
kern_cuda_sort_fn kern_cuda_moe_sort;
kern_cuda_combine_fn kern_cuda_moe_combine;

#endif
