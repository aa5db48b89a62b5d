/* Packing lists of neighbours. */
#include "vector/graph_list.h"

struct vector_list_shape vector_list_shape(int32_t n_rows, int32_t degree)
{
    const int32_t bits = n_rows > 0 ? 32 - __builtin_clz((uint32_t)n_rows) : 1;

    return (struct vector_list_shape){.bits = bits,
                                      .most = degree,
                                      .none = UINT32_MAX >> (32 - bits),
                                      .bytes = (size_t)BASE_DIV_UP(degree * bits, 64) * 8};
}

void vector_list_pack(const struct vector_list_shape *shape, uint8_t *list, const uint32_t *links,
                      int32_t n)
{
    uint64_t word = 0; /* bits that do not fill a byte yet */
    int32_t n_bits = 0;
    size_t at = 0;

    memset(list, 0, shape->bytes);
    for (int32_t i = 0; i < shape->most; i++) {
        word |= (uint64_t)(i < n ? links[i] : shape->none) << n_bits;
        for (n_bits += shape->bits; n_bits >= 8; n_bits -= 8, word >>= 8) {
            list[at++] = (uint8_t)word;
        }
    }
    if (n_bits > 0) {
        list[at] = (uint8_t)word;
    }
}
