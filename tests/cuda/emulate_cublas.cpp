/* cuBLASLt over the emulated card, as far as lib/device/cublas.c uses it: products of BF16, and of
 * E4M3 with scales for 128 elements, which come out as F32. What the documentation asks for is
 * asked for: the first matrix transposed, rows on 16 bytes, kernels of the layouts that they were
 * chosen for, scales in the place and of the number of rows that the layouts say. Executables that
 * link it find it by dlopen() and dlsym() (the linker's --wrap). */
#include "cuda/emulate_cublas.h"
#include "cuda/emulate_card.h"

#include <cmath>
#include <cublasLt.h>

static size_t the_version = 120901;
static int the_least = 0;
static long products[2];
static char the_library;

void emulated_cublas_set_version(size_t version)
{
    the_version = version;
}

void emulated_cublas_set_least(int n)
{
    the_least = n;
}

long emulated_cublas_products(int f8)
{
    return products[f8 != 0];
}

namespace
{

enum { E4M3 = 28, MODE_128 = 4, A_SCALES = 17, B_SCALES = 18, A_MODE = 31, B_MODE = 32 };
enum { MAGIC = 0x1b1a5c };

struct product_desc {
    cublasOperation_t a, b;
    int32_t a_mode, b_mode;
    const void *a_scales, *b_scales;
};

struct matrix_desc {
    int type;
    uint64_t rows, cols;
    int64_t ld;
};

/* What a kernel was chosen for. */
struct algo_of {
    int magic, type;
    uint64_t n, k, most;
    int64_t lda, ldb, ldd;
};

product_desc *product_of(cublasLtMatmulDesc_t d)
{
    return (product_desc *)(void *)d;
}

const matrix_desc *matrix_of(cublasLtMatrixLayout_t d)
{
    return (const matrix_desc *)(const void *)d;
}

bool wrong(const char *what)
{
    fprintf(stderr, "emulated cuBLASLt: %s\n", what);
    return true;
}

/* Shapes and strides, for both kinds. */
bool misfits(const product_desc *p, const matrix_desc *a, const matrix_desc *b,
             const matrix_desc *c, const matrix_desc *d)
{
    const int64_t bytes = a->type == E4M3 ? 1 : 2;
    if (p->a != CUBLAS_OP_T || p->b != CUBLAS_OP_N)
        return wrong("only the first matrix is transposed");
    if (a->rows != b->rows || a->cols != d->rows || b->cols != d->cols || c->rows != d->rows ||
        c->cols != d->cols || !a->rows || !a->cols || !b->cols)
        return wrong("shapes do not fit");
    if (a->ld < (int64_t)a->rows || b->ld < (int64_t)b->rows || d->ld < (int64_t)d->rows ||
        c->ld != d->ld)
        return wrong("a leading dimension is too small");
    if (a->type != b->type || (a->type != E4M3 && a->type != CUDA_R_16BF) ||
        c->type != CUDA_R_32F || d->type != CUDA_R_32F)
        return wrong("types do not fit");
    if (a->ld * bytes % 16 || b->ld * bytes % 16 || d->ld * 4 % 16)
        return wrong("rows are not on 16 bytes");
    return false;
}

bool misfits_f8(const product_desc *p, const matrix_desc *a, const matrix_desc *b)
{
    if (p->a_mode != MODE_128 || p->b_mode != MODE_128 || !p->a_scales || !p->b_scales)
        return wrong("E4M3 without scales for 128 elements");
    if (((uintptr_t)p->a_scales | (uintptr_t)p->b_scales) % 16)
        return wrong("scales are not on 16 bytes");
    if (a->rows % 128 || a->cols % 16 || b->cols % 4)
        return wrong("E4M3 of k no multiple of 128, n of 16, or m of 4");
    return the_version < 120900 && wrong("scales for 128 elements came with 12.9");
}

/* That all of a matrix is the card's memory, and of this context. */
bool is_memory(const context &ctx, const void *p, size_t bytes)
{
    auto it = ctx.memory.upper_bound((uintptr_t)p);
    if (it == ctx.memory.begin())
        return false;
    --it;
    return !it->second.host && (uintptr_t)p + bytes <= it->first + it->second.bytes;
}

float of_e4m3(uint8_t code)
{
    const int e = code >> 3 & 15, f = code & 7;
    const float size = (code & 127) == 127 ? NAN
                       : e                 ? ldexpf((float)(8 + f), e - 10)
                                           : ldexpf((float)f, -9);
    return code & 128 ? -size : size;
}

float number_at(const matrix_desc &m, const void *data, uint64_t row, uint64_t col)
{
    const size_t at = (size_t)col * (size_t)m.ld + row;
    if (m.type == E4M3)
        return of_e4m3(((const uint8_t *)data)[at]);
    const uint32_t bits = (uint32_t)((const uint16_t *)data)[at] << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

float scale_at(const void *scales, uint64_t block, uint64_t cols, uint64_t col)
{
    return scales ? ((const float *)scales)[block * cols + col] : 1.0f;
}

void multiply(const product_desc &p, float alpha, const void *a_data, const matrix_desc &a,
              const void *b_data, const matrix_desc &b, float beta, float *d_data,
              const matrix_desc &d)
{
    std::vector<float> row_a(a.rows), row_b(a.rows * b.cols);
    for (uint64_t j = 0; j < b.cols; j++)
        for (uint64_t k = 0; k < b.rows; k++)
            row_b[j * b.rows + k] =
                number_at(b, b_data, k, j) * scale_at(p.b_scales, k / 128, b.cols, j);
    for (uint64_t i = 0; i < a.cols; i++) {
        for (uint64_t k = 0; k < a.rows; k++)
            row_a[k] = number_at(a, a_data, k, i) * scale_at(p.a_scales, k / 128, a.cols, i);
        for (uint64_t j = 0; j < b.cols; j++) {
            const float *x = &row_b[j * b.rows];
            double sum = 0;
            for (uint64_t k = 0; k < a.rows; k++)
                sum += (double)row_a[k] * (double)x[k];
            float *y = &d_data[j * (uint64_t)d.ld + i];
            *y = (float)((double)alpha * sum + (beta == 0.0f ? 0.0 : (double)beta * (double)*y));
        }
    }
}

cublasStatus_t create(cublasLtHandle_t *handle)
{
    *handle = (cublasLtHandle_t)(void *)&the_library;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t destroy(cublasLtHandle_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

size_t version(void)
{
    return the_version;
}

const char *status_name(cublasStatus_t)
{
    return "a status of the emulated cuBLASLt";
}

cublasStatus_t desc_create(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                           cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *d = (cublasLtMatmulDesc_t)(void *)new product_desc{CUBLAS_OP_N, CUBLAS_OP_N, 0,
                                                        0,           nullptr,     nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t desc_destroy(cublasLtMatmulDesc_t d)
{
    delete product_of(d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t desc_set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                        const void *value, size_t bytes)
{
    product_desc *p = product_of(d);
    const struct {
        int attribute;
        void *to;
        size_t bytes;
    } known[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &p->a, sizeof p->a},
                 {CUBLASLT_MATMUL_DESC_TRANSB, &p->b, sizeof p->b},
                 {A_MODE, &p->a_mode, 4},
                 {B_MODE, &p->b_mode, 4},
                 {A_SCALES, &p->a_scales, sizeof(void *)},
                 {B_SCALES, &p->b_scales, sizeof(void *)}};
    for (const auto &k : known)
        if (k.attribute == (int)attribute && k.bytes == bytes) {
            memcpy(k.to, value, bytes);
            return CUBLAS_STATUS_SUCCESS;
        }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t preference_create(cublasLtMatmulPreference_t *p)
{
    *p = (cublasLtMatmulPreference_t)(void *)new char;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t preference_destroy(cublasLtMatmulPreference_t p)
{
    delete (char *)(void *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t preference_set(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
                              const void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t layout_create(cublasLtMatrixLayout_t *m, cudaDataType type, uint64_t rows,
                             uint64_t cols, int64_t ld)
{
    *m = (cublasLtMatrixLayout_t)(void *)new matrix_desc{(int)type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t layout_destroy(cublasLtMatrixLayout_t m)
{
    delete (matrix_desc *)(void *)m;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t heuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                         cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int wanted,
                         cublasLtMatmulHeuristicResult_t *results, int *found)
{
    const product_desc *p = product_of(product);
    const matrix_desc *ma = matrix_of(a), *mb = matrix_of(b), *md = matrix_of(d);
    *found = 0;
    if (wanted < 1 || misfits(p, ma, mb, matrix_of(c), md) ||
        (ma->type == E4M3 && misfits_f8(p, ma, mb)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (ma->type == E4M3 && ma->cols < (uint64_t)the_least)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const algo_of algo = {MAGIC, ma->type, ma->cols, ma->rows, mb->cols, ma->ld, mb->ld, md->ld};
    static_assert(sizeof algo <= sizeof results->algo, "fits");
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, &algo, sizeof algo);
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

bool was_chosen(const cublasLtMatmulAlgo_t *chosen, const matrix_desc *a, const matrix_desc *b,
                const matrix_desc *d)
{
    algo_of algo;
    memcpy(&algo, chosen, sizeof algo);
    return algo.magic == MAGIC && algo.type == a->type && algo.n == a->cols && algo.k == a->rows &&
           algo.most >= b->cols && algo.lda == a->ld && algo.ldb == b->ld && algo.ldd == d->ld;
}

bool lies_outside(const context &ctx, const product_desc *p, const void *a_data,
                  const matrix_desc *a, const void *b_data, const matrix_desc *b,
                  const void *d_data, const matrix_desc *d)
{
    const size_t bytes = a->type == E4M3 ? 1 : 2, blocks = a->rows / 128;
    if (((uintptr_t)a_data | (uintptr_t)b_data | (uintptr_t)d_data) % 16)
        return wrong("a matrix is not on 16 bytes");
    const bool inside = is_memory(ctx, a_data, ((a->cols - 1) * (size_t)a->ld + a->rows) * bytes) &&
                        is_memory(ctx, b_data, ((b->cols - 1) * (size_t)b->ld + b->rows) * bytes) &&
                        is_memory(ctx, d_data, ((d->cols - 1) * (size_t)d->ld + d->rows) * 4) &&
                        (!p->a_scales || is_memory(ctx, p->a_scales, blocks * a->cols * 4)) &&
                        (!p->b_scales || is_memory(ctx, p->b_scales, blocks * b->cols * 4));
    return !inside && wrong("a matrix is no memory of the card");
}

cublasStatus_t matmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha,
                      const void *a_data, cublasLtMatrixLayout_t a, const void *b_data,
                      cublasLtMatrixLayout_t b, const void *beta, const void *c_data,
                      cublasLtMatrixLayout_t c, void *d_data, cublasLtMatrixLayout_t d,
                      const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                      cudaStream_t stream)
{
    call now;
    const product_desc p = *product_of(product);
    const matrix_desc ma = *matrix_of(a), mb = *matrix_of(b), md = *matrix_of(d);
    const float factor = *(const float *)alpha, old = *(const float *)beta;
    if (now.error != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (misfits(&p, &ma, &mb, matrix_of(c), &md) || (ma.type == E4M3 && misfits_f8(&p, &ma, &mb)) ||
        c_data != d_data || !is_memory(*now.ctx, workspace, workspace_bytes) ||
        lies_outside(*now.ctx, &p, a_data, &ma, b_data, &mb, d_data, &md))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!was_chosen(algo, &ma, &mb, &md) && wrong("the kernel was chosen for something else"))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    products[ma.type == E4M3]++;
    const cudaError_t error = issue(*now.ctx, stream, [=] {
        multiply(p, factor, a_data, ma, b_data, mb, old, (float *)d_data, md);
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

const struct {
    const char *name;
    void *function;
} functions[] = {
    {"cublasLtCreate", (void *)create},
    {"cublasLtDestroy", (void *)destroy},
    {"cublasLtGetVersion", (void *)version},
    {"cublasLtGetStatusName", (void *)status_name},
    {"cublasLtMatmul", (void *)matmul},
    {"cublasLtMatmulAlgoGetHeuristic", (void *)heuristic},
    {"cublasLtMatmulDescCreate", (void *)desc_create},
    {"cublasLtMatmulDescDestroy", (void *)desc_destroy},
    {"cublasLtMatmulDescSetAttribute", (void *)desc_set},
    {"cublasLtMatmulPreferenceCreate", (void *)preference_create},
    {"cublasLtMatmulPreferenceDestroy", (void *)preference_destroy},
    {"cublasLtMatmulPreferenceSetAttribute", (void *)preference_set},
    {"cublasLtMatrixLayoutCreate", (void *)layout_create},
    {"cublasLtMatrixLayoutDestroy", (void *)layout_destroy},
};

} // namespace

extern "C" {
void *__real_dlopen(const char *file, int flags);
void *__real_dlsym(void *library, const char *name);

/* Those of the machine, if it has one, are not wanted. */
void *__wrap_dlopen(const char *file, int flags)
{
    if (file && strstr(file, "libcublasLt"))
        return the_version ? &the_library : nullptr;
    return __real_dlopen(file, flags);
}

void *__wrap_dlsym(void *library, const char *name)
{
    if (library != &the_library)
        return __real_dlsym(library, name);
    for (const auto &f : functions)
        if (strcmp(f.name, name) == 0)
            return f.function;
    return nullptr;
}
}
