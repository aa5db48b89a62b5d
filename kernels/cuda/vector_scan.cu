/* Queries against rows: tensor cores multiply a stream of rows by queries that stay in shared
 * memory. Rows lie as the cores take them, so that a warp reads 512 bytes in one stretch for each
 * step and nothing of them goes through shared memory; with few queries that is a stream at the
 * speed of memory, with many the same loads feed sixteen times the products. What a score is at
 * most is compared with the worst that is kept of its query; few rows pass. */
#include "kernels/cuda/cuda_vector.h"
#include "kernels/cuda/device.cuh"

#define WARPS       8
#define THREADS     (WARPS * KERN_WARP)
#define AHEAD       4           /* steps that are loaded while as many are multiplied */
#define QUERY_BYTES (200 << 10) /* of shared memory, for queries */
#define GROWTH      16          /* of the rows of a pass over those before it */
#define BITS_GROUP  8           /* queries of a block, of bits */
#ifndef VECTOR_BLOCKS           /* fewer where blocks are emulated */
#define VECTOR_BLOCKS 132
#endif

struct scan_query {
    float scale, length, error, least;
};

/* A score at most as it is ordered, its row behind it. */
static __device__ __forceinline__ uint64_t scan_key(float score, int32_t id)
{
    const uint32_t bits = __float_as_uint(score);
    const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)order << 32 | (uint32_t)~id;
}

static __device__ __forceinline__ float scan_score(uint64_t key)
{
    const uint32_t order = (uint32_t)(key >> 32);
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

/* Nothing is kept yet: a key of 0, which would be no number. */
static __device__ __forceinline__ float scan_least(uint64_t key)
{
    return key == 0 ? -INFINITY : scan_score(key);
}

/* A score that may be good enough: rare. */
static __device__ __noinline__ void scan_take(const struct kern_cuda_vector_scan_args *a,
                                              float score, size_t place, int query)
{
    const int32_t id = a->rows.ids[place];
    if (id < 0 || id >= a->n_rows || (a->mask && !(a->mask[id / 32] >> id % 32 & 1)))
        return;
    const uint64_t key = scan_key(score, id);
    if (key <= a->least[query])
        return;
    const uint32_t at = atomicAdd(a->counts + query, 1u);
    if (at < (uint32_t)a->room)
        a->keys[(size_t)query * (size_t)a->room + at] = key;
}

/* Run number j of a pass: multiples of the stride, and later on those that were not in the pass
 * before. */
static __device__ __forceinline__ int scan_run(const struct kern_cuda_vector_scan_args *a, int j)
{
    return a->stride * (a->later ? j + j / (GROWTH - 1) + 1 : j);
}

/* The tiles of a warp: those of its runs one behind the other, or of its block's item. */
struct scan_walk {
    int tile, end, jump;
    int run, n_warps; /* item: run is none */
};

template <int tiles>
static __device__ __forceinline__ void scan_begin(const struct kern_cuda_vector_scan_args *a,
                                                  struct scan_walk *w)
{
    const int warp = (int)threadIdx.x / KERN_WARP;
    if (a->items) {
        const struct kern_cuda_vector_item *item = a->items + blockIdx.x;
        w->tile = item->tile + warp * tiles;
        w->end = item->tile + item->n_tiles;
        w->jump = WARPS * tiles;
        w->run = -1;
        w->n_warps = 0;
        return;
    }
    w->n_warps = (int)gridDim.y * WARPS;
    w->run = (int)blockIdx.y * WARPS + warp;
    w->tile = scan_run(a, w->run) * a->run;
    w->end = min(w->tile + a->run, a->rows.n_tiles);
    w->jump = tiles;
}

static __device__ __forceinline__ bool scan_has(const struct scan_walk *w)
{
    return w->tile < w->end;
}

static __device__ __forceinline__ void scan_next(const struct kern_cuda_vector_scan_args *a,
                                                 struct scan_walk *w)
{
    w->tile += w->jump;
    if (w->tile >= w->end && w->run >= 0) {
        w->run += w->n_warps;
        w->tile = scan_run(a, w->run) * a->run;
        w->end = min(w->tile + a->run, a->rows.n_tiles);
    }
}

struct scan_halves {
    typedef float sum;
    static constexpr int parts = 1;
    static __device__ __forceinline__ void multiply(float d[4], const uint32_t a[4],
                                                    const uint32_t b[2])
    {
        kern_mma_f16(d, a, b);
    }
};

/* A query has two parts, the second of 256ths. */
struct scan_bytes {
    typedef int32_t sum;
    static constexpr int parts = 2;
    static __device__ __forceinline__ void multiply(int32_t d[4], const uint32_t a[4],
                                                    const uint32_t b[2])
    {
        kern_mma_s8(d, a, b);
    }
};

/* Rows that many queries are compared with are wanted by blocks of other queries, too. */
template <int columns> static __device__ __forceinline__ uint4 scan_row(const uint4 *p)
{
    return columns >= 8 ? __ldg(p) : __ldcs(p);
}

/* Brings the block's queries to shared memory, 8 bytes a lane and column as the cores take them;
 * those that are not there become zeros that reach nothing. */
template <typename Form, int columns>
static __device__ void scan_load(const struct kern_cuda_vector_scan_args *a, int steps, int first,
                                 int n, unsigned char *shared, struct scan_query *notes,
                                 int *numbers)
{
    constexpr int queries = columns * 8 / Form::parts;
    const size_t bytes = (size_t)steps * 32 * Form::parts;
    for (int q = (int)threadIdx.x; q < queries; q += THREADS) {
        struct scan_query note = {0.0f, 0.0f, 0.0f, INFINITY};
        int number = 0;
        if (q < n) {
            number = a->items ? a->asked[first + q] : first + q;
            const struct kern_cuda_vector_note *from = a->query_notes + number;
            note.scale = from->scale;
            note.length = from->length;
            note.error = from->error;
            note.least = scan_least(a->least[number]);
        }
        notes[q] = note;
        numbers[q] = number;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < columns * 8 * steps * 4; i += THREADS) {
        const int t = i % 4, step = i / 4 % steps, column = i / 4 / steps;
        const int tile = column / 8;
        const int q = tile / Form::parts * 8 + column % 8, part = tile % Form::parts;
        uint2 word = {0, 0};
        if (q < n)
            word = *(const uint2 *)(a->queries + (size_t)numbers[q] * bytes +
                                    (size_t)(part * steps + step) * 32 + (size_t)t * 8);
        const int lane = column % 8 * 4 + t;
        unsigned char *to =
            columns == 1
                ? shared + (step * 32 + lane) * 8
                : shared + ((step * (columns / 2) + tile / 2) * 32 + lane) * 16 + tile % 2 * 8;
        *(uint2 *)to = word;
    }
    __syncthreads();
}

template <typename Form, int tiles, int columns>
static __device__ __forceinline__ void scan_multiply(typename Form::sum (&sums)[tiles][columns][4],
                                                     const uint4 (&rows)[tiles][AHEAD],
                                                     const unsigned char *shared, int step)
{
    const int lane = (int)threadIdx.x % KERN_WARP;
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
#pragma unroll
        for (int c = 0; c < columns; c += 2) {
            uint32_t b[4];
            if (columns == 1) {
                const uint2 word = *(const uint2 *)(shared + ((step + i) * 32 + lane) * 8);
                b[0] = word.x;
                b[1] = word.y;
            } else {
                const uint4 word =
                    *(const uint4 *)(shared +
                                     (((step + i) * (columns / 2) + c / 2) * 32 + lane) * 16);
                b[0] = word.x;
                b[1] = word.y;
                b[2] = word.z;
                b[3] = word.w;
            }
#pragma unroll
            for (int m = 0; m < tiles; m++) {
                const uint32_t x[4] = {rows[m][i].x, rows[m][i].y, rows[m][i].z, rows[m][i].w};
                Form::multiply(sums[m][c], x, b);
                if (columns > 1)
                    Form::multiply(sums[m][c + (columns > 1)], x, b + 2);
            }
        }
    }
}

/* Scores at most of the products of a tile. */
template <typename Form, int columns>
static __device__ __forceinline__ void
scan_compare(const struct kern_cuda_vector_scan_args *a, typename Form::sum (&sums)[columns][4],
             int tile, const struct scan_query *queries, const int *numbers)
{
    const int lane = (int)threadIdx.x % KERN_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int upper = 0; upper < 2; upper++) {
        const size_t place = (size_t)tile * 16 + (size_t)(g + upper * 8);
        const float4 note = __ldg((const float4 *)a->rows.notes + place);
#pragma unroll
        for (int c = 0; c < columns; c += Form::parts)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int q = c / Form::parts * 8 + t * 2 + i;
                const struct scan_query query = queries[q];
                float sum = (float)sums[c][upper * 2 + i];
                if (Form::parts == 2)
                    sum = fmaf((float)sums[c + Form::parts - 1][upper * 2 + i], 1.0f / 256.0f, sum);
                const float most =
                    fmaf(sum, query.scale * note.x,
                         fmaf(note.y, query.length, fmaf(note.z, query.error, note.w)));
                if (most >= query.least)
                    scan_take(a, most, place, numbers[q]);
            }
    }
}

template <typename Form, int columns, int tiles, int blocks>
static __global__ void __launch_bounds__(THREADS, blocks)
    scan_rows(const __grid_constant__ struct kern_cuda_vector_scan_args a, int steps, int each)
{
    constexpr int queries = columns * 8 / Form::parts;
    KERN_SHARED_BYTES(shared);
    struct scan_query *notes = (struct scan_query *)(shared + (size_t)steps * columns * 256);
    int *numbers = (int *)(notes + queries);
    const int lane = (int)threadIdx.x % KERN_WARP;
    struct scan_walk walk;
    kern_wait();
    kern_release();
    const int first = a.items ? a.items[blockIdx.x].first : (int)blockIdx.x * each;
    const int n = a.items ? a.items[blockIdx.x].n : min(each, a.n_queries - first);
    scan_load<Form, columns>(&a, steps, first, n, shared, notes, numbers);
    scan_begin<tiles>(&a, &walk);
    if (!scan_has(&walk))
        return;
    const size_t tile_size = (size_t)steps * 32; /* of 16 bytes */
    const uint4 *all = (const uint4 *)a.rows.tiles + lane;
    const uint4 *at = all + (size_t)walk.tile * tile_size;
    uint4 ahead[tiles][AHEAD];
#pragma unroll
    for (int m = 0; m < tiles; m++)
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            ahead[m][i] = scan_row<columns>(at + m * tile_size + i * 32);
    while (scan_has(&walk)) {
        const int tile = walk.tile, end = walk.end;
        typename Form::sum sums[tiles][columns][4] = {};
        scan_next(&a, &walk);
        const uint4 *next = scan_has(&walk) ? all + (size_t)walk.tile * tile_size : at;
        for (int step = 0; step < steps; step += AHEAD) {
            uint4 rows[tiles][AHEAD];
            const uint4 *from = step + AHEAD < steps ? at + (step + AHEAD) * 32 : next;
#pragma unroll
            for (int m = 0; m < tiles; m++)
#pragma unroll
                for (int i = 0; i < AHEAD; i++) {
                    rows[m][i] = ahead[m][i];
                    ahead[m][i] = scan_row<columns>(from + m * tile_size + i * 32);
                }
            scan_multiply<Form, tiles, columns>(sums, rows, shared, step);
        }
#pragma unroll
        for (int m = 0; m < tiles; m++)
            if (tile + m < end)
                scan_compare<Form, columns>(&a, sums[m], tile + m, notes, numbers);
        at = next;
    }
}

/* Signs: a lane has a row. */
static __global__ void __launch_bounds__(THREADS)
    scan_bits(const __grid_constant__ struct kern_cuda_vector_scan_args a, int words)
{
    KERN_SHARED_BYTES(shared);
    uint32_t *queries = (uint32_t *)shared; /* by word, then by query */
    const int lane = (int)threadIdx.x % KERN_WARP, first = (int)blockIdx.x * BITS_GROUP;
    const int n = min(BITS_GROUP, a.n_queries - first);
    struct scan_walk walk;
    kern_wait();
    kern_release();
    for (int i = (int)threadIdx.x; i < words * BITS_GROUP; i += THREADS) {
        const int q = i % BITS_GROUP, w = i / BITS_GROUP;
        queries[i] =
            q < n ? ((const uint32_t *)a.queries)[(size_t)(first + q) * (size_t)words + w] : 0;
    }
    __syncthreads();
    float least[BITS_GROUP];
#pragma unroll
    for (int q = 0; q < BITS_GROUP; q++)
        least[q] = q < n ? scan_least(a.least[first + q]) : INFINITY;
    for (scan_begin<1>(&a, &walk); scan_has(&walk); scan_next(&a, &walk)) {
        const uint32_t *tile =
            (const uint32_t *)a.rows.tiles + (size_t)walk.tile * (size_t)words * 32 + lane;
        int differ[BITS_GROUP] = {};
#pragma unroll 4
        for (int w = 0; w < words; w++) {
            const uint32_t word = __ldcs(tile + w * 32);
#pragma unroll
            for (int q = 0; q < BITS_GROUP; q++)
                differ[q] += __popc(word ^ queries[w * BITS_GROUP + q]);
        }
#pragma unroll
        for (int q = 0; q < BITS_GROUP; q++)
            if (-(float)differ[q] >= least[q])
                scan_take(&a, -(float)differ[q], (size_t)walk.tile * 32 + (size_t)lane, first + q);
    }
}

/* ------------------------------------------------------------------ launching */

/* Columns of eight that fit into shared memory, up to 16. */
static int columns_that_fit(int steps)
{
    int columns = 16;
    while (columns > 1 && (size_t)steps * columns * 256 > QUERY_BYTES)
        columns /= 2;
    return columns;
}

extern "C" int32_t kern_cuda_vector_group(int32_t form, int32_t dims)
{
    if (form == KERN_CUDA_VECTOR_BITS)
        return BITS_GROUP;
    const int columns = columns_that_fit(kern_cuda_vector_steps(form, dims));
    return columns * 8 / (form == KERN_CUDA_VECTOR_BYTES ? 2 : 1);
}

/* Runs of a pass. */
static int count_runs(const struct kern_cuda_vector_scan_args *a)
{
    const int runs = BASE_DIV_UP(a->rows.n_tiles, a->run);
    const int all = BASE_DIV_UP(runs, a->stride);
    return a->later ? all - BASE_DIV_UP(all, GROWTH) : all;
}

static dim3 grid_of(const struct kern_cuda_vector_scan_args *a, int group, int blocks)
{
    if (a->items)
        return dim3((unsigned)a->n_items);
    /* Blocks of all groups read the same rows at the same time: memory gives them once. */
    const int groups = BASE_DIV_UP(a->n_queries, group);
    const int most = BASE_DIV_UP(count_runs(a), WARPS);
    const int each = BASE_MAX(BASE_MIN(most, VECTOR_BLOCKS * blocks / groups), 1);
    return dim3((unsigned)groups, (unsigned)each);
}

template <typename Form, int columns, int tiles, int blocks>
static int32_t launch_rows(const struct kern_cuda_vector_scan_args *a, int steps, void *stream)
{
    constexpr int queries = columns * 8 / Form::parts;
    const int groups = BASE_DIV_UP(a->n_queries, queries);
    const int each = BASE_DIV_UP(a->n_queries, groups);
    const size_t bytes = (size_t)steps * columns * 256 + queries * (sizeof(struct scan_query) + 4);
    return kern_launch(scan_rows<Form, columns, tiles, blocks>, grid_of(a, queries, blocks),
                       dim3(THREADS), bytes, stream, *a, steps, each);
}

template <typename Form>
static int32_t launch_form(const struct kern_cuda_vector_scan_args *a, int columns, int steps,
                           void *stream)
{
    switch (columns) {
    case 1: /* bytes have two parts */
        return launch_rows<Form, Form::parts, 1, 3>(a, steps, stream);
    case 2:
        return launch_rows<Form, 2, 1, 3>(a, steps, stream);
    case 4:
        return launch_rows<Form, 4, 1, 2>(a, steps, stream);
    case 8:
        return launch_rows<Form, 8, 2, 1>(a, steps, stream);
    default:
        return launch_rows<Form, 16, 2, 1>(a, steps, stream);
    }
}

extern "C" int32_t kern_cuda_vector_scan(const struct kern_cuda_vector_scan_args *args,
                                         void *stream)
{
    const int form = args->rows.form, dims = args->rows.dims;
    if (args->n_queries <= 0 || args->rows.n_tiles <= 0 || (args->items && args->n_items <= 0) ||
        (!args->items && count_runs(args) <= 0))
        return 0;
    if (form == KERN_CUDA_VECTOR_BITS) {
        const int words = kern_cuda_vector_words(dims);
        if (args->items)
            return (int32_t)cudaErrorInvalidValue;
        return kern_launch(scan_bits, grid_of(args, BITS_GROUP, 4), dim3(THREADS),
                           (size_t)words * BITS_GROUP * 4, stream, *args, words);
    }
    const int steps = kern_cuda_vector_steps(form, dims), most = columns_that_fit(steps);
    const int parts = form == KERN_CUDA_VECTOR_BYTES ? 2 : 1;
    int columns = parts;
    while (columns < most && columns * 8 / parts < args->n_queries)
        columns *= 2;
    return form == KERN_CUDA_VECTOR_BYTES ? launch_form<scan_bytes>(args, columns, steps, stream)
                                          : launch_form<scan_halves>(args, columns, steps, stream);
}
