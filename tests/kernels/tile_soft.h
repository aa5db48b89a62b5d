/* The words of kernels/cpu/tile_amx.h in plain C, as the manual of the instruction set defines
 * them; what the processor would refuse is a fault, and mistakes can be planted. */
#ifndef TESTS_KERNELS_TILE_SOFT_H
#define TESTS_KERNELS_TILE_SOFT_H

#include "kernels/cpu/tile_config.h"

/* What a kernel with a mistake would do. */
enum tile_soft_plant {
    TILE_SOFT_SOUND,
    TILE_SOFT_SHORT_ROWS,    /* configures activations with a row too few */
    TILE_SOFT_SHORT_BYTES,   /* configures weights with four bytes too few */
    TILE_SOFT_NO_CONFIG,     /* does not configure */
    TILE_SOFT_NO_RELEASE,    /* does not release */
    TILE_SOFT_NO_ZERO,       /* does not zero */
    TILE_SOFT_STRIDE,        /* loads rows from four bytes too near */
    TILE_SOFT_DROPPED_STORE, /* leaves one store in 64 out */
    TILE_SOFT_PLANTS
};

struct tile_soft {
    struct kern_tile_config config; /* palette 0: none */
    uint8_t data[KERN_TILES][KERN_TILE_ROWS][KERN_TILE_BYTES];
    const char *fault; /* the last, or NULL; without a plant it stops the kernel by SIGILL */
    enum tile_soft_plant plant;
    long n_dots, n_stores;
};

extern struct tile_soft tile_soft;

void tile_soft_configure(const struct kern_tile_config *config);
void tile_soft_release(void);
void tile_soft_zero(int t);
void tile_soft_load(int t, const void *p, size_t stride);
void tile_soft_store(int t, void *p, size_t stride);
void tile_soft_dot_s8(int c, int a, int b);
void tile_soft_dot_bf16(int c, int a, int b);

#define tile_configure(config)   tile_soft_configure(config)
#define tile_zero(t)             tile_soft_zero(t)
#define tile_load(t, p, stride)  tile_soft_load(t, p, stride)
#define tile_store(t, p, stride) tile_soft_store(t, p, stride)
#define tile_dot_s8(c, a, b)     tile_soft_dot_s8(c, a, b)
#define tile_dot_bf16(c, a, b)   tile_soft_dot_bf16(c, a, b)
#define tile_release()           tile_soft_release()

#endif
