/* Products of 16-bit floats by cuBLASLt, which is opened where it is installed. */
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

/* A choice of kernel, made for the largest m of a bucket so that it does not depend on which m came
 * first. */
struct choice {
    int32_t m, n, k, accumulate;
    size_t w_stride, x_stride, y_stride;
    cublasLtMatmulAlgo_t algo;
};

struct device_cublas {
    struct infer_device *device; /* not a reference: it owns this */
    struct device_buffer workspace;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product;
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
static cublasStatus_t describe_product(struct device_cublas *cublas)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasStatus_t status =
        lt.cublasLtMatmulDescCreate(&cublas->product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    return lt.cublasLtMatmulDescSetAttribute(cublas->product, CUBLASLT_MATMUL_DESC_TRANSA,
                                             &transposed, sizeof transposed);
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
        status = describe_product(cublas);
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

struct layouts {
    cublasLtMatrixLayout_t w, x, y;
};

static void drop_layouts(struct layouts *l)
{
    if (l->w)
        lt.cublasLtMatrixLayoutDestroy(l->w);
    if (l->x)
        lt.cublasLtMatrixLayoutDestroy(l->x);
    if (l->y)
        lt.cublasLtMatrixLayoutDestroy(l->y);
}

static cublasStatus_t make_layouts(struct layouts *l, const struct device_cublas_args *a, int32_t m)
{
    const uint64_t rows = (uint64_t)m, n = (uint64_t)a->n, k = (uint64_t)a->k;
    cublasStatus_t status =
        lt.cublasLtMatrixLayoutCreate(&l->w, CUDA_R_16BF, k, n, (int64_t)a->w_stride);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatrixLayoutCreate(&l->x, CUDA_R_16BF, k, rows, (int64_t)a->x_stride);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatrixLayoutCreate(&l->y, CUDA_R_32F, n, rows, (int64_t)a->y_stride);
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
           c->w_stride == a->w_stride && c->x_stride == a->x_stride && c->y_stride == a->y_stride;
}

static infer_status choose(struct device_cublas *cublas, const struct device_cublas_args *a,
                           int32_t bucket, struct choice *out)
{
    cublasLtMatmulHeuristicResult_t result;
    struct layouts l = {0};
    int n = 0;
    cublasStatus_t status = make_layouts(&l, a, bucket);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt.cublasLtMatmulAlgoGetHeuristic(cublas->handle, cublas->product, l.w, l.x, l.y,
                                                   l.y, cublas->preference, 1, &result, &n);
    drop_layouts(&l);
    if (status == CUBLAS_STATUS_SUCCESS && n < 1)
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    *out = (struct choice){bucket,      a->n,        a->k,        !!a->accumulate,
                           a->w_stride, a->x_stride, a->y_stride, {{0}}};
    if (status == CUBLAS_STATUS_SUCCESS)
        out->algo = result.algo;
    return check(cublas, status, "the choice of a product by cuBLASLt");
}

/* From the cache, or chosen now. */
static infer_status algo_for(struct device_cublas *cublas, const struct device_cublas_args *a,
                             cublasLtMatmulAlgo_t *algo)
{
    const int32_t bucket = bucket_of(a->m);
    struct choice chosen;
    infer_status st = INFER_OK;
    int32_t i = 0;
    pthread_mutex_lock(&cublas->lock);
    while (i < cublas->n_choices && !same(&cublas->choices[i], a, bucket))
        i++;
    if (i == cublas->n_choices) {
        st = choose(cublas, a, bucket, &chosen);
        if (st == INFER_OK && i < CACHE_SIZE) {
            cublas->n_choices++;
        } else if (st == INFER_OK) {
            i = cublas->oldest;
            cublas->oldest = (i + 1) % CACHE_SIZE;
        }
        if (st == INFER_OK)
            cublas->choices[i] = chosen;
    }
    if (st == INFER_OK)
        *algo = cublas->choices[i].algo;
    pthread_mutex_unlock(&cublas->lock);
    return st;
}

infer_status device_cublas_gemm(struct device_cublas *cublas, const struct device_cublas_args *args)
{
    const float one = 1.0f, beta = args->accumulate ? 1.0f : 0.0f;
    cublasLtMatmulAlgo_t algo;
    struct layouts l = {0};
    void *stream;
    if (args->m <= 0 || args->n <= 0)
        return INFER_OK;
    infer_status st = device_cuda_enter(cublas->device, &stream);
    if (st != INFER_OK)
        return st;
    st = algo_for(cublas, args, &algo);
    if (st == INFER_OK) {
        cublasStatus_t status = make_layouts(&l, args, args->m);
        if (status == CUBLAS_STATUS_SUCCESS)
            status = lt.cublasLtMatmul(cublas->handle, cublas->product, &one, args->w, l.w, args->x,
                                       l.x, &beta, args->y, l.y, args->y, l.y, &algo,
                                       cublas->workspace.data, WORKSPACE_BYTES, stream);
        drop_layouts(&l);
        st = check(cublas, status, "a product by cuBLASLt");
    }
    device_cuda_leave(cublas->device);
    return st;
}
