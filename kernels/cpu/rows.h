/* Columns of bytes of sixteen weight rows, one lane a row, plain or packed (struct kern_rows), for
 * the vector vocabulary included before. */
#ifndef KERNELS_CPU_ROWS_H
#define KERNELS_CPU_ROWS_H

#include "kernels/cpu/vec.h"
#include "kernels/kernels.h"

KERN_INLINE struct kern_rows kern_rows_plain(size_t stride)
{
    return (struct kern_rows){.stride = stride};
}

KERN_INLINE struct kern_rows kern_rows_packed(const uint8_t *block)
{
    return (struct kern_rows){.block = block, .packed = 1};
}

/* Block number i of blocks of so many bytes a row, from the first one on. */
KERN_INLINE const uint8_t *kern_block_at(struct kern_rows *r, const uint8_t *first, int i,
                                         size_t bytes)
{
    const uint8_t *block = first + (size_t)i * bytes * (r->packed ? KERN_PACK_ROWS : 1);

    r->block = block;
    return block;
}

KERN_INLINE const uint8_t *kern_column(const uint8_t *p, struct kern_rows r)
{
    return r.block + KERN_PACK_ROWS * (size_t)(p - r.block);
}

/* The half at p. */
KERN_INLINE vf vf_rows_f16(const uint8_t *p, struct kern_rows r)
{
    return r.packed ? vf_load_f16(kern_column(p, r)) : vf_strided_f16(p, r.stride);
}

/* The byte at p, as a number. */
KERN_INLINE vi vi_rows_u8(const uint8_t *p, struct kern_rows r)
{
    return r.packed ? vi_load_u8(kern_column(p, r))
                    : vi_and(vi_strided_4b(p, r.stride), vi_set1(0xff));
}

/* The four bytes at p. */
KERN_INLINE vi vi_rows_4b(const uint8_t *p, struct kern_rows r)
{
    return r.packed ? vi_load(kern_column(p, r)) : vi_strided_4b(p, r.stride);
}

/* The sixteen bytes at p: lane i of out[j] is bytes 4j .. 4j + 3 of row i. */
KERN_INLINE void vi_rows_16b(vi out[4], const uint8_t *p, struct kern_rows r)
{
    if (!r.packed) {
        vi_strided_16b(out, p, r.stride);
        return;
    }
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        out[j] = vi_load(kern_column(p, r) + j * 64);
    }
}

#endif
