/* Random matrices of every type for the tests of products, on the host and cut on the card. */
#ifndef TESTS_CUDA_WEIGHTS_H
#define TESTS_CUDA_WEIGHTS_H

#include "cuda/card.h"

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

/* Where a block's halves lie, and the power of two that gives weights of about 1. */
struct weights_halves {
    infer_dtype type;
    int16_t d, d_exponent, m, m_exponent; /* m < 0: one half alone */
};

#define WEIGHTS_ONE(name, block, exponent)                                                         \
    {                                                                                              \
        INFER_DTYPE_##name, offsetof(struct block, d), exponent, -1, 0                             \
    }
#define WEIGHTS_TWO(name, block, exponent, second, second_exponent)                                \
    {                                                                                              \
        INFER_DTYPE_##name, offsetof(struct block, d), exponent, offsetof(struct block, second),   \
            second_exponent                                                                        \
    }

static inline const struct weights_halves *weights_halves_of(infer_dtype type)
{
    static const struct weights_halves all[] = {
        WEIGHTS_ONE(Q8_0, kern_q8_0, -7),
        WEIGHTS_ONE(Q4_0, kern_q4_0, -3),
        WEIGHTS_TWO(Q4_1, kern_q4_1, -4, m, -1),
        WEIGHTS_ONE(Q5_0, kern_q5_0, -4),
        WEIGHTS_TWO(Q5_1, kern_q5_1, -5, m, -1),
        WEIGHTS_TWO(Q2_K, kern_q2_k, -5, dmin, -4),
        WEIGHTS_ONE(Q3_K, kern_q3_k, -7),
        WEIGHTS_TWO(Q4_K, kern_q4_k, -9, dmin, -6),
        WEIGHTS_TWO(Q5_K, kern_q5_k, -10, dmin, -6),
        WEIGHTS_ONE(Q6_K, kern_q6_k, -12),
        WEIGHTS_ONE(IQ4_NL, kern_iq4_nl, -7),
        WEIGHTS_ONE(IQ4_XS, kern_iq4_xs, -12),
        WEIGHTS_ONE(IQ3_XXS, kern_iq3_xxs, -9),
        WEIGHTS_ONE(IQ3_S, kern_iq3_s, -9),
        WEIGHTS_ONE(IQ2_XXS, kern_iq2_xxs, -8),
        WEIGHTS_ONE(IQ2_XS, kern_iq2_xs, -8),
        WEIGHTS_ONE(IQ2_S, kern_iq2_s, -8),
        WEIGHTS_ONE(IQ1_S, kern_iq1_s, -4),
        WEIGHTS_ONE(TQ1_0, kern_tq1_0, -1),
        WEIGHTS_ONE(TQ2_0, kern_tq2_0, -1),
    };
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        if (all[i].type == type)
            return &all[i];
    return NULL;
}

/* A half of random sign, 2^low .. 2^(low + 1) in size. */
static inline void weights_half(uint64_t *rng, uint8_t *p, int low)
{
    const uint16_t h = (uint16_t)((test_rand(rng) & 0x83ffu) | (uint32_t)(low + 15) << 10);
    memcpy(p, &h, sizeof h);
}

/* What all bits at random would make too large in element or block p. */
static inline void weights_calm(uint64_t *rng, uint8_t *p, infer_dtype type)
{
    const struct weights_halves *h = weights_halves_of(type);
    const float f = 1.5f * test_randf(rng);
    if (h) {
        weights_half(rng, p + h->d, h->d_exponent);
        if (h->m >= 0)
            weights_half(rng, p + h->m, h->m_exponent);
    } else if (type == INFER_DTYPE_F32) {
        memcpy(p, &f, sizeof f);
    } else if (type == INFER_DTYPE_BF16) {
        memcpy(p, (const char *)&f + 2, 2);
    } else if (type == INFER_DTYPE_F16) {
        weights_half(rng, p, 0);
    } else if (type == INFER_DTYPE_IQ1_M) {
        uint8_t *scales = p + offsetof(struct kern_iq1_m, scales);
        uint8_t half[2];
        weights_half(rng, half, -4);
        for (int i = 0; i < 4; i++)
            scales[2 * i + 1] =
                (uint8_t)((scales[2 * i + 1] & 15) | (half[i / 2] >> i % 2 * 4 & 15) << 4);
    } else if (type == INFER_DTYPE_MXFP4) {
        *p = (uint8_t)(120 + test_rand(rng) % 6);
    } else if (type == INFER_DTYPE_NVFP4) {
        for (int i = 0; i < KERN_NVFP4 / 16; i++)
            p[i] = (uint8_t)(test_rand(rng) % 0x29);
    } else if (type == INFER_DTYPE_F8_128) { /* numbers up to 448, none of them NaN */
        const float d = f / 100.0f;
        memcpy(p, &d, sizeof d);
        for (int i = 0; i < KERN_F8; i++)
            p[sizeof d + (size_t)i] ^= (p[sizeof d + (size_t)i] & 0x7f) == 0x7f;
    } else { /* F8: below 2 */
        *p &= 0xbf;
    }
}

struct weights {
    infer_dtype type;
    int32_t n, k;
    size_t stride; /* of the file's rows */
    uint8_t *file, *body, *side;
    float *numbers; /* n rows of k as kernels/ref reads them */
    struct kern_cuda_matrix matrix;
};

static inline void weights_fill(uint64_t *rng, uint8_t *p, infer_dtype type, int32_t k)
{
    const struct kern_cuda_layout *l = kern_cuda_layout_of(type);
    const size_t blocks = (size_t)(k / l->block_elements);
    for (size_t i = 0; i < blocks * l->block_bytes; i++)
        p[i] = (uint8_t)(test_rand(rng) >> 11);
    for (size_t i = 0; i < blocks; i++)
        weights_calm(rng, p + i * l->block_bytes, type);
}

/* n rows of k, n_matrices of them one behind the other. Rows of the file lie `gap` bytes apart. */
static inline struct weights weights_new(uint64_t *rng, infer_dtype type, int32_t n,
                                         int32_t n_matrices, int32_t k, size_t gap)
{
    const struct kern_cuda_layout *l = kern_cuda_layout_of(type);
    struct kern_quant quant = {0};
    struct weights w = {.type = type, .n = n, .k = k};
    const size_t rows = (size_t)n * (size_t)n_matrices;
    kern_quant_init_ref(&quant);
    assert_non_null(l);
    w.stride = (size_t)(k / l->block_elements) * l->block_bytes + gap;
    w.file = malloc(rows * w.stride);
    w.numbers = malloc(rows * (size_t)k * sizeof(float));
    for (size_t r = 0; r < rows; r++) {
        weights_fill(rng, w.file + r * w.stride, type, k);
        quant.dequant[type](w.numbers + r * (size_t)k, w.file + r * w.stride, k);
    }
    w.matrix = (struct kern_cuda_matrix){.n = n, .k = k, .type = type};
    w.matrix.body_stride = kern_cuda_body_stride(l, k);
    w.matrix.side_stride = kern_cuda_side_stride(l, k);
    w.matrix.body = w.body = card_new(NULL, rows * w.matrix.body_stride);
    w.side = l->side_bytes ? card_new(NULL, rows * w.matrix.side_stride) : NULL;
    w.matrix.side = w.side;
    uint8_t *on_card = card_new(w.file, rows * w.stride);
    struct kern_cuda_matrix all = w.matrix;
    all.n = (int32_t)rows;
    const int32_t half = (int32_t)(rows / 2); /* in two goes */
    assert_int_equal(kern_cuda_product_split(&all, on_card, w.stride, 0, half, NULL), 0);
    assert_int_equal(kern_cuda_product_split(&all, on_card + (size_t)half * w.stride, w.stride,
                                             half, (int32_t)rows - half, NULL),
                     0);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    card_free(on_card);
    return w;
}

static inline void weights_free(struct weights *w)
{
    free(w->file);
    free(w->numbers);
    card_free(w->body);
    if (w->side)
        card_free(w->side);
}

/* Every type that has a product. */
#define WEIGHTS_TYPE(name, type, elements) INFER_DTYPE_##name,
static const infer_dtype weights_types[] = {INFER_DTYPE_F32,
                                            INFER_DTYPE_F16,
                                            INFER_DTYPE_BF16,
                                            INFER_DTYPE_F8_E4M3,
                                            INFER_DTYPE_F8_E5M2,
                                            INFER_DTYPE_F8_128,
                                            KERN_QUANT_LIST(WEIGHTS_TYPE)};

#endif
