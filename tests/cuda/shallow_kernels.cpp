/* Kernels that compute next to nothing, for tests of what is around them: of each row the first
 * number alone counts, and is passed on by products, norms and sums as it is. What attention gives
 * is a number made of all that the cache has of the sequence, by its block tables, and the head's
 * highest logit is at that number: each token depends on every block, position and token before it.
 */
#include "cuda/shallow_kernels.h"

#include "cuda/emulate.h"

int32_t shallow_broken = -1;

static int32_t launch(void *stream, std::function<void()> body)
{
    return emulated_launch(dim3(1), dim3(1), 0, stream, std::move(body));
}

static int32_t pass(void *y, size_t y_bytes, const void *x, size_t x_bytes, int32_t n, void *stream)
{
    return launch(stream, [=] {
        for (int32_t i = 0; i < n; i++)
            memcpy((char *)y + (size_t)i * y_bytes, (const char *)x + (size_t)i * x_bytes, 4);
    });
}

static int32_t many_rows(infer_dtype)
{
    return KERN_CUDA_ROWS_F32;
}

static int32_t rows(void *y, int32_t, const struct kern_cuda_matrix *m, const int32_t *ids, int32_t,
                    int32_t n, float, void *stream)
{
    const size_t k = (size_t)m->k;
    return launch(stream, [=] {
        for (int32_t i = 0; i < n; i++)
            ((float *)y)[(size_t)i * k] = (float)ids[i];
    });
}

/* The head is known by its size: no other matrix has so many rows. */
static int32_t product(const struct kern_cuda_part *p, const char *x, size_t x_bytes, int32_t m,
                       void *stream)
{
    const int32_t n = p->w.n;
    float *y = p->y;
    const size_t stride = p->y_stride;
    if (n != SHALLOW_VOCAB)
        return pass(y, stride * 4, x, x_bytes, m, stream);
    return launch(stream, [=] {
        for (int32_t i = 0; i < m; i++) {
            const float *row = (const float *)(x + (size_t)i * x_bytes);
            std::fill(y + (size_t)i * stride, y + (size_t)i * stride + n, 0.0f);
            const int32_t at = (int32_t)*row % n;
            y[(size_t)i * stride + (size_t)at] = at == shallow_broken ? NAN : 1;
        }
    });
}

static int32_t few(const struct kern_cuda_few_args *a, void *stream)
{
    const int32_t n = a->act == KERN_CUDA_ACT_NONE ? a->n_parts : 1; /* gate and up give one */
    int32_t error = 0;
    for (int32_t i = 0; i < n && !error; i++)
        error = product(&a->parts[i], (const char *)a->x, a->x_stride * 4, a->m, stream);
    return error;
}

static int32_t many(const struct kern_cuda_many_args *a, void *stream)
{
    const struct kern_cuda_part part = {a->w, a->bias, a->y, a->y_stride};
    return product(&part, (const char *)a->x, a->x_stride, a->m, stream);
}

static int32_t norm(const struct kern_cuda_norm_args *a, void *stream)
{
    return pass(a->y, a->y_stride, a->x, a->x_stride * 4, a->n_rows, stream);
}

static int32_t convert(void *y, size_t y_stride, int32_t, const float *x, size_t x_stride,
                       int32_t n, int32_t, void *stream)
{
    return pass(y, y_stride, x, x_stride * 4, n, stream);
}

static int32_t gate(const struct kern_cuda_gate_args *a, void *stream)
{
    return pass(a->y, a->y_stride, a->gate, a->stride * 4, a->n_rows, stream);
}

static int32_t join(const struct kern_cuda_join_args *a, void *stream)
{
    const size_t stride = (size_t)a->n * 4;
    return pass(a->x, stride, a->branch, stride, a->n_rows, stream);
}

static int32_t gather(float *y, const float *x, const int32_t *ids, int32_t n_ids, int32_t n,
                      void *stream)
{
    return launch(stream, [=] {
        for (int32_t i = 0; i < n_ids; i++)
            y[(size_t)i * (size_t)n] = x[(size_t)ids[i] * (size_t)n];
    });
}

static int32_t argmax(int32_t *ids, const float *x, int32_t n_rows, int32_t n, void *stream)
{
    return launch(stream, [=] {
        for (int32_t i = 0; i < n_rows; i++) {
            const float *row = x + (size_t)i * (size_t)n;
            ids[i] = (int32_t)(std::max_element(row, row + n) - row);
            if (std::any_of(row, row + n, [](float v) { return v != v; }))
                ids[i] = -1;
        }
    });
}

static int32_t rope(float *, const int32_t *, int32_t, const double *, const double *, int32_t,
                    int32_t, float, void *stream)
{
    return launch(stream, [] {});
}

static float *slot_of(const struct kern_cuda_kv &kv, int32_t seq, int32_t pos)
{
    const int32_t block = kv.tables[(size_t)seq * (size_t)kv.table_stride + pos / kv.block_tokens];
    return (float *)(kv.k + (size_t)block * kv.block_stride +
                     (size_t)(pos % kv.block_tokens) * kv.k_slot);
}

static int32_t store(const struct kern_cuda_store_args *a, void *stream)
{
    const struct kern_cuda_store_args s = *a;
    const struct kern_cuda_batch b = *a->batch;
    return launch(stream, [=] {
        for (int32_t i = 0; i < b.n_rows; i++)
            if (b.seq_of[i] >= 0)
                *slot_of(s.kv, b.seq_of[i], b.pos[i]) = s.k[(size_t)i * s.k_stride];
    });
}

static int32_t paged(const struct kern_cuda_attn_args *a, void *stream)
{
    const struct kern_cuda_attn_args s = *a;
    const struct kern_cuda_batch b = *a->batch;
    const int32_t error = a->store ? store(a->store, stream) : 0;
    if (error)
        return error;
    return launch(stream, [=] {
        for (int32_t i = 0; i < b.n_rows; i++) {
            uint32_t hash = 2166136261u;
            if (b.seq_of[i] < 0)
                continue;
            for (int32_t pos = 0; pos <= b.pos[i]; pos++)
                hash = (hash ^ (uint32_t)*slot_of(s.kv, b.seq_of[i], pos)) * 16777619u;
            *(float *)((char *)s.out + (size_t)i * s.out_stride) =
                (float)((hash ^ hash >> 16) % 65521);
        }
    });
}

void shallow_kernels(struct kern_cuda *k)
{
    k->many_rows = many_rows;
    k->product.rows = rows;
    k->product.few = few;
    k->product.many = many;
    k->rows.norm = norm;
    k->rows.convert = convert;
    k->rows.gate = gate;
    k->rows.join = join;
    k->rows.gather = gather;
    k->rows.argmax = argmax;
    k->attn.rope = rope;
    k->attn.store = store;
    k->attn.paged = paged;
}
