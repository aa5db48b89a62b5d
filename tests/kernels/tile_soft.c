/* See tile_soft.h. */
#include "tile_soft.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct tile_soft tile_soft;

static int fault(const char *what)
{
    tile_soft.fault = what;
    if (tile_soft.plant == TILE_SOFT_SOUND) {
        printf("#   %s\n", what);
        raise(SIGILL);
    }
    return 0;
}

/* ---------------------------------------------------------------- shapes */

static int is_config(const struct kern_tile_config *c)
{
    static const struct kern_tile_config none;

    if (c->palette != 1 || c->start_row != 0 ||
        memcmp(c->reserved, none.reserved, sizeof(c->reserved)) != 0 ||
        memcmp(c->reserved_bytes, none.reserved_bytes, sizeof(c->reserved_bytes)) != 0 ||
        memcmp(c->reserved_rows, none.reserved_rows, sizeof(c->reserved_rows)) != 0) {
        return fault("configured with another palette or reserved bytes");
    }
    for (int t = 0; t < KERN_TILES; t++) {
        if (c->rows[t] > KERN_TILE_ROWS || c->row_bytes[t] > KERN_TILE_BYTES) {
            return fault("configured a tile that is too large");
        }
        if ((c->rows[t] == 0) != (c->row_bytes[t] == 0)) {
            return fault("configured a tile with rows or bytes only");
        }
    }
    return 1;
}

void tile_soft_configure(const struct kern_tile_config *config)
{
    struct kern_tile_config c = *config;

    if (tile_soft.plant == TILE_SOFT_NO_CONFIG || !is_config(&c)) {
        return;
    }
    for (int t = 0; t < KERN_TILES; t++) {
        if (tile_soft.plant == TILE_SOFT_SHORT_ROWS && (t == 2 || t == 3)) {
            c.rows[t]--;
        } else if (tile_soft.plant == TILE_SOFT_SHORT_BYTES && t >= 6) {
            c.row_bytes[t] = (uint16_t)(c.row_bytes[t] - 4);
        }
    }
    tile_soft.config = c;
    memset(tile_soft.data, 0, sizeof(tile_soft.data));
}

void tile_soft_release(void)
{
    if (tile_soft.plant != TILE_SOFT_NO_RELEASE) {
        memset(&tile_soft.config, 0, sizeof(tile_soft.config));
        memset(tile_soft.data, 0, sizeof(tile_soft.data));
    }
}

/* A tile that an instruction may name now. */
static int is_tile(int t)
{
    if (tile_soft.config.palette == 0) {
        return fault("tile used without a configuration");
    }
    if (t < 0 || t >= KERN_TILES || tile_soft.config.rows[t] == 0) {
        return fault("tile used that is not configured");
    }
    return 1;
}

/* ---------------------------------------------------------------- memory */

void tile_soft_zero(int t)
{
    if (is_tile(t) && tile_soft.plant != TILE_SOFT_NO_ZERO) {
        memset(tile_soft.data[t], 0, sizeof(tile_soft.data[t]));
    }
}

void tile_soft_load(int t, const void *p, size_t stride)
{
    const size_t step = tile_soft.plant == TILE_SOFT_STRIDE ? stride - 4 : stride;

    if (!is_tile(t)) {
        return;
    }
    memset(tile_soft.data[t], 0, sizeof(tile_soft.data[t]));
    for (size_t r = 0; r < tile_soft.config.rows[t]; r++) {
        memcpy(tile_soft.data[t][r], (const char *)p + r * step, tile_soft.config.row_bytes[t]);
    }
}

void tile_soft_store(int t, void *p, size_t stride)
{
    if (!is_tile(t) ||
        (++tile_soft.n_stores % 64 == 0 && tile_soft.plant == TILE_SOFT_DROPPED_STORE)) {
        return;
    }
    for (size_t r = 0; r < tile_soft.config.rows[t]; r++) {
        memcpy((char *)p + r * stride, tile_soft.data[t][r], tile_soft.config.row_bytes[t]);
    }
}

/* -------------------------------------------------------------- products */

static int is_product(int c, int a, int b)
{
    const struct kern_tile_config *s = &tile_soft.config;

    if (!is_tile(c) || !is_tile(a) || !is_tile(b)) {
        return 0;
    }
    if (c == a || c == b || a == b) {
        return fault("a product names one tile twice");
    }
    if (s->row_bytes[a] % 4 || s->row_bytes[b] % 4 || s->row_bytes[c] % 4) {
        return fault("a product of tiles whose rows are no whole lanes");
    }
    if (s->rows[c] != s->rows[a] || s->row_bytes[c] != s->row_bytes[b] ||
        s->row_bytes[a] / 4 != s->rows[b]) {
        return fault("a product of tiles whose shapes do not match");
    }
    tile_soft.n_dots++;
    return 1;
}

/* TDPBSSD. Rows of the sum beyond its own become zero, which those of a tile are already. */
void tile_soft_dot_s8(int c, int a, int b)
{
    if (!is_product(c, a, b)) {
        return;
    }
    for (int m = 0; m < tile_soft.config.rows[c]; m++) {
        uint32_t sum[KERN_TILE_BYTES / 4]; /* wraps, as the instruction does */

        memcpy(sum, tile_soft.data[c][m], sizeof(sum));
        for (int k = 0; k < tile_soft.config.row_bytes[a] / 4; k++) {
            const int8_t *x = (const int8_t *)tile_soft.data[a][m] + 4 * k;
            const int8_t *w = (const int8_t *)tile_soft.data[b][k];

            for (int n = 0; n < tile_soft.config.row_bytes[c] / 4; n++) {
                sum[n] += (uint32_t)(x[0] * w[4 * n] + x[1] * w[4 * n + 1] + x[2] * w[4 * n + 2] +
                                     x[3] * w[4 * n + 3]);
            }
        }
        memcpy(tile_soft.data[c][m], sum, tile_soft.config.row_bytes[c]);
    }
}

/* Subnormal numbers become zero of their sign. */
static float flushed(float f)
{
    return fpclassify(f) == FP_SUBNORMAL ? copysignf(0.0f, f) : f;
}

static float of_bf16(const uint8_t *p)
{
    const uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;

    memcpy(&f, &bits, 4);
    return flushed(f);
}

/* TDPBF16PS: even and odd inputs have sums of their own along k, added at the end. */
void tile_soft_dot_bf16(int c, int a, int b)
{
    if (!is_product(c, a, b)) {
        return;
    }
    for (int m = 0; m < tile_soft.config.rows[c]; m++) {
        for (int n = 0; n < tile_soft.config.row_bytes[c] / 4; n++) {
            uint8_t *lane = tile_soft.data[c][m] + (size_t)n * 4;
            float sum[2] = {0.0f, 0.0f}, y;

            for (int k = 0; k < tile_soft.config.row_bytes[a] / 4; k++) {
                for (int i = 0; i < 2; i++) {
                    const float x = of_bf16(tile_soft.data[a][m] + 4 * k + 2 * i);
                    const float w = of_bf16(tile_soft.data[b][k] + 4 * n + 2 * i);

                    sum[i] = flushed(fmaf(x, w, sum[i]));
                }
            }
            memcpy(&y, lane, 4);
            y = flushed(flushed(y) + flushed(sum[0] + sum[1]));
            memcpy(lane, &y, 4);
        }
    }
}
