/* Checks and timing of packed weight rows. */
#include "check.h"
#include "weights.h"

#include <string.h>

/* Every type that has a packed form, one after the other. */
#define EACH_LAYOUT(dtype, layout)                                                                 \
    for (infer_dtype dtype = 0; dtype < KERN_DTYPES; dtype++)                                      \
        for (const struct kern_pack_layout *layout = kern_pack_layout_of(dtype); layout;           \
             layout = NULL)

struct group {
    const struct kern_pack_layout *layout;
    int32_t n_blocks;
    size_t stride, row_bytes;
    uint8_t *rows;
};

static struct group make_group(struct check *c, const struct kern_pack_layout *layout)
{
    struct group g = {.layout = layout, .n_blocks = check_range(c, 0, 9)};
    size_t bytes;

    g.row_bytes = (size_t)g.n_blocks * layout->block_bytes;
    g.stride = g.row_bytes + check_u32(c) % 5;
    bytes = (KERN_PACK_ROWS - 1) * g.stride + g.row_bytes;
    g.rows = check_buffer(c, bytes, 1);
    check_fill_bytes(c, g.rows, bytes);
    return g;
}

static uint8_t *pack_group(struct check *c, const struct infer_kernels *kernels,
                           const struct group *g)
{
    uint8_t *to = check_buffer(c, KERN_PACK_ROWS * g->row_bytes, 1);

    kernels->quant.pack(to, g->rows, g->stride, g->layout, g->n_blocks);
    return to;
}

/* Where a byte of a plain block goes, by the contract's words. */
static size_t packed_at(const struct kern_pack_layout *layout, size_t offset, size_t row)
{
    const size_t narrow = layout->narrow_bytes ? layout->narrow_at : layout->block_bytes;
    const size_t behind = narrow + layout->narrow_bytes;
    size_t column = offset / 4 * 4, width = 4;

    if (offset >= behind) {
        column = behind + (offset - behind) / 4 * 4;
    } else if (offset >= narrow) {
        column = narrow;
        width = layout->narrow_bytes;
    }
    return KERN_PACK_ROWS * column + row * width + (offset - column);
}

void check_quant_pack(struct check *c)
{
    EACH_LAYOUT(dtype, layout)
    {
        for (int i = 0; i < 12; i++) {
            const struct group g = make_group(c, layout);
            const uint8_t *got = pack_group(c, c->dut, &g);
            const size_t block = layout->block_bytes;

            check_same_bytes(c, got, pack_group(c, c->ref, &g), KERN_PACK_ROWS * g.row_bytes,
                             "type %d, %d blocks", (int)dtype, (int)g.n_blocks);
            for (size_t at = 0; at < KERN_PACK_ROWS * g.row_bytes; at++) {
                const size_t row = at / g.row_bytes, in_row = at % g.row_bytes;
                const size_t b = in_row / block, offset = in_row % block;
                const uint8_t want = g.rows[row * g.stride + in_row];
                const uint8_t is = got[b * KERN_PACK_ROWS * block + packed_at(layout, offset, row)];

                if (!check_true(c, is == want, "type %d, row %zu, byte %zu", (int)dtype, row,
                                in_row)) {
                    return;
                }
            }
            check_release(c);
        }
    }
}

void check_quant_unpack(struct check *c)
{
    EACH_LAYOUT(dtype, layout)
    {
        for (int i = 0; i < 12; i++) {
            const struct group g = make_group(c, layout);
            const uint8_t *packed = pack_group(c, c->ref, &g);
            const int32_t row = check_range(c, 0, KERN_PACK_ROWS - 1);
            uint8_t *got = check_buffer(c, g.row_bytes, 1);

            c->dut->quant.unpack(got, packed, row, layout, g.n_blocks);
            check_same_bytes(c, got, g.rows + (size_t)row * g.stride, g.row_bytes,
                             "type %d, row %d of %d blocks", (int)dtype, (int)row, (int)g.n_blocks);
            check_release(c);
        }
    }
}

/* ---------------------------------------------------------------- timing */

enum { BENCH_K = 4096 };

struct call {
    uint8_t *dst, *src;
    const struct kern_pack_layout *layout;
};

static void call_pack(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;
    const int32_t n = BENCH_K / a->layout->block_elements;

    kernels->quant.pack(a->dst, a->src, (size_t)n * a->layout->block_bytes, a->layout, n);
}

static void call_unpack(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->quant.unpack(a->dst, a->src, 5, a->layout, BENCH_K / a->layout->block_elements);
}

static void bench(struct check *c, check_call_fn *fn)
{
    static const infer_dtype types[] = {INFER_DTYPE_Q4_0, INFER_DTYPE_Q8_0, INFER_DTYPE_Q4_K,
                                        INFER_DTYPE_Q6_K};

    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        const size_t bytes = KERN_PACK_ROWS * weights_bytes(types[i], BENCH_K);
        struct call a = {check_buffer(c, bytes, 64), check_buffer(c, bytes, 64),
                         kern_pack_layout_of(types[i])};
        const struct check_work work = {2.0 * (double)bytes, "B", 1};

        check_time(c, "16 rows of 4096", fn, &a, work);
        check_release(c);
    }
}

void bench_quant_pack(struct check *c)
{
    bench(c, call_pack);
}

void bench_quant_unpack(struct check *c)
{
    bench(c, call_unpack);
}
