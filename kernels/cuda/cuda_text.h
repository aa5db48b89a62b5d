/* Launchers of the kernels that encoders and embeddings have to themselves; the rules are those of
 * cuda_kernels.h, which includes this. Texts lie one behind the other, without padding. */
#ifndef KERNELS_CUDA_CUDA_TEXT_H
#define KERNELS_CUDA_CUDA_TEXT_H

/* x = norm(x + types[type_of[row]] + more) in place for n_rows rows of n. */
struct kern_cuda_text_embed_args {
    float *x;
    const float *types;     /* n_types rows of n, or NULL */
    const int32_t *type_of; /* by row; those beyond n_types are the last */
    int32_t n_types;
    const float *more;  /* rows of n: what positions add; or NULL */
    const float *w, *b; /* of the norm; w NULL: there is none */
    int32_t n_rows, n;
    int32_t layer; /* non-zero: layer norm, else RMS */
    float eps;
};
typedef int32_t kern_cuda_text_embed_fn(const struct kern_cuda_text_embed_args *args, void *stream);

/* The first n_rot elements of n_heads heads that lie side by side at x + row * stride are turned in
 * place by rows of kern_cuda_rope_fn. `pairs`: (2i, 2i + 1), else halves (i, i + n_rot / 2). */
typedef int32_t kern_cuda_text_rotate_fn(float *x, size_t stride, const float *cs, int32_t n_rows,
                                         int32_t n_heads, int32_t head_dim, int32_t n_rot,
                                         int32_t pairs, void *stream);

/* Queries of a text that a block of threads takes. */
#define KERN_CUDA_TEXT_QUERIES  64
#define KERN_CUDA_TEXT_HEAD_MAX 128

/* Queries first .. first + KERN_CUDA_TEXT_QUERIES - 1, as far as they go, of the text of n rows
 * from `row` on. */
struct kern_cuda_text_tile {
    int32_t row, n, first;
};

/* Attention as kern_attn_text_args defines it, for all heads of all texts: products of rows of
 * F32. A row's bits depend on its text alone. */
struct kern_cuda_text_args {
    const float *q, *k, *v;              /* heads side by side */
    size_t stride;                       /* floats from a row to the next of each of them */
    void *out;                           /* rows of n_head * head_dim */
    size_t out_stride;                   /* bytes */
    int32_t out_rows;                    /* KERN_CUDA_ROWS_F32 or _BF16 */
    int32_t n_head, n_head_kv, head_dim; /* head_dim at most KERN_CUDA_TEXT_HEAD_MAX */
    int32_t reach;
    float scale;
    int32_t alibi; /* non-zero: the slopes of ALiBi */
    int32_t exact; /* factors keep their 24 bits; else they become F16, whose largest number stands
                      for larger ones */
    const struct kern_cuda_text_tile *tiles;
    int32_t n_tiles;
};
typedef int32_t kern_cuda_text_attend_fn(const struct kern_cuda_text_args *args, void *stream);

/* Rows row .. row + n_rows - 1 as one: scale times their sum, or their largest elements. No rows:
 * zeros. */
struct kern_cuda_text_fold {
    int32_t row, n_rows;
    int32_t largest;
    float scale;
};
/* out[i] of n floats from folds[i]; sums are taken in double. Both may lie in memory of the host
 * that the card reaches. */
typedef int32_t kern_cuda_text_pool_fn(float *out, const float *x,
                                       const struct kern_cuda_text_fold *folds, int32_t n_folds,
                                       int32_t n, void *stream);

struct kern_cuda_text {
    kern_cuda_text_embed_fn *embed;
    kern_cuda_text_rotate_fn *rotate;
    kern_cuda_text_attend_fn *attend;
    kern_cuda_text_pool_fn *pool;
};

kern_cuda_text_embed_fn kern_cuda_text_embed;
kern_cuda_text_rotate_fn kern_cuda_text_rotate;
kern_cuda_text_attend_fn kern_cuda_text_attend;
kern_cuda_text_pool_fn kern_cuda_text_pool;

#endif
