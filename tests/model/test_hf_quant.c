/* Quantised checkpoints, packed here as their formats are published, unpacked by the library:
 * AWQ, GPTQ, compressed-tensors, FP8, MXFP4. What fits blocks must be exact. */
#include "support/hf_folder.h"
#include "support/test.h"
#include "support/test_alloc.h"

#include "kernels/kernels.h"
#include "model/hf.h"

#include <math.h>

enum { N = 40, K = 128, GROUP = 32, GROUPS = K / GROUP, MAX_PARTS = 8 };

/* One matrix: whole numbers with zeros and scales a group, and what they mean. */
struct matrix {
    int32_t u[N][K], zero[N][GROUPS];
    float scale[N][GROUPS];
    int32_t group_of[K];
    double w[N][K];
};

struct checkpoint {
    struct hf_tensor parts[MAX_PARTS];
    size_t n;
};

static uint64_t seed = 7;
static uint32_t keep; /* MODEL_HF_KEEP_F8 where codes are to stay */

static uint16_t half_of(float f)
{
    struct infer_kernels k;
    uint16_t h;
    kern_init_cpu(&k, 0);
    k.quant.narrow[INFER_DTYPE_F16](&h, &f, 1);
    return h;
}

static float float_of(const void *data, infer_dtype type, size_t i)
{
    struct infer_kernels k;
    float f;
    kern_init_cpu(&k, 0);
    k.quant.dequant[type](&f, (const uint8_t *)data + 2 * i, 1);
    return f;
}

/* Scales are halves, as nearly all checkpoints have them. */
static void fill(struct matrix *m, int bits, int symmetric, int shuffled)
{
    for (int c = 0; c < K; c++)
        m->group_of[c] = shuffled ? (c * 7 + 3) % GROUPS : c / GROUP;
    for (int r = 0; r < N; r++) {
        for (int g = 0; g < GROUPS; g++) {
            uint16_t h = half_of(0.001f + 0.01f * fabsf(test_randf(&seed)));
            m->scale[r][g] = float_of(&h, INFER_DTYPE_F16, 0);
            m->zero[r][g] = symmetric ? 1 << (bits - 1) : 1 + (int)(test_rand(&seed) % 15);
        }
        for (int c = 0; c < K; c++) {
            int g = m->group_of[c];
            m->u[r][c] = (int)(test_rand(&seed) % (1u << bits));
            m->w[r][c] = (double)(m->u[r][c] - m->zero[r][g]) * (double)m->scale[r][g];
        }
    }
}

static void *take(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

static void add(struct checkpoint *c, const char *name, const char *dtype, int64_t d0, int64_t d1,
                const void *data, size_t bytes)
{
    assert_true(c->n < MAX_PARTS);
    c->parts[c->n++] = (struct hf_tensor){name, dtype, {d0, d1, -1}, data, bytes};
}

static void drop(struct checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++)
        free((void *)(uintptr_t)c->parts[i].data);
    c->n = 0;
}

#define NAME "model.layers.0.mlp.down_proj"

/* [groups][n] halves. */
static void add_scales_by_group(struct checkpoint *c, const struct matrix *m)
{
    uint16_t *s = take(GROUPS * N, sizeof *s);
    for (int r = 0; r < N; r++)
        for (int g = 0; g < GROUPS; g++)
            s[g * N + r] = half_of(m->scale[r][g]);
    add(c, NAME ".scales", "F16", GROUPS, N, s, GROUPS * N * sizeof *s);
}

static void pack_gptq(struct checkpoint *c, const struct matrix *m, int bits, int v2, int shuffled)
{
    int per = 32 / bits;
    uint32_t *q = take((size_t)(K / per * N), sizeof *q);
    uint32_t *z = take((size_t)(GROUPS * N / per), sizeof *z);
    for (int r = 0; r < N; r++) {
        for (int k = 0; k < K; k++)
            q[k / per * N + r] |= (uint32_t)m->u[r][k] << bits * (k % per);
        for (int g = 0; g < GROUPS; g++)
            z[g * (N / per) + r / per] |= (uint32_t)(m->zero[r][g] - !v2) << bits * (r % per);
    }
    add(c, NAME ".qweight", "I32", K / per, N, q, (size_t)(K / per * N) * 4);
    add(c, NAME ".qzeros", "I32", GROUPS, N / per, z, (size_t)(GROUPS * N / per) * 4);
    add_scales_by_group(c, m);
    if (shuffled >= 0) {
        int32_t *order = take(K, sizeof *order);
        memcpy(order, m->group_of, K * sizeof *order);
        add(c, NAME ".g_idx", "I32", K, -1, order, K * sizeof *order);
    }
}

static void pack_awq(struct checkpoint *c, const struct matrix *m)
{
    static const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    uint32_t *q = take(K * N / 8, sizeof *q), *z = take(GROUPS * N / 8, sizeof *z);
    for (int j = 0; j < N / 8; j++)
        for (int i = 0; i < 8; i++) {
            for (int k = 0; k < K; k++)
                q[k * (N / 8) + j] |= (uint32_t)m->u[8 * j + order[i]][k] << 4 * i;
            for (int g = 0; g < GROUPS; g++)
                z[g * (N / 8) + j] |= (uint32_t)m->zero[8 * j + order[i]][g] << 4 * i;
        }
    add(c, NAME ".qweight", "I32", K, N / 8, q, K * N / 8 * 4);
    add(c, NAME ".qzeros", "I32", GROUPS, N / 8, z, GROUPS * N / 8 * 4);
    add_scales_by_group(c, m);
}

/* Scales [n][groups] as halves. */
static void add_scales_by_row(struct checkpoint *c, const struct matrix *m)
{
    uint16_t *s = take(N * GROUPS, sizeof *s);
    for (int i = 0; i < N * GROUPS; i++)
        s[i] = half_of(m->scale[i / GROUPS][i % GROUPS]);
    add(c, NAME ".weight_scale", "F16", N, GROUPS, s, N * GROUPS * sizeof *s);
}

static void pack_compressed(struct checkpoint *c, const struct matrix *m, int bits, int symmetric)
{
    int per = 32 / bits;
    uint32_t *q = take((size_t)(N * K / per), sizeof *q);
    int64_t *shape = take(2, sizeof *shape);
    for (int r = 0; r < N; r++)
        for (int k = 0; k < K; k++)
            q[r * (K / per) + k / per] |= (uint32_t)m->u[r][k] << bits * (k % per);
    shape[0] = N;
    shape[1] = K;
    add(c, NAME ".weight_packed", "I32", N, K / per, q, (size_t)(N * K / per) * 4);
    add(c, NAME ".weight_shape", "I64", 2, -1, shape, 16);
    add_scales_by_row(c, m);
    if (!symmetric) {
        uint32_t *z = take((size_t)(N / per * GROUPS), sizeof *z);
        for (int r = 0; r < N; r++)
            for (int g = 0; g < GROUPS; g++)
                z[r / per * GROUPS + g] |= (uint32_t)m->zero[r][g] << bits * (r % per);
        add(c, NAME ".weight_zero_point", "I32", N / per, GROUPS, z,
            (size_t)(N / per * GROUPS) * 4);
    }
}

#define CONFIG(quant)                                                                              \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 40, \"num_hidden_layers\": 1, "  \
    "\"num_attention_heads\": 2, \"intermediate_size\": 128, \"rms_norm_eps\": 1e-6, "             \
    "\"max_position_embeddings\": 64, \"vocab_size\": 8, \"quantization_config\": {" quant "}}"

static infer_status open_checkpoint(struct gguf_file **file, const struct base_alloc *a,
                                    const char *config, const struct checkpoint *c)
{
    struct hf_folder f;
    hf_folder_make(&f);
    hf_folder_text(&f, "config.json", config);
    hf_folder_tensors(&f, "model.safetensors", c->parts, c->n);
    infer_status st = model_hf_open(file, a, f.path, HF_DIR_NO_TOKENIZER | keep);
    hf_folder_remove(&f); /* mapped files stay */
    return st;
}

/* The unpacked matrix against `m->w`; `relative` 0 asks for equality. */
static void check(const char *what, const char *config, struct checkpoint *c,
                  const struct matrix *m, infer_dtype type, double relative)
{
    struct gguf_file *file = NULL;
    struct infer_kernels kernels;
    infer_status st = open_checkpoint(&file, &base_alloc_default, config, c);
    if (st != INFER_OK)
        fail_msg("%s: %s", what, test_error_text());
    kern_init_cpu(&kernels, 0);
    const struct gguf_tensor *t = gguf_find_tensor(file, "blk.0.ffn_down.weight");
    const struct gguf_tensor *scale = gguf_find_tensor(file, "blk.0.ffn_down.scale");
    double factor = scale ? (double)float_of(scale->data, INFER_DTYPE_F32, 0) : 1;
    assert_int_equal(gguf_n_tensors(file), scale ? 2 : 1);
    assert_true((scale != NULL) == (type == INFER_DTYPE_NVFP4));
    assert_non_null(t);
    if (t->type != type)
        fail_msg("%s became type %d, %d was expected", what, (int)t->type, (int)type);
    assert_int_equal(t->dims[0], K);
    assert_int_equal(t->dims[1], N);
    for (int r = 0; r < N; r++) {
        float row[K];
        kernels.quant.dequant[type](row, t->data + (size_t)r * (size_t)(t->bytes / N), K);
        for (int k = 0; k < K; k++)
            if (fabs((double)row[k] * factor - m->w[r][k]) > relative * fabs(m->w[r][k]))
                fail_msg("%s: row %d, column %d is %.9g, %.9g was expected", what, r, k,
                         (double)row[k] * factor, m->w[r][k]);
    }
    gguf_close(&file);
    drop(c);
}

#define GPTQ(bits, more) CONFIG("\"quant_method\": \"gptq\", \"bits\": " #bits more)
#define V2               ", \"checkpoint_format\": \"gptq_v2\""

static void test_gptq(void **state)
{
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    (void)state;
    fill(m, 4, 1, 0);
    pack_gptq(&c, m, 4, 0, 0);
    check("gptq 4", GPTQ(4, ""), &c, m, INFER_DTYPE_Q4_0, 0);
    pack_gptq(&c, m, 4, 1, -1);
    check("gptq_v2 4 without g_idx", GPTQ(4, V2), &c, m, INFER_DTYPE_Q4_0, 0);
    fill(m, 4, 0, 0);
    pack_gptq(&c, m, 4, 0, 0);
    check("gptq 4 asymmetric", GPTQ(4, ""), &c, m, INFER_DTYPE_Q8_0, 0);
    fill(m, 4, 0, 1);
    pack_gptq(&c, m, 4, 0, 1);
    check("gptq 4 with an order", GPTQ(4, ""), &c, m, INFER_DTYPE_F16, 0x1p-11);
    fill(m, 8, 1, 0);
    pack_gptq(&c, m, 8, 0, 0);
    check("gptq 8", GPTQ(8, ""), &c, m, INFER_DTYPE_Q8_0, 0);
    fill(m, 8, 0, 0);
    pack_gptq(&c, m, 8, 1, 0);
    check("gptq_v2 8 asymmetric", GPTQ(8, V2), &c, m, INFER_DTYPE_F16, 0x1p-11);
    free(m);
}

static void test_awq(void **state)
{
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    (void)state;
    fill(m, 4, 0, 0);
    pack_awq(&c, m);
    check("awq", CONFIG("\"quant_method\": \"awq\", \"bits\": 4, \"version\": \"gemm\""), &c, m,
          INFER_DTYPE_Q8_0, 0);
    fill(m, 4, 1, 0);
    pack_awq(&c, m);
    check("awq symmetric", CONFIG("\"quant_method\": \"awq\", \"bits\": 4"), &c, m,
          INFER_DTYPE_Q4_0, 0);
    free(m);
}

#define COMPRESSED(format, bits)                                                                   \
    CONFIG("\"quant_method\": \"compressed-tensors\", \"format\": \"" format                       \
           "\", \"config_groups\": {\"group_0\": {\"weights\": {\"num_bits\": " #bits "}}}")

static void test_compressed(void **state)
{
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    (void)state;
    fill(m, 4, 1, 0);
    pack_compressed(&c, m, 4, 1);
    check("pack-quantized 4", COMPRESSED("pack-quantized", 4), &c, m, INFER_DTYPE_Q4_0, 0);
    fill(m, 4, 0, 0);
    pack_compressed(&c, m, 4, 0);
    check("pack-quantized 4 asymmetric", COMPRESSED("pack-quantized", 4), &c, m, INFER_DTYPE_Q8_0,
          0);
    fill(m, 8, 1, 0);
    pack_compressed(&c, m, 8, 1);
    check("pack-quantized 8", COMPRESSED("pack-quantized", 8), &c, m, INFER_DTYPE_Q8_0, 0);

    /* Bytes with a sign and a scale a row, of single precision: one rounding to half. */
    int8_t *bytes = take(N * K, 1);
    float *scales = take(N, sizeof *scales);
    for (int r = 0; r < N; r++) {
        scales[r] = 0.001f + 0.01f * fabsf(test_randf(&seed));
        for (int k = 0; k < K; k++) {
            bytes[r * K + k] = (int8_t)(int)(test_rand(&seed) % 256 - 128);
            m->w[r][k] = (double)bytes[r * K + k] * (double)scales[r];
        }
    }
    add(&c, NAME ".weight", "I8", N, K, bytes, N * K);
    add(&c, NAME ".weight_scale", "F32", N, 1, scales, N * sizeof *scales);
    check("int-quantized", COMPRESSED("int-quantized", 8), &c, m, INFER_DTYPE_Q8_0, 0x1p-11);
    free(m);
}

/* E4M3 by its definition: sign, 4 bits of exponent with bias 7, 3 of fraction. */
static double e4m3(uint8_t b)
{
    int e = b >> 3 & 15, f = b & 7;
    double v = e ? ldexp(8 + f, e - 10) : ldexp(f, -9);
    return b & 128 ? -v : v;
}

enum { SCALE_ONE, SCALE_ROW, SCALE_BLOCK };

/* Blocks are of 16 rows and `block_cols` columns. */
static void check_fp8_cols(const char *what, const char *config, int kind, int power_of_two,
                           int block_cols)
{
    enum { BLOCK_ROWS = 16 };
    const int blocks_fit = kind != SCALE_BLOCK || block_cols % 128 == 0;
    const infer_dtype type = keep && blocks_fit ? INFER_DTYPE_F8_128 : INFER_DTYPE_BF16;
    const int cols = (K + block_cols - 1) / block_cols, rows = (N + BLOCK_ROWS - 1) / BLOCK_ROWS;
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    uint8_t *q = take(N * K, 1);
    float *s = take(N * K, sizeof *s);
    int n = kind == SCALE_ONE ? 1 : kind == SCALE_ROW ? N : rows * cols;
    for (int i = 0; i < n; i++)
        s[i] = power_of_two ? ldexpf(1, (int)(test_rand(&seed) % 9) - 12)
                            : 0.01f + fabsf(test_randf(&seed));
    for (int r = 0; r < N; r++)
        for (int k = 0; k < K; k++) {
            uint8_t b = (uint8_t)test_rand(&seed);
            b = (b & 127) == 127 ? 0 : b; /* no NaN */
            int at = kind == SCALE_ONE   ? 0
                     : kind == SCALE_ROW ? r
                                         : r / BLOCK_ROWS * cols + k / block_cols;
            q[r * K + k] = b;
            m->w[r][k] = e4m3(b) * (double)s[at];
        }
    add(&c, NAME ".weight", "F8_E4M3", N, K, q, N * K);
    if (kind == SCALE_BLOCK)
        add(&c, NAME ".weight_scale_inv", "F32", rows, cols, s, (size_t)n * sizeof *s);
    else
        add(&c, NAME ".weight_scale", "F32", n, kind == SCALE_ROW ? 1 : -1, s,
            (size_t)n * sizeof *s);
    check(what, config, &c, m, type,
          power_of_two                 ? 0
          : type == INFER_DTYPE_F8_128 ? 0x1p-24
                                       : 0x1p-8);
    free(m);
}

static void check_fp8(const char *what, const char *config, int kind, int power_of_two)
{
    check_fp8_cols(what, config, kind, power_of_two, 48);
}

#define FP8_BLOCKS CONFIG("\"quant_method\": \"fp8\", \"weight_block_size\": [16, 48]")

static void test_fp8(void **state)
{
    (void)state;
    check_fp8("fp8, one scale", CONFIG("\"quant_method\": \"fp8\""), SCALE_ONE, 0);
    check_fp8("fp8, blocks", FP8_BLOCKS, SCALE_BLOCK, 0);
    check_fp8("fp8, blocks of powers of two", FP8_BLOCKS, SCALE_BLOCK, 1);
    check_fp8("float-quantized", COMPRESSED("float-quantized", 8), SCALE_ROW, 0);
    check_fp8("fbgemm_fp8", CONFIG("\"quant_method\": \"fbgemm_fp8\""), SCALE_ROW, 1);
}

/* The same where codes are to stay: in blocks of 128 of one scale. */
static void test_fp8_kept(void **state)
{
    struct gguf_file *file = NULL;
    struct checkpoint c = {.n = 0};
    uint8_t *q = take(N * K, 1);
    float *scale = take(1, sizeof *scale), row[K];
    struct infer_kernels kernels;
    (void)state;
    keep = MODEL_HF_KEEP_F8;
    check_fp8("kept, one scale", CONFIG("\"quant_method\": \"fp8\""), SCALE_ONE, 0);
    check_fp8("kept, a scale a row", COMPRESSED("float-quantized", 8), SCALE_ROW, 0);
    check_fp8("not kept, blocks of 48", FP8_BLOCKS, SCALE_BLOCK, 0);
    check_fp8_cols("kept, blocks of 128",
                   CONFIG("\"quant_method\": \"fp8\", \"weight_block_size\": [16, 128]"),
                   SCALE_BLOCK, 0, 128);
    *scale = 2;
    q[3 * K + 5] = 0xff;
    add(&c, NAME ".weight", "F8_E4M3", N, K, q, N * K);
    add(&c, NAME ".weight_scale", "F32", 1, -1, scale, sizeof *scale);
    assert_ok(open_checkpoint(&file, &base_alloc_default, CONFIG("\"quant_method\": \"fp8\""), &c));
    kern_init_cpu(&kernels, 0);
    const struct gguf_tensor *t = gguf_find_tensor(file, "blk.0.ffn_down.weight");
    for (size_t r = 2; r < 5; r++) {
        kernels.quant.dequant[INFER_DTYPE_F8_128](row, t->data + r * t->bytes / N, K);
        for (int k = 0; k < K; k++)
            assert_true(r == 3 ? isnan(row[k]) : row[k] == 0);
    }
    gguf_close(&file);
    drop(&c);
    keep = 0;
}

/* E2M1 by its definition; two neighbours share a byte, the first in the low half. */
static void test_mxfp4(void **state)
{
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    uint8_t *blocks = take(N * K / 2, 1), *scales = take(N * K / 32, 1);
    (void)state;
    for (int i = 0; i < N * K / 32; i++)
        scales[i] = (uint8_t)(110 + test_rand(&seed) % 30);
    for (int i = 0; i < N * K; i++) {
        uint32_t q = test_rand(&seed) % 16;
        blocks[i / 2] = (uint8_t)(blocks[i / 2] | q << 4 * (i % 2));
        m->w[i / K][i % K] = ldexp(q & 8 ? -e2m1[q & 7] : e2m1[q & 7], scales[i / 32] - 127);
    }
    c.parts[0] =
        (struct hf_tensor){NAME ".weight_blocks", "U8", {N, K / 32, 16, -1}, blocks, N * K / 2};
    c.parts[1] =
        (struct hf_tensor){NAME ".weight_scales", "U8", {N, K / 32, -1}, scales, N * K / 32};
    c.n = 2;
    check("mxfp4", CONFIG("\"quant_method\": \"mxfp4\""), &c, m, INFER_DTYPE_MXFP4, 0);
    free(m);
}

/* The same bytes with scales for 32 as exponents, or for 16 as E4M3 and one for all. */
static struct checkpoint pack_fp4(struct matrix *m, const char *packed, const char *whole)
{
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    struct checkpoint c = {.n = 0};
    int run = whole ? 16 : 32;
    uint8_t *q = take(N * K / 2, 1), *scales = take((size_t)(N * K / run), 1);
    float *one = take(1, sizeof *one);
    int divides = whole && strcmp(whole, NAME ".weight_global_scale") == 0;
    *one = divides ? 448.0f : 0.0123f;
    for (int i = 0; i < N * K / run; i++)
        scales[i] = (uint8_t)(whole ? test_rand(&seed) % 0x7f : 110 + test_rand(&seed) % 30);
    for (int i = 0; i < N * K; i++) {
        uint32_t v = test_rand(&seed) % 16;
        double s = whole ? e4m3(scales[i / run]) * (divides ? 1 / (double)*one : (double)*one)
                         : ldexp(1, scales[i / run] - 127);
        q[i / 2] = (uint8_t)(q[i / 2] | v << 4 * (i % 2));
        m->w[i / K][i % K] = (v & 8 ? -e2m1[v & 7] : e2m1[v & 7]) * s;
    }
    add(&c, packed, "U8", N, K / 2, q, N * K / 2);
    add(&c, NAME ".weight_scale", whole ? "F8_E4M3" : "U8", N, K / run, scales,
        (size_t)(N * K / run));
    add(&c, whole ? whole : NAME ".input_global_scale", "F32", 1, -1, one, sizeof *one);
    return c;
}

#define NV COMPRESSED("nvfp4-pack-quantized", 4)
#define MIXED                                                                                      \
    CONFIG("\"quant_method\": \"compressed-tensors\", \"format\": \"mixed-precision\", "           \
           "\"config_groups\": {\"a\": {\"format\": \"float-quantized\", \"weights\": {"           \
           "\"num_bits\": 8}}, \"b\": {\"format\": \"nvfp4-pack-quantized\", \"weights\": {"       \
           "\"num_bits\": 4}}}")
#define MODELOPT(algo) CONFIG("\"quant_method\": \"modelopt\", \"quant_algo\": \"" algo "\"")

static void test_fp4(void **state)
{
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = pack_fp4(m, NAME ".weight_packed", NAME ".weight_global_scale");
    (void)state;
    check("nvfp4-pack-quantized", NV, &c, m, INFER_DTYPE_NVFP4, 1e-6);
    c = pack_fp4(m, NAME ".weight_packed", NAME ".weight_global_scale");
    check("mixed-precision", MIXED, &c, m, INFER_DTYPE_NVFP4, 1e-6);
    c = pack_fp4(m, NAME ".weight", NAME ".weight_scale_2");
    check("modelopt NVFP4", MODELOPT("NVFP4"), &c, m, INFER_DTYPE_NVFP4, 1e-6);
    c = pack_fp4(m, NAME ".weight_packed", NULL);
    check("mxfp4-pack-quantized", COMPRESSED("mxfp4-pack-quantized", 4), &c, m, INFER_DTYPE_MXFP4,
          0);
    check_fp8("modelopt FP8", MODELOPT("FP8"), SCALE_ONE, 0);
    free(m);
}

static void refuse(const char *config, const struct checkpoint *c, infer_status status,
                   const char *sentence)
{
    struct gguf_file *file = NULL;
    struct test_alloc t;
    test_alloc_init(&t);
    infer_status st = open_checkpoint(&file, &t.alloc, config, c);
    if (st != status || !strstr(test_error_text(), sentence))
        fail_msg("%d: \"%s\" should be %d and contain \"%s\"", (int)st, test_error_text(),
                 (int)status, sentence);
    assert_null(file);
    assert_int_equal(t.live_blocks, 0);
}

static void test_refusals(void **state)
{
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    (void)state;
    fill(m, 4, 0, 0);
    pack_gptq(&c, m, 4, 0, 0);
    refuse(CONFIG("\"quant_method\": \"bitsandbytes\""), &c, INFER_ERR_UNSUPPORTED,
           "quantised by \"bitsandbytes\" are not supported");
    refuse(CONFIG(""), &c, INFER_ERR_UNSUPPORTED, "quantised by \"\"");
    refuse(GPTQ(3, ""), &c, INFER_ERR_UNSUPPORTED, "gptq with 3 bits");
    refuse(GPTQ(4, ", \"checkpoint_format\": \"marlin\""), &c, INFER_ERR_UNSUPPORTED, "\"marlin\"");
    refuse(CONFIG("\"quant_method\": \"awq\", \"version\": \"gemv\""), &c, INFER_ERR_UNSUPPORTED,
           "packing \"gemv\"");
    refuse(COMPRESSED("marlin-24", 4), &c, INFER_ERR_UNSUPPORTED, "\"marlin-24\" with 4 bits");
    refuse(MODELOPT("W4A8_AWQ"), &c, INFER_ERR_UNSUPPORTED, "\"W4A8_AWQ\"");
    refuse(GPTQ(8, ""), &c, INFER_ERR_FORMAT, "does not fit its");
    int32_t *order = (int32_t *)(uintptr_t)c.parts[3].data;
    order[5] = GROUPS;
    refuse(GPTQ(4, ""), &c, INFER_ERR_FORMAT, "does not fit its order of groups");
    order[5] = -1;
    refuse(GPTQ(4, ""), &c, INFER_ERR_FORMAT, "does not fit its order of groups");
    order[5] = 0;
    uint16_t *scales = (uint16_t *)(uintptr_t)c.parts[2].data;
    scales[9] = 0x7c00;
    refuse(GPTQ(4, ""), &c, INFER_ERR_FORMAT, "has the scale inf");
    scales[9] = 0;
    c.parts[1].dims[0] = GROUPS / 2;
    c.parts[1].dims[1] *= 2;
    refuse(GPTQ(4, ""), &c, INFER_ERR_FORMAT, "does not fit its zeros");
    c.parts[1].dims[0] = GROUPS;
    c.parts[1].dims[1] /= 2;
    c.parts[2].name = "other.scales";
    refuse(GPTQ(4, ""), &c, INFER_ERR_FORMAT, "scales: there are none");
    drop(&c);
    c = pack_fp4(m, NAME ".weight_packed", NAME ".weight_global_scale");
    uint8_t *fp8 = (uint8_t *)(uintptr_t)c.parts[1].data;
    fp8[3] = 0x81;
    refuse(NV, &c, INFER_ERR_FORMAT, "holds no scales");
    fp8[3] = 0x7e;
    memset((void *)(uintptr_t)c.parts[2].data, 0, 4);
    refuse(NV, &c, INFER_ERR_FORMAT, "weight_global_scale\" is 0");
    c.parts[1].dims[1] /= 2;
    c.parts[1].dims[0] *= 2;
    refuse(NV, &c, INFER_ERR_FORMAT, "no 4-bit floats with their scales");
    drop(&c);
    free(m);
}

/* Every allocation refused once. */
static void test_allocations(void **state)
{
    struct matrix *m = take(1, sizeof *m);
    struct checkpoint c = {.n = 0};
    (void)state;
    fill(m, 4, 0, 1);
    pack_gptq(&c, m, 4, 0, 1);
    for (size_t fail_at = 1;; fail_at++) {
        struct gguf_file *file = NULL;
        struct test_alloc t;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = open_checkpoint(&file, &t.alloc, GPTQ(4, ""), &c);
        assert_true(st == INFER_OK || st == INFER_ERR_NO_MEMORY);
        assert_true((st == INFER_OK) == (file != NULL));
        gguf_close(&file);
        assert_int_equal(t.live_blocks, 0);
        if (st == INFER_OK) {
            assert_true(fail_at > 20);
            break;
        }
    }
    drop(&c);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gptq),       cmocka_unit_test(test_awq),
        cmocka_unit_test(test_compressed), cmocka_unit_test(test_fp8),
        cmocka_unit_test(test_mxfp4),      cmocka_unit_test(test_fp4),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_fp8_kept),
    };
    return cmocka_run_group_tests_name("hf_quant", tests, NULL, NULL);
}
