/* Layout of quantised blocks, as GGUF files hold them.
 *
 * Members are byte arrays: a block starts wherever the file put it, so nothing
 * here asks for alignment. Two-byte numbers are little-endian halves. */
#ifndef KERNELS_QUANT_BLOCKS_H
#define KERNELS_QUANT_BLOCKS_H

#include "base/types.h"

enum {
    KERN_BLOCK = 32,  /* elements of a Q8_0 or Q4_0 block, and of a Q8 activation block */
    KERN_SUPER = 256, /* elements of a K block */
};

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

#endif
