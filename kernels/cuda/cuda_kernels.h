/* Launchers of the CUDA kernels. Each puts its work into `stream` (a cudaStream_t) and returns
 * at once: 0, or the cudaError_t of the launch. Pointers are device memory but where a struct is
 * passed: it is read before the launcher returns. Nothing here allocates or waits, so that all of
 * it can be captured into a graph; what changes from step to step is read from device memory.
 *
 * Activations are F32 rows unless said otherwise. Rows wanted by products of many rows are BF16 or
 * Q8 (kern_act_q8_fn), by cuBLASLt BF16 or F8; KERN_CUDA_ROWS_* names the form of rows. */
#ifndef KERNELS_CUDA_CUDA_KERNELS_H
#define KERNELS_CUDA_CUDA_KERNELS_H

#include "kernels/cuda/cuda_vector.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks of the KV cache hold at least so many tokens. */
#define KERN_CUDA_BLOCK_TOKENS_MIN 16

/* F8: codes of E4M3 of blocks of 128 (a row is whole blocks) whose largest magnitude becomes 448.
 * Of m rows, with r = m rounded up to 4, behind r rows of codes the scales of all: that of block b
 * of row i is float b * r + i there. Rows beyond m are zeros. A block with a NaN or an infinity has
 * the scale NaN. */
enum {
    KERN_CUDA_ROWS_F32,
    KERN_CUDA_ROWS_BF16,
    KERN_CUDA_ROWS_Q8,
    KERN_CUDA_ROWS_F8,
    KERN_CUDA_ROWS_FORMS
};

/* ----------------------------------------------------------------- matrices */

/* How the blocks of a type lie on the card. A block of the file is cut in two: `body_bytes` from
 * body_at on, a multiple of 16, so that wide loads are aligned, and the side: the bytes before the
 * body, then those behind it. Rows of bodies and rows of sides start on 16 bytes. Types without a
 * good cut have no side and keep the file's blocks (F32, F16 and BF16: blocks of one element). */
struct kern_cuda_layout {
    uint16_t block_bytes, block_elements;
    uint16_t body_at, body_bytes, side_bytes;
};

/* NULL: no product on the card for this type. */
const struct kern_cuda_layout *kern_cuda_layout_of(infer_dtype type);

/* A matrix of n outputs of k inputs, k whole blocks. */
struct kern_cuda_matrix {
    const uint8_t *body; /* row r at body + r * body_stride */
    const uint8_t *side; /* row r at side + r * side_stride; NULL: the type has none */
    size_t body_stride, side_stride;
    int32_t n, k;
    infer_dtype type;
};

/* Row strides of a matrix with k inputs. */
static inline size_t kern_cuda_body_stride(const struct kern_cuda_layout *l, int32_t k)
{
    return BASE_ALIGN_UP((size_t)k / l->block_elements * l->body_bytes, (size_t)16);
}

static inline size_t kern_cuda_side_stride(const struct kern_cuda_layout *l, int32_t k)
{
    return BASE_ALIGN_UP((size_t)k / l->block_elements * l->side_bytes, (size_t)16);
}

/* Rows first .. first + n - 1 of m from rows of the file, src_stride bytes apart on the card. */
typedef int32_t kern_cuda_split_fn(const struct kern_cuda_matrix *m, const void *src,
                                   size_t src_stride, int32_t first, int32_t n, void *stream);

/* Rows `ids` (n_ids of them; NULL: rows first .. first + n_ids - 1) of m as y: F32 or BF16 rows
 * of k, times `scale`. */
typedef int32_t kern_cuda_rows_fn(void *y, int32_t rows_type, const struct kern_cuda_matrix *m,
                                  const int32_t *ids, int32_t first, int32_t n_ids, float scale,
                                  void *stream);

/* y = (y + scale * row) * factor for rows `ids` of m, F32 rows of k. */
typedef int32_t kern_cuda_add_rows_fn(float *y, const struct kern_cuda_matrix *m,
                                      const int32_t *ids, int32_t n_ids, float scale, float factor,
                                      void *stream);

/* Scales of rows first .. first + n - 1 of a matrix of F8_128 as cuBLASLt wants them: that of block
 * b of row first + r becomes y[b * n + r]. */
typedef int32_t kern_cuda_scales_fn(float *y, const struct kern_cuda_matrix *m, int32_t first,
                                    int32_t n, void *stream);

/* ----------------------------------------------------------------- products */

enum {
    KERN_CUDA_ACT_NONE,
    KERN_CUDA_ACT_SILU,
    KERN_CUDA_ACT_GELU,
    KERN_CUDA_ACT_GELU_TANH,
    KERN_CUDA_ACT_RELU,
    KERN_CUDA_ACT_RELU2,
    KERN_CUDA_ACT_SWIGLU_OAI
};

struct kern_cuda_part {
    struct kern_cuda_matrix w;
    const float *bias; /* n floats, or NULL */
    float *y;          /* element (i, r) at y[i * y_stride + r] */
    size_t y_stride;   /* floats */
};

/* Ways of a product of few rows that change no result, to be measured against each other. */
enum {
    KERN_CUDA_FEW_BESIDE = 1, /* leaves room for the block of another kernel, however wide x is */
    KERN_CUDA_FEW_AHEAD = 2,  /* asks for more weights than it has room for before x is there */
    KERN_CUDA_FEW_ONCE = 4    /* weights are the first to leave the chip's cache */
};

#define KERN_CUDA_PARTS 3
/* Rows of x that the kernel which reads weights once for a few rows takes. */
#define KERN_CUDA_FEW_ROWS 8

/* y = scale * norm(x) . w^T (+ bias) (+ y) for m <= KERN_CUDA_FEW_ROWS rows: weights are read once,
 * x is kept in shared memory. Several parts read the same x; their types may differ.
 * Quantised weights: x is quantised as kern_act_q8_fn does and products are summed in integers
 * (batch-invariant, and equal to kernels/ref but for the order of sums over blocks). Other types:
 * x stays F32. A row's bits do not depend on m. */
struct kern_cuda_few_args {
    struct kern_cuda_part parts[KERN_CUDA_PARTS];
    int32_t n_parts, m;
    const float *x;
    size_t x_stride;   /* floats */
    const float *norm; /* k weights of an RMS norm over x, or NULL: x as it is */
    float eps;
    int32_t accumulate; /* y += */
    int32_t act; /* KERN_CUDA_ACT_*: parts 0 and 1 are gate and up (same n), and part 0's y becomes
                    act(gate) * up; with n_parts 1: act(y). NONE: plain */
    const float *up;  /* with an act, n_parts 1 and without accumulate: y = act(y) * up; or NULL */
    size_t up_stride; /* floats */
    const float *out_scale; /* one number for each row (device), or NULL: 1 */
    /* Experts: row i of y is multiplied by rows expert[i] * w.n .. of w (w.n: of one expert), x row
     * i / x_div; bias and part_scale are of each expert. NULL: one matrix. m has no bound then. */
    const int32_t *expert;
    const float *part_scale[KERN_CUDA_PARTS]; /* by expert (the first without experts), or NULL */
    int32_t x_div;
    uint32_t ways; /* KERN_CUDA_FEW_* */
};
typedef int32_t kern_cuda_few_fn(const struct kern_cuda_few_args *args, void *stream);

/* y = x . w^T (+ bias) (+ y) for any m with tensor cores, best for some tens of rows. x has the
 * form that many_rows() names for the type. A row's bits do not depend on m. */
struct kern_cuda_many_args {
    struct kern_cuda_matrix w;
    const float *bias;
    const void *x; /* rows of w.k, x_stride BYTES apart, on 16 bytes */
    size_t x_stride;
    float *y;
    size_t y_stride; /* floats */
    int32_t m;
    int32_t accumulate;
    /* Experts: rows first[e] .. first[e + 1] - 1 of x (device, n_experts + 1) belong to matrix e;
     * NULL: one matrix. m is then the number of all rows. Row i of x is x row from[i] where `from`
     * is not NULL. */
    const int32_t *first, *from;
    int32_t n_experts;
    /* Rows that are cut into pieces, each of which has a matrix of its own (heads): row i of matrix
     * e < n_experts is row i * x_each + e of x and row i * y_each + e of y; m of each, `first` and
     * `from` are NULL. x_each 0: not so. */
    int32_t x_each, y_each;
    const float *part_scale; /* by expert (the first without experts), or NULL */
    void *scratch;           /* many_scratch() bytes, or NULL where that is 0; zeroed once at start
                                by the caller; tickets are left zeroed, sums behind them not */
};
typedef int32_t kern_cuda_many_fn(const struct kern_cuda_many_args *args, void *stream);

/* KERN_CUDA_ROWS_* that products of many rows take for a weight type; -1: they do not take it. */
int32_t kern_cuda_many_rows(infer_dtype type);
/* For any number of rows up to m. */
size_t kern_cuda_many_scratch(int32_t n, int32_t k, int32_t m);

/* ------------------------------------------------------------- rows of vectors */

/* y = norm(x) (as kern_norm.rms; layer: as kern_norm.layer) for n_rows rows of n, stored as
 * rows_type. y may be x where it is F32. w and b may be NULL. Rows become Q8 only where n is a
 * multiple of 32 (F8: of 128) and all that is read and written starts on 16 bytes
 * (cudaErrorInvalidValue). */
struct kern_cuda_norm_args {
    void *y;
    size_t y_stride; /* bytes */
    const float *x;
    size_t x_stride; /* floats */
    const float *w, *b;
    int32_t n_rows, n, rows_type;
    int32_t layer; /* non-zero: layer norm, else RMS */
    float eps;
    float *keep; /* F32 rows of n that become the same, and may be x; or NULL */
    /* Experts: so many rows that follow each other are made of one of x (0: 1), each multiplied by
     * a number of its own (NULL: 1). */
    int32_t x_div;
    const float *factor;
    int32_t plain; /* no norm: x as it is */
};
typedef int32_t kern_cuda_norm_fn(const struct kern_cuda_norm_args *args, void *stream);

/* x as rows_type; no norm. Q8 as in kern_cuda_norm_args, here and below. */
typedef int32_t kern_cuda_convert_fn(void *y, size_t y_stride, int32_t rows_type, const float *x,
                                     size_t x_stride, int32_t n_rows, int32_t n, void *stream);

/* y = act(gate) * up (up NULL: act(gate)) as rows_type, for rows of n. */
struct kern_cuda_gate_args {
    void *y;
    size_t y_stride; /* bytes */
    int32_t rows_type;
    const float *gate, *up;
    size_t stride, up_stride; /* floats */
    const float *factor;      /* a number that each row is multiplied by, or NULL: 1 */
    int32_t act, n_rows, n;
};
typedef int32_t kern_cuda_gate_fn(const struct kern_cuda_gate_args *args, void *stream);

/* x = (x + scale * (w ? norm(branch) * w : branch)) * factor for rows of n; the norm as in
 * kern_cuda_norm_args. */
struct kern_cuda_join_args {
    float *x;
    const float *branch, *w, *b;
    int32_t layer;
    float eps, scale, factor;
    int32_t n_rows, n;
};
typedef int32_t kern_cuda_join_fn(const struct kern_cuda_join_args *args, void *stream);

/* y += bias for rows of n, `stride` floats apart. */
typedef int32_t kern_cuda_bias_fn(float *y, size_t stride, const float *bias, int32_t n_rows,
                                  int32_t n, void *stream);

/* y[i] = x[ids[i]] for n_ids rows of n floats. */
typedef int32_t kern_cuda_gather_fn(float *y, const float *x, const int32_t *ids, int32_t n_ids,
                                    int32_t n, void *stream);

/* y = cap * tanh(scale * x / cap), cap 0: scale * x, in place over n numbers. */
typedef int32_t kern_cuda_logits_fn(float *x, float scale, float cap, size_t n, void *stream);

/* ids[i] = the first of the largest of row i of n; -1 where a row has a NaN, or the largest is no
 * finite number. */
typedef int32_t kern_cuda_argmax_fn(int32_t *ids, const float *x, int32_t n_rows, int32_t n,
                                    void *stream);

/* ------------------------------------------------------------------ sampling */

/* Tokens of a vocabulary at most, and of a list of the most likely ones. */
#define KERN_CUDA_SAMPLE_VOCAB_MAX (1 << 20)
#define KERN_CUDA_SAMPLE_TOP_MAX   64

enum { KERN_CUDA_PICK_NONE, KERN_CUDA_PICK_BEST, KERN_CUDA_PICK_DRAW };

/* What is wanted of a row; as struct sample_params, resolved. Lists lie in a pool of 8-byte words
 * that all rows share, `_at` is their first word there. A token is in each list once at most. */
struct kern_cuda_sample_row {
    uint64_t seed, sequence, position; /* of the random number */
    float scale;                       /* 1 / temperature, finite; of DRAW as what follows */
    float top_p, min_p;                /* 1 and 0: off */
    float repetition, frequency, presence;
    int32_t kind;  /* KERN_CUDA_PICK_*; NONE: the row is left alone, its token is -1 */
    int32_t top_k; /* 0: off */
    int32_t n_top; /* likely tokens to report, at most the vocabulary */
    int32_t logprob;
    uint32_t bias_at, n_bias;     /* struct kern_cuda_sample_bias */
    uint32_t counts_at, n_counts; /* struct kern_cuda_sample_count */
    uint32_t mask_at, masked;     /* masked: a bit for each token of the vocabulary, set: allowed */
};

struct kern_cuda_sample_bias {
    int32_t token;
    float bias;
};

struct kern_cuda_sample_count {
    int32_t token;
    uint32_t count; /* twice how often it was drawn, plus one if the repetition penalty sees it */
};

struct kern_cuda_sample_top {
    int32_t token;
    float logprob;
};

/* The token of each row as sampler_run() chooses it, -1 where it would fail (a NaN, nothing left to
 * choose from). Weights are integers of 2^-43 of the most likely token's: the token is the
 * host's but where the number drawn falls on an edge within the rounding of its sums. Log-
 * probabilities are of the logits as they are given; logits are changed meanwhile and put back. */
struct kern_cuda_sample_args {
    float *logits; /* n_rows of n */
    int32_t n_rows, n;
    const struct kern_cuda_sample_row *rows;
    const uint64_t *pool;
    float *saved; /* as many floats as the pool has words */
    /* What comes out, each a row's. The card may write to the host. */
    int32_t *ids;
    float *logprobs;
    struct kern_cuda_sample_top *top; /* rows of top_stride; NULL where no row wants them */
    int32_t top_stride;
};
typedef int32_t kern_cuda_sample_fn(const struct kern_cuda_sample_args *args, void *stream);

/* ------------------------------------------------------------------ the batch */

/* What a step computes, on the card. Rows of a sequence follow each other. A graph is captured for
 * a number of sequences and rows; those beyond the step's own have n_rows 0 and seq_of -1. */
struct kern_cuda_seq {
    int32_t first_pos, row, n_rows;
};

struct kern_cuda_batch {
    const int32_t *tokens; /* by row */
    const int32_t *seq_of; /* by row; -1: nothing is stored for the row */
    const int32_t *pos;    /* by row */
    const struct kern_cuda_seq *seqs;
    int32_t n_rows, n_seqs;
    int32_t seq_rows;   /* rows of a sequence at most */
    int32_t seq_length; /* positions of a sequence at most: bounds what is split */
};

/* cs[row] = n_pairs cosines, then n_pairs sines of pos * frequency, times `magnitude`; `far` (or
 * NULL) holds the frequencies from position n_near on. Angles in double, as model_rope_row(). */
typedef int32_t kern_cuda_rope_fn(float *cs, const int32_t *pos, int32_t n_rows,
                                  const double *frequency, const double *far, int32_t n_near,
                                  int32_t n_pairs, float magnitude, void *stream);

/* The KV cache of one group and layer (kern_attn_args says how a block lies). */
struct kern_cuda_kv {
    uint8_t *k, *v; /* block 0, this layer; v may be k */
    size_t block_stride, k_slot, v_slot;
    const int32_t *tables; /* blocks of sequence s at tables + s * table_stride */
    int32_t table_stride, block_tokens;
    infer_dtype type; /* F32, F16, BF16, Q8_0, Q4_1, F8_E4M3 */
};

/* Between the products and attention, for each row and head: gate parted from query, norm,
 * rotation, norm behind it, growth with the position, Hadamard rotation; keys and values narrowed
 * into the cache (kern_narrow_fn). Queries are changed in place, keys and values are not. Where
 * kv.v is kv.k values are not stored. A row's queries fit into shared memory where they have gates
 * or one norm is over them all. */
struct kern_cuda_store_args {
    struct kern_cuda_kv kv;
    float *q;           /* rows of n_head * head_dim, twice that with gates */
    size_t q_stride;    /* floats, as all below */
    float *gates;       /* rows of n_head * head_dim taken from between the heads of q, or NULL */
    const float *k, *v; /* v NULL: is k before its norm; k NULL: nothing is stored */
    size_t k_stride, v_stride;
    const float *cs; /* rows of n_rot, or NULL: not rotated */
    size_t cs_stride;
    const float *q_norm, *k_norm;     /* or NULL */
    int32_t q_norm_n, k_norm_n;       /* elements that one norm is over: head_dim, or all heads */
    int32_t q_norm_each, k_norm_each; /* non-zero: each head has weights of its own */
    int32_t norm_layer;               /* layer norm, else RMS */
    int32_t norm_late;                /* behind the rotation instead of before */
    int32_t unit;                     /* the norm (q_norm NULL: without weights) behind the rotation
                                         as well */
    int32_t v_norm;                   /* values too, without weights */
    float eps;
    int32_t rope_pairs; /* pairs (2i, 2i + 1), else halves (i, i + n_rot / 2) */
    int32_t n_head, n_head_kv, head_dim, head_dim_v, n_rot;
    int32_t rotated;  /* Hadamard: kern_rotate_fn */
    float grow_scale; /* > 0: q *= 1 + grow_scale * log1p(floor((pos + offset) / len)) */
    int32_t grow_offset, grow_length;
    const struct kern_cuda_batch *batch;
};
typedef int32_t kern_cuda_store_fn(const struct kern_cuda_store_args *args, void *stream);

/* Attention as kern_attn_args defines it, for all sequences of the batch. */
struct kern_cuda_attn_args {
    struct kern_cuda_kv kv;
    const float *q;
    size_t q_stride;    /* floats */
    void *out;          /* rows of n_head * head_dim_v */
    size_t out_stride;  /* bytes */
    int32_t out_rows;   /* KERN_CUDA_ROWS_F32 or _BF16 */
    const float *gates; /* out *= sigmoid(gates), rows of n_head * head_dim_v; or NULL */
    int32_t n_head, n_head_kv, head_dim, head_dim_v, window, chunk;
    float scale, softcap;
    const float *sinks;
    const struct kern_cuda_batch *batch;
    /* What shall be stored first, by the same kernel where it can; NULL: it has been. */
    const struct kern_cuda_store_args *store;
    void *scratch; /* attn_scratch() bytes, or those of attn_scratch_fixed(); zeroed once by the
                      caller and left zeroed where tickets are kept */
    size_t scratch_bytes;
    int32_t part; /* > 0: keys are summed up in parts that begin at multiples of so many (of 64), by
                     one kernel for all numbers of rows: bits of a row depend on nothing but the
                     row. 0: whatever is fastest */
};
typedef int32_t kern_cuda_attn_fn(const struct kern_cuda_attn_args *args, void *stream);

/* For n_seqs sequences of n_rows rows together. */
size_t kern_cuda_attn_scratch(int32_t n_head, int32_t head_dim_v, int32_t n_seqs, int32_t n_rows);
/* With parts at fixed places, for steps of up to n_rows rows. */
size_t kern_cuda_attn_scratch_fixed(int32_t n_head, int32_t head_dim_v, int32_t n_rows);

/* ------------------------------------------------------------------- experts */

#include "kernels/cuda/cuda_moe.h"

/* ------------------------------------------------------------------ adapters */

/* What an adapter adds to a matrix: y += scale * B (A x) (LoRA, arXiv:2106.09685). A: rank rows of
 * the matrix's inputs, B: a row of rank numbers for each output; F32, F16 or BF16. Rows start on 16
 * bytes and are zero from their last number to there. */
struct kern_cuda_lora_pair {
    const uint8_t *a, *b; /* a NULL: nothing is added */
    int32_t a_stride, b_stride;
    int32_t type_a, type_b; /* infer_dtype */
    int32_t rank;
    float scale;
};

/* Neighbouring rows under one adapter, whose pairs lie in a table on the card. */
struct kern_cuda_lora_segment {
    const struct kern_cuda_lora_pair *pairs;
    int32_t row, n_rows; /* n_rows 0: nothing to do */
};

/* All parts of a product for all segments (SGMV: Chen et al., arXiv:2310.18547; Sheng et al.,
 * arXiv:2311.03285): `down` makes A x, in sections of k that a row's rank and k alone decide, `up`
 * adds them up in order and adds B (A x) to y. Segments, pairs and scales are read on the card: the
 * launches depend on what stands here alone. Segments are written by nothing but what begins a
 * step, pairs by no kernel: both are read ahead of the kernel in front. Parts of a fused matrix
 * that share A compute its product once. */
struct kern_cuda_lora_args {
    const struct kern_cuda_lora_segment *segments;
    const float *scales; /* by row, times the pair's */
    int32_t n_segments;
    int32_t segment_rows, max_rank; /* of any segment and pair at most */
    int32_t tiles; /* by tensor cores, for segments of up to 64 rows: a few bits less, and sums of a
                      row in another order than without, which many segments change as well */
    int32_t n_parts, k;
    int32_t pair[KERN_CUDA_PARTS]; /* in the tables */
    int32_t n[KERN_CUDA_PARTS];
    float *y[KERN_CUDA_PARTS];
    size_t y_stride[KERN_CUDA_PARTS]; /* floats */
    const float *x;
    size_t x_stride;   /* floats */
    const float *norm; /* k weights of an RMS norm over x, or NULL: x as it is */
    float eps;
    float *t; /* kern_cuda_lora_row() floats for each row, on 16 bytes */
};
typedef int32_t kern_cuda_lora_fn(const struct kern_cuda_lora_args *args, void *stream);

/* Floats of t that a row needs where no rank is above max_rank; it does not fall with the rank. */
size_t kern_cuda_lora_row(int32_t max_rank);

/* ------------------------- latents, states, texts, a whole step: headers of their own */

#include "kernels/cuda/cuda_latent.h"
#include "kernels/cuda/cuda_mega.h"
#include "kernels/cuda/cuda_recur.h"
#include "kernels/cuda/cuda_text.h"

/* ---------------------------------------------------------- a step's begin and end */

/* Words from pinned memory of the host, which the card reads by itself, to the card: `rows` rows of
 * `width`, `pitch` apart on both sides. */
struct kern_cuda_words {
    int32_t *to;
    const int32_t *from;
    int32_t width, rows, pitch;
};

#define KERN_CUDA_PIECES 16

/* Brings in what a step of one row a sequence reads, in one launch and without a copy. Of its
 * n_rows tokens those with source[i] >= 0 are what the last step's head left in chosen[source[i]]
 * on the card (0 where it found none: nobody will ask what came of it), the others new_tokens[i].
 * source and new_tokens are pinned memory of the host. */
struct kern_cuda_begin_args {
    struct kern_cuda_words pieces[KERN_CUDA_PIECES];
    int32_t n_pieces, n_rows;
    int32_t *tokens;
    const int32_t *new_tokens, *source, *chosen;
};
typedef int32_t kern_cuda_begin_fn(const struct kern_cuda_begin_args *args, void *stream);

/* (*to)[i] = ids[i] for n numbers. `to` lies on the card, what it points to in pinned memory of the
 * host: so a graph, in which addresses are fixed, answers each time where that step asks. */
typedef int32_t kern_cuda_answer_fn(int32_t *const *to, const int32_t *ids, int32_t n,
                                    void *stream);

/* ------------------------------------------------------------------- the table */

struct kern_cuda {
    const struct kern_cuda_layout *(*layout_of)(infer_dtype type);
    int32_t (*many_rows)(infer_dtype type);
    size_t (*many_scratch)(int32_t n, int32_t k, int32_t m);
    size_t (*attn_scratch)(int32_t n_head, int32_t head_dim_v, int32_t n_seqs, int32_t n_rows);
    size_t (*attn_scratch_fixed)(int32_t n_head, int32_t head_dim_v, int32_t n_rows);
    struct {
        kern_cuda_split_fn *split;
        kern_cuda_rows_fn *rows;
        kern_cuda_add_rows_fn *add_rows;
        kern_cuda_scales_fn *scales;
        kern_cuda_few_fn *few;
        kern_cuda_many_fn *many;
    } product;
    struct {
        kern_cuda_norm_fn *norm;
        kern_cuda_convert_fn *convert;
        kern_cuda_gate_fn *gate;
        kern_cuda_join_fn *join;
        kern_cuda_bias_fn *add_bias;
        kern_cuda_gather_fn *gather;
        kern_cuda_logits_fn *logits;
        kern_cuda_argmax_fn *argmax;
        kern_cuda_sample_fn *sample;
    } rows;
    struct {
        kern_cuda_rope_fn *rope;
        kern_cuda_store_fn *store;
        kern_cuda_attn_fn *paged;
    } attn;
    struct {
        kern_cuda_route_fn *route;
        kern_cuda_sort_fn *sort;
        kern_cuda_combine_fn *combine;
    } moe;
    struct {
        size_t (*row)(int32_t max_rank);
        kern_cuda_lora_fn *down, *up;
    } lora;

    struct kern_cuda_recur recur;
    struct kern_cuda_text text;
    struct kern_cuda_latent latent;
    struct kern_cuda_vector vector;
    struct {
        kern_cuda_mega_record_fn *record;
        kern_cuda_mega_fit_fn *fit;
        kern_cuda_mega_fn *launch;
    } mega;

    struct {
        kern_cuda_begin_fn *begin;
        kern_cuda_answer_fn *answer;
    } step;
};

/* Fills the table for a compute capability (90 for 9.0); what the card cannot run stays NULL. */
void kern_cuda_init(struct kern_cuda *kernels, int32_t compute_capability);

kern_cuda_split_fn kern_cuda_product_split;
kern_cuda_rows_fn kern_cuda_product_rows;
kern_cuda_add_rows_fn kern_cuda_product_add_rows;
kern_cuda_scales_fn kern_cuda_product_scales;
kern_cuda_few_fn kern_cuda_product_few;
kern_cuda_many_fn kern_cuda_product_many;
kern_cuda_norm_fn kern_cuda_rows_norm;
kern_cuda_convert_fn kern_cuda_rows_convert;
kern_cuda_gate_fn kern_cuda_rows_gate;
kern_cuda_join_fn kern_cuda_rows_join;
kern_cuda_bias_fn kern_cuda_rows_add_bias;
kern_cuda_gather_fn kern_cuda_rows_gather;
kern_cuda_logits_fn kern_cuda_rows_logits;
kern_cuda_argmax_fn kern_cuda_rows_argmax;
kern_cuda_sample_fn kern_cuda_rows_sample;
kern_cuda_rope_fn kern_cuda_attn_rope;
kern_cuda_store_fn kern_cuda_attn_store;
kern_cuda_attn_fn kern_cuda_attn_paged;
kern_cuda_lora_fn kern_cuda_lora_down;
kern_cuda_lora_fn kern_cuda_lora_up;
kern_cuda_mega_record_fn kern_cuda_mega_record;
kern_cuda_mega_fit_fn kern_cuda_mega_fit;
kern_cuda_mega_fn kern_cuda_mega_launch;
kern_cuda_begin_fn kern_cuda_step_begin;
kern_cuda_answer_fn kern_cuda_step_answer;

#ifdef __cplusplus
}
#endif

#endif
