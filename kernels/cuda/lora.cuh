/* What the kernels of adapters share: where a block works, and how A x lies between them. */
#ifndef KERNELS_CUDA_LORA_CUH
#define KERNELS_CUDA_LORA_CUH

#include "kernels/cuda/block_float.cuh"
#include "kernels/cuda/rows.cuh"

#define LORA_THREADS  256
#define LORA_RANKS    16  /* of A's rows in a block of `down` */
#define LORA_SECTIONS 8   /* of k at most */
#define LORA_SECTION  512 /* a section is a multiple of it */
#define LORA_OUTPUTS  256 /* of B's rows in a block of `up` */

/* So many tiles of rows are blocks enough with half of the sections, which `up` reads. */
#ifdef KERN_CUDA_EMULATED
#define LORA_TILES_MANY 3
#else
#define LORA_TILES_MANY 32
#endif

/* In t each row has for each part [section][rank, rounded up], then sums of squares for the norm,
 * which are double, of each section. Many ranks are blocks enough: they get fewer sections. */
#define LORA_SECTION_FLOATS 512

static __host__ __device__ __forceinline__ int lora_rank_up(int rank)
{
    return (rank + 7) / 8 * 8;
}

static __host__ __device__ __forceinline__ int lora_sections(int rank)
{
    const int fit = LORA_SECTION_FLOATS / lora_rank_up(rank);
    return fit < 1 ? 1 : fit > LORA_SECTIONS ? LORA_SECTIONS : fit;
}

static __host__ __device__ __forceinline__ int
lora_sections_most(const struct kern_cuda_lora_args &a)
{
    return a.tiles && a.n_segments >= LORA_TILES_MANY ? LORA_SECTIONS / 2 : LORA_SECTIONS;
}

static __device__ __forceinline__ int lora_section_length(const struct kern_cuda_lora_args &a,
                                                          int rank)
{
    const int sections = min(lora_sections(rank), lora_sections_most(a));
    const int length = (a.k + sections - 1) / sections;
    return (length + LORA_SECTION - 1) / LORA_SECTION * LORA_SECTION;
}

/* Floats of a part before its sums of squares. */
static __host__ __device__ __forceinline__ int lora_part_floats(int max_rank)
{
    const int rank = lora_rank_up(max_rank), most = LORA_SECTIONS * rank;
    const int bound = rank > LORA_SECTION_FLOATS ? rank : LORA_SECTION_FLOATS;
    return most < bound ? most : bound;
}

static __host__ __device__ __forceinline__ int lora_row_floats(int max_rank)
{
    return KERN_CUDA_PARTS * (lora_part_floats(max_rank) + 2 * LORA_SECTIONS);
}

static __device__ __forceinline__ float *lora_t(const struct kern_cuda_lora_args &a, int row,
                                                int part)
{
    return a.t + (size_t)row * lora_row_floats(a.max_rank) +
           part * (lora_part_floats(a.max_rank) + 2 * LORA_SECTIONS);
}

static __device__ __forceinline__ double *lora_squares(const struct kern_cuda_lora_args &a,
                                                       float *t)
{
    return (double *)(void *)(t + lora_part_floats(a.max_rank));
}

/* n numbers from element e on, zeros from k on. */
template <int n>
static __device__ __forceinline__ void lora_load(float v[n], const float *x, int e, int k,
                                                 bool wide)
{
    if (wide) {
#pragma unroll
        for (int i = 0; i < n; i += 4) {
            const kern_piece<4> piece =
                e + i < k ? kern_piece_load<4>(x + e + i) : kern_piece_fill<4>(0.0f);
#pragma unroll
            for (int j = 0; j < 4; j++)
                v[i + j] = piece.v[j];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        v[i] = e + i < k ? x[e + i] : 0.0f;
}

/* 1 / sqrt(mean of squares + eps), or 1 without a norm. */
static __device__ __forceinline__ float lora_norm_scale(const struct kern_cuda_lora_args &a,
                                                        float *t, int n_sections)
{
    double sum = 0.0;
    if (!a.norm)
        return 1.0f;
    for (int s = 0; s < n_sections; s++)
        sum += lora_squares(a, t)[s];
    return (float)(1.0 / sqrt(sum / (double)a.k + (double)a.eps));
}

/* Both kernels for many rows of a segment (lora_tile.cu). */
int32_t lora_tile_down_launch(const struct kern_cuda_lora_args *args, void *stream);
int32_t lora_tile_up_launch(const struct kern_cuda_lora_args *args, void *stream);

/* What a block has to do with. */
struct lora_place {
    const uint8_t *w; /* A or B */
    int stride, type; /* of w */
    int rank, row, n_rows;
    int source; /* the part that makes A x for this one */
    float scale;
};

static __device__ __forceinline__ const uint8_t *
lora_a_of(const struct kern_cuda_lora_args &a, const struct kern_cuda_lora_pair *pairs, int part)
{
    return (const uint8_t *)__ldg((const unsigned long long *)(const void *)&pairs[a.pair[part]].a);
}

/* False: nothing is added. All of it may be read ahead of the wait. */
static __device__ __forceinline__ bool
lora_find(struct lora_place *p, const struct kern_cuda_lora_args &a, int segment, int part, bool up)
{
    const struct kern_cuda_lora_segment *s = &a.segments[segment];
    p->row = __ldg(&s->row);
    p->n_rows = __ldg(&s->n_rows);
    if (p->n_rows <= 0)
        return false;
    const struct kern_cuda_lora_pair *pairs =
        (const struct kern_cuda_lora_pair *)__ldg((const unsigned long long *)(const void *)s);
    const struct kern_cuda_lora_pair *pair = &pairs[a.pair[part]];
    const uint8_t *w = lora_a_of(a, pairs, part);
    if (!w)
        return false;
    p->source = part;
    for (int other = part - 1; other >= 0; other--)
        if (lora_a_of(a, pairs, other) == w)
            p->source = other;
    p->w = up ? (const uint8_t *)__ldg((const unsigned long long *)(const void *)&pair->b) : w;
    p->stride = __ldg(up ? &pair->b_stride : &pair->a_stride);
    p->type = __ldg(up ? &pair->type_b : &pair->type_a);
    p->rank = __ldg(&pair->rank);
    p->scale = __ldg(&pair->scale);
    return true;
}

#endif
