/* What the vector vocabularies vec_<isa>.h and reg_<isa>.h share. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include "base/types.h"

#include <string.h>

#define KERN_INLINE static inline __attribute__((always_inline, unused))

/* Before a loop of constant length whose variables must live in registers. */
#if defined(__clang__)
#define KERN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KERN_UNROLL _Pragma("GCC unroll 16")
#endif

/* What the bytes of a weight vector are; see the dot_* words. */
enum kern_dot { KERN_DOT_U4, KERN_DOT_U7, KERN_DOT_S8 };

/* Where sixteen weight rows lie that are read together: as in the file, `stride` bytes apart; or
 * packed (kernels.h, kern_pack_fn), where the column of bytes that begins at offset o of a plain
 * block begins at 16 * o of a packed one. Pointers are made by the offsets of the plain block
 * either way; the words vf_rows_f16(), vi_rows_*() of rows.h find the bytes. */
struct kern_rows {
    const uint8_t *block; /* packed: where the block begins that pointers are made from */
    size_t stride;
    int packed; /* a constant, so that the compiler sees through it */
};

KERN_INLINE int32_t kern_load_i32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE float kern_load_f32(const void *p)
{
    float v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* Four bytes at p, four at q above them. */
KERN_INLINE int64_t kern_two_u32(const void *p, const void *q)
{
    return (int64_t)((uint64_t)(uint32_t)kern_load_i32(p) | (uint64_t)(uint32_t)kern_load_i32(q)
                                                                << 32);
}

KERN_INLINE int64_t kern_load_i64(const void *p)
{
    int64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

KERN_INLINE uint64_t kern_load_u16x(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* The first two bytes of each of 4 rows. Put together by the integer units:
 * inserting words into vectors keeps the shuffle unit busy, which is what
 * unpacking waits for. */
KERN_INLINE uint64_t kern_rows4_u16(const uint8_t *p, size_t stride)
{
    return kern_load_u16x(p) | kern_load_u16x(p + stride) << 16 |
           kern_load_u16x(p + 2 * stride) << 32 | kern_load_u16x(p + 3 * stride) << 48;
}

#endif
