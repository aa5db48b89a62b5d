/* A step of one row of one sequence as one kernel (cuda_kernels.h). */
#ifndef KERNELS_CUDA_CUDA_MEGA_H
#define KERNELS_CUDA_CUDA_MEGA_H

#include <stddef.h>
#include <stdint.h>

/* An operation of a step of one row: a product of few rows, or attention with what it stores. */
struct kern_cuda_mega_op {
    uint64_t words[128];
};

/* The choice behind them: ids[0] and (*to)[0] become the first of the largest of n numbers
 * cap * tanh(scale * x / cap) (kern_cuda_logits_fn), as kern_cuda_argmax_fn has it. n 0: none. */
struct kern_cuda_mega_choice {
    const float *x;
    float scale, cap;
    int32_t n;
    int32_t *ids;
    int32_t *const *to; /* or NULL */
};

/* Operations in the order of the step, in memory of the host. */
struct kern_cuda_mega_plan {
    struct kern_cuda_mega_op *ops;
    int32_t n_ops, room;
    int32_t in_product; /* operations of the product that is recorded */
    int32_t head_dim;   /* of all attention; 0: none yet */
    size_t rest_bytes;  /* of shared memory beside the weights that are on their way */
    struct kern_cuda_mega_choice choice;
};

/* Puts launchers into the table that launch nothing, but add to the plan that they are given as
 * stream; cudaErrorNotSupported where there is no such operation, or no room. */
struct kern_cuda;
typedef void kern_cuda_mega_record_fn(struct kern_cuda *table);

struct kern_cuda_mega {
    const struct kern_cuda_mega_op *ops; /* the plan's, on the card, on 16 bytes */
    uint64_t *arrived; /* two words on the card, 0 at first, and of no other use; not shared by
                          launches that may overlap, nor by plans of another number of blocks */
    int32_t n_ops, n_blocks;
    int32_t head_dim;
    size_t shared_bytes;
    struct kern_cuda_mega_choice choice;
};

/* Ends a plan, whose operations can then be copied to the card: all of *out but what lies there.
 * cudaErrorNotSupported: the card cannot hold the blocks all at once. */
typedef int32_t kern_cuda_mega_fit_fn(struct kern_cuda_mega *out, struct kern_cuda_mega_plan *plan);

/* Does the plan's operations in one cooperative launch; with a smaller n_ops, its first ones. */
typedef int32_t kern_cuda_mega_fn(const struct kern_cuda_mega *mega, void *stream);

#endif
