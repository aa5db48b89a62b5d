/* Products of BF16, and of E4M3 with scales for 128 elements, by cuBLASLt, which is opened where it
 * is installed. */
#include "device/cublas.h"

#include "base/error.h"
#include "base/log.h"
#include "device/cuda_device.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <infer/log.h>
#include <pthread.h>
#include <string.h>

/* What is used has not changed between these. */
#define CUBLAS_FILES(X)                                                                            \
    X("libcublasLt.so.13")                                                                         \
    X("libcublasLt.so.12")                                                                         \
    X("libcublasLt.so")

#define CUBLAS_FUNCTIONS(X)                                                                        \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtGetStatusName)                                                                       \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)

#define WORKSPACE_BYTES ((size_t)32 << 20)
#define ALIGN_BYTES     16 /* of all rows */
#define CACHE_SIZE      128

/* What older headers do not name: scales of their own for each 128 elements along k of a matrix, of
 * all its rows side by side. Both factors may have them, on cards of 9.0. */
#define F8_VERSION       ((size_t)120900)
#define F8_CAPABILITY    90
#define F8_TYPE          ((cudaDataType)28)                   /* CUDA_R_8F_E4M3 */
#define F8_DESC_A_MODE   ((cublasLtMatmulDescAttributes_t)31) /* .._DESC_A_SCALE_MODE */
#define F8_DESC_B_MODE   ((cublasLtMatmulDescAttributes_t)32)
#define F8_DESC_A_SCALES ((cublasLtMatmulDescAttributes_t)17) /* .._DESC_A_SCALE_POINTER */
#define F8_DESC_B_SCALES ((cublasLtMatmulDescAttributes_t)18)
#define F8_MODE_128      4 /* CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F, an int32_t */

/* A choice of kernel, made for the largest m of a bucket so that it does not depend on which m came
 * first. */
struct choice {
    int32_t m, n, k, accumulate, f8;
    size_t w_stride, x_stride, y_stride;
    int32_t offered; /* 0: there is no kernel */
    cublasLtMatmulAlgo_t algo;
};

struct device_cublas {
    struct infer_device *device; /* not a reference: it owns this */
    struct device_buffer workspace;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product; /* of BF16 */
    cublasLtMatmulPreference_t preference;
    pthread_mutex_t lock; /* of the choices */
    struct choice choices[CACHE_SIZE];
    int32_t n_choices, oldest;
};

/* Filled once and never closed: closing takes long, and the host may use the same copy. */
static struct {
    void *library;
#define X(name) __typeof__(name) *name;
    CUBLAS_FUNCTIONS(X)
#undef X
} lt;

static pthread_mutex_t lt_lock = PTHREAD_MUTEX_INITIALIZER;

static infer_status find_functions(void *library, const char *file)
{
    const struct {
        const char *name;
        void *function;
    } functions[] = {
#define X(name) {#name, &lt.name},
        CUBLAS_FUNCTIONS(X)
#undef X
    };
    for (size_t i = 0; i < BASE_COUNT(functions); i++) {
        void *symbol = dlsym(library, functions[i].name);
        if (!symbol)
            return base_error(INFER_ERR_UNSUPPORTED, "%s has no %s", file, functions[i].name);
        memcpy(functions[i].function, &symbol, sizeof symbol);
    }
    return INFER_OK;
}

static infer_status open_library(void)
{
#define X(name) name,
    static const char *const files[] = {CUBLAS_FILES(X)};
#undef X
    for (size_t i = 0; i < BASE_COUNT(files); i++) {
        void *library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
        if (!library)
            continue;
        infer_status st = find_functions(library, files[i]);
        if (st != INFER_OK) {
            dlclose(library);
            return st;
        }
        lt.library = library;
        base_log(INFER_LOG_INFO, "opened %s %zu", files[i], lt.cublasLtGetVersion());
        return INFER_OK;
    }
#define X(name) " " name
    return base_error(INFER_ERR_UNSUPPORTED,
                      "cuBLASLt cannot be opened, none of" CUBLAS_FILES(X) " is installed");
#undef X
}

static infer_status check(const struct device_cublas *cublas, cublasStatus_t status,
                          const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return INFER_OK;
    return base_error(status == CUBLAS_STATUS_ALLOC_FAILED ? INFER_ERR_NO_MEMORY : INFER_ERR_DEVICE,
                      "%s on %s failed: %s", what, cublas->device->name,
                      lt.cublasLtGetStatusName(status));
}

/* ------------------------------------------------------------ open, close */

/* To cuBLASLt, whose matrices go by columns, rows are columns: y^T = (w^T)^T x^T. */
static cublasStatus_t describe_product(cublasLtMatmulDesc_t *product)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasStatus_t status = lt.cublasLtMatmulDescCreate(product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    return lt.cublasLtMatmulDescSetAttribute(*product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                             sizeof transposed);
}

/* Of E4M3: where scales lie is part of the description, so each product has its own. */
static cublasStatus_t describe_f8(cublasLtMatmulDesc_t *product, const struct device_cublas_args *a)
{
    const int32_t mode = F8_MODE_128;
    const void *w = a->w_scales, *x = a->x_scales;
    const struct {
        cublasLtMatmulDescAttributes_t attribute;
        const void *value;
        size_t bytes;
    } set[] = {{F8_DESC_A_MODE, &mode, sizeof mode},
               {F8_DESC_B_MODE, &mode, sizeof mode},
               {F8_DESC_A_SCALES, &w, sizeof w},
               {F8_DESC_B_SCALES, &x, sizeof x}};
    cublasStatus_t status = describe_product(product);
    for (size_t i = 0; i < BASE_COUNT(set) && status == CUBLAS_STATUS_SUCCESS; i++)
        status = lt.cublasLtMatmulDescSetAttribute(*product, set[i].attribute, set[i].value,
                                                   set[i].bytes);
    return status;
}

static cublasStatus_t state_preferences(struct device_cublas *cublas)
{
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t alignment = ALIGN_BYTES;
    cublasStatus_t status = lt.cublasLtMatmulPreferenceCreate(&cublas->preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatmulPreferenceSetAttribute(cublas->preference,
                                                         CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                         &workspace, sizeof workspace);
    for (size_t i = 0; i < BASE_COUNT(aligned) && status == CUBLAS_STATUS_SUCCESS; i++)
        status = lt.cublasLtMatmulPreferenceSetAttribute(cublas->preference, aligned[i], &alignment,
                                                         sizeof alignment);
    return status;
}

static infer_status start(struct device_cublas *cublas)
{
    void *stream;
    infer_status st =
        device_buffer_alloc(cublas->device, DEVICE_WORKSPACE, WORKSPACE_BYTES, &cublas->workspace);
    if (st != INFER_OK)
        return st;
    st = device_cuda_enter(cublas->device, &stream);
    if (st != INFER_OK)
        return st;
    cublasStatus_t status = lt.cublasLtCreate(&cublas->handle);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe_product(&cublas->product);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = state_preferences(cublas);
    device_cuda_leave(cublas->device);
    return check(cublas, status, "the start of cuBLASLt");
}

infer_status device_cublas_create(struct infer_device *device, struct device_cublas **out)
{
    *out = NULL;
    pthread_mutex_lock(&lt_lock);
    infer_status st = lt.library ? INFER_OK : open_library();
    pthread_mutex_unlock(&lt_lock);
    if (st != INFER_OK)
        return st;
    struct device_cublas *cublas = base_new(&device->alloc, 1, sizeof *cublas);
    if (!cublas)
        return INFER_ERR_NO_MEMORY;
    cublas->device = device;
    pthread_mutex_init(&cublas->lock, NULL);
    st = start(cublas);
    if (st == INFER_OK)
        *out = cublas;
    else
        device_cublas_destroy(&cublas);
    return st;
}

void device_cublas_destroy(struct device_cublas **cublas)
{
    struct device_cublas *c = *cublas;
    if (!c)
        return;
    if (device_cuda_push(c->device) == INFER_OK) { /* of a lost context too: most is the host's */
        if (c->preference)
            lt.cublasLtMatmulPreferenceDestroy(c->preference);
        if (c->product)
            lt.cublasLtMatmulDescDestroy(c->product);
        if (c->handle)
            lt.cublasLtDestroy(c->handle);
        device_cuda_pop(c->device);
    }
    device_buffer_free(&c->workspace);
    pthread_mutex_destroy(&c->lock);
    base_free(&c->device->alloc, c);
    *cublas = NULL;
}

/* ---------------------------------------------------------------- products */

struct job {
    cublasLtMatmulDesc_t product, own; /* own: to be destroyed */
    cublasLtMatrixLayout_t w, x, y;
};

static void end_job(struct job *j)
{
    if (j->w)
        lt.cublasLtMatrixLayoutDestroy(j->w);
    if (j->x)
        lt.cublasLtMatrixLayoutDestroy(j->x);
    if (j->y)
        lt.cublasLtMatrixLayoutDestroy(j->y);
    if (j->own)
        lt.cublasLtMatmulDescDestroy(j->own);
}

/* The product of the arguments as one of m rows. */
static cublasStatus_t begin_job(struct job *j, const struct device_cublas *cublas,
                                const struct device_cublas_args *a, int32_t m)
{
    const uint64_t rows = (uint64_t)m, n = (uint64_t)a->n, k = (uint64_t)a->k;
    const cudaDataType type = a->w_scales ? F8_TYPE : CUDA_R_16BF;
    cublasStatus_t status = a->w_scales ? describe_f8(&j->own, a) : CUBLAS_STATUS_SUCCESS;
    j->product = a->w_scales ? j->own : cublas->product;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatrixLayoutCreate(&j->w, type, k, n, (int64_t)a->w_stride);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatrixLayoutCreate(&j->x, type, k, rows, (int64_t)a->x_stride);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatrixLayoutCreate(&j->y, CUDA_R_32F, n, rows, (int64_t)a->y_stride);
    return status;
}

/* The next power of two, from 256 on the next multiple of 256. */
static int32_t bucket_of(int32_t m)
{
    int32_t bucket = 16;
    if (m > 256)
        return m > INT32_MAX - 255 ? m : BASE_ALIGN_UP(m, 256);
    while (bucket < m)
        bucket *= 2;
    return bucket;
}

static int same(const struct choice *c, const struct device_cublas_args *a, int32_t bucket)
{
    return c->m == bucket && c->n == a->n && c->k == a->k && c->accumulate == !!a->accumulate &&
           c->f8 == (a->w_scales != NULL) && c->w_stride == a->w_stride &&
           c->x_stride == a->x_stride && c->y_stride == a->y_stride;
}

/* That there is no kernel is a choice too, and no error yet. */
static infer_status choose(struct device_cublas *cublas, const struct device_cublas_args *a,
                           int32_t bucket, struct choice *out)
{
    cublasLtMatmulHeuristicResult_t result;
    struct job j = {0};
    int n = 0;
    cublasStatus_t status = begin_job(&j, cublas, a, bucket);
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = lt.cublasLtMatmulAlgoGetHeuristic(cublas->handle, j.product, j.w, j.x, j.y, j.y,
                                                   cublas->preference, 1, &result, &n);
        if (status == CUBLAS_STATUS_NOT_SUPPORTED ||
            (a->w_scales && status == CUBLAS_STATUS_INVALID_VALUE)) {
            status = CUBLAS_STATUS_SUCCESS;
            n = 0;
        }
    }
    end_job(&j);
    *out = (struct choice){.m = bucket,
                           .n = a->n,
                           .k = a->k,
                           .accumulate = !!a->accumulate,
                           .f8 = a->w_scales != NULL,
                           .w_stride = a->w_stride,
                           .x_stride = a->x_stride,
                           .y_stride = a->y_stride};
    if (status == CUBLAS_STATUS_SUCCESS && n > 0) {
        out->algo = result.algo;
        out->offered = 1;
    }
    return check(cublas, status, "the choice of a product by cuBLASLt");
}

/* From the cache, or chosen now. */
static infer_status choice_for(struct device_cublas *cublas, const struct device_cublas_args *a,
                               struct choice *out)
{
    const int32_t bucket = bucket_of(a->m);
    infer_status st = INFER_OK;
    int32_t i = 0;
    pthread_mutex_lock(&cublas->lock);
    while (i < cublas->n_choices && !same(&cublas->choices[i], a, bucket))
        i++;
    if (i < cublas->n_choices) {
        *out = cublas->choices[i];
    } else {
        st = choose(cublas, a, bucket, out);
        if (st == INFER_OK && i < CACHE_SIZE) {
            cublas->n_choices++;
        } else if (st == INFER_OK) {
            i = cublas->oldest;
            cublas->oldest = (i + 1) % CACHE_SIZE;
        }
        if (st == INFER_OK)
            cublas->choices[i] = *out;
    }
    pthread_mutex_unlock(&cublas->lock);
    return st;
}

int device_cublas_has_f8(const struct device_cublas *cublas)
{
    return cublas->device->compute_capability == F8_CAPABILITY &&
           lt.cublasLtGetVersion() >= F8_VERSION;
}

infer_status device_cublas_offers(struct device_cublas *cublas,
                                  const struct device_cublas_args *args, int32_t *offered)
{
    struct choice choice;
    void *stream;
    *offered = 0;
    infer_status st = device_cuda_enter(cublas->device, &stream);
    if (st != INFER_OK)
        return st;
    st = choice_for(cublas, args, &choice);
    device_cuda_leave(cublas->device);
    if (st == INFER_OK)
        *offered = choice.offered;
    return st;
}

infer_status device_cublas_gemm(struct device_cublas *cublas, const struct device_cublas_args *args)
{
    const float alpha = args->w_scales ? args->scale : 1.0f, beta = args->accumulate ? 1.0f : 0.0f;
    struct choice choice;
    struct job j = {0};
    void *stream;
    if (args->m <= 0 || args->n <= 0)
        return INFER_OK;
    infer_status st = device_cuda_enter(cublas->device, &stream);
    if (st != INFER_OK)
        return st;
    st = choice_for(cublas, args, &choice);
    if (st == INFER_OK) {
        cublasStatus_t status = begin_job(&j, cublas, args, args->m);
        if (!choice.offered)
            status = CUBLAS_STATUS_NOT_SUPPORTED;
        if (status == CUBLAS_STATUS_SUCCESS)
            status = lt.cublasLtMatmul(cublas->handle, j.product, &alpha, args->w, j.w, args->x,
                                       j.x, &beta, args->y, j.y, args->y, j.y, &choice.algo,
                                       cublas->workspace.data, WORKSPACE_BYTES, stream);
        end_job(&j);
        st = check(cublas, status, "a product by cuBLASLt");
    }
    device_cuda_leave(cublas->device);
    return st;
}
