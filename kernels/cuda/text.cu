/* What encoders do with rows around attention and products: embeddings summed up and normalised,
 * and positions turned into queries and keys. */
#include "kernels/cuda/rows.cuh"

#define THREADS 256

/* ---------------------------------------------------------------- embeddings */

/* Pieces of a thread are read and written by it alone, so that x can hold the sum meanwhile. */
template <int W>
static __global__ void __launch_bounds__(THREADS) embed(const struct kern_cuda_text_embed_args a)
{
    kern_wait();
    const size_t at = (size_t)blockIdx.x * a.n;
    const int n = a.n / W;
    float *x = a.x + at;
    const float *type = NULL, *more = a.more ? a.more + at : NULL;
    if (a.types)
        type = a.types + (size_t)min(a.type_of[blockIdx.x], a.n_types - 1) * a.n;
    double sum = 0.0, mean = 0.0;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        kern_piece<W> v = kern_piece_load<W>(x + i * W), zero = kern_piece_fill<W>(0.0f);
        const kern_piece<W> t = type ? kern_piece_load<W>(type + i * W) : zero;
        const kern_piece<W> m = more ? kern_piece_load<W>(more + i * W) : zero;
#pragma unroll
        for (int e = 0; e < W; e++) {
            v.v[e] = v.v[e] + t.v[e] + m.v[e];
            sum += (double)v.v[e];
        }
        kern_piece_store<W>(x + i * W, v);
    }
    kern_release();
    if (!a.w)
        return;
    if (a.layer)
        mean = kern_block_sum(sum) / (double)a.n;
    sum = 0.0;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        const kern_piece<W> v = kern_piece_load<W>(x + i * W);
#pragma unroll
        for (int e = 0; e < W; e++)
            sum += ((double)v.v[e] - mean) * ((double)v.v[e] - mean);
    }
    const double factor = 1.0 / sqrt(kern_block_sum(sum) / (double)a.n + (double)a.eps);
    for (int i = threadIdx.x; i < n; i += THREADS) {
        kern_piece<W> v = kern_piece_load<W>(x + i * W), b = kern_piece_fill<W>(0.0f);
        const kern_piece<W> w = kern_piece_load<W>(a.w + i * W);
        if (a.layer && a.b)
            b = kern_piece_load<W>(a.b + i * W);
#pragma unroll
        for (int e = 0; e < W; e++)
            v.v[e] = (float)(((double)v.v[e] - mean) * factor * (double)w.v[e] + (double)b.v[e]);
        kern_piece_store<W>(x + i * W, v);
    }
}

extern "C" int32_t kern_cuda_text_embed(const struct kern_cuda_text_embed_args *args, void *stream)
{
    if (args->n_rows <= 0)
        return 0;
    const bool wide = args->n % 4 == 0 &&
                      kern_on_16_bytes(args->x, args->types, args->more, NULL) &&
                      kern_on_16_bytes(args->w, args->b, NULL, NULL);
    return kern_launch(wide ? embed<4> : embed<1>, dim3((unsigned)args->n_rows), dim3(THREADS), 0,
                       stream, *args);
}

/* ----------------------------------------------------------------- positions */

/* Blocks are (row, run of pairs); a head's pairs follow each other. */
static __global__ void __launch_bounds__(THREADS)
    rotate(float *x, size_t stride, const float *cs, int n_heads, int head_dim, int n_rot,
           int pairs)
{
    kern_wait();
    kern_release();
    const int n_pairs = n_rot / 2, at = blockIdx.y * THREADS + threadIdx.x;
    if (at >= n_heads * n_pairs)
        return;
    const int head = at / n_pairs, i = at % n_pairs;
    float *y = x + (size_t)blockIdx.x * stride + (size_t)head * head_dim;
    const float c = cs[(size_t)blockIdx.x * n_rot + i],
                s = cs[(size_t)blockIdx.x * n_rot + n_pairs + i];
    float *first = y + (pairs ? 2 * i : i), *second = y + (pairs ? 2 * i + 1 : i + n_pairs);
    const float a = *first, b = *second;
    *first = a * c - b * s;
    *second = a * s + b * c;
}

extern "C" int32_t kern_cuda_text_rotate(float *x, size_t stride, const float *cs, int32_t n_rows,
                                         int32_t n_heads, int32_t head_dim, int32_t n_rot,
                                         int32_t pairs, void *stream)
{
    const int32_t n = n_heads * (n_rot / 2);
    if (n_rows <= 0 || n <= 0)
        return 0;
    return kern_launch(rotate, dim3((unsigned)n_rows, (unsigned)((n + THREADS - 1) / THREADS)),
                       dim3(THREADS), 0, stream, x, stride, cs, n_heads, head_dim, n_rot, pairs);
}
