/* Tables that the blocks of some quantised types refer to (quant_blocks.h). */
#ifndef KERNELS_IQ_TABLES_H
#define KERNELS_IQ_TABLES_H

#include "base/types.h"

extern const int8_t kern_iq4_levels[16]; /* of IQ4_NL and IQ4_XS */
extern const int8_t kern_e2m1[16];       /* twice the numbers of FP4 */

/* Entries: the sizes of 8 or 4 values, for IQ1 eight times the values themselves. */
extern const int8_t kern_iq1[2048][8];
extern const int8_t kern_iq2_xxs[256][8];
extern const int8_t kern_iq2_xs[512][8];
extern const int8_t kern_iq2_s[1024][8];
extern const int8_t kern_iq3_xxs[256][4];
extern const int8_t kern_iq3_s[512][4];

/* Eight sign bits of seven: the last is the parity of the others. */
static inline unsigned kern_iq_signs(unsigned seven)
{
    unsigned parity = seven ^ seven >> 4;

    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1u) << 7;
}

#endif
