/* See amx_soft.h. */
#include "amx_soft.h"
#include "tile_soft.h"
#include "weights.h"

#include <string.h>

void amx_soft_init(struct kern_gemm *gemm)
{
    amx_soft_init_quant(gemm);
    amx_soft_init_bf16(gemm);
}

/* Whether a product of c->dtype shows that something is wrong. */
static int is_found(struct check *c, enum tile_soft_plant plant)
{
    enum { M = 40, N = 41, K = 512 };
    const size_t stride = weights_bytes(c->dtype, K), x_stride = kern_act_q8_bytes(K);
    const size_t y_bytes = M * N * sizeof(float);
    uint8_t *w = check_buffer(c, N * stride, 2), *x = check_buffer(c, M * x_stride, 64);
    float *row = check_floats(c, K);
    struct kern_gemm_args a = {.w = w,
                               .w_stride = stride,
                               .x = x,
                               .x_stride = x_stride,
                               .y = check_floats(c, M * N),
                               .y_stride = N,
                               .m = M,
                               .n = N,
                               .k = K};
    struct kern_gemm_args soft = a;
    int found;

    for (size_t r = 0; r < N; r++) {
        weights_fill(c, w + r * stride, K, -1);
    }
    for (size_t i = 0; i < M; i++) {
        check_fill(c, row, K, -1.0f, 1.0f);
        c->ref->quant.act_q8(x + i * x_stride, row, K);
    }
    soft.y = check_floats(c, M * N);
    c->ref->gemm.run[c->dtype](&a, 0, N);
    tile_soft = (struct tile_soft){.plant = plant};
    c->dut->gemm.run[c->dtype](&soft, 0, N);
    found = tile_soft.fault != NULL || tile_soft.config.palette != 0 ||
            memcmp(soft.y, a.y, y_bytes) != 0;
    check_true(c, plant != TILE_SOFT_SOUND || tile_soft.n_dots > 0, "no product used a tile");
    tile_soft = (struct tile_soft){.plant = TILE_SOFT_SOUND};
    check_release(c);
    return found;
}

void check_amx_soft(struct check *c)
{
    static const infer_dtype types[] = {INFER_DTYPE_Q4_0, INFER_DTYPE_Q6_K, INFER_DTYPE_Q4_K};

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
