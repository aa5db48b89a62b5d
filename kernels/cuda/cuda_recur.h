/* Launchers of the kernels of recurrent layers; the rules are those of cuda_kernels.h, which
 * includes this. A state is what kernels/ref/ssm.c and lib/model/recurrent.h say: the last inputs
 * of the convolution, then a matrix a head; it lies in the block that a sequence's table begins
 * with. Rows of a sequence go in order, and where they are cut into calls changes no bit; nor do
 * other sequences. */
#ifndef KERNELS_CUDA_CUDA_RECUR_H
#define KERNELS_CUDA_CUDA_RECUR_H

/* Where vectors of rows lie: that of head h at x + row * stride + (h / ratio) * outer + (h % ratio)
 * * inner, where heads share groups by `ratio`; that of group g at x + row * stride + g * outer. */
struct kern_cuda_recur_part {
    const float *x;
    size_t stride; /* floats, as all here */
    int32_t outer, inner;
};

/* What the scan of Mamba 2 (kern_scan_args) and the gated delta rule (kern_delta_args) have in
 * common goes by one name: C and queries read from a state, B and keys write into it, x and values
 * are what is written. They are taken as the projection gave them: the convolution with its SiLU
 * (kern_conv_args) is part of the kernels. */
struct kern_cuda_recur_args {
    uint8_t *states; /* of block 0 */
    size_t block_stride;
    const int32_t *tables; /* block of sequence s at tables[s * table_stride] */
    int32_t table_stride;
    int32_t n_channels, width;           /* of the convolution */
    const float *conv, *bias;            /* [n_channels][width]; n_channels or NULL */
    int32_t read_at, write_at, value_at; /* first channels */
    /* Of groups, of groups, of heads. */
    struct kern_cuda_recur_part read, write, value;
    /* One number a head: time steps or decays; strengths (delta alone). */
    struct kern_cuda_recur_part step, strength;
    const float *a, *dt_bias, *d; /* n_head; the last two or NULL */
    float scale, eps;             /* delta: of queries; of the lengths */
    int32_t n_head, n_group;
    int32_t dim;   /* of a head's value: head_dim or v_dim */
    int32_t depth; /* d_state or k_dim, at most KERN_DELTA_KEY_MAX */
    int32_t tiled; /* delta: head h is of group h % n_group */
    float *y;      /* rows of n_head * dim */
    const struct kern_cuda_batch *batch;
};

/* y and the matrices of all sequences; what the convolution carries is left as it is. */
typedef int32_t kern_cuda_recur_fn(const struct kern_cuda_recur_args *args, void *stream);

/* Behind it: y gated and normalised, as rows_type, and what the convolution carries on. y is cut
 * into units of n: heads, or groups. Q8 only where n is a multiple of 32, F8 never
 * (cudaErrorInvalidValue). */
struct kern_cuda_recur_finish_args {
    const struct kern_cuda_recur_args *recur;
    struct kern_cuda_recur_part z; /* of units in the place of heads */
    int32_t n_units, n;
    int32_t gate_first; /* norm(y * silu(z)), else norm(y) * silu(z) */
    const float *norm;  /* weights; NULL: no norm */
    int32_t norm_step;  /* from a unit's weights to the next one's */
    float norm_eps;
    void *out;         /* may be y as F32 */
    size_t out_stride; /* bytes */
    int32_t rows_type;
};
typedef int32_t kern_cuda_recur_finish_fn(const struct kern_cuda_recur_finish_args *args,
                                          void *stream);

struct kern_cuda_recur {
    kern_cuda_recur_fn *scan, *delta;
    kern_cuda_recur_finish_fn *finish;
};

kern_cuda_recur_fn kern_cuda_recur_scan;
kern_cuda_recur_fn kern_cuda_recur_delta;
kern_cuda_recur_finish_fn kern_cuda_recur_finish;

#endif
