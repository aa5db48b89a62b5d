/* Template: products of quantised weights and Q8 activations for many rows, for the vector words
 * of vec_avx512.h and the tile words included before (tile_amx.h).
 *
 * Weights are unpacked as for the vector kernels, sixteen rows side by side: four inputs of each
 * in a vector, which is how a tile wants its right side. A tile multiplies sixteen activation
 * rows with the 32 inputs of a block (16 where halves have scales of their own), and vectors
 * scale the integer sums and add them up, block after block along k, by the operations of
 * gemm_quant_row_tmpl.h in their order. Integer sums are exact, so results have the bits of the
 * vector kernels. While vectors take the sums of one block, tiles multiply the next. */

/* The products of few rows are not used here. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/cpu/gemm_quant_panel_tmpl.h"
#pragma GCC diagnostic pop

#include "kernels/cpu/init.h"

enum {
    TILE = KERN_TILE_ROWS,
    ROWS_MIN = TILE,     /* with fewer, vectors waste less */
    M_BLOCK = 8 * TILE,  /* activation rows that weights are unpacked for at once */
    N_BLOCK = 8 * LANES, /* weight rows that activations are laid out for at once */
    WEIGHT_TILES = 4,    /* in registers for a sweep over the rows */
};

/* A chunk of the activation rows of a block, zeros behind the last row. */
struct rows {
    int8_t q[M_BLOCK / TILE][BLOCKS][TILE][KERN_BLOCK] __attribute__((aligned(BASE_CACHE_LINE)));
    float d[M_BLOCK][BLOCKS];
    float sum[M_BLOCK][2 * BLOCKS]; /* of blocks or halves; for forms with a minimum */
    int32_t tiles;                  /* of sixteen rows */
    int n_blocks;
};

/* Integer sums of sixteen rows with sixteen weight rows, of both halves of a block. */
struct sums {
    int32_t of[2][TILE][LANES] __attribute__((aligned(BASE_CACHE_LINE)));
};

/* ------------------------------------------------------------ activations */

KERN_INLINE void take_row(struct rows *o, int32_t i, const struct kern_act_row *row, int32_t at,
                          enum form form)
{
    const size_t n = (size_t)o->n_blocks;
    int16_t s[2 * BLOCKS] = {0};

    for (size_t b = 0; b < n; b++) {
        memcpy(o->q[i / TILE][b][i % TILE], row->q + at + (int32_t)b * KERN_BLOCK, KERN_BLOCK);
    }
    memcpy(o->d[i], row->d + at / KERN_BLOCK, n * sizeof(float));
    if (has_plus(form)) {
        memcpy(s, row->s + at / 16, n * 2 * sizeof(*s));
        if (has_halves(form)) {
            vf_store(o->sum[i], vf_of_int(vi_load_s16(s)));
        } else {
            kern_pair_sums_f32(o->sum[i], s);
        }
    }
}

/* Inputs from `at` of activation rows row .. row + m - 1. */
KERN_INLINE void take_rows(struct rows *o, const struct kern_gemm_args *a, int32_t row, int32_t m,
                           int32_t at, enum form form)
{
    const uint8_t *x = (const uint8_t *)a->x + (size_t)row * a->x_stride;

    o->tiles = BASE_DIV_UP(m, TILE);
    o->n_blocks = BASE_MIN(CHUNK, a->k - at) / KERN_BLOCK;
    for (int32_t i = 0; i < m; i++, x += a->x_stride) {
        const struct kern_act_row r = kern_act_row_of(x, a->k);

        take_row(o, i, &r, at, form);
    }
    for (int32_t i = m; i < o->tiles * TILE; i++) {
        for (int b = 0; b < o->n_blocks; b++) {
            memset(o->q[i / TILE][b][i % TILE], 0, KERN_BLOCK);
        }
        memset(o->d[i], 0, sizeof(o->d[i]));
        memset(o->sum[i], 0, sizeof(o->sum[i]));
    }
}

/* ------------------------------------------------------------------ tiles
 *
 * 0 and 1 are integer sums, 2 and 3 activations, 4 to 7 weights: step s of a sweep uses 4 + s,
 * and the two others in turn. A step is a block, or half of one. */

static void configure(enum form form)
{
    const int bytes = has_halves(form) ? KERN_BLOCK / 2 : KERN_BLOCK;
    struct kern_tile_config c = {.palette = 1};

    for (int i = 0; i < 4; i++) {
        kern_tile_shape(&c, i, TILE, i < 2 ? KERN_TILE_BYTES : bytes);
        kern_tile_shape(&c, 4 + i, bytes / 4, KERN_TILE_BYTES);
    }
    tile_configure(&c);
}

KERN_INLINE void load_weights(int step, const vi *w)
{
    switch (step) {
    case 0:
        tile_load(4, w, KERN_TILE_BYTES);
        break;
    case 1:
        tile_load(5, w, KERN_TILE_BYTES);
        break;
    case 2:
        tile_load(6, w, KERN_TILE_BYTES);
        break;
    default:
        tile_load(7, w, KERN_TILE_BYTES);
        break;
    }
}

#define MULTIPLY(out, q, sum, rows, weights)                                                       \
    do {                                                                                           \
        tile_zero(sum);                                                                            \
        tile_load(rows, q, KERN_BLOCK);                                                            \
        tile_dot_s8(sum, rows, weights);                                                           \
        tile_store(sum, out, KERN_TILE_BYTES);                                                     \
    } while (0)

KERN_INLINE void multiply_step(int32_t (*out)[LANES], const int8_t *q, int step)
{
    switch (step) {
    case 0:
        MULTIPLY(out, q, 0, 2, 4);
        break;
    case 1:
        MULTIPLY(out, q, 1, 3, 5);
        break;
    case 2:
        MULTIPLY(out, q, 0, 2, 6);
        break;
    default:
        MULTIPLY(out, q, 1, 3, 7);
        break;
    }
}

/* The sums of sixteen rows with block `at` of a sweep. */
KERN_INLINE void multiply(struct sums *o, int8_t (*q)[KERN_BLOCK], int at, enum form form)
{
    if (has_halves(form)) {
        multiply_step(o->of[0], q[0], 2 * at);
        multiply_step(o->of[1], q[0] + KERN_BLOCK / 2, 2 * at + 1);
    } else {
        multiply_step(o->of[0], q[0], at);
    }
}

/* --------------------------------------------------------------- the sums */

/* y of sixteen rows from `row` plus the product of block b, as add_block() adds it. */
KERN_INLINE void add_sums(vf y[TILE], const struct sums *s, const struct rows *x, int32_t row,
                          int b, const struct factors *f, enum form form)
{
    KERN_UNROLL
    for (int i = 0; i < TILE; i++) {
        const float *sum = x->sum[row + i];
        vf v = vf_mul(f->scale[0], vf_of_int(_mm512_load_si512(s->of[0][i])));

        if (has_halves(form)) {
            v = vf_fma(f->scale[1], vf_of_int(_mm512_load_si512(s->of[1][i])), v);
        }
        if (has_plus(form)) {
            v = vf_fma(f->plus[0], vf_set1(sum[has_halves(form) ? 2 * b : b]), v);
        }
        if (has_plus(form) && has_halves(form)) {
            v = vf_fma(f->plus[1], vf_set1(sum[2 * b + 1]), v);
        }
        y[i] = vf_fma(v, vf_set1(x->d[row + i][b]), y[i]);
        /* Computed here: left to itself, a compiler loads all operands, keeps them on the stack
         * and computes behind the words on tiles that follow. */
        __asm__ volatile("" : "+v"(y[i]));
    }
}

/* Adds the products of all rows with `blocks` blocks from `first` to y. */
KERN_INLINE void sweep(vf *y, struct rows *x, const struct panel *w, int first, int blocks,
                       enum form form)
{
    struct sums sums[2];

    KERN_UNROLL
    for (int j = 0; j < blocks; j++) {
        if (has_halves(form)) {
            load_weights(2 * j, w->w[first + j]);
            load_weights(2 * j + 1, w->w[first + j] + STEPS / 2);
        } else {
            load_weights(j, w->w[first + j]);
        }
    }
    multiply(&sums[0], x->q[0][first], 0, form);
    for (int32_t t = 0; t < x->tiles; t++, y += TILE) {
        vf acc[TILE];

        KERN_UNROLL
        for (int i = 0; i < TILE; i++) {
            acc[i] = y[i];
        }
        KERN_UNROLL
        for (int j = 0; j < blocks; j++) {
            const int b = first + j;

            if (j + 1 < blocks) {
                multiply(&sums[(j + 1) % 2], x->q[t][b + 1], j + 1, form);
            } else if (blocks > 1 && t + 1 < x->tiles) {
                multiply(&sums[0], x->q[t + 1][first], 0, form);
            }
            add_sums(acc, &sums[j % 2], x, t * TILE, b, &w->f[b], form);
        }
        if (blocks == 1 && t + 1 < x->tiles) {
            multiply(&sums[0], x->q[t + 1][first], 0, form);
        }
        KERN_UNROLL
        for (int i = 0; i < TILE; i++) {
            y[i] = acc[i];
        }
    }
}

KERN_INLINE void run_panel(vf *y, struct rows *x, const struct panel *w, enum form form)
{
    const int many = has_halves(form) ? WEIGHT_TILES / 2 : WEIGHT_TILES;
    int b = 0;

    for (; b + many <= x->n_blocks; b += many) {
        sweep(y, x, w, b, many, form);
    }
    for (; b < x->n_blocks; b++) {
        sweep(y, x, w, b, 1, form);
    }
}

/* ------------------------------------------------------------- the driver */

struct kind {
    size_t chunk_bytes;
    infer_dtype type;
    enum form form;
    int offset; /* that unpacking adds to a weight */
    /* Of plain rows, and of packed ones. */
    void (*unpack[2])(struct panel *o, const uint8_t *p, size_t stride, int n_blocks);
};

/* Weights without the offset that made them unsigned. */
KERN_INLINE void make_signed(struct panel *o, int n_blocks, int offset)
{
    const vi minus = vi_set1((int32_t)((uint32_t)offset * 0x01010101u));

    for (int b = 0; offset != 0 && b < n_blocks; b++) {
        KERN_UNROLL
        for (int j = 0; j < STEPS; j++) {
            o->w[b][j] = vi_sub8(o->w[b][j], minus);
        }
    }
}

/* Where the sixteen weight rows begin that hold column: packed ones a group, of plain ones earlier
 * rows come along at the end. */
static int32_t first_of(const struct kern_gemm_args *a, int32_t column)
{
    return a->packed ? column - column % LANES : BASE_MIN(column, a->n - LANES);
}

/* The column behind those of the same sixteen weight rows. */
static int32_t next_of(const struct kern_gemm_args *a, int32_t column)
{
    return a->packed ? first_of(a, column) + LANES : column + LANES;
}

/* A chunk of the weight rows that hold column. */
KERN_INLINE const uint8_t *weights_at(const struct kern_gemm_args *a, const struct kind *kind,
                                      int32_t column, size_t chunk)
{
    const size_t chunk_bytes = kind->chunk_bytes * (a->packed ? LANES : 1);

    return (const uint8_t *)a->w + (size_t)first_of(a, column) * a->w_stride + chunk * chunk_bytes;
}

/* Sixteen plain rows are too many streams for the processor to foresee. */
KERN_INLINE void prefetch(const struct kern_gemm_args *a, const struct kind *kind, const uint8_t *p)
{
    const size_t bytes = kind->chunk_bytes * (a->packed ? LANES : 1);

    for (int i = 0; i < (a->packed ? 1 : LANES); i++, p += a->w_stride) {
        for (size_t at = 0; at < bytes; at += BASE_CACHE_LINE) {
            _mm_prefetch((const char *)p + at, _MM_HINT_T0);
        }
    }
}

/* Columns from `column` of m rows from `row`, those of the same sixteen weight rows before end. */
static void store(const struct kern_gemm_args *a, int32_t row, int32_t m, int32_t column,
                  int32_t end, const vf *sums)
{
    const int32_t first = first_of(a, column), count = BASE_MIN(next_of(a, column), end) - column;
    const vf scale = vf_set1(kern_gemm_scale(a));
    const vf bias = a->bias ? vf_load(a->bias + first) : vf_zero();

    for (int32_t i = 0; i < m; i++) {
        float *y = a->y + (size_t)(row + i) * a->y_stride + column;
        const vf product = vf_mul(sums[i], scale);
        const vf sum = a->bias ? vf_add(product, bias) : product;
        float v[LANES];

        if (count == LANES) {
            vf_store(y, a->accumulate ? vf_add(sum, vf_load(y)) : sum);
            continue;
        }
        vf_store(v, sum);
        for (int32_t r = 0; r < count; r++) {
            y[r] = a->accumulate ? v[column - first + r] + y[r] : v[column - first + r];
        }
    }
}

/* Columns begin .. end - 1, of at most N_BLOCK weight rows, of m rows from `row`, at most
 * M_BLOCK. */
KERN_INLINE void run_block(const struct kern_gemm_args *a, int32_t row, int32_t m, int32_t begin,
                           int32_t end, const struct kind *kind, enum form form)
{
    const size_t n_chunks = (size_t)BASE_DIV_UP(a->k, CHUNK);
    vf y[N_BLOCK / LANES][M_BLOCK];
    struct rows x;

    for (size_t chunk = 0; chunk < n_chunks; chunk++) {
        take_rows(&x, a, row, m, (int32_t)chunk * CHUNK, form);
        for (int32_t column = begin, g = 0, next; column < end; column = next, g++) {
            struct panel panel;

            next = next_of(a, column);
            kind->unpack[a->packed != 0](&panel, weights_at(a, kind, column, chunk), a->w_stride,
                                         x.n_blocks);
            make_signed(&panel, x.n_blocks, kind->offset);
            prefetch(a, kind,
                     next < end ? weights_at(a, kind, next, chunk)
                                : weights_at(a, kind, begin, chunk + 1));
            for (int32_t i = 0; chunk == 0 && i < x.tiles * TILE; i++) {
                y[g][i] = vf_zero();
            }
            run_panel(y[g], &x, &panel, form);
        }
    }
    for (int32_t column = begin, g = 0; column < end; column = next_of(a, column), g++) {
        store(a, row, m, column, end, y[g]);
    }
}

/* Forms whose sums are scaled alike are one: the weights are signed all. */
static void run_block_of(const struct kern_gemm_args *a, int32_t row, int32_t m, int32_t begin,
                         int32_t end, const struct kind *kind)
{
    switch (kind->form) {
    case U4_PLUS:
    case U7_PLUS:
        run_block(a, row, m, begin, end, kind, U4_PLUS);
        break;
    case U4_HALVES:
    case U7_HALVES:
        run_block(a, row, m, begin, end, kind, U4_HALVES);
        break;
    case U4_HALVES_PLUS:
        run_block(a, row, m, begin, end, kind, U4_HALVES_PLUS);
        break;
    default:
        run_block(a, row, m, begin, end, kind, U4);
        break;
    }
}

static void run_below(const struct kern_gemm_args *a, int32_t begin, int32_t end, infer_dtype type)
{
    struct kern_gemm below;

    kern_gemm_quant_init_avx512vnni(&below);
    below.run[type](a, begin, end);
}

static void run(const struct kern_gemm_args *a, int32_t begin, int32_t end, const struct kind *kind)
{
    /* Behind the last group of packed rows lie fewer than sixteen, as in a narrow matrix. */
    const int32_t whole = a->packed ? a->n - a->n % LANES : a->n < LANES ? 0 : a->n;
    const int32_t tiled = a->m < ROWS_MIN ? begin : BASE_MIN(end, whole);

    if (begin < tiled) {
        configure(kind->form);
        for (int32_t column = begin, next; column < tiled; column = next) {
            next = BASE_MIN(first_of(a, column) + N_BLOCK, tiled);
            for (int32_t row = 0; row < a->m; row += M_BLOCK) {
                run_block_of(a, row, BASE_MIN(M_BLOCK, a->m - row), column, next, kind);
            }
        }
        tile_release();
    }
    if (BASE_MAX(begin, tiled) < end) {
        run_below(a, BASE_MAX(begin, tiled), end, kind->type);
    }
}

/* ----------------------------------------------------------------- the types */

#define GEMM_LIST(X)                                                                               \
    X(q8_0, Q8_0, KERN_BLOCK, S8, DOT_S8_OFFSET)                                                   \
    X(q4_0, Q4_0, KERN_BLOCK, U4, 8)                                                               \
    X(q4_1, Q4_1, KERN_BLOCK, U4_PLUS, 0)                                                          \
    X(q5_0, Q5_0, KERN_BLOCK, U7, 16)                                                              \
    X(q5_1, Q5_1, KERN_BLOCK, U7_PLUS, 0)                                                          \
    X(q2_k, Q2_K, KERN_SUPER, U4_HALVES_PLUS, 0)                                                   \
    X(q3_k, Q3_K, KERN_SUPER, U4_HALVES, 4)                                                        \
    X(q4_k, Q4_K, KERN_SUPER, U4_PLUS, 0)                                                          \
    X(q5_k, Q5_K, KERN_SUPER, U7_PLUS, 0)                                                          \
    X(q6_k, Q6_K, KERN_SUPER, U7_HALVES, 32)                                                       \
    X(iq4_nl, IQ4_NL, KERN_BLOCK, S8, DOT_S8_OFFSET)                                               \
    X(iq4_xs, IQ4_XS, KERN_SUPER, S8, DOT_S8_OFFSET)                                               \
    X(iq3_xxs, IQ3_XXS, KERN_SUPER, U7, IQ_OFFSET)                                                 \
    X(iq3_s, IQ3_S, KERN_SUPER, U7, IQ_OFFSET)                                                     \
    X(iq2_xxs, IQ2_XXS, KERN_SUPER, U7, IQ_OFFSET)                                                 \
    X(iq2_xs, IQ2_XS, KERN_SUPER, U7_HALVES, IQ_OFFSET)                                            \
    X(iq2_s, IQ2_S, KERN_SUPER, U7_HALVES, IQ_OFFSET)                                              \
    X(iq1_s, IQ1_S, KERN_SUPER, U7, IQ1_OFFSET)                                                    \
    X(iq1_m, IQ1_M, KERN_SUPER, U7_HALVES, IQ1_OFFSET)                                             \
    X(tq1_0, TQ1_0, KERN_SUPER, U4, 1)                                                             \
    X(tq2_0, TQ2_0, KERN_SUPER, U4, 1)                                                             \
    X(mxfp4, MXFP4, KERN_BLOCK, U7, E2M1_OFFSET)                                                   \
    X(nvfp4, NVFP4, KERN_NVFP4, U7_HALVES, E2M1_OFFSET)

#define GEMM(name, type, elements, form, offset)                                                   \
    static void gemm_##name(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)     \
    {                                                                                              \
        static const struct kind kind = {CHUNK / (elements) * sizeof(struct kern_##name),          \
                                         INFER_DTYPE_##type,                                       \
                                         form,                                                     \
                                         offset,                                                   \
                                         {unpack_##name, unpack_##name##_packed}};                 \
                                                                                                   \
        run(args, n_begin, n_end, &kind);                                                          \
    }

GEMM_LIST(GEMM)

#define STORE(name, type, elements, form, offset) gemm->run[INFER_DTYPE_##type] = gemm_##name;

KERN_INLINE void gemm_amx_init(struct kern_gemm *gemm)
{
    GEMM_LIST(STORE)
    memset(gemm->fast_rows, 0, sizeof(gemm->fast_rows)); /* tiles are to outdo what vectors round */
}
