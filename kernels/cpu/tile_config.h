/* The shape of the eight tile registers, as LDTILECFG reads it (palette 1). */
#ifndef KERNELS_CPU_TILE_CONFIG_H
#define KERNELS_CPU_TILE_CONFIG_H

#include "base/types.h"

enum { KERN_TILES = 8, KERN_TILE_ROWS = 16, KERN_TILE_BYTES = 64 /* of a row */ };

struct kern_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[KERN_TILES], reserved_bytes[8];
    uint8_t rows[KERN_TILES], reserved_rows[8];
};

_Static_assert(sizeof(struct kern_tile_config) == 64, "what LDTILECFG reads");

static inline void kern_tile_shape(struct kern_tile_config *c, int tile, int rows, int row_bytes)
{
    c->rows[tile] = (uint8_t)rows;
    c->row_bytes[tile] = (uint16_t)row_bytes;
}

#endif
