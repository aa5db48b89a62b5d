/* The words on tile registers, by AMX; tests/kernels/tile_soft.h gives every word the same
 * meaning on any processor. Numbers of tiles are literals: they become part of the instruction.
 *
 *   tile_configure(config)    before all others; all tiles become zero
 *   tile_zero(t)
 *   tile_load(t, p, stride)   its rows from p, `stride` bytes apart
 *   tile_store(t, p, stride)
 *   tile_dot_s8(c, a, b)      c[m][n] += sum of a[m][4k + i] * b[k][4n + i], signed bytes
 *   tile_dot_bf16(c, a, b)    c[m][n] += sum of a[m][2k + i] * b[k][2n + i], in floats
 *   tile_release()            after all others: switches of threads then need not save tiles */
#ifndef KERNELS_CPU_TILE_AMX_H
#define KERNELS_CPU_TILE_AMX_H

#include "kernels/cpu/tile_config.h"

#include <immintrin.h>

/* Compilers know neither all that LDTILECFG reads (GCC bug 114098) nor that a load of a tile reads
 * memory, and leave out stores before them. */
#define tile_barrier() __asm__ volatile("" ::: "memory")

#define tile_configure(config)                                                                     \
    do {                                                                                           \
        const struct kern_tile_config *config_ = (config);                                         \
        __asm__ volatile("" ::"r"(config_) : "memory");                                            \
        _tile_loadconfig(config_);                                                                 \
    } while (0)

#define tile_zero(t) _tile_zero(t)

#define tile_load(t, p, stride)                                                                    \
    do {                                                                                           \
        tile_barrier();                                                                            \
        _tile_loadd(t, p, stride);                                                                 \
    } while (0)

#define tile_store(t, p, stride) _tile_stored(t, p, stride)
#define tile_dot_s8(c, a, b)     _tile_dpbssd(c, a, b)
#define tile_dot_bf16(c, a, b)   _tile_dpbf16ps(c, a, b)
#define tile_release()           _tile_release()

#endif
