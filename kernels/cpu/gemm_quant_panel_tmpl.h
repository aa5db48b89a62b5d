/* Template: quantised weights of sixteen rows unpacked side by side, 256 inputs at a time (a
 * panel), for the vector vocabulary included before. */
#include "kernels/cpu/gemm_quant_row_tmpl.h"

struct panel {
    vi w[BLOCKS][STEPS];
    struct factors f[BLOCKS];
};

/* ------------------------------------------------------- weights to panels */

/* Of plain rows, `stride` bytes apart, and of packed ones. */
#define UNPACK_BOTH(name)                                                                          \
    static void name(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)               \
    {                                                                                              \
        name##_rows(o, p, kern_rows_plain(stride), n_blocks);                                      \
    }                                                                                              \
    static void name##_packed(struct panel *o, const uint8_t *p, size_t stride, int n_blocks)      \
    {                                                                                              \
        (void)stride;                                                                              \
        name##_rows(o, p, kern_rows_packed(p), n_blocks);                                          \
    }

#define UNPACK_PLAIN(name, load, type)                                                             \
    KERN_INLINE void name##_rows(struct panel *o, const uint8_t *p, struct kern_rows r,            \
                                 int n_blocks)                                                     \
    {                                                                                              \
        for (int b = 0; b < n_blocks; b++) {                                                       \
            const uint8_t *block = kern_block_at(&r, p, b, sizeof(struct type));                   \
                                                                                                   \
            load(o->w[b], &o->f[b], block, r);                                                     \
        }                                                                                          \
    }                                                                                              \
    UNPACK_BOTH(name)

UNPACK_PLAIN(unpack_q8_0, load_q8_0, kern_q8_0)
UNPACK_PLAIN(unpack_q4_0, load_q4_0, kern_q4_0)
UNPACK_PLAIN(unpack_q4_1, load_q4_1, kern_q4_1)
UNPACK_PLAIN(unpack_q5_0, load_q5_0, kern_q5_0)
UNPACK_PLAIN(unpack_q5_1, load_q5_1, kern_q5_1)
UNPACK_PLAIN(unpack_iq4_nl, load_iq4_nl, kern_iq4_nl)
UNPACK_PLAIN(unpack_mxfp4, load_mxfp4, kern_mxfp4)

KERN_INLINE void unpack_nvfp4_rows(struct panel *o, const uint8_t *p, struct kern_rows r,
                                   int n_blocks)
{
    for (int b = 0; b < n_blocks; b += 2) {
        const uint8_t *block = kern_block_at(&r, p, b / 2, sizeof(struct kern_nvfp4));

        load_nvfp4(o->w + b, o->f + b, block, r);
    }
}

UNPACK_BOTH(unpack_nvfp4)

#define UNPACK_QUARTERS(name, load_factors, type)                                                  \
    KERN_INLINE void name##_rows(struct panel *o, const uint8_t *p, struct kern_rows r,            \
                                 int n_blocks)                                                     \
    {                                                                                              \
        (void)n_blocks;                                                                            \
        load_factors(o->f, p, r);                                                                  \
        for (int i = 0; i < 4; i++) {                                                              \
            vi w[4][4];                                                                            \
                                                                                                   \
            load_quarters(w, p, i / 2, i % 2, r, type);                                            \
            KERN_UNROLL                                                                            \
            for (int j = 0; j < 16; j++) {                                                         \
                o->w[i / 2 * 4 + j / 4][i % 2 * 4 + j % 4] = w[j / 4][j % 4];                      \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    UNPACK_BOTH(name)

UNPACK_QUARTERS(unpack_q6_k, load_q6_k_factors, INFER_DTYPE_Q6_K)
UNPACK_QUARTERS(unpack_q3_k, load_q3_k_factors, INFER_DTYPE_Q3_K)
UNPACK_QUARTERS(unpack_q2_k, load_q2_k_factors, INFER_DTYPE_Q2_K)
UNPACK_QUARTERS(unpack_tq2_0, load_tq2_0_factors, INFER_DTYPE_TQ2_0)

KERN_INLINE void unpack_q4_k_rows(struct panel *o, const uint8_t *p, struct kern_rows r,
                                  int n_blocks)
{
    (void)n_blocks;
    load_q4_k_factors(o->f, p, r);
    for (int pair = 0; pair < BLOCKS / 2; pair++) {
        load_q4_k_pair(o->w + 2 * pair, p + offsetof(struct kern_q4_k, q), pair, r);
    }
}

UNPACK_BOTH(unpack_q4_k)

KERN_INLINE void unpack_q5_k_rows(struct panel *o, const uint8_t *p, struct kern_rows r,
                                  int n_blocks)
{
    vi h[STEPS];

    (void)n_blocks;
    load_q4_k_factors(o->f, p, r);
    load_32b(h, p + offsetof(struct kern_q5_k, h), r);
    for (int pair = 0; pair < BLOCKS / 2; pair++) {
        load_q5_k_pair(o->w + 2 * pair, p + offsetof(struct kern_q5_k, q), h, pair, r);
    }
}

UNPACK_BOTH(unpack_q5_k)

KERN_INLINE void unpack_iq4_xs_rows(struct panel *o, const uint8_t *p, struct kern_rows r,
                                    int n_blocks)
{
    (void)n_blocks;
    load_iq4_xs_factors(o->f, p, r);
    for (int b = 0; b < BLOCKS; b++) {
        load_iq4_values(o->w[b], p + offsetof(struct kern_iq4_xs, q) + 16 * b, r);
    }
}

UNPACK_BOTH(unpack_iq4_xs)

KERN_INLINE void unpack_tq1_0_rows(struct panel *o, const uint8_t *p, struct kern_rows r,
                                   int n_blocks)
{
    (void)n_blocks;
    load_tq1_0(o->w, p, r);
    load_tq_factors(o->f, p + offsetof(struct kern_tq1_0, d), r);
}

UNPACK_BOTH(unpack_tq1_0)

#define UNPACK_IQ(name)                                                                            \
    KERN_INLINE void unpack_##name##_rows(struct panel *o, const uint8_t *p, struct kern_rows r,   \
                                          int n_blocks)                                            \
    {                                                                                              \
        (void)n_blocks;                                                                            \
        load_##name(o->w, o->f, p, r);                                                             \
    }                                                                                              \
    UNPACK_BOTH(unpack_##name)

UNPACK_IQ(iq2_xxs)
UNPACK_IQ(iq2_xs)
UNPACK_IQ(iq2_s)
UNPACK_IQ(iq3_xxs)
UNPACK_IQ(iq3_s)
UNPACK_IQ(iq1_s)
UNPACK_IQ(iq1_m)
