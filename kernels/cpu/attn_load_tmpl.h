/* Template: elements of K and V vectors as floats, for attn_tmpl.h, over the words of reg_<isa>.h.
 */
#include "kernels/kernels.h"
#include "kernels/ref/kv_block.h"

#include <string.h>

enum {
    KIND_F32 = INFER_DTYPE_F32,
    KIND_F16 = INFER_DTYPE_F16,
    KIND_BF16 = INFER_DTYPE_BF16,
    KIND_Q8 = INFER_DTYPE_Q8_0,
    KIND_Q4 = INFER_DTYPE_Q4_1,
    KIND_F8 = INFER_DTYPE_F8_E4M3
};

enum {
    PIECE = 16, /* positions that lie side by side whatever the size of a block */
    PIECES = KERN_ATTN_TILE / PIECE
};

/* K or V vectors of a piece. */
struct vectors {
    const uint8_t *data;
    size_t stride; /* bytes */
    size_t used;   /* of them */
};

/* What will be read soon. Blocks lie anywhere in the pool: no processor guesses where the next
 * one is. It is asked for a few lines at a time, between products: more at once would fill the
 * queue of misses, and what is read now would wait behind it. */
struct ahead {
    const uint8_t *at, *end;
    int32_t lines; /* at a time; 0: nothing */
};

KERN_INLINE void ask(struct ahead *a)
{
    for (int32_t i = 0; i < a->lines && a->at < a->end; i++, a->at += BASE_CACHE_LINE) {
        __builtin_prefetch((const char *)a->at, 0, 3);
    }
}

/* All of a piece, in about `times` times. */
KERN_INLINE struct ahead ahead_of(struct vectors v, int32_t times)
{
    const size_t bytes = (PIECE - 1) * v.stride + v.used;
    const int32_t lines = (int32_t)(bytes / BASE_CACHE_LINE) + 1;

    return (struct ahead){v.data, v.data + bytes, v.used ? BASE_DIV_UP(lines, times) : 0};
}

KERN_INLINE int kind_has_blocks(int kind)
{
    return kind == KIND_Q8 || kind == KIND_Q4;
}

/* Where element d of a vector lies, or the block that it is in. */
KERN_INLINE const uint8_t *kind_at(const uint8_t *vector, int32_t d, int kind)
{
    switch (kind) {
    case KIND_F32:
        return vector + (size_t)d * 4;
    case KIND_Q8:
        return vector + (size_t)(d / KERN_KV_BLOCK) * KERN_KV_Q8_BYTES;
    case KIND_Q4:
        return vector + (size_t)(d / KERN_KV_BLOCK) * KERN_KV_Q4_BYTES;
    case KIND_F8:
        return vector + d;
    default:
        return vector + (size_t)d * 2;
    }
}

/* And how far after it. */
KERN_INLINE int32_t kind_in(int32_t d, int kind)
{
    return kind_has_blocks(kind) ? d % KERN_KV_BLOCK : 0;
}

/* REG elements from `in` elements after p on, none of another block. Codes times scales are
 * exact, so a Q4 element is rounded once. */
KERN_INLINE reg load_kind(const uint8_t *p, int32_t in, int kind)
{
    const uint8_t *at = kind_at(p, in, kind);
    const int32_t within = in % KERN_KV_BLOCK;

    switch (kind) {
    case KIND_F32:
        return reg_load(at);
    case KIND_F16:
        return reg_load_f16(at);
    case KIND_BF16:
        return reg_load_bf16(at);
    case KIND_F8:
        return reg_load_e4m3(at);
    case KIND_Q8:
        return reg_mul(reg_set1_f16(at), reg_load_s8(at + 2 + within));
    default:
        return reg_fma(reg_set1_f16(at), reg_load_u4(at + 4 + within / 2), reg_set1_f16(at + 2));
    }
}

/* `head_dim` elements of each vector of a piece as floats, zeros up to the next multiple
 * of REG. */
KERN_INLINE struct vectors widen(float *widened, struct vectors src, struct ahead soon,
                                 int32_t head_dim, int kind)
{
    const int32_t whole = head_dim / REG * REG;
    const int32_t dim = BASE_ALIGN_UP(head_dim, (int32_t)REG);

    for (int32_t j = 0; j < PIECE; j++) {
        const uint8_t *from = src.data + (size_t)j * src.stride;
        float *to = widened + j * dim;

        ask(&soon);
        for (int32_t d = 0; d < whole; d += REG) {
            reg_store(to + d, load_kind(kind_at(from, d, kind), kind_in(d, kind), kind));
        }
        if (whole < head_dim) {
            uint8_t rest[REG * sizeof(float) + KERN_KV_BLOCK] = {0};
            const uint8_t *last = kind_at(from, whole, kind);

            memcpy(rest, last, kern_kv_bytes(kind, head_dim) - (size_t)(last - from));
            reg_store(to + whole, reg_keep(load_kind(rest, kind_in(whole, kind), kind), 0,
                                           head_dim - whole, reg_zero()));
        }
    }
    return (struct vectors){(const uint8_t *)widened, (size_t)dim * sizeof(float), 0};
}
