/* Weight rows packed by sixteens: which columns a type's block has, and the reference. */
#include "kernels/quant_blocks.h"
#include "kernels/ref/ref.h"

#include <string.h>

#define NONE     0, 0
#define HALF(at) at, 2
#define BYTE(at) at, 1

/* Floats too: a block of one element. Then every type with blocks, and where its block has a scale
 * that is not of 4 bytes. */
#define LAYOUTS(X)                                                                                 \
    X(F32, float, 1, NONE)                                                                         \
    X(F16, uint16_t, 1, HALF(0))                                                                   \
    X(BF16, uint16_t, 1, HALF(0))                                                                  \
    X(Q8_0, struct kern_q8_0, KERN_BLOCK, HALF(0))                                                 \
    X(Q4_0, struct kern_q4_0, KERN_BLOCK, HALF(0))                                                 \
    X(Q4_1, struct kern_q4_1, KERN_BLOCK, NONE)                                                    \
    X(Q5_0, struct kern_q5_0, KERN_BLOCK, HALF(0))                                                 \
    X(Q5_1, struct kern_q5_1, KERN_BLOCK, NONE)                                                    \
    X(Q2_K, struct kern_q2_k, KERN_SUPER, NONE)                                                    \
    X(Q3_K, struct kern_q3_k, KERN_SUPER, HALF(offsetof(struct kern_q3_k, d)))                     \
    X(Q4_K, struct kern_q4_k, KERN_SUPER, NONE)                                                    \
    X(Q5_K, struct kern_q5_k, KERN_SUPER, NONE)                                                    \
    X(Q6_K, struct kern_q6_k, KERN_SUPER, HALF(offsetof(struct kern_q6_k, d)))                     \
    X(IQ4_NL, struct kern_iq4_nl, KERN_BLOCK, HALF(0))                                             \
    X(IQ4_XS, struct kern_iq4_xs, KERN_SUPER, NONE)                                                \
    X(IQ3_XXS, struct kern_iq3_xxs, KERN_SUPER, HALF(0))                                           \
    X(IQ3_S, struct kern_iq3_s, KERN_SUPER, HALF(0))                                               \
    X(IQ2_XXS, struct kern_iq2_xxs, KERN_SUPER, HALF(0))                                           \
    X(IQ2_XS, struct kern_iq2_xs, KERN_SUPER, HALF(0))                                             \
    X(IQ2_S, struct kern_iq2_s, KERN_SUPER, HALF(0))                                               \
    X(IQ1_S, struct kern_iq1_s, KERN_SUPER, HALF(0))                                               \
    X(IQ1_M, struct kern_iq1_m, KERN_SUPER, NONE)                                                  \
    X(TQ1_0, struct kern_tq1_0, KERN_SUPER, HALF(offsetof(struct kern_tq1_0, d)))                  \
    X(TQ2_0, struct kern_tq2_0, KERN_SUPER, HALF(offsetof(struct kern_tq2_0, d)))                  \
    X(MXFP4, struct kern_mxfp4, KERN_BLOCK, BYTE(0))                                               \
    X(NVFP4, struct kern_nvfp4, KERN_NVFP4, NONE)

const struct kern_pack_layout *kern_pack_layout_of(infer_dtype type)
{
#define LAYOUT(type, block, elements, ...)                                                         \
    [INFER_DTYPE_##type] = {sizeof(block), elements, __VA_ARGS__},
    static const struct kern_pack_layout layouts[KERN_DTYPES] = {LAYOUTS(LAYOUT)};

    return type < KERN_DTYPES && layouts[type].block_bytes ? &layouts[type] : NULL;
}

/* Bytes of the column at offset `at`. */
static size_t width_at(const struct kern_pack_layout *layout, size_t at)
{
    return layout->narrow_bytes && at == layout->narrow_at ? layout->narrow_bytes : 4;
}

static void pack(void *dst, const void *src, size_t stride, const struct kern_pack_layout *layout,
                 int32_t n_blocks)
{
    uint8_t *to = dst;
    const uint8_t *from = src;

    for (int32_t b = 0; b < n_blocks; b++, from += layout->block_bytes) {
        for (size_t at = 0, width; at < layout->block_bytes; at += width) {
            width = width_at(layout, at);
            for (size_t row = 0; row < KERN_PACK_ROWS; row++, to += width) {
                memcpy(to, from + row * stride + at, width);
            }
        }
    }
}

static void unpack(void *dst, const void *group, int32_t row, const struct kern_pack_layout *layout,
                   int32_t n_blocks)
{
    uint8_t *to = dst;
    const uint8_t *from = group;

    for (int32_t b = 0; b < n_blocks; b++) {
        for (size_t at = 0, width; at < layout->block_bytes; at += width, to += width) {
            width = width_at(layout, at);
            memcpy(to, from + (size_t)row * width, width);
            from += KERN_PACK_ROWS * width;
        }
    }
}

void kern_pack_init_ref(struct kern_quant *quant)
{
    quant->pack = pack;
    quant->unpack = unpack;
}
