/* Products of many rows: the kernel that all weight types share. A block computes a tile of `rows`
 * outputs by `tokens` rows of x. Chunks of both run through shared memory in stages; a format
 * (many_float.cuh, many_quant.cuh) says how a chunk lies there and multiplies it.
 *
 * k is cut into sections by n and k alone. A section is summed from its first element to its last,
 * sections are added in order: in registers by one block, or, where there are too few tiles for the
 * card, by the last of the blocks that computed a section each. So a row's bits do not depend on m.
 */
#ifndef KERNELS_CUDA_MANY_CUH
#define KERNELS_CUDA_MANY_CUH

#include "kernels/cuda/device.cuh"

/* Sections are whole chunks of every format. */
#define MANY_SECTION 256

struct many_task {
    struct kern_cuda_many_args args;
    int32_t section;   /* elements of a section */
    int32_t split;     /* each section has a block of its own */
    unsigned *tickets; /* of the tiles */
    float *partials;   /* [tile][section][element] */
};

/* Each warp has `row_tiles` times 16 rows and `token_tiles` times 8 tokens. */
template <int row_tiles_, int token_tiles_, int row_warps, int token_warps, int stages_>
struct many_shape {
    static constexpr int row_tiles = row_tiles_, token_tiles = token_tiles_, stages = stages_;
    static constexpr int warps_along_rows = row_warps;
    static constexpr int rows = row_warps * row_tiles * 16;
    static constexpr int tokens = token_warps * token_tiles * 8;
    static constexpr int threads = row_warps * token_warps * KERN_WARP;
};

template <typename Shape> struct many_sums {
    float v[Shape::row_tiles][Shape::token_tiles][4];
};

/* Where this block works. */
struct many_place {
    int32_t row, token, end; /* first of each; the end of the expert's tokens */
    int32_t expert;
};

/* Chunk rows follow each other in shared memory: the tile's of w, then those of x. */
template <typename Format, typename Shape>
constexpr int many_stage_bytes = Shape::rows *Format::w_row + Shape::tokens *Format::x_row;

/* Tile number `tile` of all experts' tiles; false: there are fewer. */
template <typename Shape>
static __device__ bool many_find_expert(const struct kern_cuda_many_args *a, int tile,
                                        struct many_place *place)
{
    __shared__ int32_t found[3];
    if (threadIdx.x == 0)
        found[0] = -1;
    __syncthreads();
    if (threadIdx.x < KERN_WARP) {
        const int lane = (int)threadIdx.x;
        int before = 0; /* tiles of the experts before these */
        for (int at = 0; at < a->n_experts && before <= tile; at += KERN_WARP) {
            const int e = at + lane;
            int begin = 0, end = 0;
            if (e < a->n_experts) {
                begin = a->first[e];
                end = a->first[e + 1];
            }
            const int own = (end - begin + Shape::tokens - 1) / Shape::tokens;
            int sum = own;
            for (int step = 1; step < KERN_WARP; step *= 2) {
                const int other = __shfl_up_sync(0xffffffffu, sum, step);
                sum += lane >= step ? other : 0;
            }
            const int skipped = tile - before - (sum - own);
            if (skipped >= 0 && skipped < own) {
                found[0] = e;
                found[1] = begin + skipped * Shape::tokens;
                found[2] = end;
            }
            before += __shfl_sync(0xffffffffu, sum, KERN_WARP - 1);
        }
    }
    __syncthreads();
    place->expert = found[0];
    place->token = found[1];
    place->end = found[2];
    return place->expert >= 0;
}

template <typename Format, typename Shape>
static __device__ __forceinline__ void many_load_w(const struct kern_cuda_matrix *w,
                                                   const struct many_place *place, int chunk,
                                                   unsigned char *stage)
{
    const size_t first = (size_t)place->expert * (size_t)w->n;
    for (int i = (int)threadIdx.x; i < Shape::rows * Format::w_pieces; i += Shape::threads) {
        const int row = i / Format::w_pieces, piece = i % Format::w_pieces;
        const size_t r = first + (size_t)min(place->row + row, w->n - 1);
        Format::copy_w(stage + row * Format::w_row, w, r, chunk, piece);
    }
}

template <typename Format, typename Shape>
static __device__ __forceinline__ void many_load_x(const struct kern_cuda_many_args *a,
                                                   const int32_t *x_rows, int chunk,
                                                   unsigned char *stage)
{
    unsigned char *x = stage + Shape::rows * Format::w_row;
    for (int i = (int)threadIdx.x; i < Shape::tokens * Format::x_pieces; i += Shape::threads) {
        const int token = i / Format::x_pieces, piece = i % Format::x_pieces;
        const unsigned char *src =
            (const unsigned char *)a->x + (size_t)x_rows[token] * a->x_stride;
        Format::copy_x(x + token * Format::x_row, src, a->w.k, chunk, piece);
    }
}

/* Calls f(sum, row, token) for this thread's elements. */
template <typename Shape, typename F>
static __device__ __forceinline__ void many_each(struct many_sums<Shape> *sums, F f)
{
    const int warp = (int)threadIdx.x / KERN_WARP, lane = (int)threadIdx.x % KERN_WARP;
    const int row = warp % Shape::warps_along_rows * Shape::row_tiles * 16 + lane / 4;
    const int token = warp / Shape::warps_along_rows * Shape::token_tiles * 8 + lane % 4 * 2;
#pragma unroll
    for (int r = 0; r < Shape::row_tiles; r++)
#pragma unroll
        for (int c = 0; c < Shape::token_tiles; c++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                f(sums->v[r][c][i], row + r * 16 + i / 2 * 8, token + c * 8 + i % 2);
}

/* Leaves this block's section in scratch; true in the block that came last, where sums becomes
 * the sum of all sections. */
template <typename Shape>
static __device__ bool many_meet(const struct many_task *task, struct many_sums<Shape> *sums)
{
    constexpr int size = Shape::rows * Shape::tokens;
    __shared__ unsigned arrived;
    const unsigned tile = blockIdx.y * gridDim.x + blockIdx.x, n_sections = gridDim.z;
    float *all = task->partials + (size_t)tile * n_sections * size + threadIdx.x;
    float *own = all + (size_t)blockIdx.z * size;
    int at = 0;
    many_each(sums, [&](float &sum, int, int) { own[Shape::threads * at++] = sum; });
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        arrived = atomicInc(task->tickets + tile, n_sections - 1);
    __syncthreads();
    if (arrived != n_sections - 1)
        return false;
    __threadfence();
    at = 0;
    many_each(sums, [&](float &sum, int, int) {
        sum = 0.0f;
        for (unsigned s = 0; s < n_sections; s++)
            sum += __ldcg(all + (size_t)s * size + Shape::threads * at);
        at++;
    });
    return true;
}

template <typename Shape>
static __device__ void many_store(const struct kern_cuda_many_args *a,
                                  const struct many_place *place, struct many_sums<Shape> *sums)
{
    const float *bias = a->bias ? a->bias + (size_t)place->expert * (size_t)a->w.n : NULL;
    const float scale = a->part_scale ? a->part_scale[place->expert] : 1.0f;
    many_each(sums, [&](float &sum, int row, int token) {
        row += place->row;
        token += place->token;
        if (row >= a->w.n || token >= place->end)
            return;
        const int y_row = a->x_each ? token * a->y_each + place->expert : token;
        float *y = a->y + (size_t)y_row * a->y_stride + row;
        const float before = bias ? bias[row] : 0.0f;
        const float value = fmaf(sum, scale, before);
        *y = a->accumulate ? *y + value : value;
    });
}

/* Grid: tiles of tokens, tiles of rows, sections where they are split. */
template <typename Format, typename Shape, int blocks>
static __global__ void __launch_bounds__(Shape::threads, blocks)
    many_kernel(const __grid_constant__ struct many_task task)
{
    constexpr int stages = Shape::stages, bytes = many_stage_bytes<Format, Shape>;
    KERN_SHARED_BYTES(shared);
    __shared__ int32_t x_rows[Shape::tokens];
    const struct kern_cuda_many_args *a = &task.args;
    struct many_place place = {(int)blockIdx.y * Shape::rows, (int)blockIdx.x * Shape::tokens, a->m,
                               0};
    const int k = a->w.k;
    const int begin = task.split ? (int)blockIdx.z * task.section / Format::chunk : 0;
    const int end =
        (min(task.split ? ((int)blockIdx.z + 1) * task.section : k, k) + Format::chunk - 1) /
        Format::chunk;
    if (a->x_each) {
        const int tiles = (a->m + Shape::tokens - 1) / Shape::tokens;
        place.expert = (int)blockIdx.x / tiles;
        place.token = (int)blockIdx.x % tiles * Shape::tokens;
    } else if (a->first) {
        kern_wait();
        if (!many_find_expert<Shape>(a, (int)blockIdx.x, &place))
            return;
    }
#pragma unroll
    for (int s = 0; s < stages - 1; s++)
        if (begin + s < end)
            many_load_w<Format, Shape>(&a->w, &place, begin + s, shared + s * bytes);
    if (!a->first)
        kern_wait();
    kern_release();
    for (int i = (int)threadIdx.x; i < Shape::tokens; i += Shape::threads) {
        const int token = min(place.token + i, place.end - 1);
        x_rows[i] = a->x_each ? token * a->x_each + place.expert : a->from ? a->from[token] : token;
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < stages - 1; s++) {
        if (begin + s < end)
            many_load_x<Format, Shape>(a, x_rows, begin + s, shared + s * bytes);
        kern_copy_commit();
    }

    struct many_sums<Shape> total = {}, sums = {
    };
    int stage = 0;
    for (int chunk = begin; chunk < end; chunk++) {
        kern_copy_wait<stages - 2>();
        __syncthreads(); /* all have this chunk, and are done with the one before */
        if (chunk + stages - 1 < end) {
            unsigned char *next = shared + (stage ? stage - 1 : stages - 1) * bytes;
            many_load_w<Format, Shape>(&a->w, &place, chunk + stages - 1, next);
            many_load_x<Format, Shape>(a, x_rows, chunk + stages - 1, next);
        }
        kern_copy_commit();
        const unsigned char *w = shared + stage * bytes;
        Format::template multiply<Shape>(&sums, w, w + Shape::rows * Format::w_row, k, chunk);
        stage = stage + 1 < stages ? stage + 1 : 0;
        if ((chunk + 1) * Format::chunk % task.section == 0 || chunk + 1 == end) {
#pragma unroll
            for (int r = 0; r < Shape::row_tiles; r++)
#pragma unroll
                for (int c = 0; c < Shape::token_tiles; c++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        total.v[r][c][i] += sums.v[r][c][i];
                        sums.v[r][c][i] = 0.0f;
                    }
        }
    }
    if (!task.split || many_meet(&task, &total))
        many_store(a, &place, &total);
}

/* How k is cut: enough sections for the card at small m, none so short that a block has no time to
 * fill its stages. */
#define MANY_SECTIONS_MAX 8
#define MANY_BLOCKS       300 /* a good number of blocks */
#define MANY_TILES_SPLIT  160 /* from so many tiles on sections are not split */
#define MANY_TICKET_BYTES 1024

static inline int32_t many_section(int32_t n, int32_t k)
{
    const int32_t tiles = (n + 63) / 64;
    int32_t sections = 1;
    while (sections < MANY_SECTIONS_MAX && tiles * sections * 2 <= MANY_BLOCKS &&
           k / (sections * 2) >= 2 * MANY_SECTION)
        sections *= 2;
    return BASE_ALIGN_UP((k + sections - 1) / sections, MANY_SECTION);
}

template <typename Shape> static inline int64_t many_tiles(int32_t n, int32_t m)
{
    return (int64_t)((n + Shape::rows - 1) / Shape::rows) *
           ((m + Shape::tokens - 1) / Shape::tokens);
}

template <typename Shape> static inline size_t many_scratch(int32_t n, int32_t k, int32_t m)
{
    const int32_t section = many_section(n, k);
    const int64_t tiles = many_tiles<Shape>(n, m);
    if (section >= k || tiles >= MANY_TILES_SPLIT)
        return 0;
    return MANY_TICKET_BYTES + (size_t)tiles * (size_t)((k + section - 1) / section) * Shape::rows *
                                   Shape::tokens * sizeof(float);
}

/* The most that any call of up to m rows wants: many are not split, where a few are. */
template <typename Shape> static inline size_t many_scratch_most(int32_t n, int32_t k, int32_t m)
{
    if (n <= 0 || m <= 0)
        return 0;
    const int32_t split = (MANY_TILES_SPLIT - 1) / ((n + Shape::rows - 1) / Shape::rows);
    const int32_t tiles = BASE_MIN((m + Shape::tokens - 1) / Shape::tokens, split);
    return many_scratch<Shape>(n, k, tiles * Shape::tokens);
}

template <typename Format, typename Shape, int blocks>
static int32_t many_launch(const struct kern_cuda_many_args *args, void *stream)
{
    const int32_t n = args->w.n, k = args->w.k;
    struct many_task task = {};
    int64_t token_tiles = (args->m + Shape::tokens - 1) / Shape::tokens;
    dim3 grid;
    task.args = *args;
    task.section = many_section(n, k);
    task.split = !args->first && !args->x_each && many_scratch<Shape>(n, k, args->m) > 0;
    task.tickets = (unsigned *)args->scratch;
    task.partials = (float *)((char *)args->scratch + (task.split ? MANY_TICKET_BYTES : 0));
    if (args->first) /* each expert's last tile may be a part of one */
        token_tiles = args->m / Shape::tokens + min(args->n_experts, args->m);
    if (args->x_each)
        token_tiles *= args->n_experts;
    grid.x = (unsigned)token_tiles;
    grid.y = (unsigned)((n + Shape::rows - 1) / Shape::rows);
    grid.z = task.split ? (unsigned)((k + task.section - 1) / task.section) : 1;
    return kern_launch(many_kernel<Format, Shape, blocks>, grid, dim3(Shape::threads),
                       (size_t)Shape::stages * many_stage_bytes<Format, Shape>, stream, task);
}

typedef many_shape<1, 2, 4, 1, 4> many_16;
typedef many_shape<1, 4, 4, 1, 4> many_32;

/* Rows of an expert, or of all. */
static inline int32_t many_rows_each(const struct kern_cuda_many_args *args)
{
    return args->first ? (args->m + args->n_experts - 1) / args->n_experts : args->m;
}

/* many_quant.cu: types whose x is Q8. */
int32_t many_quant_launch(const struct kern_cuda_many_args *args, void *stream);
size_t many_quant_scratch(int32_t n, int32_t k, int32_t m);
/* many_f8.cu: F8_128. */
int32_t many_f8_launch(const struct kern_cuda_many_args *args, void *stream);
/* many_other.cu: those of them that are rarer. cudaErrorNotSupported: none of them. */
int32_t many_other_launch(const struct kern_cuda_many_args *args, void *stream);

#endif
