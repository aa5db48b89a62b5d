/* What adapters add to prompts, by tensor cores: tiles of 64 rows, a segment each. Numbers are
 * taken as sums of two TF32 numbers (a third product where both sides have more than 11 bits), so
 * that products keep some 21 bits; sums are floats. A row's sums do not depend on the others. */
#include "kernels/cuda/lora.cuh"

#define TILE_THREADS 256
#define TILE_ROWS    64 /* of x */
#define TILE_RANKS   8  /* that an mma has */
#define DOWN_TILES   4  /* of ranks that a warp has */
#define UP_TILES     4  /* of outputs that a warp has */
#define UP_RANKS     64 /* of t that are in shared memory */
#define UP_STRIDE    80 /* floats: eight lanes that load 16 bytes meet in no bank */
#define UP_OUTPUTS   (TILE_THREADS / KERN_WARP * UP_TILES * 8)

/* A row of 16 inputs is shared by four lanes: lane t has 4 t .. 4 t + 3, of which the first two are
 * k = t and t + 4 of one mma, the others of the next. The order of k within them is free. */

/* x = high + low but for its last bits, or NaN where it is no finite number. */
static __device__ __forceinline__ void split_tf32(uint32_t *high, uint32_t *low, float x)
{
    *high = __float_as_uint(x) & 0xffffe000u;
    *low = __float_as_uint(x - __uint_as_float(*high)) & 0xffffe000u;
}

/* 16 inputs of 16 rows, as two fragments of either part. */
struct tile_rows {
    uint32_t high[2][4], low[2][4];
};

/* From what the lane has of row g and of row g + 8. */
static __device__ __forceinline__ struct tile_rows rows_of(const float upper[4],
                                                           const float lower[4])
{
    struct tile_rows r;
#pragma unroll
    for (int s = 0; s < 2; s++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            split_tf32(&r.high[s][2 * i], &r.low[s][2 * i], upper[2 * s + i]);
            split_tf32(&r.high[s][2 * i + 1], &r.low[s][2 * i + 1], lower[2 * s + i]);
        }
    return r;
}

/* Four numbers of a row of A or B, as they lie there. */
struct tile_four {
    uint4 bits;
};

/* Elements e .. e + 3; zeros behind the row, or without one. */
static __device__ __forceinline__ struct tile_four load_four(const uint8_t *row, int stride,
                                                             int type, int e)
{
    struct tile_four four = {make_uint4(0, 0, 0, 0)};
    const int size = type == INFER_DTYPE_F32 ? 4 : 2;
    if (!row || e * size >= stride)
        return four;
    if (type == INFER_DTYPE_F32) {
        four.bits = __ldg((const uint4 *)(const void *)(row + e * 4));
    } else {
        const uint2 pairs = __ldg((const uint2 *)(const void *)(row + e * 2));
        four.bits.x = pairs.x;
        four.bits.y = pairs.y;
    }
    return four;
}

static __device__ __forceinline__ void decode_four(float w[4], const struct tile_four &four,
                                                   int type)
{
    if (type == INFER_DTYPE_F32) {
        w[0] = __uint_as_float(four.bits.x);
        w[1] = __uint_as_float(four.bits.y);
        w[2] = __uint_as_float(four.bits.z);
        w[3] = __uint_as_float(four.bits.w);
    } else if (type == INFER_DTYPE_BF16) {
        w[0] = kern_bf16_low(four.bits.x);
        w[1] = kern_bf16_high(four.bits.x);
        w[2] = kern_bf16_low(four.bits.y);
        w[3] = kern_bf16_high(four.bits.y);
    } else {
        w[0] = __half2float(__ushort_as_half((unsigned short)(four.bits.x & 0xffff)));
        w[1] = __half2float(__ushort_as_half((unsigned short)(four.bits.x >> 16)));
        w[2] = __half2float(__ushort_as_half((unsigned short)(four.bits.y & 0xffff)));
        w[3] = __half2float(__ushort_as_half((unsigned short)(four.bits.y >> 16)));
    }
}

/* sums += rows . w, small products first. Numbers of 16 bits are numbers of TF32. */
static __device__ __forceinline__ void add_tile(float sums[4], const struct tile_rows &rows,
                                                const float w[4], bool is_f32)
{
#pragma unroll
    for (int s = 0; s < 2; s++) {
        uint32_t high[2], low[2];
        split_tf32(&high[0], &low[0], w[2 * s]);
        split_tf32(&high[1], &low[1], w[2 * s + 1]);
        if (is_f32)
            kern_mma_tf32(sums, rows.high[s], low);
        kern_mma_tf32(sums, rows.low[s], high);
        kern_mma_tf32(sums, rows.high[s], high);
    }
}

/* --------------------------------------------------------------------- down */

/* Eight rows of A, of one part: what this lane reads of them, and where their sums belong. */
struct down_tile {
    const uint8_t *row;                    /* NULL: none, or beyond the rank */
    int stride, type, part, rank, rank_up; /* rank: its first; part -1: there is no tile */
};

/* Whether the part makes a product of its own, in sections of this length. */
static __device__ __forceinline__ bool is_made(struct lora_place *p,
                                               const struct kern_cuda_lora_args &a, int segment,
                                               int part, int length)
{
    return lora_find(p, a, segment, part, false) && p->source == part &&
           lora_section_length(a, p->rank) == length;
}

/* Tiles of all parts of such sections are counted through, from part `leader` on, which is the
 * first of them: x is read once for them. This warp has DOWN_TILES from `first` on; false: none of
 * its block has one. */
static __device__ __forceinline__ bool find_tiles(struct down_tile tiles[DOWN_TILES],
                                                  const struct kern_cuda_lora_args &a, int leader,
                                                  int length, int first, int block_first)
{
    const int g = (int)threadIdx.x % KERN_WARP / 4;
    struct lora_place p;
    int at = 0;
#pragma unroll
    for (int i = 0; i < DOWN_TILES; i++)
        tiles[i] = {nullptr, 0, 0, -1, 0, 0};
    for (int part = 0; part < a.n_parts; part++) {
        if (!is_made(&p, a, blockIdx.z, part, length))
            continue;
        if (part < leader)
            return false;
        const int rank_up = lora_rank_up(p.rank);
#pragma unroll
        for (int i = 0; i < DOWN_TILES; i++) {
            const int rank = (first + i - at) * TILE_RANKS;
            if (first + i < at || rank >= rank_up)
                continue;
            tiles[i] = {rank + g < p.rank ? p.w + (size_t)(rank + g) * p.stride : nullptr,
                        p.stride,
                        p.type,
                        part,
                        rank,
                        rank_up};
        }
        at += rank_up / TILE_RANKS;
    }
    return block_first < at;
}

/* Sums of the squares of a row, over the four lanes that have it, to all parts that are made. */
static __device__ __forceinline__ void store_squares(const struct kern_cuda_lora_args &a,
                                                     double sum, int row, bool inside, int section,
                                                     int length)
{
    struct lora_place p;
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    for (int part = 0; inside && threadIdx.x % 4 == 0 && part < a.n_parts; part++)
        if (is_made(&p, a, blockIdx.z, part, length))
            lora_squares(a, lora_t(a, row, part))[section] = sum;
}

static __device__ __forceinline__ void store_down(const struct kern_cuda_lora_args &a,
                                                  const struct down_tile &tile, const float sums[4],
                                                  int section, int row, int n_rows)
{
    const int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (tile.part >= 0 && 8 * i < n_rows)
            *(float2 *)(void *)(lora_t(a, row + 8 * i, tile.part) + section * tile.rank_up +
                                tile.rank + 2 * t) = make_float2(sums[2 * i], sums[2 * i + 1]);
}

/* Grid: sections and groups of tiles, parts, segments. Half of the warps have the first tiles of
 * the group, half the others; four share out the rows. */
static __global__ void __launch_bounds__(TILE_THREADS, 2)
    lora_tile_down(const __grid_constant__ struct kern_cuda_lora_args a, int sections)
{
    const int warp = (int)threadIdx.x / KERN_WARP, lane = (int)threadIdx.x % KERN_WARP;
    const int section = blockIdx.x % sections, group = blockIdx.x / sections * 2 * DOWN_TILES;
    const int first = group + warp / 4 * DOWN_TILES;
    struct down_tile tiles[DOWN_TILES];
    struct lora_place p;
    bool live = lora_find(&p, a, blockIdx.z, blockIdx.y, false) && p.source == (int)blockIdx.y;
    const int length = live ? lora_section_length(a, p.rank) : 1;
    live = live && section * length < a.k && find_tiles(tiles, a, blockIdx.y, length, first, group);
    kern_wait();
    kern_release();
    if (!live || tiles[0].part < 0 || warp % 4 * 16 >= p.n_rows)
        return;
    const int begin = section * length, end = min(a.k, begin + length);
    const int row = warp % 4 * 16 + lane / 4, left = p.n_rows - row; /* of this lane's two */
    const bool wide =
        a.k % 4 == 0 && a.x_stride % 4 == 0 && (((uintptr_t)a.x | (uintptr_t)a.norm) & 15) == 0;
    const bool square = a.norm && first == 0;
    const float *x = a.x + (size_t)(p.row + row) * a.x_stride;
    float sums[DOWN_TILES][4] = {};
    double squares[2] = {0.0, 0.0};
#pragma unroll 2
    for (int at = begin; at < end; at += 16) {
        const int e = at + lane % 4 * 4;
        struct tile_four w[DOWN_TILES];
        float v[2][4] = {}, norm[4];
#pragma unroll
        for (int i = 0; i < DOWN_TILES; i++)
            w[i] = load_four(tiles[i].row, tiles[i].stride, tiles[i].type, e);
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (8 * i < left)
                lora_load<4>(v[i], x + 8 * i * a.x_stride, e, a.k, wide);
        if (a.norm) {
            lora_load<4>(norm, a.norm, e, a.k, wide);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (square)
                    squares[i / 4] += (double)v[i / 4][i % 4] * (double)v[i / 4][i % 4];
                v[i / 4][i % 4] *= norm[i % 4];
            }
        }
        const struct tile_rows rows = rows_of(v[0], v[1]);
#pragma unroll
        for (int i = 0; i < DOWN_TILES; i++) {
            float numbers[4];
            if (tiles[i].part < 0)
                break;
            decode_four(numbers, w[i], tiles[i].type);
            add_tile(sums[i], rows, numbers, tiles[i].type == INFER_DTYPE_F32);
        }
    }
#pragma unroll
    for (int i = 0; i < DOWN_TILES; i++)
        store_down(a, tiles[i], sums[i], section, p.row + row, left);
#pragma unroll
    for (int i = 0; square && i < 2; i++)
        store_squares(a, squares[i], p.row + row + 8 * i, 8 * i < left, section, length);
}

/* ----------------------------------------------------------------------- up */

struct up_shared {
    float t[TILE_ROWS * UP_STRIDE];
    float factors[TILE_ROWS]; /* of rows: scales and norm */
    lora_place place;         /* for which there are no registers */
};

static __device__ __forceinline__ int sections_of(const lora_place &p,
                                                  const struct kern_cuda_lora_args &a)
{
    const int length = lora_section_length(a, p.rank);
    return (a.k + length - 1) / length;
}

static __device__ __forceinline__ void make_factors(struct up_shared &s, const lora_place &p,
                                                    const struct kern_cuda_lora_args &a)
{
    if ((int)threadIdx.x < p.n_rows)
        s.factors[threadIdx.x] =
            p.scale * a.scales[p.row + threadIdx.x] *
            lora_norm_scale(a, lora_t(a, p.row + threadIdx.x, p.source), sections_of(p, a));
}

/* Ranks `base` and further of the segment's rows, summed up and scaled; zeros behind both. */
static __device__ __forceinline__ void gather_t(struct up_shared &s, const lora_place &p,
                                                const struct kern_cuda_lora_args &a, int base)
{
    const int rank_up = lora_rank_up(p.rank), n_sections = sections_of(p, a);
#pragma unroll 1 /* the sums of before have most of the registers */
    for (int i = threadIdx.x; i < TILE_ROWS * UP_RANKS; i += TILE_THREADS) {
        const int m = i / UP_RANKS, r = base + i % UP_RANKS;
        float sum = 0.0f;
        if (m < p.n_rows && r < p.rank) {
            const float *t = lora_t(a, p.row + m, p.source);
            for (int section = 0; section < n_sections; section++)
                sum += t[section * rank_up + r];
            sum *= s.factors[m];
        }
        s.t[m * UP_STRIDE + i % UP_RANKS] = sum;
    }
    __syncthreads();
}

static __device__ __forceinline__ void load_shared_four(float v[4], const float *t)
{
    const float4 four = *(const float4 *)(const void *)t;
    v[0] = four.x;
    v[1] = four.y;
    v[2] = four.z;
    v[3] = four.w;
}

/* y += two neighbours, where they are. */
static __device__ __forceinline__ void add_two(float *y, float a, float b, int left, bool pairs)
{
    if (left >= 2 && pairs) {
        float2 v = *(float2 *)(void *)y;
        v.x += a;
        v.y += b;
        *(float2 *)(void *)y = v;
    } else {
        if (left >= 1)
            y[0] += a;
        if (left >= 2)
            y[1] += b;
    }
}

/* Sums of tiles `from` and further, of outputs from `first` on, over 16 ranks of all rows. */
template <int tiles>
static __device__ __forceinline__ void add_up(float sums[TILE_ROWS / 16][UP_TILES][4], int from,
                                              const lora_place &p, const struct up_shared &s,
                                              int first, int n, int base, int at)
{
    const int g = (int)threadIdx.x % KERN_WARP / 4, t = (int)threadIdx.x % 4;
    float w[tiles][4];
#pragma unroll
    for (int i = 0; i < tiles; i++) {
        const int output = first + i * 8 + g;
        const uint8_t *row = output < n ? p.w + (size_t)output * p.stride : nullptr;
        decode_four(w[i], load_four(row, p.stride, p.type, base + at + 4 * t), p.type);
    }
#pragma unroll
    for (int m = 0; m < TILE_ROWS / 16; m++) {
        const float *upper = s.t + (m * 16 + g) * UP_STRIDE + at + 4 * t;
        float v[2][4];
        if (m * 16 >= p.n_rows)
            break;
        load_shared_four(v[0], upper);
        load_shared_four(v[1], upper + 8 * UP_STRIDE);
        const struct tile_rows rows = rows_of(v[0], v[1]);
#pragma unroll
        for (int i = 0; i < tiles; i++)
            add_tile(sums[m][from + i], rows, w[i], p.type == INFER_DTYPE_F32);
    }
}

/* Grid: tiles of outputs, parts, segments. A warp has its outputs of all rows. */
static __global__ void __launch_bounds__(TILE_THREADS, 2)
    lora_tile_up(const __grid_constant__ struct kern_cuda_lora_args a)
{
    __shared__ struct up_shared shared;
    const int part = blockIdx.y, warp = (int)threadIdx.x / KERN_WARP;
    const int g = (int)threadIdx.x % KERN_WARP / 4, t = (int)threadIdx.x % 4;
    const int first = (int)blockIdx.x * UP_OUTPUTS + warp * UP_TILES * 8, n = a.n[part];
    lora_place found;
    const bool live =
        (int)blockIdx.x * UP_OUTPUTS < n && lora_find(&found, a, blockIdx.z, part, true);
    kern_wait();
    kern_release();
    if (!live)
        return;
    if (threadIdx.x == 0)
        shared.place = found;
    make_factors(shared, found, a);
    __syncthreads();
    const lora_place &p = shared.place;
    float sums[TILE_ROWS / 16][UP_TILES][4] = {};
    for (int base = 0; base < p.rank; base += UP_RANKS) {
        const int end = min(p.rank - base, UP_RANKS);
        __syncthreads(); /* the ranks before have been read */
        gather_t(shared, p, a, base);
#pragma unroll 1
        for (int at = 0; at < end; at += 16) {
#pragma unroll
            for (int tile = 0; tile < UP_TILES; tile += UP_TILES / 2) {
                add_up<UP_TILES / 2>(sums, tile, p, shared, first + tile * 8, n, base, at);
                __syncwarp(); /* there are registers for half of B: nothing is loaded ahead */
            }
        }
    }
    const bool pairs = a.y_stride[part] % 2 == 0 && (uintptr_t)a.y[part] % 8 == 0;
#pragma unroll
    for (int i = 0; i < TILE_ROWS / 8; i++) {
        const int row = i * 8 + g;
        float *y = a.y[part] + (size_t)(p.row + row) * a.y_stride[part] + first + 2 * t;
#pragma unroll
        for (int k = 0; row < p.n_rows && k < UP_TILES; k++)
            add_two(y + k * 8, sums[i / 2][k][i % 2 * 2], sums[i / 2][k][i % 2 * 2 + 1],
                    n - first - k * 8 - 2 * t, pairs);
    }
}

/* ----------------------------------------------------------------- launches */

int32_t lora_tile_down_launch(const struct kern_cuda_lora_args *args, void *stream)
{
    const int32_t sections =
        min(lora_sections_most(*args), (args->k + LORA_SECTION - 1) / LORA_SECTION);
    const int32_t tiles = args->n_parts * (lora_rank_up(args->max_rank) / TILE_RANKS);
    const int32_t groups = (tiles + 2 * DOWN_TILES - 1) / (2 * DOWN_TILES);
    const dim3 grid((unsigned)(sections * groups), (unsigned)args->n_parts,
                    (unsigned)args->n_segments);
    return kern_launch(lora_tile_down, grid, dim3(TILE_THREADS), 0, stream, *args, sections);
}

int32_t lora_tile_up_launch(const struct kern_cuda_lora_args *args, void *stream)
{
    int32_t n = 0;
    for (int32_t p = 0; p < args->n_parts; p++)
        n = max(n, args->n[p]);
    const dim3 grid((unsigned)((n + UP_OUTPUTS - 1) / UP_OUTPUTS), (unsigned)args->n_parts,
                    (unsigned)args->n_segments);
    return kern_launch(lora_tile_up, grid, dim3(TILE_THREADS), 0, stream, *args);
}
