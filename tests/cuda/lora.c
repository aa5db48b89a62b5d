/* Products of adapters over ragged runs of rows against sums in double. */
#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"

#include <math.h>

#define N_ADAPTERS   3
#define SEGMENTS_MAX 12
#define ULP          0x1p-23

static const infer_dtype types[] = {INFER_DTYPE_F32, INFER_DTYPE_F16, INFER_DTYPE_BF16};

/* A matrix on the host in numbers that its type has, and on the card. */
struct matrix {
    float *values; /* [n][k] */
    uint8_t *card;
    int32_t n, k, type, stride;
};

static void store(uint8_t *to, infer_dtype type, float x, float *kept)
{
    uint16_t bits = type == INFER_DTYPE_F16 ? kern_f16_of_float(x) : kern_bf16_of_float(x);
    *kept = type == INFER_DTYPE_F32   ? x
            : type == INFER_DTYPE_F16 ? kern_float_of_f16(bits)
                                      : kern_float_of_bf16(bits);
    if (type == INFER_DTYPE_F32)
        memcpy(to, &x, 4);
    else
        memcpy(to, &bits, 2);
}

static struct matrix matrix_new(int32_t n, int32_t k, uint64_t *seed)
{
    struct matrix m = {.n = n, .k = k, .type = (int32_t)types[test_rand(seed) % 3]};
    size_t each = m.type == INFER_DTYPE_F32 ? 4 : 2;
    m.stride = (int32_t)BASE_ALIGN_UP((size_t)k * each, (size_t)16);
    size_t bytes = (size_t)n * (size_t)m.stride;
    uint8_t *rows = calloc(1, bytes);
    m.values = malloc((size_t)n * (size_t)k * sizeof *m.values);
    for (int32_t r = 0; r < n; r++)
        for (int32_t i = 0; i < k; i++)
            store(rows + (size_t)r * (size_t)m.stride + (size_t)i * each, (infer_dtype)m.type,
                  test_randf(seed), &m.values[(size_t)r * (size_t)k + (size_t)i]);
    m.card = card_new(rows, bytes);
    free(rows);
    return m;
}

static void matrix_free(struct matrix *m)
{
    free(m->values);
    if (m->card)
        card_free(m->card);
}

struct lora_case {
    int32_t k, n[KERN_CUDA_PARTS], n_parts;
    int32_t ranks[N_ADAPTERS];
    int32_t rows[SEGMENTS_MAX], n_segments; /* of each segment; adapters in turn */
    int32_t norm, fused;                    /* fused: the parts share A */
    int32_t tiles;
};

struct bench {
    const struct lora_case *c;
    struct matrix a[N_ADAPTERS][KERN_CUDA_PARTS], b[N_ADAPTERS][KERN_CUDA_PARTS];
    float scale[N_ADAPTERS][KERN_CUDA_PARTS];
    struct kern_cuda_lora_pair *tables[N_ADAPTERS]; /* on the card */
    struct kern_cuda_lora_segment segments[SEGMENTS_MAX];
    int32_t n_rows, segment_rows, max_rank;
    size_t x_stride, y_stride[KERN_CUDA_PARTS];
    float *x, *norm, *scales, *y[KERN_CUDA_PARTS];
};

/* The second adapter has nothing for part 1; the place in the table is of no account. */
static int has(int32_t adapter, int32_t part)
{
    return adapter != 1 || part != 1;
}

static const int32_t places[KERN_CUDA_PARTS] = {2, 0, 3};

static void make_adapters(struct bench *b, uint64_t *seed)
{
    const struct lora_case *c = b->c;
    for (int32_t i = 0; i < N_ADAPTERS; i++) {
        struct kern_cuda_lora_pair table[4] = {{0}};
        for (int32_t p = 0; p < c->n_parts; p++) {
            if (!has(i, p))
                continue;
            if (p == 0 || !c->fused || !has(i, p - 1))
                b->a[i][p] = matrix_new(c->ranks[i], c->k, seed);
            const struct matrix *a = &b->a[i][p];
            for (int32_t from = p; !a->card; a = &b->a[i][from])
                from--;
            b->b[i][p] = matrix_new(c->n[p], c->ranks[i], seed);
            b->scale[i][p] = 1 + test_randf(seed) / 2;
            table[places[p]] = (struct kern_cuda_lora_pair){.a = a->card,
                                                            .b = b->b[i][p].card,
                                                            .a_stride = a->stride,
                                                            .b_stride = b->b[i][p].stride,
                                                            .type_a = a->type,
                                                            .type_b = b->b[i][p].type,
                                                            .rank = c->ranks[i],
                                                            .scale = b->scale[i][p]};
        }
        b->tables[i] = card_new(table, sizeof table);
        b->max_rank = BASE_MAX(b->max_rank, c->ranks[i]);
    }
}

/* Between segments lie rows of no adapter. */
static void make_rows(struct bench *b, uint64_t *seed)
{
    const struct lora_case *c = b->c;
    for (int32_t s = 0; s < c->n_segments; s++) {
        b->n_rows += s % 3 == 1;
        b->segments[s] = (struct kern_cuda_lora_segment){b->tables[s % N_ADAPTERS],
                                                         c->rows[s] ? b->n_rows : -1, c->rows[s]};
        b->n_rows += c->rows[s];
        b->segment_rows = BASE_MAX(b->segment_rows, c->rows[s]);
    }
    b->n_rows++;
    size_t rows = (size_t)b->n_rows;
    b->x_stride = (size_t)c->k + (size_t)(c->k % 4 ? 3 : 4);
    b->x = malloc(rows * b->x_stride * sizeof *b->x);
    for (size_t i = 0; i < rows * b->x_stride; i++)
        b->x[i] = i % b->x_stride < (size_t)c->k ? test_randf(seed) : NAN;
    b->norm = malloc((size_t)c->k * sizeof *b->norm);
    for (int32_t i = 0; i < c->k; i++)
        b->norm[i] = 1 + test_randf(seed) / 2;
    b->scales = malloc(rows * sizeof *b->scales);
    for (size_t i = 0; i < rows; i++)
        b->scales[i] = i % 4 ? test_randf(seed) * 2 : 1;
    for (int32_t p = 0; p < c->n_parts; p++) {
        b->y_stride[p] = (size_t)c->n[p] + 5;
        b->y[p] = malloc(rows * b->y_stride[p] * sizeof(float));
        for (size_t i = 0; i < rows * b->y_stride[p]; i++)
            b->y[p][i] = test_randf(seed);
    }
}

static void bench_free(struct bench *b)
{
    for (int32_t i = 0; i < N_ADAPTERS; i++) {
        for (int32_t p = 0; p < b->c->n_parts; p++) {
            matrix_free(&b->a[i][p]);
            matrix_free(&b->b[i][p]);
        }
        card_free(b->tables[i]);
    }
    for (int32_t p = 0; p < b->c->n_parts; p++)
        free(b->y[p]);
    free(b->x), free(b->norm), free(b->scales);
}

/* The results of one run; the rows of t that a segment does not write stay NaN. */
static void run(const struct bench *b, float *const y[KERN_CUDA_PARTS])
{
    const struct lora_case *c = b->c;
    size_t rows = (size_t)b->n_rows, t_row = kern_cuda_lora_row(b->max_rank) * sizeof(float);
    float *x = card_new(b->x, rows * b->x_stride * sizeof(float));
    float *norm = card_new(b->norm, (size_t)c->k * sizeof(float));
    float *scales = card_new(b->scales, rows * sizeof(float));
    struct kern_cuda_lora_segment *segments =
        card_new(b->segments, (size_t)c->n_segments * sizeof *b->segments);
    struct kern_cuda_lora_args args = {.segments = segments,
                                       .scales = scales,
                                       .n_segments = c->n_segments,
                                       .segment_rows = b->segment_rows,
                                       .max_rank = b->max_rank,
                                       .tiles = c->tiles,
                                       .n_parts = c->n_parts,
                                       .k = c->k,
                                       .x = x,
                                       .x_stride = b->x_stride,
                                       .norm = c->norm ? norm : NULL,
                                       .eps = 1e-3f,
                                       .t = card_new(NULL, rows * t_row)};
    for (int32_t p = 0; p < c->n_parts; p++) {
        args.pair[p] = places[p];
        args.n[p] = c->n[p];
        args.y_stride[p] = b->y_stride[p];
        args.y[p] = card_new(b->y[p], rows * b->y_stride[p] * sizeof(float));
    }
    assert_int_equal(kern_cuda_lora_down(&args, NULL), 0);
    assert_int_equal(kern_cuda_lora_up(&args, NULL), 0);
    for (int32_t p = 0; p < c->n_parts; p++) {
        card_get(y[p], args.y[p], rows * b->y_stride[p] * sizeof(float));
        card_free(args.y[p]);
    }
    card_free(x), card_free(norm), card_free(scales), card_free(segments), card_free(args.t);
}

/* t of a row: sums, and what all magnitudes come to, which bounds the error. */
static void down(const struct bench *b, const struct matrix *a, int32_t row, double *sums,
                 double *sizes)
{
    const float *x = b->x + (size_t)row * b->x_stride;
    double squares = 0;
    for (int32_t i = 0; i < a->k; i++)
        squares += (double)x[i] * (double)x[i];
    double scale = b->c->norm ? 1 / sqrt(squares / a->k + (double)1e-3f) : 1;
    for (int32_t r = 0; r < a->n; r++) {
        sums[r] = sizes[r] = 0;
        for (int32_t i = 0; i < a->k; i++) {
            double w = (double)a->values[(size_t)r * (size_t)a->k + (size_t)i] * scale *
                       (b->c->norm ? (double)b->norm[i] : 1);
            sums[r] += w * (double)x[i];
            sizes[r] += fabs(w * (double)x[i]);
        }
    }
}

static void check_row(const struct bench *b, int32_t adapter, int32_t part, int32_t row,
                      float *const got[KERN_CUDA_PARTS])
{
    const struct matrix *a = &b->a[adapter][part], *w = &b->b[adapter][part];
    for (int32_t from = part; !a->card; a = &b->a[adapter][from])
        from--;
    double *sums = malloc((size_t)a->n * sizeof *sums),
           *sizes = malloc((size_t)a->n * sizeof *sums);
    double factor = (double)b->scale[adapter][part] * (double)b->scales[row];
    down(b, a, row, sums, sizes);
    for (int32_t i = 0; i < w->n; i++) {
        size_t at = (size_t)row * b->y_stride[part] + (size_t)i;
        double expected = (double)b->y[part][at], size = fabs(expected);
        for (int32_t r = 0; r < a->n; r++) {
            double weight = (double)w->values[(size_t)i * (size_t)a->n + (size_t)r] * factor;
            expected += weight * sums[r];
            size += fabs(weight) * sizes[r];
        }
        if (!(fabs((double)got[part][at] - expected) <= 16 * ULP * size))
            fail_msg("part %d, row %d, output %d is %.9g, expected %.9g", part, row, i,
                     (double)got[part][at], expected);
    }
    free(sums), free(sizes);
}

static void check(const struct lora_case *c, uint64_t *seed)
{
    struct bench b = {.c = c};
    float *y[KERN_CUDA_PARTS] = {NULL}, *again[KERN_CUDA_PARTS] = {NULL};
    make_adapters(&b, seed);
    make_rows(&b, seed);
    for (int32_t p = 0; p < c->n_parts; p++) {
        size_t bytes = (size_t)b.n_rows * b.y_stride[p] * sizeof(float);
        y[p] = malloc(bytes);
        again[p] = malloc(bytes);
    }
    run(&b, y);
    run(&b, again);
    for (int32_t p = 0; p < c->n_parts; p++) {
        assert_memory_equal(y[p], again[p], (size_t)b.n_rows * b.y_stride[p] * sizeof(float));
        for (int32_t s = 0; s < c->n_segments; s++)
            for (int32_t i = 0; i < c->rows[s] && has(s % N_ADAPTERS, p); i++) {
                float *row = again[p] + (size_t)(b.segments[s].row + i) * b.y_stride[p];
                check_row(&b, s % N_ADAPTERS, p, b.segments[s].row + i, y);
                memcpy(row, b.y[p] + (row - again[p]), (size_t)c->n[p] * sizeof *row);
            }
        /* All else is as it was. */
        assert_memory_equal(again[p], b.y[p], (size_t)b.n_rows * b.y_stride[p] * sizeof(float));
        free(y[p]), free(again[p]);
    }
    bench_free(&b);
}

static void test_one_row_each(void **state)
{
    static const struct lora_case cases[] = {
        {64, {40}, 1, {4, 4, 4}, {1}, 1, 0, 0, 0},
        {600, {300, 7, 65}, 3, {16, 8, 1}, {1, 1, 1, 0, 1, 1}, 6, 1, 0, 0},
        {1031, {19, 300}, 2, {5, 24, 17}, {1, 1, 0, 1}, 4, 0, 0, 0},
        {1100, {33, 20, 270}, 3, {64, 3, 40}, {1, 0, 1}, 3, 1, 1, 0},
        {4200, {31}, 1, {9, 16, 33}, {1, 1, 1}, 3, 1, 0, 0},
        {100, {70, 5}, 2, {256, 129, 3}, {1, 1}, 2, 0, 1, 0},
        {40, {70}, 1, {600, 2, 9}, {1, 1}, 2, 0, 0, 0},
    };
    uint64_t seed = 1;
    (void)state;
    card_needed("adapters of single rows");
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        check(&cases[i], &seed);
}

static void test_several_rows_each(void **state)
{
    static const struct lora_case cases[] = {
        {48, {24}, 1, {4, 8, 2}, {2, 3}, 2, 0, 0, 0},
        {530, {261, 9, 70}, 3, {16, 11, 64}, {3, 0, 8, 1, 9, 5}, 6, 1, 1, 0},
        {97, {30, 40}, 2, {1, 70, 135}, {7, 1, 9}, 3, 1, 0, 0},
        {1030, {17}, 1, {17, 16, 8}, {70, 3, 0, 16}, 4, 0, 0, 0},
        {16, {33}, 1, {1030, 3, 5}, {2}, 1, 0, 0, 0},
    };
    uint64_t seed = 2;
    (void)state;
    card_needed("adapters of several rows");
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        check(&cases[i], &seed);
}

/* Segments of one row among those of many; sections of several lengths; ranks beyond what is in
 * shared memory together. */
static void test_tiles_of_rows(void **state)
{
    static const struct lora_case cases[] = {
        {48, {24}, 1, {4, 8, 2}, {2, 64}, 2, 0, 0, 1},
        {530, {261, 9, 70}, 3, {16, 11, 64}, {33, 0, 8, 1, 50}, 5, 1, 0, 1},
        {96, {30, 40}, 2, {1, 70, 135}, {17, 1, 9}, 3, 1, 0, 1},
        {1100, {18}, 1, {17, 40, 8}, {18, 3, 0, 16}, 4, 1, 0, 1},
        {520, {270, 40, 14}, 3, {130, 16, 80}, {20, 19}, 2, 1, 1, 1},
        {16, {33, 6}, 2, {150, 3, 5}, {2}, 1, 0, 0, 1},
        {4200, {9}, 1, {9, 8, 4}, {2, 9, 1}, 3, 1, 0, 1},
    };
    uint64_t seed = 3;
    (void)state;
    card_needed("adapters of many rows");
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        check(&cases[i], &seed);
}

static void test_nothing_to_do(void **state)
{
    const struct kern_cuda_lora_args none = {.max_rank = 8, .n_parts = 1, .k = 16};
    const struct kern_cuda_lora_args no_part = {.max_rank = 8, .n_segments = 1, .k = 16};
    (void)state;
    card_needed("adapters of nothing");
    assert_int_equal(kern_cuda_lora_down(&none, NULL), 0);
    assert_int_equal(kern_cuda_lora_up(&none, NULL), 0);
    assert_int_equal(kern_cuda_lora_down(&no_part, NULL), 0);
    assert_int_equal(kern_cuda_lora_up(&no_part, NULL), 0);
    for (int32_t rank = 2; rank < 4096; rank++)
        assert_true(kern_cuda_lora_row(rank) >= kern_cuda_lora_row(rank - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row_each),
        cmocka_unit_test(test_several_rows_each),
        cmocka_unit_test(test_tiles_of_rows),
        cmocka_unit_test(test_nothing_to_do),
    };
    return cmocka_run_group_tests_name("adapters on a GPU", tests, NULL, NULL);
}
