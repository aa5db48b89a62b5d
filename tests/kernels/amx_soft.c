/* See amx_soft.h. */
#include "amx_soft.h"
#include "kernels/cpu/init.h"
#include "tile_soft.h"
#include "tile_trap.h"
#include "vector_tile.h"
#include "weights.h"

#include <string.h>

void amx_soft_init(struct infer_kernels *kernels)
{
    amx_soft_init_quant(&kernels->gemm);
    amx_soft_init_bf16(&kernels->gemm);
    amx_soft_init_vector(&kernels->vector);
}

/* A product of c->dtype, in BF16 where that is the type. */
static struct kern_gemm_args make_product(struct check *c, int32_t m, int32_t n, int32_t k)
{
    const int bf16 = c->dtype == INFER_DTYPE_BF16;
    const size_t stride = weights_bytes(c->dtype, k);
    const size_t x_stride = bf16 ? stride : kern_act_q8_bytes(k);
    uint8_t *w = check_buffer(c, (size_t)n * stride, 2);
    uint8_t *x = check_buffer(c, (size_t)m * x_stride, 64);
    float *row = check_floats(c, (size_t)k);

    for (size_t r = 0; r < (size_t)n; r++) {
        weights_fill(c, w + r * stride, k, -1);
    }
    for (size_t i = 0; i < (size_t)m; i++) {
        check_fill(c, row, (size_t)k, -1.0f, 1.0f);
        if (bf16) {
            c->ref->quant.narrow[INFER_DTYPE_BF16](x + i * x_stride, row, k);
        } else {
            c->ref->quant.act_q8(x + i * x_stride, row, k);
        }
    }
    return (struct kern_gemm_args){.w = w,
                                   .w_stride = stride,
                                   .x = x,
                                   .x_stride = x_stride,
                                   .y_stride = (size_t)n,
                                   .m = m,
                                   .n = n,
                                   .k = k};
}

static float *run(struct check *c, const struct kern_gemm *gemm, struct kern_gemm_args a)
{
    kern_gemm_fn *fn =
        c->dtype == INFER_DTYPE_BF16 ? gemm->run_bf16[c->dtype] : gemm->run[c->dtype];

    a.y = check_floats(c, (size_t)a.m * (size_t)a.n);
    fn(&a, 0, a.n);
    return a.y;
}

/* Whether a product of c->dtype is wrong. */
static int product_differs(struct check *c)
{
    const struct kern_gemm_args a = make_product(c, 40, 41, 512);
    const float *want = run(c, &c->ref->gemm, a), *got = run(c, &c->dut->gemm, a);

    return memcmp(got, want, (size_t)a.m * (size_t)a.n * sizeof(float)) != 0;
}

/* Whether a product of c->dtype, or of vectors in bytes, shows that something is wrong. */
static int is_found(struct check *c, enum tile_soft_plant plant)
{
    int found;

    tile_soft = (struct tile_soft){.plant = plant};
    found = c->dtype == INFER_DTYPE_I8 ? vector_tiles_differ(c, c->ref, c->dut, 256, 600)
                                       : product_differs(c);
    found |= tile_soft.fault != NULL || tile_soft.config.palette != 0;
    check_true(c, plant != TILE_SOFT_SOUND || tile_soft.n_dots > 0, "no product used a tile");
    tile_soft = (struct tile_soft){.plant = TILE_SOFT_SOUND};
    check_release(c);
    return found;
}

void check_amx_plants(struct check *c)
{
    static const infer_dtype types[] = {INFER_DTYPE_Q4_0, INFER_DTYPE_Q6_K, INFER_DTYPE_Q4_K,
                                        INFER_DTYPE_I8};

    check_true(c, tile_soft.config.palette == 0, "tiles were not released");
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        c->dtype = types[i];
        for (int plant = TILE_SOFT_SOUND; plant < TILE_SOFT_PLANTS; plant++) {
            check_true(c, is_found(c, plant) == (plant != TILE_SOFT_SOUND),
                       "type %d: mistake %d was %s", (int)types[i], plant,
                       plant == TILE_SOFT_SOUND ? "found though not planted" : "not found");
        }
    }
}

static void trapped_product(struct check *c, const struct kern_gemm *amx, int32_t m, int32_t n,
                            int32_t k)
{
    const struct kern_gemm_args a = make_product(c, m, n, k);
    const float *want = run(c, &c->dut->gemm, a), *got;

    tile_soft = (struct tile_soft){.plant = TILE_SOFT_SOUND};
    tile_trap_begin();
    got = run(c, amx, a);
    tile_trap_end();
    check_same_bytes(c, got, want, (size_t)m * (size_t)n * sizeof(float), "type %d: m=%d n=%d k=%d",
                     (int)c->dtype, (int)m, (int)n, (int)k);
    check_true(c, tile_soft.n_dots > 0, "no instruction on tiles was refused");
    check_true(c, tile_soft.config.palette == 0, "tiles were not released");
    check_release(c);
}

static void trapped_tiles(struct check *c, const struct infer_kernels *amx)
{
    tile_soft = (struct tile_soft){.plant = TILE_SOFT_SOUND};
    tile_trap_begin();
    check_true(c, !vector_tiles_differ(c, c->dut, amx, 40, 700), "other hits");
    tile_trap_end();
    check_true(c, tile_soft.n_dots > 0, "no instruction on tiles was refused");
    check_true(c, tile_soft.config.palette == 0, "tiles were not released");
}

void check_amx_traps(struct check *c)
{
    struct infer_kernels table = *c->ref;
    struct kern_gemm amx = c->ref->gemm;

    kern_gemm_quant_init_avx512amx(&amx);
    kern_gemm_bf16_init_avx512amx(&amx);
    for (infer_dtype type = 0; type < KERN_DTYPES; type++) {
        const int is_quant = amx.run[type] != c->ref->gemm.run[type];
        const int32_t unit = is_quant ? weights_type_of(type).block : 32;

        c->dtype = type;
        if (is_quant || amx.run_bf16[type]) {
            trapped_product(c, &amx, 37, 41, 3 * BASE_MAX(unit, 64));
            trapped_product(c, &amx, 150, 130, 5 * unit);
        }
    }
    kern_vector_init_avx512amx(&table.vector);
    trapped_tiles(c, &table);
}
