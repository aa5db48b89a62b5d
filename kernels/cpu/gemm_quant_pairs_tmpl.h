/* Template: integer sums of blocks for several activation rows, two at a time, over the words
 * pair_* of a vocabulary that has them (DOT_PAIRS). What gemm_quant_tmpl.h does row by row, with
 * the same sums. */

enum {
    TILE_REST = 2,       /* rows of a tile where fewer than TILE_ROWS are left */
    FEW = TILE_ROWS - 1, /* so many are multiplied with weights that no panel keeps: one by one */
};

_Static_assert(TILE_GROUPS == 1 && TILE_ROWS % 2 == 0, "tiles of pairs of rows, one panel wide");

/* A panel as pair_step() takes it: eight bytes of a row side by side. */
KERN_INLINE void arrange(struct panel *o, int n_blocks)
{
    for (int b = 0; b < n_blocks; b++) {
        KERN_UNROLL
        for (int j = 0; j < STEPS; j += 2) {
            pair_arrange(&o->w[b][j]);
        }
    }
}

/* As dot_block() of gemm_quant_tmpl.h; a row without a neighbour is paired with itself. */
KERN_INLINE void dot_block(vi sum[TILE_ROWS][TILE_GROUPS], const struct panel *panels,
                           const struct inputs *in, int b, int half, enum form form, int rows,
                           int groups)
{
    const int first = half * (STEPS / 2), last = has_halves(form) ? first + STEPS / 2 : STEPS;
    const int other = rows > 1 ? 1 : 0;
    pair_sums sums[BASE_DIV_UP(TILE_ROWS, 2)][TILE_GROUPS];

    KERN_UNROLL
    for (int i = 0; i < rows; i += 2) {
        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            sums[i / 2][g] = pair_start(start_of(&in[i], b, half, form),
                                        start_of(&in[i + other], b, half, form));
        }
    }
    KERN_UNROLL
    for (int j = first; j < last; j += 2) {
        KERN_UNROLL
        for (int i = 0; i < rows; i += 2) {
            const int8_t *const x = in[i].q + b * KERN_BLOCK + 4 * j;
            const int8_t *const next = in[i + other].q + b * KERN_BLOCK + 4 * j;

            KERN_UNROLL
            for (int g = 0; g < groups; g++) {
                sums[i / 2][g] = pair_step(sums[i / 2][g], &panels[g].w[b][j], x, next);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < rows; i += 2) {
        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            sum[i][g] = pair_first(sums[i / 2][g]);
            if (other) {
                sum[i + 1][g] = pair_second(sums[i / 2][g]);
            }
        }
    }
}
