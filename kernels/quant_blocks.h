/* Layout of quantised blocks, as GGUF files hold them.
 *
 * Members are byte arrays: a block starts wherever the file put it, so nothing
 * here asks for alignment. Two-byte numbers are little-endian halves. */
#ifndef KERNELS_QUANT_BLOCKS_H
#define KERNELS_QUANT_BLOCKS_H

#include "kernels/kernels.h"

enum {
    KERN_BLOCK = 32,  /* elements of a plain block, and of a Q8 activation block */
    KERN_NVFP4 = 64,  /* elements of an NVFP4 block */
    KERN_F8 = 128,    /* elements of an F8_128 block */
    KERN_SUPER = 256, /* elements of a K, IQ or TQ block */
};

/* Every quantised type: its name in INFER_DTYPE_*, its block, the elements of one. */
#define KERN_QUANT_LIST(X)                                                                         \
    X(Q8_0, struct kern_q8_0, KERN_BLOCK)                                                          \
    X(Q4_0, struct kern_q4_0, KERN_BLOCK)                                                          \
    X(Q4_1, struct kern_q4_1, KERN_BLOCK)                                                          \
    X(Q5_0, struct kern_q5_0, KERN_BLOCK)                                                          \
    X(Q5_1, struct kern_q5_1, KERN_BLOCK)                                                          \
    X(Q2_K, struct kern_q2_k, KERN_SUPER)                                                          \
    X(Q3_K, struct kern_q3_k, KERN_SUPER)                                                          \
    X(Q4_K, struct kern_q4_k, KERN_SUPER)                                                          \
    X(Q5_K, struct kern_q5_k, KERN_SUPER)                                                          \
    X(Q6_K, struct kern_q6_k, KERN_SUPER)                                                          \
    X(IQ4_NL, struct kern_iq4_nl, KERN_BLOCK)                                                      \
    X(IQ4_XS, struct kern_iq4_xs, KERN_SUPER)                                                      \
    X(IQ3_XXS, struct kern_iq3_xxs, KERN_SUPER)                                                    \
    X(IQ3_S, struct kern_iq3_s, KERN_SUPER)                                                        \
    X(IQ2_XXS, struct kern_iq2_xxs, KERN_SUPER)                                                    \
    X(IQ2_XS, struct kern_iq2_xs, KERN_SUPER)                                                      \
    X(IQ2_S, struct kern_iq2_s, KERN_SUPER)                                                        \
    X(IQ1_S, struct kern_iq1_s, KERN_SUPER)                                                        \
    X(IQ1_M, struct kern_iq1_m, KERN_SUPER)                                                        \
    X(TQ1_0, struct kern_tq1_0, KERN_SUPER)                                                        \
    X(TQ2_0, struct kern_tq2_0, KERN_SUPER)                                                        \
    X(MXFP4, struct kern_mxfp4, KERN_BLOCK)                                                        \
    X(NVFP4, struct kern_nvfp4, KERN_NVFP4)

/* ---------------------------------------------------------- blocks of 32 */

/* w = d * q */
struct kern_q8_0 {
    uint8_t d[2];
    int8_t q[KERN_BLOCK];
};

/* w = d * (q - 8): element i in the low half of byte i, i + 16 in the high half. */
struct kern_q4_0 {
    uint8_t d[2];
    uint8_t q[KERN_BLOCK / 2];
};

/* w = d * q + m: q as in Q4_0. */
struct kern_q4_1 {
    uint8_t d[2];
    uint8_t m[2];
    uint8_t q[KERN_BLOCK / 2];
};

/* w = d * (q - 16): the low 4 bits as in Q4_0, the fifth of element i in bit i of h. */
struct kern_q5_0 {
    uint8_t d[2];
    uint8_t h[4];
    uint8_t q[KERN_BLOCK / 2];
};

/* w = d * q + m: q as in Q5_0. */
struct kern_q5_1 {
    uint8_t d[2];
    uint8_t m[2];
    uint8_t h[4];
    uint8_t q[KERN_BLOCK / 2];
};

/* -------------------------------------------------------- K: blocks of 256 */

/* w = d * sc * q - dmin * min for 16 elements each: sc in the low half of a byte
 * of scales, min in the high half. q of 2 bits: element l (0-31) of quarter p of
 * a half of 128 elements lies in bits 2p, 2p + 1 of byte l of the half's 32. */
struct kern_q2_k {
    uint8_t scales[KERN_SUPER / 16];
    uint8_t q[KERN_SUPER / 4];
    uint8_t d[2];
    uint8_t dmin[2];
};

/* w = d * (sc - 32) * (q - 4): the low 2 bits of q as in Q2_K, the third of
 * element i in bit i / 32 of byte i % 32 of h. sc of 16 elements each: the low 4
 * bits of sc 0-7 in the low halves of bytes 0-7 of scales, of sc 8-15 in their
 * high halves; the top 2 of sc 4a + b in bits 2a, 2a + 1 of byte 8 + b. */
struct kern_q3_k {
    uint8_t h[KERN_SUPER / 8];
    uint8_t q[KERN_SUPER / 4];
    uint8_t scales[12];
    uint8_t d[2];
};

/* w = d * sc * q - dmin * min, sc and min 6 bits each a sub-block of 32.
 * scales: bytes 0-3 hold sc 0-3, bytes 4-7 hold min 0-3 in their low 6 bits;
 * bytes 8-11 hold the low 4 bits of sc (low half) and min (high half) 4-7,
 * whose top 2 bits are the top 2 bits of bytes 0-3 and 4-7.
 * q: 32 bytes for each pair of sub-blocks, the first in the low halves. */
struct kern_q4_k {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t q[KERN_SUPER / 2];
};

/* As Q4_K, q of 5 bits: the fifth of element i in bit i / 32 of byte i % 32 of h. */
struct kern_q5_k {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t h[KERN_SUPER / 8];
    uint8_t q[KERN_SUPER / 2];
};

/* w = d * sc * (q - 32), sc one byte for 16 elements. For each half of 128
 * elements: 64 bytes of ql, 32 of qh. Element l of the half's quarter p (l in
 * 0-31) has its low 4 bits in byte l + 32 * (p & 1) of ql, low half for p < 2,
 * and its high 2 bits in bits 2p, 2p + 1 of byte l of qh. */
struct kern_q6_k {
    uint8_t ql[KERN_SUPER / 2];
    uint8_t qh[KERN_SUPER / 4];
    int8_t scales[KERN_SUPER / 16];
    uint8_t d[2];
};

/* ------------------------------------------------- IQ: values from tables
 *
 * iq_tables.h has the tables. A sign bit of 1 makes a value negative. Where a
 * group of 8 has only 7 sign bits, the eighth is their parity. */

/* w = d * levels[q]: q as in Q4_0. */
struct kern_iq4_nl {
    uint8_t d[2];
    uint8_t q[KERN_BLOCK / 2];
};

/* w = d * (sc - 32) * levels[q]: 16 bytes of q as in Q4_0 for each sub-block of 32.
 * sc of sub-block j: the low 4 bits in half j % 2 of byte j / 2 of scales_l, the
 * top 2 in bits 2j, 2j + 1 of the two-byte number scales_h. */
struct kern_iq4_xs {
    uint8_t d[2];
    uint8_t scales_h[2];
    uint8_t scales_l[KERN_SUPER / 64];
    uint8_t q[KERN_SUPER / 2];
};

/* w = d * (sc + 0.5) / 2 * value. q: an entry of iq3_xxs for each 4 elements. s:
 * a four-byte number for each 32, four times 7 sign bits, then sc in the top 4. */
struct kern_iq3_xxs {
    uint8_t d[2];
    uint8_t q[KERN_SUPER / 4];
    uint8_t s[KERN_SUPER / 8];
};

/* w = d * (2 sc + 1) * value. Entries of iq3_s for each 4 elements: low 8 bits in
 * q, the ninth of entry i in bit i % 8 of byte i / 8 of h. signs: a byte for each
 * 8 elements. sc of 32 elements each: 4 bits, the even ones in the low halves. */
struct kern_iq3_s {
    uint8_t d[2];
    uint8_t q[KERN_SUPER / 4];
    uint8_t h[KERN_SUPER / 32];
    uint8_t signs[KERN_SUPER / 8];
    uint8_t scales[KERN_SUPER / 64];
};

/* w = d * (sc + 0.5) / 4 * value. q: for each 32 elements four bytes, entries of
 * iq2_xxs for 8 elements each, then a number as in s of IQ3_XXS. */
struct kern_iq2_xxs {
    uint8_t d[2];
    uint8_t q[KERN_SUPER / 4];
};

/* w = d * (sc + 0.5) / 4 * value. q: a two-byte number for each 8 elements, an
 * entry of iq2_xs in the low 9 bits, 7 sign bits above. sc of 16 elements each:
 * 4 bits, the even ones in the low halves. */
struct kern_iq2_xs {
    uint8_t d[2];
    uint8_t q[KERN_SUPER / 4];
    uint8_t scales[KERN_SUPER / 32];
};

/* w = d * (sc + 0.5) / 4 * value. Entries of iq2_s for each 8 elements: low 8 bits
 * in q, the top 2 of entry i in bits 2(i % 4), 2(i % 4) + 1 of byte i / 4 of h.
 * signs: a byte for each 8 elements. scales as in IQ2_XS. */
struct kern_iq2_s {
    uint8_t d[2];
    uint8_t q[KERN_SUPER / 8];
    uint8_t signs[KERN_SUPER / 8];
    uint8_t h[KERN_SUPER / 32];
    uint8_t scales[KERN_SUPER / 32];
};

/* w = d * (2 sc + 1) * (value + delta), delta 1/8 or -1/8. Entries of iq1 for each 8
 * elements: low 8 bits in q. h: a two-byte number for each 32 elements: the top 3
 * bits of the four entries, first lowest; sc of 3 bits; 1 where delta is negative. */
struct kern_iq1_s {
    uint8_t d[2];
    uint8_t q[KERN_SUPER / 8];
    uint8_t h[KERN_SUPER / 16];
};

/* As IQ1_S, sc for 16 elements each, delta for 8. h: 4 bits for each 8 elements,
 * the first in the low half: the top 3 bits of the entry, then the sign of delta.
 * scales: four two-byte numbers of four sc of 3 bits, the first lowest; the top 4
 * bits of all four, the first lowest, are d. */
struct kern_iq1_m {
    uint8_t q[KERN_SUPER / 8];
    uint8_t h[KERN_SUPER / 16];
    uint8_t scales[KERN_SUPER / 32];
};

/* ------------------------------------------------- TQ: three values, -d, 0, d */

/* w = d * (t - 1). A byte v holds up to five t as the digits of a fraction v / 256
 * to base 3: digit n is (v * 3^n mod 256) * 3 / 256, rounded down. Digit n of byte
 * i of q[0-31] is element 32n + i, of q[32-47] element 160 + 16n + i - 32, and of
 * byte i of h, four digits, element 240 + 4n + i. */
struct kern_tq1_0 {
    uint8_t q[48];
    uint8_t h[4];
    uint8_t d[2];
};

/* w = d * (q - 1): q as in Q2_K; a q of 3 is legal. */
struct kern_tq2_0 {
    uint8_t q[KERN_SUPER / 4];
    uint8_t d[2];
};

/* -------------------------------------------------- FP4: values of 4 bits */

/* w = 2^(e - 128) * e2m1[q]: q as in Q4_0; e2m1 (iq_tables.h) holds twice the value. */
struct kern_mxfp4 {
    uint8_t e;
    uint8_t q[KERN_BLOCK / 2];
};

/* w = d / 2 * e2m1[q] for 16 elements each: d is an E4M3 number without sign, where
 * 0x7f is 0. q: 8 bytes for each 16, the first 8 in the low halves. */
struct kern_nvfp4 {
    uint8_t d[KERN_NVFP4 / 16];
    uint8_t q[KERN_NVFP4 / 2];
};

/* -------------------------------------------------------- FP8 with scales */

/* w = d * e4m3[q], products with floats: not in KERN_QUANT_LIST, whose types have whole numbers.
 * d is a float. A q of NaN has a d of NaN, so that what a kernel makes of it does not matter. */
struct kern_f8_128 {
    uint8_t d[4];
    uint8_t q[KERN_F8];
};

/* The parts of a row of Q8 activations (kernels.h, kern_act_q8_fn). */
struct kern_act_row {
    const int8_t *q;
    const float *d;
    const int16_t *s;
};

static inline struct kern_act_row kern_act_row_of(const void *row, int32_t k)
{
    struct kern_act_row r;

    r.q = (const int8_t *)row;
    r.d = (const float *)(const void *)(r.q + k);
    r.s = (const int16_t *)(const void *)(r.d + k / KERN_BLOCK);
    return r;
}

/* The parts of a row of activations of rounded products (kernels.h, KERN_FAST_SPAN). */
struct kern_fast_row {
    const int8_t *q;
    const float *d;
    const int32_t *s;
};

static inline struct kern_fast_row kern_fast_row_of(const void *row, int32_t k)
{
    struct kern_fast_row r;

    r.q = (const int8_t *)row;
    r.d = (const float *)(const void *)(r.q + k);
    r.s = (const int32_t *)(const void *)(r.d + BASE_DIV_UP(k, KERN_FAST_SPAN));
    return r;
}

#endif
