/* Template: weight rows packed by sixteens (kernels.h, kern_pack_fn), for the vector vocabulary
 * included before. */
#include "kernels/kernels.h"

#include <string.h>

/* The columns of 4 bytes in from .. to of a block. */
KERN_INLINE uint8_t *pack_columns(uint8_t *dst, const uint8_t *p, size_t stride, size_t from,
                                  size_t to)
{
    for (; from + 16 <= to; from += 16) {
        vi v[4];

        vi_strided_16b(v, p + from, stride);
        KERN_UNROLL
        for (int j = 0; j < 4; j++, dst += sizeof(vi)) {
            vi_store(dst, v[j]);
        }
    }
    for (; from < to; from += 4, dst += sizeof(vi)) {
        vi_store(dst, vi_strided_4b(p + from, stride));
    }
    return dst;
}

/* The column of 1 or 2 bytes at p; `readable`: four bytes are there. */
KERN_INLINE uint8_t *pack_narrow(uint8_t *dst, const uint8_t *p, size_t stride, size_t width,
                                 int readable)
{
    if (width == 2 && readable) {
        vi_store_u16(dst, vi_and(vi_strided_4b(p, stride), vi_set1(0xffff)));
        return dst + 2 * KERN_PACK_ROWS;
    }
    for (size_t row = 0; width && row < KERN_PACK_ROWS; row++, dst += width) {
        memcpy(dst, p + row * stride, width);
    }
    return dst;
}

static void pack(void *dst, const void *src, size_t stride, const struct kern_pack_layout *layout,
                 int32_t n_blocks)
{
    const size_t bytes = layout->block_bytes, width = layout->narrow_bytes;
    const size_t narrow = width ? layout->narrow_at : bytes;
    uint8_t *to = dst;
    const uint8_t *from = src;

    for (int32_t b = 0; b < n_blocks; b++, from += bytes) {
        to = pack_columns(to, from, stride, 0, narrow);
        to = pack_narrow(to, from + narrow, stride, width, narrow + 4 <= bytes);
        to = pack_columns(to, from, stride, narrow + width, bytes);
    }
}
