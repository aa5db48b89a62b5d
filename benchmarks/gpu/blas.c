/* The functions of blas.h. */
#include "blas.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <string.h>

#define WORKSPACE (64 << 20)
#define PROPOSALS 6
#define LAUNCHES  16

#define FUNCTIONS(X)                                                                               \
    X(cublasLtCreate)                                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmul)

#define DECLARE(name) __typeof__(name) *name##_;
static struct {
    FUNCTIONS(DECLARE)
    cublasLtHandle_t handle;
    void *workspace;
    const float *one; /* the scales of FP8 */
} blas;

int blas_open(const char *path)
{
    static const char *const names[] = {
        "libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so.12"};
    const float one = 1.0f;
    void *library = path ? dlopen(path, RTLD_NOW) : NULL;
    for (size_t i = 0; !library && i < sizeof names / sizeof names[0]; i++)
        library = dlopen(names[i], RTLD_NOW);
    if (!library)
        return 0;
#define RESOLVE(name)                                                                              \
    {                                                                                              \
        void *function = dlsym(library, #name);                                                    \
        if (!function)                                                                             \
            return 0;                                                                              \
        memcpy(&blas.name##_, &function, sizeof function);                                         \
    }
    FUNCTIONS(RESOLVE)
    if (blas.cublasLtCreate_(&blas.handle) != CUBLAS_STATUS_SUCCESS)
        return 0;
    BENCH_MUST(cudaMalloc(&blas.workspace, WORKSPACE));
    BENCH_MUST(cudaMalloc((void **)&blas.one, sizeof one));
    BENCH_MUST(cudaMemcpy((void *)blas.one, &one, sizeof one, cudaMemcpyHostToDevice));
    return 1;
}

/* Matrices are stored by columns there: y^T (n x m) = (w^T)^T . x^T, each a plain row of ours. */
struct plan {
    const struct blas_product *product;
    cublasLtMatmulDesc_t what;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulHeuristicResult_t proposals[PROPOSALS];
    int n_proposals, chosen;
};

static int32_t launch(void *context, int32_t i, void *stream)
{
    const struct plan *p = context;
    const struct blas_product *a = p->product;
    const float one = 1.0f, zero = 0.0f;
    const char *w = (const char *)a->w + (size_t)(i % a->copies) * a->copy_bytes;
    cublasStatus_t status = blas.cublasLtMatmul_(
        blas.handle, p->what, &one, w, p->w, a->x, p->x, &zero, a->y, p->y, a->y, p->y,
        &p->proposals[p->chosen].algo, blas.workspace, WORKSPACE, (cudaStream_t)stream);
    return status == CUBLAS_STATUS_SUCCESS ? 0 : (int32_t)cudaErrorUnknown;
}

/* Attributes by number, as headers before 12.9 do not name them (lib/device/cublas.c). */
static int scale_blocks(struct plan *p)
{
    const struct blas_product *a = p->product;
    const int32_t by_128 = 4;
    const struct {
        int attribute;
        const void *value;
        size_t bytes;
    } set[] = {{31, &by_128, sizeof by_128},
               {32, &by_128, sizeof by_128},
               {17, &a->w_scales, sizeof a->w_scales},
               {18, &a->x_scales, sizeof a->x_scales}};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (blas.cublasLtMatmulDescSetAttribute_(
                p->what, (cublasLtMatmulDescAttributes_t)set[i].attribute, set[i].value,
                set[i].bytes) != CUBLAS_STATUS_SUCCESS)
            return 0;
    return 1;
}

static int describe(struct plan *p)
{
    const struct blas_product *a = p->product;
    cublasOperation_t turned = CUBLAS_OP_T;
    cudaDataType_t type = a->type == BENCH_F16    ? CUDA_R_16F
                          : a->type == BENCH_E4M3 ? CUDA_R_8F_E4M3
                                                  : CUDA_R_16BF;
    cudaDataType_t out = a->w_scales ? CUDA_R_32F : a->type == BENCH_F16 ? CUDA_R_16F : CUDA_R_16BF;
    int8_t fast = 1;
    int ok = blas.cublasLtMatmulDescCreate_(&p->what, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
             CUBLAS_STATUS_SUCCESS;
    ok = ok && blas.cublasLtMatmulDescSetAttribute_(p->what, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                                    sizeof turned) == CUBLAS_STATUS_SUCCESS;
    if (ok && a->w_scales)
        ok = scale_blocks(p);
    else if (ok && a->type == BENCH_E4M3) {
        blas.cublasLtMatmulDescSetAttribute_(p->what, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast,
                                             sizeof fast);
        blas.cublasLtMatmulDescSetAttribute_(p->what, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
                                             &blas.one, sizeof blas.one);
        blas.cublasLtMatmulDescSetAttribute_(p->what, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER,
                                             &blas.one, sizeof blas.one);
    }
    uint64_t m = (uint64_t)a->m, n = (uint64_t)a->n, k = (uint64_t)a->k;
    return ok &&
           blas.cublasLtMatrixLayoutCreate_(&p->w, type, k, n, a->k) == CUBLAS_STATUS_SUCCESS &&
           blas.cublasLtMatrixLayoutCreate_(&p->x, type, k, m, a->k) == CUBLAS_STATUS_SUCCESS &&
           blas.cublasLtMatrixLayoutCreate_(&p->y, out, n, m, a->n) == CUBLAS_STATUS_SUCCESS;
}

static void propose(struct plan *p)
{
    cublasLtMatmulPreference_t wish;
    size_t most = WORKSPACE;
    if (blas.cublasLtMatmulPreferenceCreate_(&wish) != CUBLAS_STATUS_SUCCESS)
        return;
    blas.cublasLtMatmulPreferenceSetAttribute_(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &most, sizeof most);
    if (blas.cublasLtMatmulAlgoGetHeuristic_(blas.handle, p->what, p->w, p->x, p->y, p->y, wish,
                                             PROPOSALS, p->proposals,
                                             &p->n_proposals) != CUBLAS_STATUS_SUCCESS)
        p->n_proposals = 0;
    blas.cublasLtMatmulPreferenceDestroy_(wish);
}

int blas_time(const struct blas_product *product, struct bench_time *time)
{
    struct plan plan = {.product = product};
    struct bench_time trial;
    int best = -1;
    double least = 0;
    if (describe(&plan))
        propose(&plan);
    for (plan.chosen = 0; plan.chosen < plan.n_proposals; plan.chosen++) {
        if (bench_graph(&trial, launch, &plan, LAUNCHES, 1, 0.5) != 0)
            continue;
        if (best < 0 || trial.us < least) {
            best = plan.chosen;
            least = trial.us;
        }
    }
    plan.chosen = best;
    int ok = best >= 0 && bench_graph(time, launch, &plan, LAUNCHES, 7, 3) == 0;
    if (plan.w)
        blas.cublasLtMatrixLayoutDestroy_(plan.w);
    if (plan.x)
        blas.cublasLtMatrixLayoutDestroy_(plan.x);
    if (plan.y)
        blas.cublasLtMatrixLayoutDestroy_(plan.y);
    if (plan.what)
        blas.cublasLtMatmulDescDestroy_(plan.what);
    return ok;
}
